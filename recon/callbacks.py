"""What happens beside training: the table of epochs, pictures of fixed images, the progress bar."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint, RichProgressBar
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import rank_zero_only
from PIL.Image import Image

from recon.data.loader import PairLoader
from recon.loggers import log_image
from recon.modules.base import Module
from recon.pair import Pair
from recon.records import as_bytes, grid, write_arrays, write_csv, write_image


class NoProfiler(PassThroughProfiler):
    """No profiling at all: Lightning's own empty profiler makes 40 generators a training step."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Give a context that does nothing."""
        return self._nothing


class Seldom(Callback):
    """A callback with nothing to do at a training step: Lightning skips hooks that are not callable."""

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None
    on_train_batch_end: Any = None


class BestAndLast(Seldom, ModelCheckpoint):
    """Keep `best.ckpt` and `last.ckpt` after each validation.

    Args:
        folder: the run folder; checkpoints lie in its `checkpoints/`.
        monitor: the metric that tells which is best, or None for the latest.
        mode: "min" or "max".
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str) -> None:
        super().__init__(
            folder / "checkpoints",
            filename="best",
            monitor=monitor,
            mode=mode,
            save_last=True,
            enable_version_counter=False,
        )


class EpochTable(Seldom, Checkpoint):
    """Write `metrics.csv`: a row of all metrics after each epoch.

    It is a `Checkpoint` as Lightning calls those last, when the epoch's training losses are logged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._started = time.perf_counter()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row."""
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append(row)
        write_csv(self.folder / "metrics.csv", self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Keep the rows with the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a checkpoint."""
        self.rows = state_dict["rows"]


class Pictures(Seldom):
    """Draw the same fixed images after each validation and after the test.

    Args:
        folder: the run folder; pictures lie in its `images/`.
        count: how many images.
    """

    def __init__(self, folder: Path, count: int = 8) -> None:
        self.folder = folder
        self.count = count

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the first validation images."""
        if trainer.state.fn != "fit":
            return
        self._draw(trainer, pl_module, trainer.datamodule.val_dataloader(), f"epoch_{trainer.current_epoch:04d}")  # type: ignore[attr-defined]

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the first test images."""
        assert isinstance(pl_module, Module)
        loader = trainer.datamodule.test_dataloader()  # type: ignore[attr-defined]
        self._draw(trainer, pl_module, loader, "test", "samples")
        worst = pl_module.worst(self.count)
        # Shards are read in order: to find some images again would be to read all of them again.
        if len(worst) and isinstance(loader, PairLoader):
            self._keep(trainer, pl_module, loader.look_at(worst), "worst", "worst")

    def _draw(self, trainer: Trainer, module: LightningModule, loader: Any, name: str, arrays: str = "") -> None:
        assert isinstance(module, Module)
        picture = self._keep(trainer, module, loader.preview(self.count), name, arrays)
        for logger in trainer.loggers:
            log_image(logger, f"images/{'test' if name == 'test' else 'validation'}", picture, trainer.global_step)

    def _keep(self, trainer: Trainer, module: Module, pair: Pair, name: str, arrays: str) -> Image:
        """Draw `<name>.png`, and write the same images as numbers in `<arrays>.npz`, for the report."""
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            columns = module.pictures(pair)
        picture = grid(columns)
        write_image(self.folder / "images" / f"{name}.png", picture)
        if arrays:
            pixels = {column: as_bytes(images) for column, images in columns.items()}
            write_arrays(self.folder / "images" / f"{arrays}.npz", {"index": pair.index.cpu().numpy(), **pixels})
        return picture


class ProgressBar(Seldom, RichProgressBar):
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
