"""Measures of classifiers against scikit-learn and their definitions, and calibration from end to end."""

import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Compose, Typed
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.stats import bootstrap
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from recon import metrics
from recon.actions.train import train
from recon.errors import InputError
from recon.metrics import classes, resampled
from recon.runs import RunFolder, calibrated
from recon.runs.reliability import diagram


def drawn(count: int = 500, k: int = 7, occur: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a middling classifier and labels, of which only the first `occur` classes have images."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(occur, (count,), generator=generator)
    logits = torch.randn(count, k, generator=generator)
    logits[torch.arange(count), label] += 1.2
    return logits, label


@pytest.mark.parametrize("occur", [7, 5])
def test_classes_are_measured_as_scikit_learn_does(occur: int) -> None:
    logits, label = drawn(occur=occur)
    probability, prediction = logits.softmax(1), metrics.predicted(logits)
    found = metrics.classification(prediction, label, 7)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(label, prediction))
    each = [roc_auc_score(label == one, probability[:, one]) for one in range(occur)]
    assert classes.auroc(probability, label) == pytest.approx(np.mean(each), abs=1e-6)
    for k in (1, 2, 5):
        share = (classes.rank_of_label(logits, label) <= k).double().mean()
        assert share == pytest.approx(top_k_accuracy_score(label, probability, k=k, labels=range(7)))
    rows = classes.of_each(prediction, label, list("abcdefg"))
    assert [row["f1"] for row in rows[:7]] == pytest.approx(
        f1_score(label, prediction, average=None, labels=range(7), zero_division=0)
    )
    expected = f1_score(label, prediction, average="weighted", labels=range(7), zero_division=0)
    assert rows[-1]["f1"] == pytest.approx(expected)
    assert rows[-1]["images"] == 500


def loop(times: torch.Tensor, logits: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
    """Measure images that are there several times, by scikit-learn and torchmetrics."""
    again = torch.arange(len(label)).repeat_interleave(times.long())
    probability, truth = logits.double().softmax(1)[again], label[again]
    confidence, seen = probability.max(1)
    right = seen == truth
    found = {f"{name}{end}": score(truth, seen, average=average, zero_division=0)
             for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score))
             for average, end in (("macro", ""), ("weighted", "_weighted")) if name == "f1" or not end}  # fmt: skip
    norms = {"ece": "l1", "rmsce": "l2", "mce": "max"}
    return {
        **found, "balanced_accuracy": balanced_accuracy_score(truth, seen),
        "loss": log_loss(truth, probability, labels=range(probability.shape[1])),
        **{name: classes.calibration_error(confidence, right, norm) for name, norm in norms.items()},
    }  # fmt: skip


def given(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict]:  # type: ignore[type-arg]
    loss = torch.nn.functional.cross_entropy(logits.double(), label, reduction="none")
    return logits.double().softmax(1), metrics.predicted(logits), label, {"loss": loss}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_images_that_are_drawn_several_times_are_measured_as_in_a_plain_loop() -> None:
    logits, label = drawn(120, occur=6)
    logits[:3] = 40 * torch.nn.functional.one_hot(label[:3], 7)  # a confidence of 1 has a bin of its own
    (times, *_) = resampled._drawn(120)
    assert times.shape[0] == 120
    assert (times.sum(0) == 120).all()
    some = torch.cat([torch.ones(120, 1), times[:, :10]], 1).double()
    found = resampled.measured(some, *given(logits, label))
    for row in range(11):
        assert {name: float(values[row]) for name, values in found.items()} == pytest.approx(
            loop(some[:, row], logits, label), abs=1e-6
        )


def test_what_images_add_to_the_auroc_scatters_as_the_auroc_of_drawn_images_does() -> None:
    logits, label = drawn(1000)
    probability = logits.double().softmax(1).round(decimals=2)  # some are equal
    each = classes.auroc_of_each(probability, label)
    assert float(each.mean()) == pytest.approx(classes.auroc(probability, label), abs=1e-6)
    (times, *_) = resampled._drawn(1000)
    sets = [torch.arange(1000).repeat_interleave(column.long()) for column in times.T[:200]]
    areas = [np.mean([roc_auc_score(label[one] == k, probability[one, k]) for k in range(7)]) for one in sets]
    assert np.std(areas) == pytest.approx(float((each @ times[:, :200] / 1000).std()), rel=0.05)
    assert np.corrcoef(areas, each @ times[:, :200])[0, 1] > 0.995


