"""One function for each format: the files that it consists of, read back and compared."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from recon import __version__, keyed
from recon.errors import InputError
from recon.export.card import card
from recon.export.latency import latencies
from recon.export.onnx import calibration_crops, least_lossy, onnx_of, require_onnx, session
from recon.export.pictures import difference
from recon.export.spandrel import spandrel_weights
from recon.restore.weights import Weights, load_weights, save_weights

_CLOSE, _CLOSE_PSNR = 1e-5, 0.01  # of a value in [0,1]; dB
_CLOSE_INT8 = 0.1  # dB
_SIDES = (256, 1024)  # pixels of the images that are timed
_CLOSE_SCORES = 0.01  # of the share of a class, in half precision
Files = dict[str, bytes]
Net = Callable[[Tensor], Tensor]


def files_of(weights: Weights, form: str, int8: bool) -> Files:
    """Return the files of a format by their names, after each was read back and compared.

    Args:
        weights: the net.
        form: one of `FORMATS`.
        int8: add an int8 form of ONNX.

    Raises:
        InputError: the format has no such net, or what was read back is not the same net.
    """
    if weights.about.purpose == "recognise" and form != "recon":
        raise InputError(f"format: {form} is for nets that restore, and {weights.name} recognises; set format=recon")
    if int8 and form != "onnx":
        raise InputError("int8: it is a form of ONNX; set format=onnx, or leave int8 out")
    if form == "onnx":
        return _onnx(weights, int8)
    return FORMATS[form](weights)


def _recon(weights: Weights) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{Path(weights.name).name}.safetensors")
        save_weights(path, weights.about, weights.net.state_dict())
        again = load_weights(str(path))
        # Half precision is stored, so that values differ; what counts is what is lost.
        if weights.about.purpose == "recognise":
            _require_same_scores(weights, again)
        else:
            _require_same(weights, lambda image: again.net(image), "format=recon", 1.0)
        return {path.name: path.read_bytes(), path.with_suffix(".md").name: card(again).encode()}


def _onnx(weights: Weights, int8: bool) -> Files:
    require_onnx()
    data = onnx_of(weights)
    _require_same(weights, session(data), "format=onnx", _CLOSE)
    forms: dict[str, Net] = {"torch fp32": weights.net, "ONNX Runtime fp32": session(data)}
    files = {"model.onnx": data}
    if int8:
        quantised, name = _int8(data, weights)
        files["model_int8.onnx"], forms[name] = quantised, session(quantised)
    channels = weights.about.facts["in_channels"]
    table = latencies(forms, {f"{side}×{side}": (1, channels, side, side) for side in _SIDES})
    return {**files, "latency.md": table.encode(), "README.md": card(weights).encode()}


def _int8(data: bytes, weights: Weights) -> tuple[bytes, str]:
    """Return the int8 form and what it is called; raises InputError where it loses too much."""
    form, lost, floats = least_lossy(
        data, calibration_crops(weights), ("Conv",), lambda form: difference(weights, session(form))[1], _CLOSE_INT8
    )
    if lost > _CLOSE_INT8:
        raise InputError(f"int8: the int8 form loses {lost:.2f} dB on photographs, more than {_CLOSE_INT8} dB, and "
                         "is not written; leave int8 out")  # fmt: skip
    kept = f", {floats} convolutions at either end float32" if floats else ""
    return form, f"ONNX Runtime int8 ({lost:.2f} dB lost{kept})"


def _spandrel(weights: Weights) -> Files:
    from safetensors.torch import load, save

    renamed = spandrel_weights(weights.net, weights.about.noise_map)
    data = save(renamed)
    again = load(data)
    if any(not torch.equal(again[name], weight) for name, weight in renamed.items()):
        raise InputError("format: what was written for spandrel reads back as other weights; try again")
    return {"model.safetensors": data, "README.md": card(weights).encode()}


def _huggingface(weights: Weights) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_weights(path, weights.about, weights.net.state_dict(), half=False)
        again = load_weights(str(path))
        _require_same(weights, lambda image: again.net(image), "format=huggingface", _CLOSE)
        config = {"library_name": "recon-images", "recon_version": __version__, **asdict(weights.about)}
        return {
            "model.safetensors": path.read_bytes(),
            "config.json": (json.dumps(config, indent=2, sort_keys=True) + "\n").encode(),
            "README.md": card(weights, front_matter=True).encode(),
        }


def _torch_export(weights: Weights) -> Files:
    from torch.export import Dim

    example = torch.zeros(2, weights.about.facts["in_channels"], 65, 73)
    sizes = {0: Dim("batch", min=1, max=1 << 10), 2: Dim("height", min=9, max=1 << 15),
             3: Dim("width", min=9, max=1 << 15)}  # fmt: skip
    program = torch.export.export(weights.net, (example,), dynamic_shapes=(sizes,))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    _require_same(weights, lambda image: again(image), "format=torch_export", _CLOSE)
    return {"model.pt2": buffer.getvalue(), "README.md": card(weights).encode()}


def _require_same(weights: Weights, other: Net, key: str, close: float) -> None:
    """Raise InputError unless a net and what was read back agree on photographs."""
    worst, lost = difference(weights, other)
    if not (worst <= close and lost <= _CLOSE_PSNR):
        raise InputError(f"{key}: what was written differs from the net by {worst:.2g} and {lost:.3f} dB on "
                         "photographs, so nothing is kept; report this with the name of the net")  # fmt: skip


def _require_same_scores(weights: Weights, again: Weights) -> None:
    """Raise InputError unless a classifier and what was read back score images alike."""
    facts = weights.about.facts
    images = keyed.uniform(keyed.keys(0, "export", 0, torch.arange(64)), (facts["channels"], *facts["image_size"]))
    with torch.inference_mode():
        scores = [net(images).softmax(1) for net in (weights.net, again.net)]
    if (worst := float((scores[0] - scores[1]).abs().max())) > _CLOSE_SCORES:
        raise InputError(f"format=recon: what was written differs from the net by {worst:.2g} in the share of a class, "
                         "so nothing is kept; report this with the name of the net")  # fmt: skip


FORMATS: dict[str, Callable[[Weights], Files]] = {
    "recon": _recon, "onnx": lambda weights: _onnx(weights, False), "spandrel": _spandrel,
    "huggingface": _huggingface, "torch_export": _torch_export,
}  # fmt: skip
