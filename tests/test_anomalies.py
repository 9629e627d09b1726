"""Anomaly detection: the measures where they are known, the classes that are trained on, and the command."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Compose, Typed
from PIL import Image
from sklearn.metrics import roc_auc_score

from recon import build
from recon.actions.train import train
from recon.codes.anomalies import histograms, measured, require_both, scores_of_codes, scores_of_images, usual_error
from recon.codes.of_run import Coded
from recon.errors import InputError
from recon.pair import Pair
from recon.report import write

WORDS = [word for word in QUICK if "max_steps" not in word and "limit" not in word]


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    zeros = ("task.normal=[0]", "trainer.max_epochs=60", "task.batch_size=16")
    train(compose("model=autoencoder", "model.net.latent_dim=8", *zeros, *WORDS), folder / "zeros", {})
    train(compose("model=vae", "task.normal=[0,6]", "trainer.max_steps=2", *WORDS), folder / "vae", {})
    train(compose("model=autoencoder", "trainer.max_steps=2", *WORDS), folder / "all", {})
    return {name: folder / name for name in ("zeros", "vae", "all")}


def test_a_perfect_score_has_1_a_constant_one_a_half_and_a_reversed_one_0() -> None:
    anomalous = np.arange(200) % 4 > 0
    for score, expected in ((anomalous * 1.0, 1.0), (np.zeros(200), 0.5), (-1.0 * anomalous, 0.0)):
        found = measured(score, anomalous)
        assert found["auc"] == pytest.approx((expected, expected, expected))
    assert measured(np.zeros(200), anomalous)["average_precision"].value == pytest.approx(0.75)


def test_the_interval_of_the_area_is_that_of_its_law() -> None:
    """For normal scores a unit apart the area is Φ(1/√2); its error is that of Hanley & McNeil (1982)."""
    generator = np.random.default_rng(0)
    anomalous = np.arange(600) < 300
    score = generator.normal(size=600) + anomalous
    found = measured(score, anomalous)["auc"]
    assert found.value == roc_auc_score(anomalous, score)
    area = 0.7602
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    error = ((area * (1 - area) + 299 * (first + second - 2 * area**2)) / 300**2) ** 0.5
    assert found.value == pytest.approx(area, abs=3 * error)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.25)


def test_distances_of_codes_are_those_of_their_law() -> None:
    """Of N(m, S) the squared Mahalanobis distance has as its mean the number of dimensions."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.tensor([[2.0, 0.5], [0.0, 0.3]])
    draw = [torch.randn(4000, 2, generator=generator) @ mix + 5 for _ in range(2)]
    none = torch.zeros(4000, dtype=torch.int64)
    train_codes, test_codes = (Coded(each, each[:, :0], none, none) for each in draw)
    found = scores_of_codes(train_codes, test_codes, 1)
    assert float(found["mahalanobis"].mean()) == pytest.approx(2, rel=0.05)
    itself = scores_of_codes(train_codes, train_codes, 1)["knn"]
    assert float(itself.max()) < 0.02
    with pytest.raises(InputError, match=r"k: 4001 neighbours are more than there are training images \(4,000\)"):
        scores_of_codes(train_codes, test_codes, 4001)


class Halves:
    """Stands for a module that rebuilds every pixel at half its value."""

    device = torch.device("cpu")

    def predict(self, pair: Pair) -> torch.Tensor:
        return pair.clean / 2


def pairs_of(*images: torch.Tensor) -> list[Pair]:
    """Pairs of one image each, in reverse order."""
    return [
        Pair.of(image[None])._replace(index=torch.tensor([number])) for number, image in reversed([*enumerate(images)])
    ]


def test_errors_are_standardised_by_those_of_normal_images() -> None:
    """By hand: errors are squares of halves; usual ones 1 and 4 on two pixels, 2.5 on average."""
    normal = [torch.tensor([[[2.0, 4.0]]])] * 2
    usual = usual_error(Halves(), pairs_of(*normal))
    assert usual.tolist() == [[[1.0, 4.0]]]
    scores = scores_of_images(Halves(), pairs_of(normal[0], torch.tensor([[[4.0, 0.0]]])), usual)
    assert scores["reconstruction"].tolist() == [2.5, 2.0]
    assert scores["standardised"].tolist() == pytest.approx([(1 / 3.5 + 4 / 6.5) / 2, 4 / 3.5 / 2])
    # Where sizes differ there is no error at one pixel; where nothing is ever wrong there is no division by 0.
    assert usual_error(Halves(), pairs_of(normal[0], torch.zeros(1, 2, 2))) is None
    assert set(scores_of_images(Halves(), pairs_of(normal[0]), None)) == {"reconstruction"}
    assert set(scores_of_images(Halves(), pairs_of(torch.zeros(1, 2, 2)), usual)) == {"reconstruction"}
    perfect = scores_of_images(Halves(), pairs_of(torch.zeros(1, 1, 2)), torch.zeros(1, 1, 2))
    assert perfect["standardised"].tolist() == [0.0]


