"""The three loaders of a task, for Lightning."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule

from recon.data.augment import Augment
from recon.data.find import expanded
from recon.data.loader import PairLoader
from recon.data.shards import ShardLoader, ShardSplit
from recon.data.task import Splits, Task
from recon.data.tasks.folder import Folder
from recon.degradations.base import Degradation, within
from recon.degradations.file import FromFiles
from recon.errors import InputError


class DataModule(LightningDataModule):
    """Load a task's images and serve them, on the trainer's device, as pairs.

    Args:
        task: the images and their protocol.
        root: where data sets lie or are downloaded to.
        degradation: makes the degraded images.
        augment: changes the clean images of training first, or None.
        seed: the run's seed.
        fixed_size: evaluate on crops of the size that the net was built for, not on whole images.
        cache: the folder of mapped stores, which stay on disk; None reads all images into memory.

    Raises:
        InputError: settings that cannot go together.
    """

    def __init__(
        self,
        task: Task,
        root: Path,
        degradation: Degradation,
        augment: Augment | None,
        seed: int,
        fixed_size: bool,
        cache: Path | None = None,
    ) -> None:
        super().__init__()
        if cache is not None and not isinstance(task, Folder):
            raise InputError("data.store=mmap is for the images of task=folder: set data.store=memory.")
        if isinstance(degradation, FromFiles):
            if not isinstance(task, Folder):
                raise InputError("degradation=file needs task=folder: set task.path to the clean images.")
            if augment is not None and not augment.rearranges:
                raise InputError(
                    "augment.rotate and augment.crop_padding would change the damage that degradation=file is to show: "
                    "set them to 0, or choose augment=flip|turns|none."
                )
        self.task = task
        self.root = expanded(str(root))
        self.degradation = degradation
        self.augment = augment
        self.seed = seed
        self.fixed_size = fixed_size
        self.cache = None if cache is None else expanded(str(cache))
        self.splits: Splits | None = None
        self.degraded: Splits | None = None

    def load(self) -> Splits:
        """Read the images once, downloading what is missing; raises InputError for a bad or missing file."""
        if self.splits is None:
            if not isinstance(self.task, Folder):
                self.splits = self.task.load(self.root)
            elif isinstance(self.degradation, FromFiles):
                self.splits, self.degraded = self.task.load_pairs(self.root, self.degradation, self.cache)
            else:
                self.splits = self.task.load(self.root, self.cache)
            self._check_images(self.splits)
        return self.splits

    def require_images(self, devices: int) -> None:
        """Raise InputError if there are too few training images for each of several devices to have one."""
        count = len(self.load().train)
        if count < devices:
            images = "1 training image" if count == 1 else f"{count} training images"
            raise InputError(
                f"trainer.devices: {devices} devices cannot share {images}: give at most {count}, or add images."
            )

    def _check_images(self, splits: Splits) -> None:
        """Raise InputError for an image that is evaluated and cannot be cut or degraded, before any work begins."""
        crop, stores = self._evaluation_crop, (splits.test,) if self.task.tested_only else splits[1:]
        for store in stores:
            if isinstance(store, ShardSplit):
                self._check_shape(self.task.shape)
                continue
            smallest = int(store.sizes.min())
            if crop is not None and smallest < crop:
                raise InputError(
                    f"task.crop={crop} is larger than an image to evaluate, of which a side has {smallest} pixels, and "
                    "this net takes no other size: take such images away."
                )
            sizes = [[crop, crop]] if crop is not None else store.sizes.unique(dim=0).tolist()
            for height, width in sizes:
                self._check_shape((store.channels, height, width))

    def _check_shape(self, shape: tuple[int, int, int]) -> None:
        try:
            self.degradation.check_shape(shape)
        except InputError as error:
            raise within("degradation", error) from error

    def train_dataloader(self) -> PairLoader | ShardLoader:
        """Augmented, freshly degraded batches in a new order each epoch."""
        repeat = bool(getattr(self.trainer, "overfit_batches", 0))
        return self._loader("train", crop=self.task.crop, augment=self.augment, seed=self.seed, repeat=repeat)

    def val_dataloader(self) -> PairLoader | ShardLoader:
        """Every validation image once, always the same."""
        return self._loader("validation", crop=self._evaluation_crop)

    def test_dataloader(self) -> PairLoader | ShardLoader:
        """Every test image once, always the same."""
        return self._loader("test", crop=self._evaluation_crop)

    @property
    def _evaluation_crop(self) -> int | None:
        return self.task.crop if self.fixed_size else None

    def _loader(self, split: str, **how: Any) -> PairLoader | ShardLoader:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        how |= {"device": device, "rank": trainer.global_rank if trainer else 0}
        how |= {"world_size": trainer.world_size if trainer else 1}
        part = getattr(self.load(), split)
        if isinstance(part, ShardSplit):
            return ShardLoader(part, split, self.task.batch_size, self.degradation, **how)
        if self.cache is None:
            # Kept, as a loader is asked for at every validation and a split is to travel to the device once.
            self.splits, self.degraded = (_moved(splits, split, device) for splits in (self.splits, self.degraded))
        return PairLoader(
            getattr(self.splits, split),
            split,
            self.task.batch_size,
            self.degradation,
            degraded=getattr(self.degraded, split, None),
            **how,
        )


def _moved(splits: Splits | None, split: str, device: torch.device) -> Splits | None:
    """Move one split to a device, and with it those that are parts of the same buffer: this travels once."""
    if splits is None or getattr(splits, split).device == device:
        return splits
    old = getattr(splits, split).buffer
    new = old.to(device)
    return Splits(*(store.over(new) if store.buffer is old else store for store in splits))
