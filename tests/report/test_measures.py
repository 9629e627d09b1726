"""The table of measures knows everything that recon records, and which way it is better."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Compose, trained_models
from lightning.pytorch import Trainer

from recon import build
from recon.measures import KINDS, ROWS, Measure, from_record, headline, measure

# The columns of `metrics.csv` that say which epoch a row is of, and the entries of `metrics.json` that are no metric.
NO_MEASURE = {"epoch", "step", "convention", "intervals", "measures", "images", "kind"}
MODELS = [(model,) for model in trained_models()]
MODELS += [(model, "model.adversarial=0.1") for model in ("inpainting", "vae")]


def unknown(names: set[str]) -> set[str]:
    return {name for name in names if name.rsplit("/", 1)[-1] not in {*ROWS, *NO_MEASURE}}


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
    found = unknown({*trained, *module.summary, *module.results})
    assert {name for name in found if name.split("/")[-1] not in module.rows} == set()
    if module.monitor is not None:
        assert measure(module.monitor).better == {"max": 1, "min": -1}[module.mode]


def test_all_that_a_run_records_is_known(made: Path) -> None:
    names: set[str] = set()
    own: set[str] = set()  # rows that a run brings along, as those of a generator's images as a set
    for path in made.rglob("metrics.json"):
        record = json.loads(path.read_text())
        names |= set(record)
        own |= set(record["measures"])
    for path in [*made.rglob("metrics.csv"), *made.rglob("per_image.csv")]:
        with open(path, newline="") as file:
            names |= set(next(csv.reader(file)))
    assert {"cost/latency_ms", "test/recognised", "train/seconds", "val/psnr"} <= names
    assert {name for name in unknown(names) if name.split("/")[-1] not in own} == set()


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
    names = [row.name for row in headline()]
    assert [name for name in names if name in ("psnr_hole", "psnr", "accuracy", "recognised", "mse", "loss")] == (
        ["psnr_hole", "psnr", "accuracy", "recognised", "mse", "loss"]
    )
    baselines = {name for name, row in ROWS.items() if row.role == "baseline"}
    assert all(measure(name).better for name in names)
    assert not any(measure(name).better for name in baselines)
    assert {measure(name).before for name in ("psnr", "psnr_hole", "ssim", "recognised")} == baselines


def test_only_what_may_be_undefined_may_be_nan() -> None:
    assert [name for name, row in ROWS.items() if row.partial] == ["psnr_hole", "auroc", "psnr_hole_mean"]
    assert measure("of_my_own").partial


def test_every_row_survives_its_record() -> None:
    for name, row in ROWS.items():
        read = from_record(name, json.loads(json.dumps(row.record(), allow_nan=False)))
        assert read == Measure(
            name, row.label, row.better, row.unit, row.decimals, row.role, before=row.before, partial=row.partial,
            timed=row.timed, factor=row.factor, bounds=row.bounds,
        )  # fmt: skip
        assert row.kind in ("", *KINDS)


GOOD = Measure("own", "own score", 1, "points", 1, "quality").record()


@pytest.mark.parametrize(
    "change",
    [
        {"label": 5}, {"label": "x" * 81}, {"unit": None}, {"better": 2}, {"better": True}, {"better": 1.0},
        {"decimals": -1}, {"decimals": 10**9}, {"decimals": True}, {"factor": 0}, {"factor": float("nan")},
        {"factor": "1"}, {"factor": 10**400}, {"role": "best"}, {"role": ["quality"]}, {"before": 3},
        {"partial": 0}, {"timed": None}, {"bounds": None}, {"bounds": [0]}, {"bounds": [0, "1"]},
        {"bounds": [float("nan"), 1]},
    ],
)  # fmt: skip
def test_a_damaged_row_is_no_row(change: dict[str, Any]) -> None:
    assert from_record("own", GOOD) is not None
    assert from_record("own", {**GOOD, **change}) is None
    assert from_record("own", {key: value for key, value in GOOD.items() if key not in change}) is None
    for row in (None, [], "x", 5):
        assert from_record("own", row) is None


def test_the_guide_lists_the_table() -> None:
    ways = {1: "higher", -1: "lower", 0: ""}
    lines = [
        f"| `{name}` | {row.heading} | {ways[row.better]} | {row.role} |"
        for name, row in ROWS.items()
        if row.role != "about"
    ]
    guide = (ROOT / "outputs" / "README.md").read_text()
    assert "\n".join(["| metric | is | better | role |", "|---|---|---|---|", *lines]) + "\n" in guide
