"""A run of a classical method: the record of any model, without training."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose, Typed
from PIL import Image
from report_runs import SHORT, carry_out, change_json, text_of
from skimage.data import camera

import recon
from recon.baselines import METHODS
from recon.errors import InputError
from recon.report.gather import Run, problems
from recon.runs import RunFolder

DIGITS = ("model=baseline", "task=digits", "task.batch_size=4", "trainer.limit_test_batches=1", *SHORT)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net and three classical methods on two sets of photographs."""
    top = tmp_path_factory.mktemp("baselines")
    for folder, count in (("train", 5), ("Left", 2), ("Right", 2)):
        (top / "data" / folder).mkdir(parents=True)
        for number in range(count):
            crop = camera()[number * 30 :, len(folder) * 40 :][:36, :40]
            Image.fromarray(crop).save(top / "data" / folder / f"{number}.png")
    words = (
        "task=folder", f"task.path={top / 'data' / 'train'}", "task.validation=2", "task.crop=16", "task.batch_size=4",
        f"task.test=[{top / 'data' / 'Left'},{top / 'data' / 'Right'}]", "protocol=denoising", "degradation=noise",
        "degradation.sigma=25/255", *SHORT,
    )  # fmt: skip
    net = ("model=restoration", "model/net=dncnn", "model.net.width=4", "model.net.depth=3", "trainer.max_epochs=1")
    assert carry_out(top / "runs" / "net", *net, *words) == 0
    for method in ("median", "nlm", "wavelet"):
        assert carry_out(top / "runs" / method, "model=baseline", f"model.method={method}", *words) == 0
    return top / "runs"


def test_it_leaves_the_record_of_any_model(runs: Path) -> None:
    record = json.loads((runs / "nlm" / "metrics.json").read_text())
    assert {"Left/psnr", "Right/psnr", "Left/ssim", "cost/latency_ms"} <= record.keys()
    assert record["cost/parameters"] == 0
    assert record["kind"] == "restore"
    assert not [name for name in record if name.startswith("train/")]
    assert "rounded to 8 bit" in record["convention"]["psnr"]
    with open(runs / "nlm" / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["set"] for row in rows] == ["Left"] * 2 + ["Right"] * 2
    assert np.mean([float(row["psnr"]) for row in rows[:2]]) == pytest.approx(record["Left/psnr"], abs=1e-5)
    assert record["Left/psnr"] > record["Left/psnr_degraded"] + 2
    assert (runs / "nlm" / "images" / "test.png").stat().st_size > 0
    environment = json.loads((runs / "nlm" / "environment.json").read_text())
    assert environment["status"] == "ok"


def test_the_report_sets_it_beside_trained_models_by_its_name(runs: Path, tmp_path: Path) -> None:
    views = [Run(view, path.name) for path in sorted(runs.iterdir()) for view in RunFolder(path).by_set()]
    found = problems(views)
    assert [len(problem.entries) for problem in found] == [4, 4]
    for problem in found:
        assert problem.same_images
        assert {entry.label for entry in problem.entries} == {"dncnn", "median", "nlm", "wavelet"}
    assert "4 finished runs of 4 configurations in 2 problems" in text_of(str(runs), tmp_path)


def test_it_is_tested_again_under_another_damage(runs: Path, tmp_path: Path) -> None:
    again = ("action=evaluate", f"run={runs / 'wavelet'}", *SHORT[1:])
    assert carry_out(tmp_path / "same", *again) == 0
    assert carry_out(tmp_path / "less", *again, "degradation.sigma=5/255") == 0
    same, less, before = (
        json.loads((path / "metrics.json").read_text())
        for path in (tmp_path / "same", tmp_path / "less", runs / "wavelet")
    )
    assert same["Left/psnr"] == before["Left/psnr"]
    assert less["Left/psnr"] > before["Left/psnr"] + 3


def test_it_is_loaded_in_python(runs: Path) -> None:
    model = recon.load(runs / "nlm")
    noise = np.random.default_rng(0).standard_normal((40, 40)) * 25 / 255
    image = camera()[100:140, 100:140] / 255
    restored = model(image + noise)
    assert np.mean((restored - image) ** 2) < 0.4 * np.mean(noise**2)


