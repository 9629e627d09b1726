"""The three loaders of a task, for Lightning."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer

from recon.data.augment import Augment
from recon.data.find import expanded
from recon.data.loader import Curriculum, Loader
from recon.data.task import Splits, Task
from recon.degradations.base import Degradation
from recon.degradations.levels import within
from recon.errors import InputError


class DataModule(LightningDataModule):
    """Load a task's images and serve them, on the trainer's device, as pairs.

    Args:
        task: the images and their protocol.
        root: where data sets are or are downloaded to.
        degradation: makes the degraded images.
        augment: changes the clean images of training first, or None.
        seed: the run's seed.
        fixed_size: evaluate on crops of the size that the net was built for, not on whole images.
        cache: the folder of mapped stores, which stay on disk; None reads all images into memory.
        curriculum: damages of the training, each for an equal part of it; none for `degradation` throughout.

    Raises:
        InputError: settings that cannot be combined.
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
        curriculum: Sequence[Degradation] = (),
    ) -> None:
        super().__init__()
        task.check(degradation, augment, cache)
        self.task = task
        self.root = expanded(str(root))
        self.degradation = degradation
        self.augment = augment
        self.seed = seed
        if fixed_size and task.stages:
            raise InputError(
                f"task.crop: {task.crop} are several sides, and this net takes images of one size; give one number"
            )
        self.evaluation_crop = task.side if fixed_size else None
        self.cache = None if cache is None else expanded(str(cache))
        self.curriculum = curriculum
        self.splits: Splits | None = None

    def load(self) -> Splits:
        """Read the images once, downloading what is missing; raises InputError for a bad or missing file."""
        if self.splits is None:
            self.splits = self.task.load_for(self.root, self.degradation, self.cache)
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
        crop = self.evaluation_crop
        for split in (splits.test,) if self.task.tested_only else splits[1:]:
            shapes = split.shapes
            smallest = min(min(height, width) for _, height, width in shapes)
            if crop is not None and smallest < crop:
                raise InputError(
                    f"task.crop={crop} is larger than an image to evaluate, of which a side has {smallest} pixels, and "
                    "this net takes no other size: take such images away."
                )
            for shape in shapes if crop is None else [(shapes[0][0], crop, crop)]:
                try:
                    self.degradation.check_shape(shape)
                except InputError as error:
                    raise within("degradation", error) from error

    def train_dataloader(self) -> Loader[Any]:
        """Augmented, freshly degraded batches in a new order each epoch."""
        repeat = bool(getattr(self.trainer, "overfit_batches", 0))
        stages = self.task.stages
        crop = stages.sides[0] if stages else self.task.side
        loader = self._loader("train", crop=crop, augment=self.augment, seed=self.seed, repeat=repeat)
        if stages and self.trainer:
            per_epoch, total = lengths(self.trainer, len(loader))
            loader.stages = replace(stages, total=total, per_epoch=per_epoch)
        if self.curriculum and self.trainer:
            per_epoch, total = lengths(self.trainer, len(loader), "curriculum: levels one after the other span")
            loader.curriculum = Curriculum(self.curriculum, total, per_epoch)
        return loader

    def val_dataloader(self) -> Loader[Any]:
        """Every validation image once, always the same."""
        return self._loader("validation", crop=self.evaluation_crop)

    def test_dataloader(self) -> Loader[Any]:
        """Every test image once, always the same."""
        return self._loader("test", crop=self.evaluation_crop)

    def training_images(self) -> Loader[Any]:
        """Every training image once and unchanged, as those of the test are served."""
        return self._loader("train", "validation", crop=self.evaluation_crop)

    def _loader(self, name: str, served_as: str | None = None, **options: Any) -> Loader[Any]:
        trainer, splits = self.trainer, self.load()
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        copies = {buffer: buffer.to(device) for buffer in getattr(splits, name).not_on(device)}
        if copies:
            # Kept, as a loader is made for every validation; all splits that share a buffer share its copy.
            self.splits = splits = Splits(*(split.over(copies) for split in splits))
        split = getattr(splits, name)
        where = {"device": device, "rank": rank, "world_size": world_size}
        made: Loader[Any] = split.loader(served_as or name, self.task.batch_size, self.degradation, **where, **options)
        return made


def lengths(trainer: Trainer, batches: int, spans: str = "task.crop: crops that grow span") -> tuple[int, int]:
    """Return how many batches an epoch and the whole training have, where an epoch of all images has `batches`.

    Raises:
        InputError: the training has no length, which `spans` says what needs.
    """
    limit = trainer.limit_train_batches
    per_epoch = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    ends = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        ends.append(per_epoch * trainer.max_epochs)
    if trainer.max_steps >= 0:
        ends.append(trainer.max_steps * trainer.accumulate_grad_batches)
    if not ends:
        raise InputError(
            f"{spans} the whole training, whose length trainer.max_epochs=-1 leaves open; set trainer.max_epochs or "
            "trainer.max_steps, or leave it out"
        )
    return per_epoch, max(1, min(ends))