def test_intervals_are_those_of_scipy_moved_to_the_value_and_fast() -> None:
    logits, label = drawn(10_000, 10, 10)
    began = time.process_time()
    found = resampled.intervals(*given(logits, label))
    assert time.process_time() - began < 2 * torch.get_num_threads()
    assert found.keys() == {
        "loss", "auroc", "balanced_accuracy", "precision", "recall", "f1", "f1_weighted", "ece", "rmsce", "mce",
    }  # fmt: skip
    loss = given(logits, label)[3]["loss"].numpy()
    expected = bootstrap((loss,), np.mean, n_resamples=1000, method="percentile", rng=0).confidence_interval
    width = expected.high - expected.low
    assert found["loss"] == pytest.approx((expected.low, expected.high), abs=0.08 * width)
    value = loop(torch.ones(10_000), logits, label)
    assert all(low < value[name] < high for name, (low, high) in found.items() if name in value)
    assert resampled.intervals(*given(logits, label)) == found, "drawn by key"
    # Where all is right, nothing is known of other images.
    perfect = 40 * torch.nn.functional.one_hot(label, 10).float()
    assert not resampled.intervals(*given(perfect, label)).keys() & {"f1", "auroc", "balanced_accuracy"}


def test_images_without_a_label_do_not_count() -> None:
    logits, label = drawn()
    probability = logits.softmax(1)
    fewer = label.where(torch.arange(len(label)) % 3 > 0, -1)
    kept = fewer >= 0
    assert classes.auroc(probability, fewer) == pytest.approx(classes.auroc(probability[kept], label[kept]))
    assert (classes.rank_of_label(logits, fewer)[~kept] == 8).all()
    assert math.isnan(classes.auroc(probability, torch.zeros_like(label)))


def test_the_brier_score_by_hand() -> None:
    found = classes.brier(torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.0, 1.0]]), torch.tensor([0, 0]))
    assert found.tolist() == pytest.approx([0.09 + 0.04 + 0.01, 2.0])


def test_calibration_errors_by_hand() -> None:
    """Two bins: three images of confidence 0.9 of which one is right, one of 0.5 that is right."""
    confidence, right = torch.tensor([0.9, 0.9, 0.9, 0.5]), torch.tensor([1, 0, 0, 1])
    gaps, shares = np.array([0.9 - 1 / 3, 0.5]), np.array([0.75, 0.25])
    expected = {"l1": (shares * gaps).sum(), "l2": np.sqrt((shares * gaps**2).sum()), "max": gaps.max()}
    for norm, value in expected.items():
        assert classes.calibration_error(confidence, right, norm) == pytest.approx(value, abs=1e-6)
    assert math.isnan(classes.calibration_error([], [], "l2"))


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_least_log_loss(true: float) -> None:
    """Labels drawn from the softmax of logits, and logits then multiplied."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    label = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    found = classes.temperature(logits * true, label)
    assert found == pytest.approx(true, rel=0.05)
    few, truth = logits[:2000] * true, label[:2000]
    best = minimize_scalar(lambda t: log_loss(truth, (few.double() / t).softmax(1), labels=range(5)), (0.1, 1.0))
    assert classes.temperature(few, truth) == pytest.approx(best.x, rel=1e-3)


def test_a_reliability_diagram_shows_each_bin() -> None:
    confidence, right = np.array([0.5, 0.5, 0.95, 0.95]), np.array([True, False, True, True])
    pixels = np.asarray(diagram(confidence, right))
    blue = (np.abs(pixels.astype(int) - (0, 114, 178)).sum(2) < 30).sum(0)
    assert blue[64 + round(0.5 * 360)] == pytest.approx(180, abs=4)
    assert blue[64 + round(0.97 * 360)] == pytest.approx(0.95 * 360, abs=4)  # above is the gap
    assert (blue[64 : 64 + 150] == 0).all()
    diagram(np.empty(0), np.empty(0, bool))


@pytest.fixture(scope="module")
def run(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of digits, whose smoothed labels leave it too unsure."""
    folder = tmp_path_factory.mktemp("runs") / "unsure"
    words = ("model=classifier", "model.label_smoothing=0.3", "trainer.max_epochs=4", "logger=none", "accelerator=cpu")
    train(compose(*words, "trainer.enable_progress_bar=false"), folder, {"choices": {}, "overrides": []})
    return folder


