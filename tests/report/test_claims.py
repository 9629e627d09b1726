"""What the page claims is so: results that are not finite, other images, dropped images, the direction of a test."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import change_json, copies, text_of

from recon.report.gather import Problem, Run, problems
from recon.runs import RunFolder

Rows = list[dict[str, str]]


def change_rows(run: Path, change: Callable[[Rows], Any]) -> None:
    """Change the rows of a run's `per_image.csv`."""
    with open(run / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with open(run / "per_image.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def set_column(run: Path, name: str, values: Any) -> None:
    def change(rows: Rows) -> None:
        for row, value in zip(rows, values, strict=True):
            row[name] = str(value)

    change_rows(run, change)


def digest(run: Path, told: str) -> None:
    change_json(run / "metrics.json", lambda content: content.update(images={"digest": told, "count": 360}))


def without_digest(*runs: Path) -> None:
    for run in runs:
        change_json(run / "metrics.json", lambda content: content.pop("images", None))


def sorted_of(*runs: Path) -> list[Problem]:
    return problems([Run(RunFolder(path), path.name) for path in runs])


@pytest.fixture
def rates(made: Path, tmp_path: Path) -> list[Path]:
    """Two learning rates with two seeds each, the second by 1 dB better, on images known to be the same."""
    source = made / "sweep" / "unet-1"
    runs = list(copies(source, tmp_path / "runs", seeds=2, rates=2, shift=lambda rate: 1.0 * rate))
    for run in runs:
        digest(run, "ab")
    return runs


# Results that are not finite ---------------------------------------------------------------------------------------


NULL = {"test/psnr": None, "test/not_finite": 7}  # as JSON has no NaN


def broken(rows: Rows) -> None:
    for row in rows[:83]:
        row["psnr"] = row["mse"] = "nan"


def infinite(rows: Rows) -> None:
    rows[0]["loss"] = "-inf"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        # As recon recorded it before, by a mean of what is left.
        (lambda run: change_rows(run, broken), "its values are not finite on 83 of 360 test images"),
        (lambda run: change_rows(run, infinite), "its values are not finite on 1 of 360 test images"),
        (
            lambda run: change_json(run / "metrics.json", lambda c: c.update(NULL)),
            "its values are not finite on 7 of 360 test images",
        ),
        (
            lambda run: change_json(run / "metrics.json", lambda c: c.update({"test/ssim": float("nan")})),
            "test/ssim is not finite",
        ),
        (
            lambda run: change_json(run / "metrics.json", lambda c: c.update({"test/psnr": float("inf")})),
            "test/psnr is not finite",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", ["ok", "failed"])
def test_results_that_are_not_finite_are_never_ranked(
    spoil: Callable[[Path], None], reason: str, status: str, rates: list[Path], tmp_path: Path
) -> None:
    best = rates[2]
    spoil(best)
    change_json(best / "environment.json", lambda content: content.update(status=status))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert f"Not ranked, as results are not finite: unet · lr 0.002, seed 0: {reason}." in text
    assert "3 finished runs of 2 configurations. 1 gave results that are not finite." in text
    assert re.search(r"unet · lr 0.001 with PSNR [\d.]+ dB", text)
    assert "is better than" not in text
    markdown = (tmp_path / "report.md").read_text()
    assert len([line for line in markdown.splitlines() if line.startswith("| unet")]) == 1
    assert "Not ranked" in markdown
    assert "Not ranked" in (tmp_path / "report.tex").read_text()


def test_a_configuration_is_named_even_where_nothing_is_left_to_rank(rates: list[Path], tmp_path: Path) -> None:
    change_rows(rates[2], broken)
    text = text_of(rates[2:], tmp_path)
    assert "No configuration can be ranked." in text
    assert "Not ranked, as results are not finite: unet, seed 0: its values are not finite on 83 of 360" in text
    # Alone, it is no problem to compare in at all.
    alone = text_of(rates[2:3], tmp_path)
    assert "No finished run" in alone
    assert "not finiteits values are not finite on 83 of 360 test images" in alone


@pytest.mark.parametrize(("place", "kind"), [("sweep/unet-1", "restore"), ("classifiers/1", "recognise"),
                                             ("others/gan", "generate"), ("others/vae", "restore")])  # fmt: skip
def test_what_a_run_is_does_not_depend_on_what_it_scored(place: str, kind: str, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / place, tmp_path / "run")
    assert Run(RunFolder(tmp_path / "run"), "").kind == kind
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["kind"] == kind
    numbers = {"test/loss": None, "test/not_finite": 360, "convention": {}}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(numbers))
    assert Run(RunFolder(tmp_path / "run"), "").kind == kind
    (tmp_path / "run" / "config.yaml").write_text("model: {_target_: own.Module}\n")
    if kind != "generate":
        assert Run(RunFolder(tmp_path / "run"), "").kind == kind, "its table tells"
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**numbers, "kind": "recognise"}))
    assert Run(RunFolder(tmp_path / "run"), "").kind == "recognise"
    (tmp_path / "run" / "metrics.json").write_text(json.dumps({**numbers, "kind": ["paint"]}))
    if kind != "generate":
        assert Run(RunFolder(tmp_path / "run"), "").kind == kind


