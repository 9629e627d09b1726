"""The three loaders of a task, for Lightning."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from recon.data.loader import PairLoader
from recon.data.sources import Splits, Task
from recon.degradations.base import Degradation


class DataModule(LightningDataModule):
    """Load a task's images and serve them, on the trainer's device, as pairs.

    Args:
        task: the images and their protocol.
        root: where data sets lie or are downloaded to.
        degradation: makes the degraded images.
        augment: changes the clean images of training first, or None.
        seed: the run's seed.
        fixed_size: evaluate on crops of the size that the net was built for, not on whole images.
    """

    def __init__(
        self,
        task: Task,
        root: Path,
        degradation: Degradation,
        augment: Callable[[Tensor, Tensor], Tensor] | None,
        seed: int,
        fixed_size: bool,
    ) -> None:
        super().__init__()
        self.task = task
        self.root = root
        self.degradation = degradation
        self.augment = augment
        self.seed = seed
        self.fixed_size = fixed_size
        self.splits: Splits | None = None

    def load(self) -> Splits:
        """Read the images once, downloading what is missing; raises InputError for a bad or missing file."""
        if self.splits is None:
            self.splits = self.task.load(self.root)
        return self.splits

    def train_dataloader(self) -> PairLoader:
        """Augmented, freshly degraded batches in a new order each epoch."""
        return self._loader("train", crop=self.task.crop, augment=self.augment, seed=self.seed)

    def val_dataloader(self) -> PairLoader:
        """Every validation image once, always the same."""
        return self._loader("validation", crop=self._evaluation_crop)

    def test_dataloader(self) -> PairLoader:
        """Every test image once, always the same."""
        return self._loader("test", crop=self._evaluation_crop)

    @property
    def _evaluation_crop(self) -> int | None:
        return self.task.crop if self.fixed_size else None

    def _loader(self, split: str, **how: Any) -> PairLoader:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        store = getattr(self.load(), split).to(device)
        # Kept, as a loader is asked for at every validation and a split is to travel to the device once.
        self.splits = self.load()._replace(**{split: store})
        return PairLoader(
            store,
            split,
            self.task.batch_size,
            self.degradation,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            **how,
        )
