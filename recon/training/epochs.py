"""The table of epochs, `metrics.csv`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only

from recon.runs.files import write_csv
from recon.training.lightning import FastCallback


class EpochTable(FastCallback, Checkpoint):
    """Write `metrics.csv`: a row of all metrics after each epoch.

    It is a `Checkpoint` as Lightning calls those last, when the epoch's training losses are logged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._before = 0.0  # seconds of training before this start
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        """How long training has taken so far, over all starts of the run."""
        return self._before + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._before, self._started = self.seconds, None

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row."""
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row["seconds"] = round(self.seconds, 3)
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append(row)
        write_csv(self.folder / "metrics.csv", self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Save the rows and the seconds."""
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows and the seconds."""
        self.rows, self._before = state_dict["rows"], state_dict["seconds"]
