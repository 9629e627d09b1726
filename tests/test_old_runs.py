"""Runs made before the folders, actions and losses of today: evaluated, resumed, reported, loaded.

Those of `old_runs/` were made at commit 54041e6 on digits, with nets of a few hundred weights.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, ROOT, Typed
from test_command_line import folder_of

import recon

# What a run of "stopped" that was never stopped ended with, at that commit.
WHOLE = {"test/mse": 0.04364531590965473, "test/psnr": 14.044435273276434, "test/ssim": 0.6983955214007034}
QUIET = ("logger=none", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu")


@pytest.fixture
def old(typed: Typed) -> Path:
    """The old runs as they lay, below the current folder."""
    shutil.copytree(ROOT / "tests" / "old_runs", typed.tmp_path / "outputs")
    return typed.tmp_path / "outputs"


def measured(folder: Path) -> dict[str, float]:
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


@pytest.mark.parametrize("name", ["restoration", "classifier", "gan"])
def test_is_evaluated_to_the_same_numbers(name: str, old: Path, typed: Typed) -> None:
    before = measured(old / name)
    status, output, errors = typed("action=evaluate", f"run={old / name}", *QUIET)
    assert status == 0, errors
    after = measured(folder_of(output))
    # What was added to the measures since.
    added = after.keys() - before.keys()
    since = r"test/(psnr_sure|class_entropy|copying_p|balanced_accuracy|f1_weighted|auroc|brier|\w*ce|top_5|\w+@\d+)"
    assert all(re.fullmatch(since, key) for key in added), added
    # Another processor may sum in another order.
    assert {key: after[key] for key in before} == pytest.approx(before, rel=1e-3)


def test_is_evaluated_under_other_damage(old: Path, typed: Typed) -> None:
    status, output, errors = typed("action=evaluate", f"run={old}/restoration", "degradation.sigma=0.4", *QUIET)
    assert status == 0, errors
    assert measured(folder_of(output))["test/psnr_degraded"] < measured(old / "restoration")["test/psnr_degraded"] - 5


def test_is_resumed_to_what_it_would_have_ended_with(old: Path, typed: Typed) -> None:
    begun = (old / "stopped" / "metrics.csv").read_text().splitlines()
    status, _, errors = typed(f"resume={old}/stopped", "trainer.enable_progress_bar=false")
    assert status == 0, errors
    rows = (old / "stopped" / "metrics.csv").read_text().splitlines()
    assert rows[: len(begun)] == begun
    assert len(rows) == 1 + 40
    after = measured(old / "stopped")
    assert {name: after[name] for name in WHOLE} == pytest.approx(WHOLE, rel=1e-3)


def test_a_longer_training_continues_one_that_ended(old: Path, typed: Typed) -> None:
    before = measured(old / "restoration")
    status, _, errors = typed(f"resume={old}/restoration", "trainer.max_epochs=6", "trainer.enable_progress_bar=false")
    assert status == 0, errors
    assert len((old / "restoration" / "metrics.csv").read_text().splitlines()) == 1 + 6
    assert measured(old / "restoration")["test/psnr"] > before["test/psnr"] + 0.5


def test_a_new_training_starts_from_its_weights(old: Path, typed: Typed) -> None:
    status, output, errors = typed(
        f"init_from={old}/restoration", "model=restoration", "model.net.widths=[4,8]", *QUICK
    )
    assert status == 0, errors
    assert measured(folder_of(output))["test/psnr"] > 12


def test_is_reported_and_listed(old: Path, typed: Typed) -> None:
    status, output, errors = typed("action=report", "runs=outputs")
    assert status == 0, errors
    page = (old / "report.html").read_text()
    for text in ("14.42", "accuracy", "recognised", "digits"):
        assert text.lower() in page.lower(), text
    status, output, errors = typed("action=list", "runs=outputs", "list.sort=test/psnr")
    assert status == 0, errors
    assert all(name in output for name in ("restoration", "classifier", "gan", "stopped", "interrupted"))


def test_is_loaded_with_its_task_at_hand(old: Path) -> None:
    noisy = np.full((8, 8), 100, np.uint8)
    restored = recon.load(old / "restoration")(noisy)
    assert restored.shape == (8, 8)
    assert restored.dtype == np.uint8
    assert recon.load(old / "classifier")(torch.rand(2, 1, 8, 8)).shape == (2, 10)
    images = recon.load(old / "gan").generate(3, label=1)
    assert images.shape == (3, 1, 8, 8)
    assert torch.equal(images, recon.load(old / "gan").generate(3, label=1))


def test_judges_a_new_generator(old: Path, typed: Typed) -> None:
    status, output, errors = typed("model=gan", f"model.judge={old}/classifier", *QUICK)
    assert status == 0, errors
    assert 0 <= measured(folder_of(output))["test/recognised"] <= 1
