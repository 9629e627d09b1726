"""What each patch of Lightning saves: CPU time of a training step of 2×1×8×8 through LeNet, with and without it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Compose
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loops.optimization.automatic import _AutomaticOptimization
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from test_trainer import made

from recon.modules.classification import ClassificationModule
from recon.training.lightning import (
    FastCallback,
    FastEpochLoop,
    FastModule,
    FastOptimization,
    FastTrainer,
    NoProfiler,
)
from recon.training.trainer import make_trainer

STEPS, ROUNDS = 600, 8
HOOKS = [name for name in vars(FastCallback) if name.startswith("on_")]


@contextmanager
def changed(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Put Lightning's own attributes back for a while: (holder, name, value) each; a None takes one away."""
    kept = [(holder, name, holder.__dict__.get(name)) for holder, name, _ in changes]
    for put in (changes, kept):
        for holder, name, value in put:
            if value is None:
                delattr(holder, name)
            else:
                setattr(holder, name, value)
        if put is changes:
            yield


def nothing(*_: Any, **__: Any) -> None: ...


# What Lightning has in place of each patch.
PATCHES: dict[str, list[tuple[Any, str, Any]]] = {
    "callback hooks": [(FastCallback, name, nothing) for name in HOOKS],
    "module hooks": [
        *((FastModule, name, getattr(LightningModule, name)) for name in HOOKS if name in vars(FastModule)),
        (FastModule, "leave_gradients", nothing),
    ],
    "__signature__": [(ClassificationModule.training_step, "__signature__", None)],
    "__setattr__": [(FastModule, "__setattr__", LightningModule.__setattr__)],
    "_apply_batch_transfer_handler": [
        (FastModule, "_apply_batch_transfer_handler", LightningModule._apply_batch_transfer_handler)
    ],
    "FastOptimization": [(FastOptimization, "run", _AutomaticOptimization.run)],
    "FastEpochLoop": [
        (FastEpochLoop, name, getattr(_TrainingEpochLoop, name))
        for name in ("_build_kwargs", "_update_learning_rates", "_should_check_val_epoch")
    ],
    "training": [(FastTrainer, "training", Trainer.training)],
    "NoProfiler": [(NoProfiler, "profile", PassThroughProfiler.profile)],
}


def seconds_a_step(compose: Compose, folder: Path) -> float:
    words = ["model=classifier", "model/net=lenet", "task.crop=8", "task.batch_size=2", "trainer.max_epochs=1"]
    config = compose(*words, f"trainer.limit_train_batches={STEPS}", "trainer.limit_val_batches=0", "logger=none",
                     "accelerator=cpu", "trainer.enable_progress_bar=false")  # fmt: skip
    module, data = made(config)
    fit = make_trainer(config, module, folder, [])
    started = time.process_time()
    fit.fit(module, datamodule=data)
    return (time.process_time() - started) / STEPS


@pytest.mark.bench
def test_what_each_patch_saves(compose: Compose, tmp_path: Path) -> None:
    """The least of several rounds counts, as other work on the machine only adds to it."""
    seconds: dict[str, list[float]] = {name: [] for name in ("all", *PATCHES)}
    for turn in range(ROUNDS):
        for name in seconds:
            with changed(*PATCHES.get(name, [])):
                seconds[name].append(seconds_a_step(compose, tmp_path / f"{turn} {name}"))
    saved = {name: min(seconds[name]) - min(seconds["all"]) for name in PATCHES}
    for name, difference in saved.items():
        print(f"{name:32} {1e6 * difference:6.0f} µs of {1e6 * min(seconds['all']):.0f} a step")
    assert sum(saved.values()) > 0
