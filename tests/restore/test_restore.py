"""`action=restore`: pictures of every kind through the whole command, and what may go wrong with some of them."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_picture import ALPHA, ICC, LOSSLESS, RGB, exif, saved
from untrained import write

from recon.errors import InputError
from recon.restore.again import difference
from recon.restore.batch import Writing, restore_all
from recon.restore.mend import Settings, restored
from recon.restore.outputs import jobs
from recon.restore.picture import decoded, read_picture
from recon.restore.plan import Wishes
from recon.restore.restorer import PhotoRestorer
from recon.restore.weights import Purpose, Weights, load_weights

File = Callable[..., str]


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> File:
    """Return a file of weights for a purpose, a number of channels and a scale."""
    folder = tmp_path_factory.mktemp("weights")

    def file(purpose: Purpose = "denoise", channels: int = 3, scale: int = 1) -> str:
        return write(folder, purpose, channels, scale)

    return file


@pytest.fixture(scope="module")
def weights(weights_file: File) -> Callable[..., Weights]:
    """Return loaded weights, as `weights_file`."""
    return lambda *what: load_weights(weights_file(*what))


def run(
    inputs: list[str], file: str, output: str | None = None, writing: Writing | None = None, **wishes: object
) -> list[str]:
    """Restore pictures whatever they gain; returns what failed."""
    writing = writing or Writing()
    todo = jobs(inputs, output, writing.in_place, None)
    return restore_all(todo, Wishes(weights=file, force=True, **wishes), writing)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LOSSLESS)
def test_mode_depth_alpha_profile_and_size_are_kept(name: str, tmp_path: Path, weights_file: File) -> None:
    data, values, alpha = LOSSLESS[name]
    suffix = {"bmp": ".bmp", "png": ".png", "tif": ".tiff", "web": ".webp"}[name[:3]]
    (tmp_path / f"a{suffix}").write_bytes(data)
    assert run([str(tmp_path)], weights_file()) == []
    before, after = (read_picture(tmp_path / f"a{end}{suffix}", 10**8) for end in ("", "_restored"))
    assert after.values.shape == values.shape
    assert after.values.dtype == values.dtype
    assert (after.format, after.icc, after.exif, after.xmp) == (before.format, before.icc, before.exif, before.xmp)
    assert (after.values != before.values).any()
    if alpha is not None:
        np.testing.assert_array_equal(after.alpha, alpha)


def test_all_16_bits_are_restored(weights: Callable[..., Weights]) -> None:
    wide = decoded(LOSSLESS["png 16 rgb"][0])
    values, _ = restored(wide, weights(), Settings())
    assert len(np.unique(values & 255)) > 200


def test_colours_under_full_transparency_neither_change_nor_bleed(weights: Callable[..., Weights]) -> None:
    alpha = ALPHA.clip(1)
    alpha[:, 20:] = 0
    picture = decoded(saved(np.concatenate([RGB, alpha[..., None]], 2), "PNG"))
    other = replace(picture, values=np.where(alpha[..., None] == 0, 255 - RGB, RGB))
    for given in (picture, other):
        values, _ = restored(given, weights(), Settings())
        np.testing.assert_array_equal(values[:, 20:], given.values[:, 20:])
    first, second = (restored(given, weights(), Settings())[0][:, :20] for given in (picture, other))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grey_picture_comes_out_grey_and_a_net_for_grey_keeps_colours(
    channels: int, weights: Callable[..., Weights]
) -> None:
    grey = decoded(LOSSLESS["png grey"][0])
    assert restored(grey, weights("denoise", channels), Settings())[0].shape == grey.values.shape
    if channels == 1:
        colour = decoded(LOSSLESS["png rgb"][0])
        change = restored(colour, weights("denoise", 1), Settings())[0].astype(int) - colour.values
        inside = ((colour.values > 60) & (colour.values < 200)).all(2)
        assert np.ptp(change[inside], axis=1).max() <= 1


def test_tiles_give_the_whole_picture(weights: Callable[..., Weights]) -> None:
    picture = decoded(LOSSLESS["png 16 rgb"][0])
    whole, _ = restored(picture, weights(), Settings(tile=None))
    tiles, _ = restored(picture, weights(), Settings(tile=16))
    assert np.abs(whole.astype(int) - tiles).max() <= 1


def test_strength_blends_and_the_ensemble_is_the_mean_of_turns(weights: Callable[..., Weights]) -> None:
    picture = decoded(LOSSLESS["png rgb"][0])
    none, half, full = (restored(picture, weights(), Settings(strength=share))[0].astype(int) for share in (0, 0.5, 1))
    np.testing.assert_array_equal(none, picture.values)
    clipped = (full == 0) | (full == 255)
    assert np.abs(2 * half - none - full)[~clipped].max() <= 2
    turned = replace(picture, values=np.ascontiguousarray(picture.values[:, ::-1]))
    mean, mean_turned = (restored(each, weights(), Settings(ensemble=8))[0].astype(int) for each in (picture, turned))
    assert np.abs(mean - mean_turned[:, ::-1]).max() <= 1


def test_only_pixels_in_the_hole_change(tmp_path: Path, weights_file: File) -> None:
    hole = np.zeros(RGB.shape[:2], np.uint8)
    hole[10:14, 5:50] = 255
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(hole).save(tmp_path / "hole.png")
    file = weights_file("inpaint")
    assert run([str(tmp_path / "a.png")], file, mask=tmp_path / "hole.png") == []
    after = read_picture(tmp_path / "a_restored.png", 10**8).values
    np.testing.assert_array_equal(after[hole == 0], RGB[hole == 0])
    assert (after[hole > 0] != RGB[hole > 0]).any()
    Image.fromarray(hole[:20]).save(tmp_path / "small.png")
    (wrong,) = run([str(tmp_path / "a.png")], file, mask=tmp_path / "small.png", output=str(tmp_path / "c.png"))
    assert "mask: " in wrong
    assert "mask_resize=true" in wrong


def test_a_painted_colour_is_filled(tmp_path: Path, weights_file: File) -> None:
    painted = RGB.copy()
    painted[5:9, 10:40] = (255, 0, 255)
    Image.fromarray(painted).save(tmp_path / "a.png")
    assert run([str(tmp_path / "a.png")], weights_file("inpaint"), mask_color="#FF00ff") == []
    after = read_picture(tmp_path / "a_restored.png", 10**8).values
    outside = np.ones(RGB.shape[:2], bool)
    outside[5:9, 10:40] = False
    np.testing.assert_array_equal(after[outside], painted[outside])
    assert (after[5:9, 10:40] != painted[5:9, 10:40]).any()


def test_twice_the_size_with_alpha(tmp_path: Path, weights_file: File) -> None:
    (tmp_path / "a.png").write_bytes(LOSSLESS["png rgba"][0])
    assert run([str(tmp_path)], weights_file("super_resolve", 3, 2), scale=2) == []
    after = read_picture(tmp_path / "a_restored.png", 10**8)
    assert after.values.shape == (82, 114, 3)
    assert after.alpha is not None
    assert after.alpha.shape == (82, 114)
    assert after.icc == ICC


def test_a_bad_file_stops_no_other_and_what_is_done_is_skipped(
    tmp_path: Path, weights_file: File, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "c"):
        Image.fromarray(RGB).save(tmp_path / f"{name}.png", exif=exif())
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n and nothing else")
    (tmp_path / "desktop.ini").write_text("x")
    (wrong,) = run([str(tmp_path)], weights_file())
    assert str(tmp_path / "b.png") in wrong
    first = capsys.readouterr().out
    assert "c_restored.png" in first
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*_restored.png")}
    assert len(times) == 2
    run([str(tmp_path)], weights_file())
    again = capsys.readouterr().out
    assert again.count("done before") == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*_restored.png")} == times
    assert not list(tmp_path.glob("*.tmp.*"))


def test_the_input_is_never_overwritten_but_in_place_where_it_is_kept(tmp_path: Path, weights_file: File) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(InputError, match="in_place=true"):
        jobs([str(tmp_path / "a.png")], str(tmp_path / "a.png"), False, None)
    assert run([str(tmp_path / "a.png")], weights_file(), writing=Writing(in_place=True)) == []
    assert (tmp_path / "a_original.png").read_bytes() == before
    after = (tmp_path / "a.png").read_bytes()
    assert after != before
    assert difference(tmp_path / "a.png") is None
    # Again with other settings: from the original, not from what was restored.
    assert (
        run([str(tmp_path / "a.png")], weights_file(), writing=Writing(in_place=True), settings=Settings(strength=0.0))
        == []
    )
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", 10**8).values, RGB)
    assert (tmp_path / "a_original.png").read_bytes() == before


def test_folders_globs_and_patterns_name_the_outputs(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/y/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / name)
    listed = jobs([str(tmp_path / "x")], str(tmp_path / "out"), False, None)
    assert [job.target.relative_to(tmp_path).as_posix() for job in listed] == ["out/a.png", "out/y/b.jpg"]
    listed = jobs([str(tmp_path / "x/a.png")], str(tmp_path / "not there yet"), False, None)
    assert [job.target.relative_to(tmp_path).as_posix() for job in listed] == ["not there yet/a.png"]
    listed = jobs([f"{tmp_path}/x/**/*.jpg"], "{folder}-{name}.{ext}", False, "TIFF")
    assert [job.target.as_posix() for job in listed] == ["y-b.tif"]
    with pytest.raises(InputError, match="both be written"):
        jobs([str(tmp_path / "x")], "{ext}.png", False, "PNG")


def test_a_restored_picture_is_made_again_and_a_change_is_noticed(tmp_path: Path, weights_file: File) -> None:
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "JPEG", quality=90, exif=exif()))
    assert run([str(tmp_path)], weights_file()) == []
    said = json.loads((tmp_path / "a_restored.jpg.json").read_text())
    assert said["source"] == "a.jpg"
    assert said["weights"]["name"] == "denoise_3_1"
    assert difference(tmp_path / "a_restored.jpg") is None
    with (tmp_path / "a_restored.jpg").open("ab") as file:
        file.write(b"x")
    assert difference(tmp_path / "a_restored.jpg") == "it has changed since it was written"
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="no longer the picture"):
        difference(tmp_path / "a_restored.jpg")


def test_the_record_can_lie_in_a_png(tmp_path: Path, weights_file: File) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert run([str(tmp_path)], weights_file(), writing=Writing(embed=True, compare=True)) == []
    with Image.open(tmp_path / "a_restored.png") as image:
        said = json.loads(image.text["recon"])  # type: ignore[attr-defined]
    assert said["weights"]["name"] == "denoise_3_1"
    assert difference(tmp_path / "a_restored.png") is None
    with Image.open(tmp_path / "a_restored_compare.png") as strip:
        assert strip.size == (2 * 57 + 8, 41)


def test_a_picture_that_was_restored_is_warned_about(
    tmp_path: Path, weights_file: File, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    run([str(tmp_path / "a.png")], weights_file())
    run([str(tmp_path / "a_restored.png")], weights_file())
    assert "it was restored before" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["array", "wide", "grey", "float", "pillow", "pillow la", "tensor", "batch"])
def test_in_python_type_and_layout_are_kept(kind: str, weights: Callable[..., Weights]) -> None:
    restorer = PhotoRestorer(weights())
    floats = torch.from_numpy(RGB).movedim(2, 0).float() / 255
    given = {
        "array": RGB, "wide": RGB.astype(np.uint16) * 257, "grey": RGB[..., 0], "float": RGB / 255,
        "pillow": Image.fromarray(RGB), "pillow la": Image.fromarray(RGB).convert("LA"), "tensor": floats,
        "batch": torch.stack([floats, floats.flip(1)]),
    }[kind]  # fmt: skip
    result = restorer.restore(given)
    assert type(result) is type(given)
    if isinstance(given, Image.Image):
        assert (result.mode, result.size) == (given.mode, given.size)
    else:
        assert (result.shape, result.dtype) == (given.shape, given.dtype)
    with pytest.raises(InputError, match="fills no holes"):
        restorer.restore(given, np.zeros((41, 57), bool))


def test_the_command_ends_with_1_where_one_failed_and_imports_no_lightning(tmp_path: Path, weights_file: File) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    code = (
        "import sys; from recon.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'lightning' not in sys.modules, 'slow'"
    )
    words = ["action=restore", f"input={tmp_path}", f"weights={weights_file()}", "force=true"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path}/b.png cannot be used as an image")
    assert (tmp_path / "a_restored.png").exists()


@pytest.mark.slow
def test_an_interruption_leaves_whole_files_alone(tmp_path: Path, weights_file: File) -> None:
    for number in range(40):
        Image.fromarray(np.kron(RGB, np.ones((6, 6, 1), np.uint8))).save(tmp_path / f"{number:02}.png")
    words = ["action=restore", f"input={tmp_path}", f"weights={weights_file()}", "force=true"]
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not list(tmp_path.glob("*_restored.png")):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, 1)
    finished = list(tmp_path.glob("*_restored.png"))
    assert 0 < len(finished) < 40
    for path in finished:
        read_picture(path, 10**8)
    assert not list(tmp_path.glob("*.tmp.*"))


def test_pillow_reads_every_result(tmp_path: Path, weights_file: File) -> None:
    (tmp_path / "a.tiff").write_bytes(LOSSLESS["tiff 16 rgba"][0])
    run([str(tmp_path)], weights_file())
    with Image.open(io.BytesIO((tmp_path / "a_restored.tiff").read_bytes())) as image:
        assert image.size == (57, 41)
