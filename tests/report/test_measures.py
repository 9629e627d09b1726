"""The table of measures knows everything that recon records, and which way it is better."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose, choices
from lightning.pytorch import Trainer

from recon import build
from recon.measures import BASELINES, HEADLINE, MAIN, ORDER, measure

# Columns that say which image, epoch or class a row is of.
NO_MEASURE = {"index", "severity", "prediction", "label", "recognised_as", "epoch", "step"}
MODELS = [(model,) for model in choices("model")] + [("inpainting", "model.adversarial=0.1")]


def unknown(names: set[str]) -> set[str]:
    return {name for name in names if name.rsplit("/", 1)[-1] not in {*ORDER, *NO_MEASURE}}


@pytest.mark.parametrize("words", MODELS, ids=" ".join)
def test_all_that_a_module_records_is_known(words: tuple[str, ...], compose: Compose) -> None:
    config = compose(f"model={words[0]}", *words[1:], "task=digits", "trainer.accelerator=cpu")
    task = build.task(config)
    degradation = build.degradation(config, task)
    module = build.module(config, task, degradation)
    data = build.data(config, task, degradation, module)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    batches = dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), 1)
    trainer = Trainer(**quiet, **batches, accelerator="cpu", max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(module, datamodule=data)
    trained = set(trainer.callback_metrics)
    assert {"train/loss", "val/loss"} <= trained
    trainer.test(module, datamodule=data, verbose=False)
    assert unknown({*trained, *module.summary, *module.results}) == set()
    if module.monitor is not None:
        assert measure(module.monitor).better == {"max": 1, "min": -1}[module.mode]


def test_all_that_a_run_records_is_known(made: Path) -> None:
    names: set[str] = set()
    for path in made.rglob("metrics.json"):
        names |= {name for name in json.loads(path.read_text()) if name not in ("convention", "images")}
    for path in [*made.rglob("metrics.csv"), *made.rglob("per_image.csv")]:
        with open(path, newline="") as file:
            names |= set(next(csv.reader(file)))
    assert {"cost/latency_ms", "test/recognised", "train/seconds", "val/psnr"} <= names
    assert unknown(names) == set()


@pytest.mark.parametrize(
    ("better", "names"),
    [
        (1, "psnr psnr_hole ssim accuracy precision recall f1 recognised classes megapixels_per_second"),
        (-1, "loss mse reconstruction latency_ms parameters seconds not_finite"),
        (0, "psnr_degraded ssim_degraded psnr_hole_mean logit_real logit_fake loss_discriminator lr of_my_own"),
    ],
)  # fmt: skip
def test_which_way_is_better(better: int, names: str) -> None:
    for name in names.split():
        assert measure(name).better == measure(f"test/{name}").better == better, name
        assert measure(f"test/{name}").name == name


def test_what_sums_a_run_up_can_be_judged() -> None:
    assert set(MAIN) < set(HEADLINE)
    assert all(measure(name).better for name in HEADLINE)
    assert not any(measure(name).better for name in BASELINES)
    assert {measure(name).before for name in ("psnr", "psnr_hole", "ssim")} == BASELINES


def test_only_what_may_be_undefined_may_be_nan() -> None:
    assert [name for name in ORDER if measure(name).partial] == ["psnr_hole", "psnr_hole_mean"]
    assert measure("of_my_own").partial