def test_seeds_that_failed_are_said(rates: list[Path], tmp_path: Path) -> None:
    for name in ("metrics.json", "per_image.csv"):
        (rates[3] / name).unlink()
    change_json(rates[3] / "environment.json", lambda content: content.update(status="failed", error="diverged"))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "unet · lr 0.002: seed 1 failed, and so the mean is of the others alone." in text
    assert "lr 0.001: seed" not in text
    assert "1 did not finish" in text


# The same images ---------------------------------------------------------------------------------------------------


def test_other_images_by_their_digest_are_another_problem(rates: list[Path], tmp_path: Path) -> None:
    assert len(sorted_of(*rates)) == 1
    digest(rates[3], "cd")
    first, second = sorted_of(*rates)
    assert (len(first.runs), len(second.runs)) == (3, 1)
    assert (first.elsewhere, second.elsewhere) == (1, 3)
    assert first.title == "Restoring digits (ab) under noise (sigma 0.05 to 0.5)"
    assert second.title == "Restoring digits (cd) under noise (sigma 0.05 to 0.5)"
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "Compared apart from these: 1 run of the same task and damage, tested on other images." in text
    assert [len(found.runs) for found in first.entries] == [1, 2], "seeds on other images are not averaged"


@pytest.mark.parametrize("name", ["label", "index", "severity"])
def test_without_a_digest_what_is_known_of_each_image_must_agree(name: str, made: Path, tmp_path: Path) -> None:
    runs = [tmp_path / seed for seed in "12"]
    for run in runs:
        shutil.copytree(made / "classifiers" / run.name, run)
    without_digest(*runs)
    (problem,) = sorted_of(*runs)
    assert not problem.same_images, "neither labels nor order tell what is on an image"
    text = text_of(runs, tmp_path)
    assert "Not all of these runs record which images they were tested on: not known to be the same images." in text
    column = RunFolder(runs[0])
    values = Run(column, "").images[name].copy()
    values[-1] += 1
    set_column(runs[0], name, values)
    assert len(sorted_of(*runs)) == 2


def test_what_is_not_known_to_be_the_same_is_not_claimed(made: Path, tmp_path: Path) -> None:
    """Two classifiers on folders whose images were replaced: 90 points between them, on who knows which images."""
    runs = []
    for rate, right in (("0.001", 350), ("0.002", 30)):
        runs.append(tmp_path / rate)
        shutil.copytree(made / "classifiers" / "1", runs[-1])
        config = (runs[-1] / "config.yaml").read_text()
        (runs[-1] / "config.yaml").write_text(config.replace("lr: 0.001", f"lr: {rate}"))
        labels = Run(RunFolder(runs[-1]), "").images["label"]
        set_column(runs[-1], "prediction", np.where(np.arange(360) < right, labels, (labels + 1) % 10).astype(int))
        change_json(runs[-1] / "metrics.json", lambda c, right=right: c.update({"test/accuracy": right / 360}))
    without_digest(*runs)
    text = text_of(runs, tmp_path)
    assert "on 360 images, not known to be the same," in text
    assert "if they are the same, this is no accident of the images." in text
    for run in runs:
        digest(run, "ab")
    text = text_of(runs, tmp_path)
    assert "by 88.89 percentage points on the same 360 images" in text
    assert "p < 0.001): this is no accident of the images; with one seed nothing tells" in text
    digest(runs[0], "cd")
    assert "is better than" not in text_of(runs, tmp_path)


def test_degraded_quality_tells_images_of_old_runs_apart(rates: list[Path]) -> None:
    without_digest(*rates)
    (problem,) = sorted_of(*rates)
    assert problem.same_images, "the SSIM of each degraded image depends on what it shows"
    values = Run(RunFolder(rates[0]), "").images["ssim_degraded"]
    set_column(rates[0], "ssim_degraded", values[::-1])
    assert len(sorted_of(*rates)) == 2
    for run in rates:  # images without damage are all alike
        set_column(run, "ssim_degraded", np.ones(360))
        set_column(run, "psnr_degraded", np.full(360, 100.0))
    (problem,) = sorted_of(*rates)
    assert not problem.same_images


def test_a_judge_in_another_precision_leaves_the_images_the_same(rates: list[Path]) -> None:
    """Of one image in hundreds it decides otherwise in bfloat16."""
    for run, seen in zip(rates, (1.0, 0.0), strict=False):
        for name in ("recognised_degraded", "recognised_clean"):
            set_column(run, name, np.array([seen] + [1.0] * 359))
    (problem,) = sorted_of(*rates)
    assert problem.same_images


