"""Compressed images come back bit for bit, take the bytes of their entropy, and bad files get one sentence."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, ROOT, Compose, Typed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from recon import build
from recon.actions.train import train
from recon.codec import file, transform
from recon.codec.file import compress, decompress
from recon.codec.tables import bits
from recon.codec.transform import Pixels, Transform
from recon.errors import InputError

SPATIAL = ("model/net=spatial_autoencoder", "model.net.widths=[8,8]", "model.net.latent_dim=4")
KINDS = {
    "dense": ("model/quantiser=fsq",),
    "spatial": (*SPATIAL, "model/quantiser=fsq", "model.quantiser.levels=[8,5,5,2]"),
    "codebook": (*SPATIAL, "model/quantiser=vq", "model.quantiser.size=16", "model.quantiser.dim=2"),
    "plain": (),
}


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, words in KINDS.items():
        train(compose("model=autoencoder", *words, *QUICK[1:], "trainer.max_epochs=4"), folder / name, {})
    return {name: folder / name for name in KINDS}


@pytest.fixture(scope="module")
def made(runs: dict[str, Path]) -> dict[str, Transform]:
    return {name: Transform(build.trained(runs[name])) for name in KINDS if name != "plain"}


def digits(count: int) -> list[Pixels]:
    return [(image[None] * 15).astype(np.uint8) for image in load_digits().images[-count:]]


def coded(used: Transform, images: list[Pixels]) -> file.Compressed:
    return compress(used, images, [f"{index}" for index in range(len(images))])


def equal(some: list[Pixels], others: list[Pixels]) -> bool:
    return len(some) == len(others) and all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


SIZES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", ["spatial", "codebook"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=SIZES, level=st.integers(-1, 255), seed=st.integers(0, 999))
def test_images_of_any_size_come_back_as_promised(
    kind: str, sizes: list[tuple[int, int]], level: int, seed: int, made: dict[str, Transform]
) -> None:
    """Constant ones too, where `level` is not -1; in other batches, and by tiles."""
    draw = np.random.default_rng(seed)
    images = [
        np.full((1, *size), level, np.uint8) if level >= 0 else draw.integers(0, 256, (1, *size), np.uint8)
        for size in sizes
    ]
    used = made[kind]
    found = coded(used, images)
    assert [each.shape for each in found.rebuilt] == [image.shape for image in images]
    assert equal(decompress(used, found.data, "a"), found.rebuilt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(used, "batch", 1)
        patch.setattr(transform, "_TILE", 3)
        assert equal(decompress(used, found.data, "a"), found.rebuilt)
        assert coded(used, images).data == found.data


def test_what_comes_back_is_what_the_model_rebuilds(runs: dict[str, Path], made: dict[str, Transform]) -> None:
    for kind in ("dense", "spatial", "codebook"):
        images = digits(50)
        with torch.no_grad():
            expected = build.trained(runs[kind])(torch.from_numpy(np.stack(images)).float() / 255)
        rebuilt = torch.from_numpy(np.stack(coded(made[kind], images).rebuilt)).float() / 255
        assert float((rebuilt - expected.clamp(0, 1)).abs().median()) < 0.003


@pytest.mark.parametrize("kind", ["dense", "spatial", "codebook"])
def test_the_bytes_are_those_of_the_entropy(kind: str, made: dict[str, Transform]) -> None:
    used, images = made[kind], digits(1000)
    found = coded(used, images)
    symbols = torch.from_numpy(np.stack(used.symbols(images))).long()
    ideal = float(bits(torch.from_numpy(used.table), symbols).sum()) / 8
    body = len(found.data) - found.header
    assert ideal <= body + 4
    assert body <= 1.01 * ideal + 4
    assert found.header <= 33
    assert found.bits_per_pixel == 8 * len(found.data) / (1000 * 64)


def test_the_record_of_a_test_is_what_the_codec_writes(compose: Compose, tmp_path: Path) -> None:
    """Over all test images, but for the header and the end of the stream."""
    words = [word for word in QUICK if "limit" not in word]
    config = compose("model=autoencoder", "model/quantiser=fsq", *words)
    train(config, tmp_path, {})
    used = Transform(build.trained(tmp_path))
    task = build.task(config)
    loader = build.data(config, task, build.degradation(config, task), build.trained(tmp_path)).test_dataloader()
    images = [image for pair in loader for image in (pair.clean * 255).round().byte().numpy()]
    found = coded(used, images)
    recorded = json.loads((tmp_path / "metrics.json").read_text())["test/bits_per_pixel"]
    assert 8 * (len(found.data) - found.header) / found.pixels == pytest.approx(recorded, rel=0.01)


@pytest.mark.slow
def test_threads_and_processes_write_the_same_bytes(
    runs: dict[str, Path], made: dict[str, Transform], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    images = digits(40)
    for index, image in enumerate(images):
        Image.fromarray(image[0]).save(tmp_path / "in" / f"{index:02d}.png")
    expected = coded(made["spatial"], images)
    for threads, words in (
        ("2", f"action=compress run={runs['spatial']} input=in output=a.rcn"),
        ("1", f"action=decompress run={runs['spatial']} input=a.rcn output=out"),
    ):
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        command = [sys.executable, str(ROOT / "run.py"), *words.split()]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.rcn").read_bytes() == expected.data
    pictures = [np.array(Image.open(path))[None] for path in sorted((tmp_path / "out").iterdir())]
    assert equal(pictures, expected.rebuilt)
    torch.set_num_threads(2)
    try:
        assert coded(made["spatial"], images).data == expected.data
        assert equal(decompress(made["spatial"], expected.data, "a"), expected.rebuilt)
    finally:
        torch.set_num_threads(1)


def test_damage_anywhere_is_found(made: dict[str, Transform]) -> None:
    data = coded(made["dense"], digits(2)).data
    for place in range(len(data)):
        for bit in (0, 3, 7):
            wrong = bytearray(data)
            wrong[place] ^= 1 << bit
            with pytest.raises(InputError, match=r"^input: a\.rcn "):
                decompress(made["dense"], bytes(wrong), "a.rcn")
        with pytest.raises(InputError, match=r"no file of action=compress|is damaged or cut off; get it again"):
            decompress(made["dense"], data[:place], "a.rcn")


def with_crc(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def test_what_differs_is_said(made: dict[str, Transform], monkeypatch: pytest.MonkeyPatch) -> None:
    used = made["spatial"]
    data = coded(used, digits(1)).data
    with pytest.raises(InputError, match=r"other weights .* give the run that compressed it"):
        decompress(made["codebook"], data, "a.rcn")
    with monkeypatch.context() as patch:
        patch.setattr(used, "frequencies", "00" * 8)
        with pytest.raises(InputError, match=r"other frequencies .* than this run has \(00000000\)"):
            decompress(used, data, "a.rcn")
    with monkeypatch.context() as patch:
        patch.setattr(file, "coder_version", lambda: (0, 6))
        with pytest.raises(InputError, match=r"constriction 0\.5, and here is 0\.6; pip install"):
            decompress(used, data, "a.rcn")
    place = data.index(bytes([1, 1, 8, 8])) + 4  # behind the sizes: the checksums of symbols and pixels
    for start, said in ((place, "gives other symbols here"), (place + 4, "torch on this machine makes other pixels")):
        wrong = bytearray(data[:-4])
        wrong[start] ^= 1
        with pytest.raises(InputError, match=said):
            decompress(used, with_crc(bytes(wrong)), "a.rcn")
    with pytest.raises(InputError, match="version 2 of the format, and this recon reads 1"):
        decompress(used, with_crc(data[:3] + b"\2" + data[4:-4]), "a.rcn")


@pytest.mark.parametrize(
    "sizes", [b"\0", b"\1\1\0\1", b"\1\xff\xff\xff\xff\xff\1\1", b"\xff\xff\3\1", b"\1\xff\xff\3\xff\xff\3\xff\xff\3"]
)
def test_sizes_that_cannot_be_are_refused(sizes: bytes, made: dict[str, Transform]) -> None:
    data = coded(made["spatial"], digits(1)).data
    place = data.index(bytes([1, 1, 8, 8]))
    with pytest.raises(InputError, match="holds sizes of images that cannot be"):
        decompress(made["spatial"], with_crc(data[:place] + sizes + bytes(8)), "a.rcn")


def test_what_cannot_be_compressed_is_refused(runs: dict[str, Path], made: dict[str, Transform]) -> None:
    with pytest.raises(InputError, match="there is no image to compress"):
        compress(made["dense"], [], [])
    with pytest.raises(InputError, match=r"input: 0 has 9×8 pixels, and the net of this run takes images of 8×8 alone"):
        coded(made["dense"], [np.zeros((1, 9, 8), np.uint8)])
    with pytest.raises(InputError, match="AutoencodingModule has no code of symbols; choose a run of model=autoenc"):
        Transform(build.trained(runs["plain"]))
    uncounted = build.trained(runs["dense"])
    uncounted.counts.clamp_(max=0)  # type: ignore[operator]
    with pytest.raises(InputError, match="no validation of this run counted its symbols"):
        Transform(uncounted)


def test_the_commands(runs: dict[str, Path], typed: Typed) -> None:
    Image.fromarray(digits(1)[0][0]).resize((23, 31)).save("one.png")
    run = f"run={runs['spatial']}"
    status, output, errors = typed("action=compress", run, "input=one.png")
    assert status == 0, errors
    assert "1 image, " in output
    assert "bits per pixel" in output
    status, output, errors = typed("action=decompress", run, "input=one.rcn")
    assert status == 0, errors
    with Image.open("one_decompressed.png") as picture:
        assert picture.size == (23, 31)
    Path("no.rcn").write_bytes(b"PNG?")
    shutil.copy("one.rcn", "empty.rcn")
    Path("empty.rcn").write_bytes(b"")
    Path("nothing").mkdir()
    for words, said in (
        (("action=decompress", run, "input=no.rcn"), "no.rcn is no file of action=compress"),
        (("action=decompress", run, "input=empty.rcn"), "empty.rcn is no file of action=compress"),
        (("action=decompress", run, "input=none.rcn"), "none.rcn cannot be read"),
        (("action=decompress", run, "input=one.rcn", "output=folder"), "one image is written as .png"),
        (("action=decompress", run), "input: nothing is given"),
        (("action=compress", run), "input: nothing is given"),
        (("action=compress", run, "input=one.png", "output=one.jpg"), "written as .rcn"),
        (("action=compress", run, "input=nothing"), "names no picture"),
        (("action=compress", run, "input=no.rcn"), "no.rcn"),
        (("action=compress", f"run={runs['plain']}", "input=one.png"), "has no code of symbols"),
    ):
        assert said in typed.refused(*words)
    assert not Path("folder").exists()