def test_a_blur_that_was_drawn_is_not_known_to_a_loaded_model(tmp_path: Path) -> None:
    words = ("model.method=richardson_lucy", "degradation=blur", "degradation.sigma=[0.5,1]")
    assert carry_out(tmp_path / "run", *DIGITS, *words) == 0
    with pytest.raises(InputError, match="needs to know the blur of each image"):
        recon.load(tmp_path / "run")(torch.rand(1, 8, 8))


def test_what_it_costs(typed: Typed, runs: Path) -> None:
    status, output, errors = typed("action=cost", f"run={runs / 'median'}", "sizes=[32]", "trainer.accelerator=cpu")
    assert status == 0, errors
    assert "BaselineModule with Median: 0 weights" in output
    assert "receptive field: not measured" in output
    status, output, errors = typed("action=cost", f"run={runs / 'nlm'}", "sizes=[32]", "trainer.accelerator=cpu")
    assert status == 0, errors


FITTING = {
    **dict.fromkeys(("wiener", "richardson_lucy"), "degradation=blur"),
    **dict.fromkeys(("biharmonic", "mean_fill"), "degradation=missing_box"),
}


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"bm3d", "bicubic"}))
def test_every_method_is_a_run(method: str, tmp_path: Path) -> None:
    words = [FITTING[method]] if method in FITTING else []
    assert carry_out(tmp_path / "run", *DIGITS, f"model.method={method}", *words) == 0


def test_bicubic_is_the_baseline_of_super_resolution(tmp_path: Path) -> None:
    words = ("model.method=bicubic", "degradation=downsample", "degradation.upsample=null")
    assert carry_out(tmp_path / "run", *DIGITS, *words) == 0
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert record["test/psnr"] == pytest.approx(record["test/psnr_degraded"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.method=mean"], "model.method: there is no 'mean'; choose median"),
        (["model.method=7"], "model.method: 7 does not fit; give a text"),
        (["model.method=biharmonic"], "model.method: biharmonic fills holes and this degradation makes none"),
        (["model.method=wiener"], "model.method: wiener needs a blur that is known"),
        (["degradation=downsample", "degradation.upsample=null"], "model.method: nlm keeps the size of images"),
        (["model/net=unet"], "model/net: the chosen model takes none; leave it out"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(words: list[str], said: str, typed: Typed) -> None:
    assert said in typed.refused("model=baseline", *words)
    assert not list(typed.tmp_path.rglob("*.*"))


def test_it_has_no_weights_to_start_a_training_from(typed: Typed, runs: Path) -> None:
    said = typed.refused("model=restoration", f"init_from={runs / 'nlm'}", *SHORT)
    assert "holds no weights, as its model has nothing to train" in said


def test_one_that_was_interrupted_is_tested_when_it_is_resumed(typed: Typed, runs: Path) -> None:
    shutil.copytree(runs / "median", "outputs/run")
    shutil.rmtree("outputs/run/checkpoints")
    change_json(Path("outputs/run/environment.json"), lambda record: record.update(status="interrupted"))
    status, _, errors = typed("resume=outputs/run")
    assert status == 0, errors
    before, after = (json.loads((path / "metrics.json").read_text()) for path in (runs / "median", Path("outputs/run")))
    assert before["Left/psnr"] == after["Left/psnr"]


def test_it_is_named_by_its_method(typed: Typed) -> None:
    status, _, errors = typed(*DIGITS, "model.method=median")
    assert status == 0, errors
    assert list(typed.tmp_path.glob("outputs/*/*_baseline_median_noise0.1_digits"))


def test_its_numbers_do_not_depend_on_the_seed(compose: Compose, tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    for seed in (0, 1):
        assert carry_out(tmp_path / str(seed), *DIGITS, "model.method=median", f"seed={seed}") == 0
        records.append(json.loads((tmp_path / str(seed) / "metrics.json").read_text()))
    assert records[0]["test/psnr"] == records[1]["test/psnr"]
