"""What a task is: which clean images there are, their labels, and how they are split.

A task knows its shape and its classes before anything is downloaded or decoded. The official test set is only test;
validation is cut from train once, by key, so that every run of a task sees the same splits.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from recon import keyed
from recon.data.augment import Augment
from recon.data.find import Identity
from recon.data.loader import Split, Stages
from recon.data.store import ImageStore
from recon.degradations.base import Degradation
from recon.degradations.file import FromFiles
from recon.errors import InputError

_LARGEST_EPOCH = 10**8  # images, whose order takes 4 GB to draw


class Splits(NamedTuple):
    """The three splits of a task; no image is in two of them."""

    train: Split
    validation: Split
    test: Split


@dataclass(kw_only=True)
class Task(ABC):
    """A set of clean images with its protocol.

    Attributes:
        batch_size: images per training step, over all devices.
        epochs: passes over the training images, unless the trainer sets another number.
        validation: how much of train is kept for validation: a number of images, or a fraction in (0,1).
        crop: side in pixels of the keyed random crops to train on, or rising sides, one after the other; `None` for
            whole images.
        crop_share: the shares of the training that have these sides, of sum 1; `None` for equal ones.
        normal: the classes, by number or name, whose images alone are trained and validated on, as an anomaly detector
            is; the test keeps all. `None` for all.
        balanced: whether the training images of rarer classes are repeated until all classes have as many.
        tested_only: nothing is trained, as when a trained model is evaluated; set after the task is made.
        root: the folder of all data sets; set after the task is made.

    Raises:
        InputError: a number is out of its range.
    """

    batch_size: int
    epochs: int
    validation: int | float
    crop: int | list[int] | None
    crop_share: list[float] | None = None
    normal: list[int | str] | None = None
    balanced: bool = False
    tested_only: bool = field(default=False, init=False)
    root: Path = field(default=Path("data"), init=False)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "epochs", *([] if self.crop is None or self.stages else ["crop"]))
        if isinstance(self.validation, float):
            require_fraction(self, "validation", "a whole number of images of at least 1, or ")
        else:
            require_positive(self, "validation", remedy="a fraction between 0 and 1, or ")

    @cached_property
    def stages(self) -> Stages | None:
        """Return the sides of crops and their shares of the training, where there are several."""
        return Stages.of(self.crop, self.crop_share) if isinstance(self.crop, list | tuple) else None

    @property
    def side(self) -> int | None:
        """Return the side of the (largest) crops, or `None` for whole images."""
        return self.crop if self.crop is None or isinstance(self.crop, int) else max(self.crop)

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for; H and W are `side` where it is set. Nothing is downloaded."""

    @property
    def possible_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Return the shapes that images may have when they are degraded; the degradation must suit one."""
        return (self.shape,)

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Return the number of classes, 0 where there are no labels. Nothing is downloaded."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes in the order of their numbers; none where they have no names."""
        return ()

    @property
    def normal_classes(self) -> tuple[int, ...]:
        """Return the numbers of the classes of `normal`, ascending; none where it is not set.

        Raises:
            InputError: it names none, or one that there is not.
        """
        if self.normal is None:
            return ()
        names = self.class_names or tuple(map(str, range(self.num_classes)))
        if not self.normal or not names:
            reason = "it names no class" if names else "the images of this task have no classes"
            raise InputError(f"task.normal: {reason}; give numbers or names of classes, as [0], or null.")
        found = set()
        for each in self.normal:
            number = names.index(each) if each in names else each
            if not isinstance(number, int) or not 0 <= number < len(names):
                raise InputError(f"task.normal: {each!r} is no class; give numbers up to {len(names) - 1}, or names of "
                                 f"{', '.join(names[:10])}.")  # fmt: skip
            found.add(number)
        return tuple(sorted(found))

    @abstractmethod
    def load(self, root: Path) -> Splits:
        """Read the images.

        Args:
            root: the folder of all data sets; what is missing there is downloaded.

        Raises:
            InputError: a file is missing, wrong or unreadable, or the images do not fit the settings.
        """

    def load_for(self, root: Path, degradation: Degradation, cache: Path | None) -> Splits:
        """Read the images; overridden by tasks that map their stores or read degraded images from files.

        Args:
            root: see `load`.
            degradation: makes the degraded images, or names their files.
            cache: the folder of mapped stores, see `recon.data.cache`; `None` reads the images into memory.
        """
        return self.load(root)

    def check(self, degradation: Degradation, augment: Augment | None, cache: Path | None) -> None:
        """Raise InputError for combinations that this task does not support; see `load_for`."""
        if cache is not None:
            raise InputError("data.store=mmap is for the images of task=folder: set data.store=memory.")
        if isinstance(degradation, FromFiles):
            raise InputError("degradation=file needs task=folder: set task.path to the clean images.")

    def split(self, train: ImageStore, test: ImageStore, crops_per_image: int = 1) -> Splits:
        """Cut validation from train, once and by key.

        Args:
            train: the images that are not test, of which `validation` are kept for validation.
            test: the images that are only test.
            crops_per_image: how often an epoch visits each training image; the repeats share the pixels and draw their
                own crops.

        Raises:
            InputError: none would be left to train on.
        """
        count = self.validation if isinstance(self.validation, int) else max(1, round(self.validation * len(train)))
        if count >= len(train):
            raise InputError(
                f"task.validation={self.validation} would keep {count} of the {len(train)} training images "
                "and leave none to train on: choose less, or add images."
            )
        rest, validation = cut(len(train), count, "validation")
        if self.normal is not None:
            rest, validation = (self._only_normal(train.label, part) for part in (rest, validation))
        if self.balanced:
            rest = balanced(train.label, rest)
        return Splits(train.subset(rest.repeat_interleave(crops_per_image)), train.subset(validation), test)

    def _only_normal(self, label: Tensor, index: Tensor) -> Tensor:
        """Keep those of some images (n,), by the labels (N,) of all, that are of the normal classes."""
        kept = index[torch.isin(label[index], torch.tensor(self.normal_classes))]
        if not len(kept):
            raise InputError("task.normal: no image of these classes is left to train, or to validate, on; choose "
                             "other classes, or another task.validation.")  # fmt: skip
        return kept


