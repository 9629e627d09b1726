"""The progress of a training: a file for the sweep that it is a job of, lines for a log, a bar for a terminal."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_only

from recon.console import say
from recon.modules.base import Module
from recon.runs.files import write_json
from recon.streams import duration
from recon.training.lightning import FastCallback

SECONDS_BETWEEN_LINES = 30.0


class Progress(FastCallback):
    """Write the progress of a training to `progress.json` and print it as lines, as far as asked for.

    A line is printed after each epoch, and every 30 seconds within one.

    Args:
        folder: the run folder.
        monitor: the metric that tells which weights are best, or None.
        mode: "min" or "max".
        file: write `progress.json` about once a second, for the sweep that this run is a job of.
        lines: print lines, for a log.
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str, *, file: bool, lines: bool) -> None:
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.file = file
        self.lines = lines
        self.values: list[float] = []
        self._before = 0.0  # seconds before this start
        self._started = self._printed = time.monotonic()
        self._first_step = 0  # of this start
        self._written = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where this start begins."""
        self._first_step, self._printed = trainer.global_step, time.monotonic()

    @rank_zero_only
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Write and print the progress where it is time to."""
        now = time.monotonic()
        if self.file and now - self._written > 1:
            self._write(trainer)
        if self.lines and now - self._printed > SECONDS_BETWEEN_LINES:
            self._print(trainer, pl_module)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the validation's value."""
        if trainer.state.fn == "fit" and self.monitor is not None:
            self.values.append(float(trainer.callback_metrics[self.monitor]))
            if self.file:
                self._write(trainer)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of an epoch, whose validation is over."""
        if self.lines:
            self._print(trainer, pl_module)

    def _write(self, trainer: Trainer) -> None:
        self._written = time.monotonic()
        progress = {
            "epoch": trainer.current_epoch,
            "max_epochs": trainer.max_epochs,
            "step": trainer.global_step,
            "total_steps": _total_steps(trainer),
            "seconds": round(self._seconds(), 3),
            "monitor": self.monitor,
            "mode": self.mode,
            "values": self.values,
            "best": self._best(),
        }
        write_json(self.folder / "progress.json", progress)

    def _print(self, trainer: Trainer, module: LightningModule) -> None:
        self._printed = time.monotonic()
        assert isinstance(module, Module)
        steps, total = trainer.global_step, _total_steps(trainer)
        epochs = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        where = f"epoch {trainer.current_epoch + 1}{epochs}, step {steps:,}" + (f"/{total:,}" if total else "")
        words = []
        if (loss := module.running_loss()) is not None:
            words.append(f"loss {loss:.4g}")
        if self.values and (best := self._best()) is not None:
            words.append(f"{self.monitor} {self.values[-1]:.4g} (best {best:.4g})")
        if module.condition is not None:
            words.append(module.condition)
        if total and (taken := steps - self._first_step) > 0:
            words.append(f"{duration((total - steps) * (self._printed - self._started) / taken)} left")
        say(f"{where}: {', '.join(words)}" if words else where)

    def _best(self) -> float | None:
        finite = [value for value in self.values if not math.isnan(value)]
        return (max if self.mode == "max" else min)(finite, default=None)

    def state_dict(self) -> dict[str, Any]:
        """Save the values and the seconds."""
        return {"values": self.values, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the values and the seconds."""
        self.values, self._before = state_dict["values"], state_dict["seconds"]

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started


def _total_steps(trainer: Trainer) -> int | None:
    """Return how many steps the training takes; None where only time or patience ends it."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) and steps > 0 else None


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
        if pl_module.condition is not None:
            shown["health"] = pl_module.condition
        if pl_module.monitor in trainer.callback_metrics:
            shown[pl_module.monitor] = f"{float(trainer.callback_metrics[pl_module.monitor]):.4g}"
        return shown
