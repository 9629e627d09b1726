"""The table at the end of a run: what a model gained over its input, with its interval, or that it gained nothing."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Typed, choices
from scipy import stats

from recon.config.conf import read_choice
from recon.measures import ROWS, Measure, measure
from recon.report.gains import gains
from recon.runs.record import Results

RUN = ("trainer.enable_progress_bar=false", "accelerator=cpu", "logger=none", "trainer.limit_val_batches=1")


def columns(gain: float, spread: float, count: int = 50) -> dict[str, np.ndarray]:
    """Columns of images at about 20 dB that gain so much, give or take normal differences."""
    before = 20 + np.random.default_rng(1).normal(0, 3, count)
    differences = np.random.default_rng(2).normal(0, spread, count)
    return {"psnr_degraded": before, "psnr": before + gain + differences - differences.mean()}


def test_the_interval_is_over_the_images_and_of_their_differences() -> None:
    (gain,) = gains(columns(2.0, 1.0), ROWS)
    assert gain.after - gain.before == pytest.approx(2)
    assert gain.images == 50
    differences = columns(2.0, 1.0)["psnr"] - columns(2.0, 1.0)["psnr_degraded"]
    low, high = stats.t.interval(0.95, 49, loc=2.0, scale=stats.sem(differences))
    assert gain.interval is not None
    # The wider of Student's and Hall's on either side: at least Student's, and close to it for normal values.
    assert low - 0.03 <= gain.interval[0] <= low + 1e-9
    assert high - 1e-9 <= gain.interval[1] <= high + 0.03
    assert gain.texts()[0] == "PSNR, dB"
    assert gain.texts()[3].startswith("+2.00 [+1.")
    assert gain.verdict() is None


def test_a_model_that_is_no_better_than_its_input_is_called_so() -> None:
    (worse,) = gains(columns(-0.52, 1.0), ROWS)
    after = worse.texts()[2]
    assert worse.verdict() == f"PSNR {after} dB, 0.52 below the images as they were: not useful"
    (chance,) = gains(columns(0.05, 1.0), ROWS)
    assert chance.remark() == "cannot be told apart from the images as they were: its gain is within chance"
    (less,) = gains(
        {"own_degraded": np.full(9, 1.0), "own": np.full(9, 1.25)},
        {"own": Measure("own", "own", -1, before="own_degraded")},
    )
    assert less.remark() == "0.25 above the images as they were: not useful"
    (same,) = gains(columns(0.0, 0.0), ROWS)
    assert same.remark() == "no better than the images as they were: not useful"
    hole = gains({"psnr_hole": np.full(9, 10.0), "psnr_hole_mean": np.full(9, 11.0)}, ROWS)[0]
    assert hole.remark() == "1.00 below the PSNR in the hole filled with the mean: not useful"


def test_what_is_not_defined_or_not_damaged_does_not_count() -> None:
    found = columns(2.0, 1.0)
    hole = {"psnr_hole": np.array([15.0, np.nan, 17.0]), "psnr_hole_mean": np.array([10.0, np.nan, 11.0])}
    first, second = gains({**{name: column[:3] for name, column in found.items()}, **hole}, ROWS)
    assert (first.row.name, first.images, first.before, first.after) == ("psnr_hole", 2, 10.5, 16.0)
    assert second.row.name == "psnr"
    (one,) = gains({name: column[:1] for name, column in found.items()}, ROWS)
    assert one.interval is None
    assert gains({**found, "psnr_degraded": np.full(50, 100.0)}, ROWS) == []
    assert gains({"accuracy": np.ones(3)}, ROWS) == []


def test_a_run_ends_with_what_it_gained(typed: Typed) -> None:
    status, output, errors = typed("model=restoration", "model.net.widths=[4,8]", "trainer.max_steps=2", *RUN)
    assert status == 0, errors
    (row,) = [line for line in output.splitlines() if line.startswith("│ PSNR, dB ")]
    assert row.split("│")[5].strip() == "360"
    assert "below the images as they were: not useful" in output
    assert "psnr_degraded" not in output
    (folder,) = Path("outputs").glob("*/*")
    again = typed("action=evaluate", f"run={folder}", "degradation.sigma=0.3", *RUN[1:3])[1]
    assert again.count("│ PSNR, dB ") == 1


def test_a_run_on_images_that_are_not_damaged_has_no_before(typed: Typed) -> None:
    status, output, errors = typed("model=autoencoder", "degradation=none", "trainer.max_steps=2", *RUN)
    assert status == 0, errors
    assert "before" not in output
    assert "psnr" in output
    assert "psnr_degraded" not in output


def test_an_experiment_shows_what_was_expected(capsys: pytest.CaptureFixture[str]) -> None:
    reached = Results({"test/accuracy": 0.9871, "val/accuracy": 0.9876})
    expected = {"expected": {"test/accuracy": 0.9903, "test/psnr": 20.0, "under": "seed 0"}}
    reached.show(expected, ["experiment=mnist_cnn", "logger=none", "trainer.max_epochs=1", "seed=3"])
    *_, line = capsys.readouterr().out.splitlines()
    differs = "this run differs by trainer.max_epochs=1 seed=3"
    assert line == f"expected: accuracy 99.03 % (seed 0), reached 98.71 %; {differs}"
    reached.show(expected, ["experiment=mnist_cnn"])
    *table, line = capsys.readouterr().out.splitlines()
    assert line.endswith("reached 98.71 %")
    (heading,) = [row.split() for row in table if "metric" in row]
    (row,) = [row.split() for row in table if "accuracy" in row]
    assert dict(zip(heading, row, strict=True))["expected"] == "0.9903"


@pytest.mark.parametrize("name", sorted(choices("experiment")))
def test_every_experiment_says_what_to_expect(name: str) -> None:
    expected = (read_choice("experiment", name) or {})["expected"]
    (metric,) = expected.keys() - {"under"}
    assert measure(metric).name in ROWS
    assert expected["under"].startswith("seed 0")
