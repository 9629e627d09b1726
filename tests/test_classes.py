"""Measures of classifiers against scikit-learn and their definitions, and calibration from end to end."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Compose, Typed
from PIL import Image
from scipy.optimize import minimize_scalar
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score, top_k_accuracy_score

from recon import metrics
from recon.actions.train import train
from recon.errors import InputError
from recon.metrics import classes
from recon.runs import calibrated
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
    with open(run / "classes.csv") as file:
        assert [row["class"] for row in csv.DictReader(file)][-2:] == ["macro mean", "weighted mean"]
    with Image.open(run / "images" / "reliability.png") as picture:
        assert picture.width > 300
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
