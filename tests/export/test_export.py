"""Weights in the formats of other programs give what the net gives, or are not written."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from untrained import about, write

from recon.errors import InputError
from recon.export import write as writing
from recon.export.onnx import metadata
from recon.export.spandrel import spandrel_weights
from recon.export.write import FORMATS, files_of
from recon.nets import DRU, DnCNN, NAFNet
from recon.restore.weights import Purpose, Weights, load_weights

# What spandrel 0.4.2 looks for (its architectures/DnCNN and architectures/NAFNet).
DNCNN_KEYS = [f"model.{layer}.{part}" for layer in range(0, 15, 2) for part in ("weight", "bias")]
NAFNET_KEYS = [
    "intro.weight", "ending.weight", "ups.0.0.weight", "downs.0.weight", "middle_blks.0.beta", "middle_blks.0.gamma",
    "middle_blks.0.conv1.weight", "middle_blks.0.conv2.weight", "middle_blks.0.conv3.weight",
    "middle_blks.0.sca.1.weight", "middle_blks.0.conv4.weight", "middle_blks.0.conv5.weight",
    "middle_blks.0.norm1.weight", "middle_blks.0.norm2.weight", "encoders.0.0.beta", "encoders.0.0.gamma",
    "decoders.0.0.beta", "decoders.0.0.gamma",
]  # fmt: skip
SIZES = [(1, 64, 72), (2, 37, 51), (1, 9, 130)]


def weights(folder: Path, purpose: Purpose = "denoise", channels: int = 3, scale: int = 1) -> Weights:
    return load_weights(write(folder, purpose, channels, scale))


def same(net: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], channels: int) -> None:
    for batch, height, width in SIZES:
        image = torch.rand(batch, channels, height, width)
        with torch.inference_mode():
            torch.testing.assert_close(other(image), net(image), rtol=0, atol=1e-5)


def test_recons_own_file_is_read_by_its_path_and_holds_half_as_much(tmp_path: Path) -> None:
    given = weights(tmp_path)
    files = files_of(given, "recon", False)
    (tmp_path / "again.safetensors").write_bytes(files["denoise_3_1.safetensors"])
    again = load_weights(str(tmp_path / "again.safetensors"))
    assert again.about == given.about
    same(given.net, again.net, 3)
    assert "removes noise from colour images" in files["denoise_3_1.md"].decode()


@pytest.mark.parametrize("what", [("denoise", 3, 1), ("inpaint", 1, 1), ("super_resolve", 3, 2)])
@pytest.mark.slow
def test_onnx_takes_every_size_and_says_what_it_is(what: tuple[Purpose, int, int], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the export extra is not installed")
    given = weights(tmp_path, *what)
    data = files_of(given, "onnx", False)["model.onnx"]
    same(given.net, writing.session(data), given.about.facts["in_channels"])
    model = onnx.load_from_string(data)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata(given).items() <= said.items()
    assert said["recon.purpose"] == what[0]
    assert said["recon.scale"] == str(what[2])


@pytest.mark.slow
def test_torch_export_takes_every_size(tmp_path: Path) -> None:
    given = weights(tmp_path)
    (tmp_path / "model.pt2").write_bytes(files_of(given, "torch_export", False)["model.pt2"])
    same(given.net, torch.export.load(tmp_path / "model.pt2").module(), 3)


def test_hugging_faces_layout(tmp_path: Path) -> None:
    given = weights(tmp_path)
    files = files_of(given, "huggingface", False)
    assert set(files) == {"README.md", "config.json", "model.safetensors"}
    assert files["README.md"].startswith(b"---\nlibrary_name: recon-images\n")
    (tmp_path / "model.safetensors").write_bytes(files["model.safetensors"])
    same(given.net, load_weights(str(tmp_path / "model.safetensors")).net, 3)


def test_spandrel_finds_its_keys_and_a_merged_dncnn_is_the_same_net() -> None:
    net = DnCNN(depth=9, width=8).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    found = spandrel_weights(net, False)
    assert set(DNCNN_KEYS) <= set(found)
    # As spandrel builds it: convolutions and ReLU in turns, whose result is subtracted.
    layers: list[nn.Module] = []
    for number in range(9):
        weight = found[f"model.{2 * number}.weight"]
        layers += [nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1), nn.ReLU()]
    body = nn.Sequential(*layers[:-1])
    body.load_state_dict({name.removeprefix("model."): weight for name, weight in found.items()})
    same(net, lambda image: image - body(image), 1)
    assert set(NAFNET_KEYS) <= set(spandrel_weights(NAFNet(channels=3, width=8, encoder=[1], decoder=[1]), False))


@pytest.mark.parametrize(
    ("net", "noise_map", "reason"),
    [
        (DRU(), False, "spandrel knows no DRU; of recon's nets it loads DnCNN, NAFNet"),
        (DnCNN(depth=5).eval(), False, "from 8 convolutions on"),
        (DnCNN(in_channels=2), True, "no level of the noise"),
    ],
)
def test_what_spandrel_does_not_load_is_refused(net: nn.Module, noise_map: bool, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        spandrel_weights(net, noise_map)


@pytest.mark.parametrize("form", ["recon", "huggingface"])
def test_nothing_is_written_that_is_not_the_same_net(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = weights(tmp_path)

    def damaged(path: str) -> Weights:
        found = load_weights(path)
        for weight in found.net.parameters():
            weight.mul_(1.01)
        return found

    monkeypatch.setattr(writing, "load_weights", damaged)
    with pytest.raises(InputError, match="nothing is kept"):
        files_of(given, form, False)


def test_int8_is_a_form_of_onnx_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format=onnx"):
        files_of(weights(tmp_path), "recon", True)


@pytest.mark.slow
def test_int8_is_written_where_it_loses_little_and_refused_with_the_figure_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="the export extra is not installed")
    given = weights(tmp_path)
    monkeypatch.setattr(writing, "_CLOSE_INT8", 100.0)
    files = files_of(given, "onnx", True)
    assert len(files["model_int8.onnx"]) < len(files["model.onnx"])
    assert "ONNX Runtime int8" in files["latency.md"].decode()
    assert np.isfinite(writing.session(files["model_int8.onnx"])(torch.rand(1, 3, 64, 64)).numpy()).all()
    monkeypatch.setattr(writing, "_CLOSE_INT8", -1.0)
    with pytest.raises(InputError, match=r"loses -?\d+\.\d\d dB"):
        files_of(given, "onnx", True)


def test_every_format_is_named_in_the_yaml() -> None:
    text = (Path(__file__).parents[2] / "conf" / "action" / "export.yaml").read_text()
    assert all(name in text for name in FORMATS)
    assert about("denoise", 3).purpose == "denoise"