def test_calibration_is_kept_and_used(run: Path, typed: Typed) -> None:
    before = json.loads((run / "metrics.json").read_text())
    assert {
        "test/brier",
        "test/auroc",
        "test/ece",
        "test/rmsce",
        "test/mce",
        "test/top_5",
        "test/balanced_accuracy",
    } <= before.keys()
    intervals = before["intervals"]
    assert {name for name in before if name.startswith("test/")} - intervals.keys() == set()
    assert all(low <= before[name] <= high and low < high for name, (low, high) in intervals.items())
    with open(run / "classes.csv") as file:
        assert [row["class"] for row in csv.DictReader(file)][-2:] == ["macro mean", "weighted mean"]
    with Image.open(run / "images" / "reliability.png") as picture:
        assert picture.width > 300
    assert typed("action=report", f"runs={run}")[0] == 0
    page = (run / "report.html").read_text()
    low, high = (f"{100 * end:.2f}" for end in intervals["test/f1_weighted"])
    assert f"({low} to {high})" in page[page.index("Intervals over the test images") :]
    status, output, errors = typed("action=calibrate", f"run={run}", "accelerator=cpu")
    assert status == 0, errors
    about = json.loads((run / "temperature.json").read_text())
    assert about["temperature"] < 0.9
    assert about["nll_after"] < about["nll_before"]
    assert about["images"] == 180
    assert "temperature=1 undoes it" in output
    again = ("action=evaluate", f"run={run}", "accelerator=cpu", "logger=none", "trainer.enable_progress_bar=false")
    assert typed(*again, "hydra.run.dir=after")[0] == 0
    after = json.loads(Path("after/metrics.json").read_text())
    assert after["test/temperature"] == about["temperature"]
    assert after["test/accuracy"] == before["test/accuracy"]
    assert after["test/auroc"] == pytest.approx(before["test/auroc"], abs=0.01)
    assert after["test/loss"] < before["test/loss"]
    assert after["test/ece"] < before["test/ece"]
    # A second calibration begins anew; a number undoes it.
    assert typed("action=calibrate", f"run={run}", "accelerator=cpu")[0] == 0
    assert calibrated.read(run) == pytest.approx(about["temperature"], rel=1e-6)
    assert typed("action=calibrate", f"run={run}", "temperature=1")[0] == 0
    assert typed(*again, "hydra.run.dir=undone")[0] == 0
    undone = json.loads(Path("undone/metrics.json").read_text())
    assert undone["test/loss"] == pytest.approx(before["test/loss"])
    assert "test/temperature" not in undone


def test_intervals_are_read_of_each_test_set_and_what_is_damaged_is_left_out(tmp_path: Path) -> None:
    read = {
        "a/f1": [0.1, 0.2],
        "b/f1": [0.3, 0.4],
        "a/ece": [0.1],
        "a/mce": [None, 0.1],
        "a/loss": "x",
        "a/auroc": [{}, 1],
    }
    (tmp_path / "metrics.json").write_text(json.dumps({"intervals": read}))
    assert RunFolder(tmp_path, "a").intervals == {"a/f1": (0.1, 0.2), "b/f1": (0.3, 0.4), "test/f1": (0.1, 0.2)}
    (tmp_path / "metrics.json").write_text('{"intervals": [1]}')
    assert RunFolder(tmp_path).intervals == {}


@pytest.mark.parametrize("content", ["", "{}", '{"temperature": -1}', '{"temperature": "hot"}', '{"temperature": NaN}'])
def test_a_damaged_temperature_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "temperature.json").write_text(content)
    with pytest.raises(InputError, match=r"^run: .*temperature.json holds no temperature from 0.01 to 100; remove it"):
        calibrated.read(tmp_path)


def test_bad_input_gets_one_sentence(typed: Typed, run: Path) -> None:
    assert "top_k: 11 is out of range; give a whole number from 1 to 10" in typed.refused(
        "model=classifier", "model.top_k=11", "accelerator=cpu", "logger=none"
    )
    assert "temperature: 0.0 is out of range" in typed.refused("action=calibrate", f"run={run}", "temperature=0.0")
