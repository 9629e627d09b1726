"""Checkpoints: the best weights, and those from which a training resumes exactly."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from recon.errors import Interrupted
from recon.modules.base import Module
from recon.runs.checkpoint import BEST, LAST
from recon.training import interrupt
from recon.training.lightning import FastCallback, batches_that_stepped, end_restart, set_between_steps


class Checkpoints(FastCallback, Checkpoint):
    """Keep the best weights, and checkpoints from which a training goes on as if it had never stopped.

    `best.ckpt` holds the weights alone. `last.ckpt` holds everything and is written between two steps: at the start of
    each epoch, at the end of training, when a signal asks the run to stop, and as often within an epoch as asked. The
    one before it stays as `previous.ckpt`, for the case that the last is damaged.

    Args:
        folder: the run folder; checkpoints lie in its `checkpoints/`.
        monitor: the metric that tells which weights are best, or None for the latest.
        mode: "min" or "max".
        minutes: write within an epoch each so many minutes, or None.
        steps: write within an epoch each so many training steps, or None.
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str, minutes: float | None, steps: int | None) -> None:
        self.folder = folder / "checkpoints"
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.minutes = minutes
        self.steps = steps
        self.best: float | None = None
        self._metrics: dict[str, Any] = {}  # of the checkpoint, for what monitors them between two validations
        self._stepped: int | None = None  # the step of the checkpoint on the axis of the loggers
        self._stopping = False  # had something asked the training to end, when the checkpoint was written?
        self._rank, self._several = 0, False
        self._written_at = time.monotonic()
        self._written: int | None = None  # the batch before which the last checkpoint was written

    # Everything is settled between two steps: gradients are used up, averages moved, validations over. So it is here
    # that checkpoints are written, and nowhere else.
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write a checkpoint before this step when it is time, and stop when a signal asked for it."""
        place = trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1
        pl_module.reseed(self._rank, place)  # type: ignore[operator]
        if batch_idx % trainer.accumulate_grad_batches:
            return
        due, stop = batch_idx == 0 or bool(self.steps and place % self.steps == 0), interrupt.asked()
        if not self._several:
            due |= self._overdue()
        elif due or batch_idx % 10 == 0:  # the processes have clocks and signals of their own
            due, stop = self._agreed(trainer, due or self._overdue(), stop)
        else:
            stop = 0
        if self._written is None:
            self._written = place  # what the training went on from
            end_restart(trainer, self._stepped)
        if (due or stop) and self._written != place:
            self.write(trainer, place)
        if stop:
            raise Interrupted(stop)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no further where the checkpoint's training had ended early, which Lightning does not remember.

        A time limit that has passed since then takes effect after one more step: the last weights are to be validated.
        """
        trainer.should_stop = self._stopping

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on with the batch and the metrics of the checkpoint, if there is one."""
        interrupt.take_back()
        trainer.train_dataloader.start = trainer.fit_loop.batch_idx + 1  # type: ignore[union-attr]
        self._written_at = time.monotonic()
        self._rank, self._several = trainer.global_rank, trainer.world_size > 1
        trainer.callback_metrics.update(self._metrics)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Without validation the latest weights count as the best."""
        if not trainer.enable_validation:
            self._write_best(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        interrupt.take_back()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back."""
        interrupt.take_back()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights when they are the best so far."""
        if trainer.state.fn != "fit":
            return
        if self.monitor is not None:
            value = self.sign * float(trainer.callback_metrics[self.monitor])
            if not math.isfinite(value) or (self.best is not None and value <= self.best):
                return
            self.best = value
        self._write_best(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the end of training, from which a longer one may go on."""
        self.write(trainer, trainer.fit_loop.total_batch_idx + 1)
        stop = interrupt.asked() if not self._several else self._agreed(trainer, False, interrupt.asked())[1]
        if stop:
            raise Interrupted(stop)

    def write(self, trainer: Trainer, place: int) -> None:
        """Write `last.ckpt`, before batch `place`; the one that was there becomes `previous.ckpt`."""
        module = trainer.lightning_module
        assert isinstance(module, Module)
        module.require_finite()
        trainer.save_checkpoint(self.folder / LAST)
        self._written, self._written_at = place, time.monotonic()

    def _write_best(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder / BEST, weights_only=True)

    def _overdue(self) -> bool:
        return self.minutes is not None and time.monotonic() - self._written_at > 60 * self.minutes

    @staticmethod
    def _agreed(trainer: Trainer, due: bool, stop: int) -> tuple[bool, int]:
        """Do what any of the processes wishes."""
        wishes = torch.tensor([float(due), float(stop)], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
        return bool(wishes[0]), int(wishes[1])

    def state_dict(self) -> dict[str, Any]:
        """Keep the best value with the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with that of a checkpoint."""
        self.best = state_dict["best"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the metrics so far beside what Lightning saves, and its counters as they are between two steps."""
        checkpoint["metrics"] = {name: value.cpu() for name, value in trainer.callback_metrics.items()}
        checkpoint["stopping"] = trainer.should_stop
        set_between_steps(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the metrics out again."""
        self._metrics = checkpoint["metrics"]
        self._stopping = bool(checkpoint.get("stopping"))
        self._stepped = batches_that_stepped(checkpoint)
