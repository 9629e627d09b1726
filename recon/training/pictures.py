"""Pictures of the same images after each validation and after the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from PIL.Image import Image
from torch import Tensor

from recon.dashboards.threaded import log_image, log_results
from recon.modules.base import Module
from recon.pair import Pair
from recon.runs.draw import grid, pixels
from recon.runs.files import write_arrays, write_image
from recon.training.lightning import FastCallback


class Pictures(FastCallback):
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
        """Draw the first test images and the worst, and show the table of all with the first."""
        assert isinstance(pl_module, Module)
        loader = trainer.datamodule.test_dataloader()  # type: ignore[attr-defined]
        columns = self._draw(trainer, pl_module, loader, "test", "samples")
        for logger in trainer.loggers:
            log_results(logger, pl_module.results, columns, trainer.global_step)
        worst = pl_module.worst(self.count)
        # Shards are read in order: fetching the worst images again would mean reading the whole set again.
        if len(worst) and loader.is_indexed:
            self._keep(trainer, pl_module, loader.look_at(worst), "worst", "worst")

    def _draw(
        self, trainer: Trainer, module: LightningModule, loader: Any, name: str, arrays: str = ""
    ) -> dict[str, Tensor]:
        assert isinstance(module, Module)
        picture, columns = self._keep(trainer, module, loader.preview(self.count), name, arrays)
        for logger in trainer.loggers:
            log_image(logger, f"images/{'test' if name == 'test' else 'validation'}", picture, trainer.global_step)
        return columns

    def _keep(
        self, trainer: Trainer, module: Module, pair: Pair, name: str, arrays: str
    ) -> tuple[Image, dict[str, Tensor]]:
        """Draw `<name>.png`, and write the same images as numbers in `<arrays>.npz`, for the report."""
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            columns = module.pictures(pair)
        picture = grid(columns)
        write_image(self.folder / "images" / f"{name}.png", picture)
        if arrays:
            kept = {n: pixels(images)[..., : 3 if images.shape[1] == 3 else 1].numpy() for n, images in columns.items()}
            write_arrays(self.folder / "images" / f"{arrays}.npz", {"index": pair.index.cpu().numpy(), **kept})
        return picture, columns
