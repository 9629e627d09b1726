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
from recon.runs.checkpoint import BEST, LAST, keep_healthy
from recon.training import interrupt
from recon.training.lightning import FastCallback, batches_that_stepped, end_restart, set_between_steps


class Checkpoints(FastCallback, Checkpoint):
    """Keep the best weights, and checkpoints from which a training resumes as if it had never stopped.

    `best.ckpt` holds the weights alone. `last.ckpt` holds everything and is written between two steps: at the start of
    each epoch, at the end of training, when a signal asks the run to stop, and at the configured intervals within an
    epoch. The one before it stays as `previous.ckpt`, in case the last is damaged.

    Args:
        folder: the run folder; checkpoints lie in its `checkpoints/`.
        monitor: the metric that selects the best weights, or None for the latest.
        mode: "min" or "max".
        minutes: between checkpoints within an epoch, or None for none.
        steps: training steps between checkpoints within an epoch, or None for none.
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str, minutes: float | None, steps: int | None) -> None:
        self.folder = folder / "checkpoints"
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.minutes = minutes
        self.steps = steps
        self.best: float | None = None
        self.summary: dict[str, float] | None = None  # of the validation of `best.ckpt`, where this process made it
        self._metrics: dict[str, Any] = {}  # of the checkpoint, for callbacks that read them before the next validation
        self._stepped: int | None = None  # the checkpoint's step on the loggers' x axis
        self._stopping = False  # whether the training was about to end when the checkpoint was written
        self._rank, self._several = 0, False
        self._written_at = time.monotonic()
        self._written: int | None = None  # the batch before which the last checkpoint was written

    # Checkpoints are written only here, between two steps: no gradients are pending and no validation is running, so
    # that nothing else needs saving.
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write a checkpoint before this step when it is due, and stop when a signal asked for it."""
        step = trainer.fit_loop.epoch_loop.batch_progress.total.ready - 1
        pl_module.reseed(self._rank, step)  # type: ignore[operator]
        if batch_idx % trainer.accumulate_grad_batches:
            return
        due, stop = batch_idx == 0 or bool(self.steps and step % self.steps == 0), interrupt.asked()
        if not self._several:
            due |= self._overdue()
        elif due or batch_idx % 10 == 0:  # ranks have separate clocks and signals and must agree
            due, stop = self._agreed(trainer, due or self._overdue(), stop)
        else:
            stop = 0
        resumed = self._written is None
        if resumed:
            self._written = step  # that of the checkpoint which the training was resumed from
            end_restart(trainer, self._stepped)
        asked = pl_module.asks_for_checkpoint(step, resumed)  # type: ignore[operator]
        if asked or ((due or stop) and self._written != step):
            self.write(trainer, step)
            if asked:
                keep_healthy(self.folder.parent)
        if stop:
            raise Interrupted(stop)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train no further where the checkpoint's training had ended early, which Lightning does not remember.

        A time limit that has passed since then takes effect after one more step: the last weights are to be validated.
        """
        trainer.should_stop = self._stopping

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue with the batch and the metrics of the checkpoint, if there is one."""
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
        self.summary = dict(pl_module.summary)  # type: ignore[arg-type]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training, from which a longer one can continue."""
        self.write(trainer, trainer.fit_loop.total_batch_idx + 1)
        stop = interrupt.asked() if not self._several else self._agreed(trainer, False, interrupt.asked())[1]
        if stop:
            raise Interrupted(stop)

    def write(self, trainer: Trainer, step: int) -> None:
        """Write `last.ckpt`, before training batch `step`; the one that was there becomes `previous.ckpt`."""
        module = trainer.lightning_module
        assert isinstance(module, Module)
        module.require_finite()
        trainer.save_checkpoint(self.folder / LAST)
        self._written, self._written_at = step, time.monotonic()

    def _write_best(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder / BEST, weights_only=True)

    def _overdue(self) -> bool:
        return self.minutes is not None and time.monotonic() - self._written_at > 60 * self.minutes

    @staticmethod
    def _agreed(trainer: Trainer, due: bool, stop: int) -> tuple[bool, int]:
        """Return, on every rank, whether any rank is due, and the signal by which any must stop."""
        wishes = torch.tensor([float(due), float(stop)], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
        return bool(wishes[0]), int(wishes[1])

    def state_dict(self) -> dict[str, Any]:
        """Save the best value."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value."""
        self.best = state_dict["best"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the metrics so far to what Lightning saves, and set its counters as between two steps."""
        checkpoint["metrics"] = {name: value.cpu() for name, value in trainer.callback_metrics.items()}
        checkpoint["stopping"] = trainer.should_stop
        set_between_steps(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the metrics."""
        self._metrics = checkpoint["metrics"]
        self._stopping = bool(checkpoint.get("stopping"))
        self._stepped = batches_that_stepped(checkpoint)
