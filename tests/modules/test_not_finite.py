"""A result that is NaN or infinite is never left out: it is counted and said, and the run fails with a record."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose, Typed
from lightning.pytorch import Trainer
from test_modules import QUIET, built

from recon.actions.evaluate import evaluate
from recon.actions.train import train
from recon.errors import InputError

SHORT = (
    "task=digits", "trainer.max_steps=2", "trainer.limit_val_batches=1", "trainer.enable_progress_bar=false",
    "accelerator=cpu", "logger=none",
)  # fmt: skip

EVALUATE = {"_target_": "recon.actions.evaluate.Evaluate"}


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv("RECON_TRUST", "own_nets")


def spoilt(compose: Compose, model: str, *overrides: str, **net: Any) -> dict[str, Any]:
    config = compose(f"model={model}", *SHORT, *overrides)
    name = "SpoiltClassifier" if model == "classifier" else "Spoilt"
    config["model"]["net"] = {"_target_": f"own_nets.{name}", **net}
    return config


def read(folder: Path) -> dict[str, Any]:
    """The record, as strict a reader of JSON as there is takes it."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)
    return record


def bright(model: str, compose: Compose) -> int:
    """How many test images the net spoils."""
    _, data = built(compose(f"model={model}", *SHORT))
    return sum(int((pair.degraded.mean((1, 2, 3)) > 0.33).sum()) for pair in data.test_dataloader())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_some_images_fail_the_run_with_its_record_written(value: float, compose: Compose, tmp_path: Path) -> None:
    count = bright("restoration", compose)
    assert 0 < count < 360
    with pytest.raises(InputError, match=rf"^{count} of 360 test images gave a result that is not finite; [^\n]+$"):
        train(spoilt(compose, "restoration", value=value), tmp_path, {})
    record, environment = read(tmp_path), json.loads((tmp_path / "environment.json").read_text())
    assert environment["status"] == "failed"
    assert f"{count} of 360 test images" in environment["error"]
    assert record["test/not_finite"] == count
    assert record["test/psnr"] is record["test/ssim"] is record["test/loss"] is None
    assert "not_finite" in record["convention"]
    assert record["test/psnr_degraded"] == pytest.approx(21.9, abs=0.1)
    assert record["images"]["count"] == 360
    with open(tmp_path / "per_image.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 360
    assert sum(not math.isfinite(float(row["psnr"])) for row in rows) == count


def test_scores_that_are_not_finite_are_no_class(compose: Compose, tmp_path: Path) -> None:
    count = bright("classifier", compose)
    with pytest.raises(InputError, match=rf"^{count} of 360 test images"):
        train(spoilt(compose, "classifier"), tmp_path, {})
    with open(tmp_path / "per_image.csv") as file:
        predictions = [float(row["prediction"]) for row in csv.DictReader(file)]
    assert predictions.count(-1) == count
    assert read(tmp_path)["test/accuracy"] <= 1 - count / 360


@pytest.mark.parametrize("model", ["restoration", "classifier", "inpainting"])
@pytest.mark.parametrize("early_stopping", ["null", "2"])
def test_a_validation_without_any_number_ends_the_run(
    model: str, early_stopping: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECON_PROGRESS", "1")
    # All but the blank image of the trial.
    config = spoilt(compose, model, f"early_stopping={early_stopping}", brighter_than=1e-6)
    with pytest.raises(
        InputError, match=r"^model: all \d+ validation images gave a result that is not finite; [^\n]+$"
    ):
        train(config, tmp_path, {})
    assert json.loads((tmp_path / "environment.json").read_text())["status"] == "failed"


def test_a_validation_without_a_hole_says_that_nothing_chooses(compose: Compose) -> None:
    module, data = built(compose("model=inpainting", "task=digits", "degradation.fraction=0"))
    with pytest.raises(InputError, match=r"^degradation: psnr_hole is defined for none of the \d+ validation images"):
        Trainer(**QUIET, max_epochs=1, max_steps=1).fit(module, datamodule=data)


def test_an_image_without_a_hole_is_no_fault(compose: Compose, tmp_path: Path) -> None:
    config = compose("model=inpainting", *SHORT, "degradation=missing_strokes", "degradation.count=[0,1]")
    train(config, tmp_path, {})
    with open(tmp_path / "per_image.csv") as file:
        values = [float(row["psnr_hole"]) for row in csv.DictReader(file)]
    known = [value for value in values if not math.isnan(value)]
    assert 0 < len(known) < len(values)
    assert read(tmp_path)["test/psnr_hole"] == pytest.approx(sum(known) / len(known))
    assert "test/not_finite" not in read(tmp_path)


def test_some_bad_validations_do_not_choose_the_weights(compose: Compose) -> None:
    """One whose mean is NaN is never the best, and does not end a training whose next may be."""
    module, data = built(spoilt(compose, "restoration"))
    Trainer(**QUIET, max_epochs=1, max_steps=2).fit(module, datamodule=data)
    assert math.isnan(module.summary["val/psnr"])
    assert 0 < module.summary["val/not_finite"] < 180
    assert (
        module.worst(3).tolist()
        == [index for index, value in enumerate(module.results["psnr"].tolist()) if math.isnan(value)][:3]
    )


def test_the_count_of_an_earlier_epoch_is_not_that_of_a_later_one(compose: Compose) -> None:
    module, data = built(spoilt(compose, "restoration"))
    recover = module.on_train_epoch_end

    def recovered() -> None:
        recover()
        module.net.value = 0.5

    module.on_train_epoch_end = recovered  # type: ignore[method-assign]
    Trainer(**QUIET, max_epochs=2, limit_train_batches=1).fit(module, datamodule=data)
    assert "val/not_finite" not in module.summary
    assert "val/not_finite" not in module.trainer.callback_metrics


def test_the_command_says_so_and_fails(typed: Typed) -> None:
    net = ("model.net._target_=own_nets.Spoilt", *(f"~model.net.{key}" for key in ("widths", "batch_norm", "residual")))
    said = typed.refused("model=restoration", *SHORT, *net, "hydra.run.dir=out")
    assert "of 360 test images gave a result that is not finite; " in said
    assert json.loads((typed.tmp_path / "out" / "environment.json").read_text())["status"] == "failed"


def test_the_digest_tells_the_images_that_were_tested(compose: Compose, tmp_path: Path) -> None:
    restoration = compose("model=restoration", *SHORT)
    train({**restoration, "task": {**restoration["task"], "batch_size": 7}}, tmp_path / "one", {})
    train(compose("model=classifier", "model/net=lenet", "degradation=noise", *SHORT), tmp_path / "other", {})
    images = read(tmp_path / "one")["images"]
    assert images["count"] == 360
    assert read(tmp_path / "other")["images"] == images
    for limit, count in ((None, 360), (2, 256)):
        config = {**restoration, "run": str(tmp_path / "one"), "action": EVALUATE}
        del config["init_from"], config["budget"]  # keys of training alone
        config["trainer"] = {**config["trainer"], "limit_test_batches": limit}
        config["task"] = {**config["task"], "batch_size": 128}
        evaluate(config, tmp_path / str(limit), {})
        found = read(tmp_path / str(limit))["images"]
        assert found["count"] == count
        assert (found == images) is (limit is None)