@pytest.mark.parametrize(("normal", "numbers"), [("[0]", {0}), ("[3,'7']", {3, 7})])
def test_normal_classes_alone_are_trained_and_validated_on(normal: str, numbers: set[int], compose: Compose) -> None:
    config = compose("model=autoencoder", f"task.normal={normal}")
    task = build.task(config)
    splits = task.load(Path())
    whole = build.task(compose("model=autoencoder")).load(Path())
    assert set(splits.train.label.tolist()) == set(splits.validation.label.tolist()) == numbers
    assert torch.equal(splits.test.label, whole.test.label)
    # The splits are those of all classes.
    for part, of_all in ((splits.train, whole.train), (splits.validation, whole.validation)):
        is_normal = torch.isin(of_all.label, torch.tensor(sorted(numbers)))
        assert torch.equal(part.offset, of_all.offset[is_normal])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task.normal=[]"], "task.normal: it names no class"),
        (["task.normal=[10]"], "task.normal: 10 is no class; give numbers up to 9, or names of 0, 1"),
        (["task.normal=[cat]"], "task.normal: 'cat' is no class"),
        (["task.normal=[0]", "task.validation=1"], "no image of these classes is left to train, or to validate, on"),
        (["task=photos", "+task.normal=[0]"], "the images of this task have no classes"),
        (["task=webdataset", "task.path=a.tar", "+task.normal=[0]"], "shards are read as they come"),
    ],
)
def test_classes_that_are_not_there_are_refused(words: list[str], said: str, typed: Typed) -> None:
    assert said in typed.refused("model=autoencoder", *words, *QUICK)


def test_images_of_one_kind_alone_are_refused() -> None:
    label = torch.tensor([0, 0, 1])
    assert require_both(label, (0,)).tolist() == [False, False, True]
    for normal, said in (((), "trained on all classes"), ((0, 1), "no test image is anomalous"), ((5,), "is normal")):
        with pytest.raises(InputError, match=said):
            require_both(label, normal)


def test_zeros_are_told_from_other_digits(runs: dict[str, Path], typed: Typed) -> None:
    status, output, errors = typed("action=anomalies", f"run={runs['zeros']}", "accelerator=cpu")
    assert status == 0, errors
    assert "325 of 360 test images are anomalous" in output
    with open("anomalies/measures.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert {row["score"] for row in found} == {
        "reconstruction", "standardised", "mahalanobis", "knn", "pixels",
    }  # fmt: skip
    assert {row["against"] for row in found} == {"all", *"123456789"}
    area = next(
        row for row in found if (row["score"], row["against"], row["measure"]) == ("reconstruction", "all", "auc")
    )
    assert float(area["value"]) > 0.97
    with open("anomalies/scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["reconstruction"]) for row in rows]
    anomalous = [int(row["label"]) != 0 for row in rows]
    assert float(area["value"]) == pytest.approx(roc_auc_score(anomalous, scores), abs=1e-6)
    for name in ("histograms", "where"):
        with Image.open(f"anomalies/{name}.png") as drawn:
            assert drawn.width > 500
    page = write([runs["zeros"]], Path("report.html")).read_text()
    assert page.count('class="drawn"') == 2
    assert f"{float(area['value']):.4f} [{float(area['low']):.4f}, {float(area['high']):.4f}]" in page


@pytest.mark.slow
def test_the_bound_of_a_vae_is_a_score_without_labels(runs: dict[str, Path], typed: Typed) -> None:
    status, output, errors = typed("action=anomalies", f"run={runs['vae']}", "accelerator=cpu")
    assert status == 0, errors
    assert "bound" in output
    with open("anomalies/scores.csv", newline="") as file:
        bounds = [float(row["bound"]) for row in csv.DictReader(file)]
    assert np.isfinite(bounds).all()


def test_a_run_of_all_classes_detects_nothing(runs: dict[str, Path], typed: Typed) -> None:
    refused = typed.refused("action=anomalies", f"run={runs['all']}", "accelerator=cpu")
    assert "trained on all classes, and two kinds of images are needed" in refused
    refused = typed.refused("action=anomalies", f"run={runs['zeros']}", "accelerator=cpu", "k=9999")
    assert "k: 9999 neighbours are more than there are training images" in refused
    assert not Path("anomalies").exists()


def test_a_constant_score_is_drawn() -> None:
    drawn = histograms({"same": np.ones(9), "other": np.arange(9.0)}, np.arange(9) > 4)
    assert drawn.width > 700
