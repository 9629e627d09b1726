"""The figures of the README hold on the real MNIST: full runs on the CPU (`make test-slow`)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose, data_root

from recon.actions.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not (data_root() / "mnist").is_dir(), reason=f"no mnist below {data_root()} (set RECON_DATA)"),
]


@pytest.fixture(autouse=True)
def all_cores() -> Any:
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(1)


def tested(compose: Compose, folder: Path, *overrides: str) -> dict[str, float]:
    config = compose(*overrides, f"data.root={data_root()}", "logger=none", "trainer.enable_progress_bar=false")
    train(config, folder, {})
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifier")


def test_the_classifier_and_the_generator_that_it_judges(compose: Compose, classifier: Path, tmp_path: Path) -> None:
    assert tested(compose, classifier, "model=classifier", "task=mnist")["test/accuracy"] >= 0.992
    found = tested(compose, tmp_path, "model=gan", "task=mnist", f"model.judge={classifier}")
    assert found["test/recognised"] >= 0.90
    assert found["test/classes"] == 10


def test_the_autoencoder(compose: Compose, tmp_path: Path) -> None:
    assert tested(compose, tmp_path, "model=autoencoder", "task=mnist")["test/mse"] <= 0.0065


@pytest.mark.parametrize("degradation", ["blur", "salt_pepper", "missing"])
def test_restoration(degradation: str, compose: Compose, tmp_path: Path) -> None:
    found = tested(compose, tmp_path, "experiment=mnist_cvanet", f"degradation={degradation}")
    assert found["test/psnr"] >= found["test/psnr_degraded"] + 6


def test_inpainting(compose: Compose, tmp_path: Path) -> None:
    found = tested(compose, tmp_path, "experiment=mnist_inpainting")
    assert found["test/psnr_hole"] >= found["test/psnr_hole_mean"] + 6
