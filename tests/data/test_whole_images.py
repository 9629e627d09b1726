"""An evaluation trains nothing: every image is tested whole, whatever its size and that of the training crops."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Typed
from PIL import Image
from report_runs import Text

from recon import report
from recon.report.run import Run
from recon.runs import RunFolder

QUICK = ("logger=none", "trainer.enable_progress_bar=false", "accelerator=cpu")
ODD = '<hr>, "1".png'
SIZES = [(20, 50), (200, 160), (33, 33), (200, 160)]


def photographs(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    folder.mkdir(parents=True)
    for number, (height, width) in enumerate(sizes):
        picture = np.random.default_rng(number).integers(0, 256, (height, width), np.uint8)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def trained(typed: Typed, tmp_path: Path) -> str:
    """A denoiser trained on crops of 32 pixels."""
    train = photographs(tmp_path / "train", [(40, 40)] * 4)
    status, _, errors = typed(
        "task=folder", f"task.path={train}", "task.crop=32", "model=restoration", "model/net=dncnn",
        "model.net.depth=3", "degradation=noise", "trainer.max_steps=1", f"hydra.run.dir={tmp_path}/run", *QUICK,
    )  # fmt: skip
    assert status == 0, errors
    return f"run={tmp_path}/run"


def rows(folder: Path) -> int:
    return len((folder / "per_image.csv").read_text().splitlines()) - 1


def test_images_of_any_size_are_tested_whole(typed: Typed, trained: str, tmp_path: Path) -> None:
    test = photographs(tmp_path / "test", SIZES)
    (test / "1.png").rename(test / ODD)
    other = photographs(tmp_path / "other", SIZES[1:])
    places = {
        "tested": (f"task.test={test}",),
        "cut": (f"task.path={test}",),  # of which a part is tested, as no other place is given
        "uncut": (f"task.path={other}", f"task.test={test}", "task.crop=null"),
    }
    for name, how in places.items():
        status, _, errors = typed("action=evaluate", trained, *how, f"hydra.run.dir={tmp_path}/{name}", *QUICK)
        assert status == 0, errors
    assert [rows(tmp_path / name) for name in places] == [4, 1, 4]
    see_files(tmp_path / "tested", test)


def see_files(tested: Path, test: Path) -> None:
    """An evaluation and its report call images by the names of their files, and show where in them a window is."""
    names = sorted(path.name for path in test.iterdir())
    with open(tested / "per_image.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in table] == names
    run = Run(RunFolder(tested), "tested")
    assert not run.faults
    assert run.images["psnr"].tolist() == [float(row["psnr"]) for row in table]
    arrays = np.load(tested / "images" / "samples.npz", allow_pickle=False)
    assert arrays["title"].tolist() == names
    for name, clean, window in zip(names, arrays["clean"], arrays["window"], strict=True):
        whole = np.asarray(Image.open(test / name))
        top, left, height, width, *size = window
        assert (whole[top : top + height, left : left + width] == clean[..., 0]).all()
        assert whole.shape == tuple(size)
    assert arrays["whole"].shape == (4, 200, 160, 1)
    page = report.write([tested], tested / "report.html").read_text()
    assert all(name in Text(page).text for name in names)
    assert "<hr>" not in page
    assert "image 0" not in page
    assert page.count('class="whole"') == 4 + 4, "each of the samples and of the worst"


def test_a_mask_for_whole_images_is_used_on_them(typed: Typed, trained: str, tmp_path: Path) -> None:
    test = photographs(tmp_path / "test", [(200, 160)] * 2)
    mask = np.zeros((200, 160), np.uint8)
    mask[50:90, 20:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    hole = ("degradation=missing_file", f"degradation.path={tmp_path}/mask.png")
    status, _, errors = typed(
        "action=evaluate", trained, f"task.test={test}", *hole, f"hydra.run.dir={tmp_path}/masked", *QUICK
    )
    assert status == 0, errors
    missing = float(json.loads((tmp_path / "masked/metrics.json").read_text())["test/psnr_hole"])
    assert np.isfinite(missing)
    other = photographs(tmp_path / "other", [(240, 200)])  # the mask does not cover it
    assert "degradation" in typed.refused("action=evaluate", trained, f"task.test={other}", *hole, *QUICK)


def test_a_single_image_to_train_on_is_one_sentence(typed: Typed, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", [(40, 40)])
    sentence = typed.refused("task=folder", f"task.path={folder}/0.png", "model=autoencoder")
    assert sentence.startswith(f"error: task.path={folder}/0.png has 1 usable image")
    assert not (tmp_path / "outputs").exists()
