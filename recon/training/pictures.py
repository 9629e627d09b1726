"""Pictures of the same images after each validation and after the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from recon.dashboards.threaded import log_image, log_results
from recon.data.loader import Loader, View
from recon.modules.base import Module
from recon.runs import tiles
from recon.runs.draw import TITLE, class_name, grid, pixels, shortened, words
from recon.runs.files import write_arrays, write_image
from recon.streams import printable
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
        assert isinstance(pl_module, Module)
        loader = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]
        self._draw(trainer, pl_module, loader, loader.preview(self.count), f"epoch_{trainer.current_epoch:04d}")

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the first test images and the worst, and show the table of all with the first."""
        assert isinstance(pl_module, Module)
        loader = trainer.datamodule.test_dataloader()  # type: ignore[attr-defined]
        arrays = self._draw(trainer, pl_module, loader, loader.preview(self.count), "test", "samples")
        for logger in trainer.loggers:
            log_results(logger, pl_module.results, arrays, pl_module.class_names, trainer.global_step)
        worst = pl_module.worst(self.count)
        # Shards are read in order: fetching the worst images again would mean reading the whole set again.
        if len(worst) and loader.is_indexed:
            self._draw(trainer, pl_module, loader, loader.look_at(worst), "worst", "worst")

    def _draw(
        self, trainer: Trainer, module: Module, loader: Loader[Any], view: View, name: str, file: str = ""
    ) -> tiles.Arrays:
        """Draw `<name>.png`, show it in dashboards, and write its images as numbers in `<file>.npz`, for the report."""
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            arrays = _arrays(module, view, loader.split)
        table = {name: column.cpu().numpy() for name, column in module.results.items()}
        picture = grid(arrays, words(arrays, table, module.rows, module.class_names))
        write_image(self.folder / "images" / f"{name}.png", picture)
        if file:
            write_arrays(self.folder / "images" / f"{file}.npz", arrays)
        for logger in trainer.loggers:
            log_image(logger, f"images/{name if file else 'validation'}", picture, trainer.global_step)
        return arrays


def _arrays(module: Module, view: View, split: str) -> tiles.Arrays:
    """Make the arrays of a picture, see `recon.runs.tiles`."""
    columns = {name: pixels(images) for name, images in module.pictures(view.pair).items()}
    if "clean" in columns and np.array_equal(columns.get("degraded", ()), columns["clean"]):
        del columns["degraded"]  # nothing is damaged
    labels = view.pair.label.tolist()
    titles = [_title(*each, split, module.class_names) for each in zip(view.pair.index.tolist(), labels, strict=True)]
    if view.names is not None:
        titles = [shortened(printable(name), TITLE) for name in view.names]
    arrays = {"index": view.pair.index.cpu().numpy(), "title": np.array(titles), **columns}
    if bool((view.pair.mask == 0).any()):
        arrays["mask"] = pixels(view.pair.mask)
    if view.whole is not None and view.known is not None and view.window is not None:
        whole, known = pixels(view.whole), view.known.permute(0, 2, 3, 1).cpu().numpy()
        holes = bool((known < 1).any())  # they may all be outside of the windows
        arrays["whole"] = np.stack(list(map(tiles.checkered, whole, known))) if holes else whole
        arrays["window"] = view.window.numpy()
    return arrays


def _title(index: int, label: int, split: str, names: Sequence[str]) -> str:
    """Name an image that is no file, by its class, where it has one, and its index."""
    if label < 0:
        return f"{split} image {index}"
    kind = "" if label < len(names) and not names[label].isdecimal() else "digit " if len(names) == 10 else "class "
    return f"{shortened(kind + class_name(label, names), TITLE // 2)}, {split} image {index}"
