"""What each patch of Lightning saves: CPU time of a training step of 2×1×8×8 through LeNet, with and without it."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose
from lightning.pytorch import LightningModule
from lightning.pytorch.profilers import PassThroughProfiler
from test_trainer import made

from recon.training import lightning, trainer
from recon.training.lightning import FastCallback, FastModule, NoProfiler
from recon.training.trainer import make_trainer

STEPS, ROUNDS = 300, 7
HOOKS = [name for name, value in vars(FastModule).items() if value is None and name.startswith("on_")]


@contextmanager
def without(holder: Any, **instead: Any) -> Iterator[None]:
    """Put Lightning's own attributes back for a while."""
    kept = {name: holder.__dict__[name] for name in instead}
    for name, value in instead.items():
        setattr(holder, name, value)
    yield
    for name, value in kept.items():
        setattr(holder, name, value)


def nothing(*_: Any, **__: Any) -> None: ...


PATCHES: dict[str, Callable[[], Any]] = {
    "module hooks that are None": lambda: without(
        FastModule, **{name: getattr(LightningModule, name) for name in HOOKS}
    ),
    "callback hooks that are None": lambda: without(
        FastCallback, **{name: nothing for name in vars(FastCallback) if name.startswith("on_")}
    ),
    "__setattr__": lambda: without(FastModule, __setattr__=LightningModule.__setattr__),
    "_apply_batch_transfer_handler": lambda: without(
        FastModule, _apply_batch_transfer_handler=LightningModule._apply_batch_transfer_handler
    ),
    "leave_gradients": lambda: without(FastModule, leave_gradients=nothing),
    "NoProfiler": lambda: without(NoProfiler, profile=PassThroughProfiler.profile),
}


def seconds_a_step(compose: Compose, folder: Path) -> float:
    words = ["model=classifier", "model/net=lenet", "task.crop=8", "task.batch_size=2", "trainer.max_epochs=1"]
    config = compose(*words, f"trainer.limit_train_batches={STEPS}", "trainer.limit_val_batches=0", "logger=none",
                     "accelerator=cpu", "trainer.enable_progress_bar=false")  # fmt: skip
    module, data = made(config)
    fit = make_trainer(config, module, folder, None)
    started = time.process_time()
    fit.fit(module, datamodule=data)
    return (time.process_time() - started) / STEPS


@pytest.mark.bench
def test_what_each_patch_saves(compose: Compose, tmp_path: Path) -> None:
    assert trainer.NoProfiler is lightning.NoProfiler
    saved: dict[str, list[float]] = {name: [] for name in PATCHES}
    for turn in range(ROUNDS):
        for name, patch in PATCHES.items():
            with_it = seconds_a_step(compose, tmp_path / f"{turn} {name} with")
            with patch():
                saved[name].append(seconds_a_step(compose, tmp_path / f"{turn} {name} without") - with_it)
    for name, differences in saved.items():
        print(f"{name:32} {1e6 * statistics.median(differences):6.0f} µs a step")
    # Of a single one the noise of a busy machine may be more.
    assert sum(statistics.median(differences) for differences in saved.values()) > 0