class TenClasses(Task):
    """A public set of small labelled images of one size, in ten classes."""

    image_shape: ClassVar[tuple[int, int, int]]
    class_names: ClassVar[tuple[str, ...]] = tuple("0123456789")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return `image_shape`, or (C,crop,crop); raises InputError for a larger crop."""
        channels, height, width = self.image_shape
        if self.side is None:
            return channels, height, width
        if self.side > min(height, width):
            raise InputError(
                f"task.crop={self.crop} is larger than the images ({height}x{width}): choose a smaller crop, or null."
            )
        return channels, self.side, self.side

    @property
    def num_classes(self) -> int:
        """Return 10."""
        return 10


def require_positive(task: Task, *names: str, remedy: str = "", least: int = 1) -> None:
    """Raise InputError for the first of the named settings that is no whole number of at least `least`."""
    for name in names:
        value = getattr(task, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"task.{name}={value} is not possible: give {remedy}a whole number of at least {least}.")


def require_fraction(task: Task, name: str, remedy: str = "") -> None:
    """Raise InputError if the named setting is no fraction in (0,1)."""
    value = getattr(task, name)
    if not isinstance(value, float) or not 0 < value < 1:
        raise InputError(f"task.{name}={value} is not possible: give {remedy}a fraction between 0 and 1.")


def require_crops(task: Task, count: int, crops_per_image: int) -> None:
    """Raise InputError if `crops_per_image` crops of each of `count` images are more than an epoch can shuffle."""
    if count * crops_per_image > _LARGEST_EPOCH:
        raise InputError(
            f"task.crops_per_image={crops_per_image} of {count} images make more crops than an epoch may have "
            f"({_LARGEST_EPOCH:,}): give at most {_LARGEST_EPOCH // count}, and more task.epochs."
        )


def cut(total: int, count: int, stream: str) -> tuple[Tensor, Tensor]:
    """Cut `count` indices by key from 0..total-1: the rest (total-count,) and these (count,), in rising order."""
    order = keyed.permutation(0, stream, 0, total)
    return order[count:].sort().values, order[:count].sort().values


def balanced(label: Tensor, index: Tensor) -> Tensor:
    """Repeat images (n,) of rarer classes, by the labels (N,) of all, until each class has as many.

    An epoch then visits every image at least once; which ones once more than others of their class is drawn by key.

    Raises:
        InputError: an image has no label.
    """
    own = label[index]
    if bool((own < 0).any()):
        raise InputError("task.balanced: the images of this task have no classes; leave it out.")
    most, parts = int(torch.bincount(own).max()), []
    for each in own.unique().tolist():
        part = index[own == each]
        order = keyed.permutation(0, f"balanced {each}", 0, len(part))
        parts.append(part[order].repeat(-(-most // len(part)))[:most])
    return torch.cat(parts)


def require_file_settings(task: Any) -> None:
    """Raise InputError for a wrong setting that the tasks of the user's files share."""
    require_positive(task, "max_pixels")
    require_fraction(task, "test_fraction")
    if task.on_bad_image not in ("raise", "skip"):
        raise InputError(f"task.on_bad_image={task.on_bad_image} is unknown: choose raise or skip.")
    if task.channels not in (None, 1, 3):
        raise InputError(f"task.channels={task.channels} is not possible: give 1, 3 or null.")


def require_disjoint(train: Mapping[Identity, str | Path], test: Collection[Identity], kind: str) -> None:
    """Raise InputError if a file to train on is to be tested on too, whatever links lead to it."""
    shared = [path for key, path in train.items() if key in test]
    if shared:
        raise InputError(
            f"{shared[0]} is in both task.path and task.test: test images must not be trained on, "
            f"so give two places without a common {kind}."
        )
