"""The progress of a training: a file for the sweep that it is a job of, a bar for the person who watches."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_only

from recon.modules.base import Module
from recon.runs.files import write_json
from recon.training.lightning import FastCallback


class Progress(FastCallback):
    """Write `progress.json` about once a second, for the sweep that this run is a job of.

    Args:
        folder: the run folder.
        monitor: the metric that tells which weights are best, or None.
        mode: "min" or "max".
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str) -> None:
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.values: list[float] = []
        self._before = 0.0  # seconds before this start
        self._started = time.monotonic()
        self._written = 0.0

    @rank_zero_only
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write the progress."""
        if time.monotonic() - self._written > 1:
            self._write(trainer)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the validation's value."""
        if trainer.state.fn == "fit" and self.monitor is not None:
            self.values.append(float(trainer.callback_metrics[self.monitor]))
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        self._written = time.monotonic()
        finite = [value for value in self.values if not math.isnan(value)]
        best = (max if self.mode == "max" else min)(finite, default=None)
        progress = {
            "epoch": trainer.current_epoch,
            "max_epochs": trainer.max_epochs,
            "step": trainer.global_step,
            "total_steps": steps if math.isfinite(steps := trainer.estimated_stepping_batches) else None,
            "seconds": round(self._seconds(), 3),
            "monitor": self.monitor,
            "mode": self.mode,
            "values": self.values,
            "best": best,
        }
        write_json(self.folder / "progress.json", progress)

    def state_dict(self) -> dict[str, Any]:
        """Save the values and the seconds."""
        return {"values": self.values, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values and the seconds."""
        self.values, self._before = state_dict["values"], state_dict["seconds"]

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started


class ProgressBar(FastCallback, RichProgressBar):
    """A rich bar with the running loss, refreshed seldom enough to cost nothing."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=False)
        self._shown = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Go forward a few times a second: to draw at every step would cost more than small nets do."""
        now = time.monotonic()
        if now - self._shown > 0.3 or trainer.is_last_batch:
            self._shown = now
            RichProgressBar.on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Show the running loss and the latest value of the monitored metric."""
        assert isinstance(pl_module, Module)
        shown: dict[str, int | str | float | dict[str, float]] = {}
        if (loss := pl_module.running_loss()) is not None:
            shown["loss"] = f"{loss:.4g}"
        if pl_module.monitor in trainer.callback_metrics:
            shown[pl_module.monitor] = f"{float(trainer.callback_metrics[pl_module.monitor]):.4g}"
        return shown
