"""What a generator's test records of its images as a set."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import QUICK, Compose, Typed

from recon.actions.train import train

GENERATORS = {"gan": ["model=gan"], "resgan": ["model=gan", "model/net=resgan"]}


@pytest.fixture(scope="module")
def judge(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    train(compose("model=classifier", *QUICK[2:], "trainer.max_epochs=2"), folder, {})
    return folder


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_test_says_how_good_the_set_is_with_intervals_and_floors(
    kind: str, compose: Compose, judge: Path, tmp_path: Path
) -> None:
    words = [word for word in QUICK if "limit_test" not in word]
    train(compose(*GENERATORS[kind], f"model.judge={judge}", *words), tmp_path, {})
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    with (tmp_path / "generated.csv").open() as file:
        found = {row["measure"]: row for row in csv.DictReader(file)}
    for name in ("fd", "kd", "precision", "recall", "density", "coverage", "vendi"):
        key = f"{name}_digits@360"
        assert metrics[f"test/{key}"] == pytest.approx(float(found[key]["value"]))
        assert float(found[key]["low"]) <= float(found[key]["high"])
        assert "floor" in found[key]
        assert re.search(r"features before the last layer of the classifier [0-9a-f]{12}, 360 generated images against "
                         "360 test images", metrics["convention"][key])  # fmt: skip
    assert float(found["fd_digits@360"]["floor"]) < float(found["fd_digits@360"]["value"])
    assert {f"fd of class {label}" for label in range(10)} < found.keys()
    assert 0 <= metrics["test/copying_p"] <= 1
    assert (tmp_path / "images" / "closest.png").is_file()
    assert "val/fd_digits@64" in metrics


def test_a_judge_of_other_images_is_refused(typed: Typed, judge: Path) -> None:
    refused = typed.refused("model=gan", "task=mnist", f"model.judge={judge}")
    assert "it was trained on images of 8×8, and these are images of 28×28" in refused


def test_a_judge_of_another_data_set_of_the_same_size_is_refused(typed: Typed, judge: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(judge, other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("recon.data.tasks.digits.Digits", "recon.data.tasks.mnist.MNIST"))
    refused = typed.refused("model=gan", f"model.judge={other}")
    assert "model.judge: it was trained on mnist, and these images are digits" in refused
