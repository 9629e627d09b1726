"""A run that was tested on several sets: each has its own numbers, table and ranking; and so has each protocol."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from report_runs import SHORT, carry_out, change_json, text_of
from skimage.data import camera

from recon.report.choose import choose
from recon.report.gather import Run, problems
from recon.runs import RunFolder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two nets under the plain protocol, and one of them under that of the denoising literature."""
    top = tmp_path_factory.mktemp("sets")
    for folder, count in (("train", 6), ("Left", 3), ("Right", 2)):
        (top / "data" / folder).mkdir(parents=True)
        for number in range(count):
            crop = camera()[number * 30 :, len(folder) * 40 :][:32, :40]
            Image.fromarray(crop).save(top / "data" / folder / f"{number}.png")
    data = (
        "task=folder", f"task.path={top / 'data' / 'train'}", "task.validation=2", "task.crop=16",
        f"task.test=[{top / 'data' / 'Left'},{top / 'data' / 'Right'}]", "task.batch_size=4",
    )  # fmt: skip
    words = ("model=restoration", "model/net=dncnn", "model.net.width=4", "trainer.max_epochs=1", *data, *SHORT)
    for depth in (2, 3):
        assert carry_out(top / "runs" / f"depth-{depth}", *words, f"model.net.depth={depth}") == 0
    again = ("action=evaluate", f"run={top / 'runs' / 'depth-2'}", "protocol=denoising", *SHORT[1:])
    assert carry_out(top / "runs" / "again", *again) == 0
    return top / "runs"


def test_the_numbers_of_each_set_stand_under_its_name(runs):
    record = json.loads((runs / "depth-2" / "metrics.json").read_text())
    assert not [name for name in record if name.startswith("test/")]
    assert record["sets"]["Left"]["count"] == 3
    with open(runs / "depth-2" / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["Left"] * 3 + ["Right"] * 2
    assert [row["file"] for row in rows] == ["0.png", "1.png", "2.png", "0.png", "1.png"]
    for name in ("Left", "Right"):
        values = [float(row["psnr"]) for row in rows if row["set"] == name]
        assert record[f"{name}/psnr"] == pytest.approx(np.mean(values), abs=1e-5)


def test_the_report_compares_on_each_set_and_under_each_protocol(runs, tmp_path):
    views = [Run(view, path.name) for path in sorted(runs.iterdir()) for view in RunFolder(path).by_set()]
    found = problems(views)
    assert sorted((problem.title.split(" (")[0], len(problem.entries)) for problem in found) == [
        ("Restoring Left", 1), ("Restoring Left", 2), ("Restoring Right", 1), ("Restoring Right", 2),
    ]  # fmt: skip
    assert sum("protocol denoising" in problem.title for problem in found) == 2
    right = next(p for p in found if p.data.startswith("Right") and len(p.entries) == 2)
    record = json.loads((runs / "depth-3" / "metrics.json").read_text())
    assert record["Right/psnr"] in [entry.of("test/psnr")[0] for entry in right.entries]
    assert right.runs[0].images["index"].tolist() == [0, 1]
    assert right.runs[0].pictures("samples")["index"].tolist() == [0, 1]
    assert right.same_images
    text = text_of(str(runs), tmp_path)
    assert "3 finished runs of 3 configurations in 4 problems" in text


def test_lists_and_choices_take_the_first_set(runs, typed):
    (typed.tmp_path / "outputs").symlink_to(runs)
    status, out, _ = typed("action=list", "list.columns=[run,metric,Right/psnr]")
    assert status == 0
    assert "Left/psnr" in out
    better = max(("depth-2", "depth-3"), key=lambda name: RunFolder(runs / name).metrics["Left/psnr"])
    assert choose("run", "best").name == better


def test_rows_that_do_not_fit_the_sets_are_damage(runs, tmp_path):
    shutil.copytree(runs / "depth-2", tmp_path / "run")
    change_json(tmp_path / "run" / "metrics.json", lambda content: content["sets"]["Left"].update(count=2))
    run = Run(RunFolder(tmp_path / "run").by_set()[0], "run")
    assert run.images == {}
    assert any("do not fit the sets" in fault for fault in run.faults)


def test_an_image_too_small_for_the_net_is_refused_before_any_work(runs, typed):
    data = runs.parent / "data"
    shutil.copytree(data / "Left", data / "Tiny", dirs_exist_ok=True)
    with Image.open(data / "Left" / "0.png") as image:
        image.crop((0, 0, 5, 3)).save(data / "Tiny" / "tiny.png")
    words = ("task=folder", f"task.path={data / 'train'}", "task.validation=2", "task.crop=16", *SHORT)
    said = typed.refused(*words, f"task.test=[{data / 'Tiny'}]", "model=restoration", "model/net=dncnn")
    assert said.startswith("error: task.test: an image to evaluate has 5x3 pixels, too few for this net")
    assert not list(typed.tmp_path.glob("outputs/*/*/config.yaml"))