# Which images count ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("budget", "entries"), [("null", 4), ("40s", 2)])
def test_the_length_that_a_budget_came_to_makes_no_other_entry(budget: str, entries: int, rates: list[Path]) -> None:
    for steps, run in enumerate(rates, 30):
        config = (run / "config.yaml").read_text()
        config = re.sub(r"(?m)^budget: .*$", f"budget: {budget}", config)
        (run / "config.yaml").write_text(re.sub(r"(?m)^  max_steps: .*$", f"  max_steps: {steps}", config))
    (problem,) = sorted_of(*rates)
    assert len(problem.entries) == entries


def test_only_images_with_a_value_count_and_the_others_are_said(rates: list[Path], tmp_path: Path) -> None:
    for run in rates:
        hole = Run(RunFolder(run), "").images["psnr"].copy()
        change_json(run / "metrics.json", lambda c, hole=hole: c.update({"test/psnr_hole": float(hole[20:].mean())}))
        hole[:20] = np.nan  # images without a hole

        def add(rows: Rows, hole: Any = hole) -> None:
            for row, value in zip(rows, hole, strict=True):
                row["psnr_hole"] = str(value)

        change_rows(run, add)
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "on 340 of 360 test images" in text
    assert "PSNR in the hole" in text
    assert "on the same 340 of 360 images" in text


def test_scores_that_are_not_finite_are_no_class(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "classifiers" / "1", run)
    predictions = Run(RunFolder(run), "").images["prediction"]
    set_column(run, "prediction", np.where(np.arange(360) < 5, -1, predictions).astype(int))
    change_json(run / "metrics.json", lambda content: content.pop("test/not_finite", None))
    found = Run(RunFolder(run), "")
    assert found.flaw == "its values are not finite on 5 of 360 test images"
    assert np.isnan(found.images["accuracy"]).sum() == 5


def test_images_without_a_label_are_no_mistakes(made: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made / "classifiers" / "1", run)
    images = Run(RunFolder(run), "").images
    set_column(run, "label", np.where(np.arange(360) < 60, -1, images["label"]).astype(int))
    assert np.isnan(Run(RunFolder(run), "").images["accuracy"]).sum() == 60
    assert "on 300 of 360 test images" in text_of([run], tmp_path)


# Claims ------------------------------------------------------------------------------------------------------------


def test_where_most_images_go_the_other_way_it_is_said(rates: list[Path], tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for run in rates:
        values = 20 + draws.normal(0, 0.01, 360)
        if "rate-1" in run.name:
            values += np.where(np.arange(360) < 324, 0.1, -3)
        set_column(run, "psnr", values)
        change_json(run / "metrics.json", lambda c, values=values: c.update({"test/psnr": float(values.mean())}))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert re.search(
        r"1 unet · lr 0.001 is better than 2 unet · lr 0.002 by 0.21 dB on the same 360 images \(95 % interval [^)]*"
        r"p < 0.001\), although the other is the better one of 90 % of them: this is no accident of the images",
        text,
    )


def test_seeds_without_spread_make_no_claim(rates: list[Path], tmp_path: Path) -> None:
    for run in rates:
        value = 22.0 if "rate-1" in run.name else 20.0
        change_json(run / "metrics.json", lambda c, value=value: c.update({"test/psnr": value}))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "with PSNR 22.00 dB (2 seeds that agree in all digits, so without an interval)" in text
    assert "with seeds that agree in all digits nothing tells whether another training would agree" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"threads": 2}, "The times were taken with 1 or 2 threads and compare only roughly."),
        ({"cores": 64}, "taken on 2 kinds of machine (P, 2 cores, 8 GiB of memory; P, 64 cores, 8 GiB of memory) and"),
        ({"processor": "Q"}, "on 2 kinds of machine (P, 2 cores, 8 GiB of memory; Q, 2 cores, 8 GiB of memory) and"),
        ({"memory": 16}, "on 2 kinds of machine (P, 2 cores, 16 GiB of memory; P, 2 cores, 8 GiB of memory) and"),
        ({"gpus": ["A"], "threads": 8}, "8 GiB of memory, A) and with 1 or 8 threads and compare only roughly."),
        ({"memory": None, "processor": "x86_64"}, None),  # as older runs record it
    ],
)
def test_machines_differ_by_what_they_have_not_by_threads(
    changes: dict[str, Any], said: str | None, rates: list[Path], tmp_path: Path
) -> None:
    for rate, run in enumerate(rates):
        change_json(run / "metrics.json", lambda c, rate=rate: c.update({"train/seconds": 1.0 + rate}))
        change_json(run / "environment.json", lambda c: c.update(processor="P", cores=2, memory=8, threads=1))
    change_json(rates[0] / "environment.json", lambda content: content.update(changes))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "What quality costs" in text
    assert (said in text) if said else ("The times were taken" not in text)


def test_trials_that_a_search_gave_up_are_no_failures(rates: list[Path], tmp_path: Path) -> None:
    (rates[3] / "metrics.json").unlink()
    change_json(rates[3] / "environment.json", lambda content: content.update(status="pruned"))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "3 finished runs of 2 configurations. 1 pruned by the search." in text
    assert "Failed and missing" not in text
    assert "Prunedrunstatusreasonasked forrate-1_seed-1pruned" in text
