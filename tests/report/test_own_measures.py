"""A measure that recon does not know is ranked, labelled and written by the row that its run recorded."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import QUICK, Compose
from report_runs import change_json, copies, text_of
from torch import Tensor

from recon.actions.train import train
from recon.measures import Measure
from recon.modules.restoration import RestorationModule
from recon.pair import Pair
from recon.report.gather import Run, problems
from recon.report.listing import print_runs
from recon.runs import RunFolder

ROW = Measure("blur", "blurriness", -1, "px", 1, "quality", factor=10.0, bounds=(0.0, 1.0), before="blur_before")


def blurred(run: Path, row: Any) -> None:
    """Let a run have measured nothing but its loss and the blurriness, a hundredth of its PSNR."""
    with open(run / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(run / "per_image.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "severity", "ssim_degraded", "blur"])
        writer.writerows([r["index"], r["severity"], r["ssim_degraded"], float(r["psnr"]) / 100] for r in rows)

    def change(content: dict[str, Any]) -> None:
        value = content.pop("test/psnr") / 100
        for name in [name for name in content if name.startswith("test/") and name != "test/loss"]:
            del content[name]
        content.update({"test/blur": value, "test/blur_before": 0.5})
        content["measures"] = {**content["measures"], "blur": row}

    change_json(run / "metrics.json", change)


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> list[Path]:
    """Two learning rates with two seeds each, the second by 5 dB higher."""
    return list(copies(made / "sweep" / "unet-1", tmp_path / "runs", seeds=2, rates=2, shift=lambda rate: 5.0 * rate))


def test_its_row_says_how_it_is_ranked_labelled_and_written(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in runs:
        blurred(run, ROW.record())
    (problem,) = problems([Run(RunFolder(run), run.name) for run in runs])
    assert problem.main == ROW
    text = text_of(str(tmp_path / "runs"), tmp_path)
    value = 5 * sum(json.loads((run / "metrics.json").read_text())["test/blur"] for run in runs[:2])
    assert f"Best of 2 configurations: unet · lr 0.001 with blurriness {value:.1f} px (95 % interval" in text
    assert "; blur before 5.0 px." in text, "a baseline is written as its measure"
    assert text.count("blur before") == 1, "a baseline has no column"
    assert "blurriness (px) ↓" in text
    assert "1 unet · lr 0.001 is better than 2 unet · lr 0.002 by 0.5 px on the same 360 images" in text
    assert "cannot be read" not in text
    assert "| configuration | blurriness (px) ↓ |" in (tmp_path / "report.md").read_text().replace("\\", "")
    print_runs(str(tmp_path / "runs"), "folder", None, ["folder", "metric", "value"])
    assert capsys.readouterr().out.count("test/blur ") == 4


def text(content: object) -> Callable[[dict[str, Any]], object]:
    return lambda row: content


@pytest.mark.parametrize("damage", [text(None), text([]), text({}), text({**ROW.record(), "better": 7})])
def test_a_damaged_row_is_ignored_with_a_note(
    damage: Callable[[dict[str, Any]], object], runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in runs:
        blurred(run, damage(ROW.record()))
    page = text_of(str(tmp_path / "runs"), tmp_path)
    assert "There is no measure of quality here" in page
    assert "blurriness" not in page
    note = '"measures" of metrics.json cannot be read: its entry of blur is damaged'
    assert page.count(note) == 4
    print_runs(str(tmp_path / "runs"), "folder", None, ["folder", "metric", "value"])
    assert capsys.readouterr().out.count(note) == 4


@pytest.mark.parametrize("content", [None, [1], "x"])
def test_a_table_that_is_none_is_ignored_with_a_note(content: object, runs: list[Path], tmp_path: Path) -> None:
    change_json(runs[0] / "metrics.json", lambda record: record.update(measures=content))
    page = text_of(str(tmp_path / "runs"), tmp_path)
    assert "with PSNR" in page
    assert page.count('"measures" of metrics.json cannot be read: it is no JSON object') == 1


def test_text_of_a_row_is_text(runs: list[Path], tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|$\x1b[2J\u202e"
    for run in runs:
        blurred(run, {**ROW.record(), "label": evil, "unit": evil})
    page = text_of(str(tmp_path / "runs"), tmp_path)
    assert "alert(1)" in page
    every = "".join((tmp_path / f"report.{kind}").read_text() for kind in ("html", "md", "tex"))
    assert not {"\x1b", "\u202e"} & set(every)
    assert every.count("<script>") == 1


def test_runs_that_judge_a_measure_differently_are_never_compared(runs: list[Path]) -> None:
    for run in runs[:2]:
        blurred(run, ROW.record())
    for run in runs[2:]:
        blurred(run, {**ROW.record(), "better": 1})
    assert len(problems([Run(RunFolder(run), run.name) for run in runs])) == 2


def test_runs_of_before_are_read_by_the_table(runs: list[Path], tmp_path: Path) -> None:
    expected = text_of(str(tmp_path / "runs"), tmp_path)
    for run in runs:
        change_json(run / "metrics.json", lambda content: (content.pop("measures"), content.pop("kind")))
    assert text_of(str(tmp_path / "runs"), tmp_path) == expected


def test_a_module_records_its_own_rows(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = RestorationModule.image_metrics

    def image_metrics(self: RestorationModule, image: Tensor, pair: Pair) -> dict[str, Tensor]:
        blur = torch.full_like(pair.severity, 0.25)
        undefined = blur.where(pair.index > 0, torch.nan)
        return {**measured(self, image, pair), "blur": blur, "sharp": undefined, "source": undefined}

    own = (ROW, Measure("sharp", "sharpness", 1, partial=True), Measure("source", "source", role="about"))
    monkeypatch.setattr(RestorationModule, "measures", own)
    monkeypatch.setattr(RestorationModule, "image_metrics", image_metrics)
    folder = tmp_path / "run"
    train(compose("model=restoration", "task=digits", *QUICK), folder, {})
    record = json.loads((folder / "metrics.json").read_text())
    assert record["kind"] == "restore"
    assert set(record["measures"]) == {name.split("/")[1] for name in record if "/" in name}
    assert record["measures"]["blur"] == ROW.record()
    assert record["measures"]["psnr"]["label"] == "PSNR"
    assert (record["test/blur"], record["test/sharp"]) == (0.25, 0.25)
    assert "test/source" not in record
    assert "test/not_finite" not in record
    capsys.readouterr()
    monkeypatch.undo()
    assert "blurriness (px) ↓" in text_of([folder], tmp_path)
