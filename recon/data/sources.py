"""The tasks: which clean images there are, their labels, and how they are split.

A task knows its shape and its classes before anything is downloaded or decoded. The official test set is only test;
validation is cut from train once, by key, so that every run of a task sees the same splits.
"""

import gzip
import os
import tarfile
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon import keyed
from recon.data.download import fetch
from recon.data.images import read_image
from recon.data.store import ImageStore
from recon.errors import InputError

_LARGEST_EPOCH = 10**8  # images, whose order takes 4 GB to draw


class Splits(NamedTuple):
    """The three splits of a task; no image is in two of them."""

    train: ImageStore
    validation: ImageStore
    test: ImageStore


@dataclass(kw_only=True)
class Task(ABC):
    """A set of clean images with its protocol.

    Attributes:
        batch_size: images per training step, over all devices.
        epochs: passes over the training images, unless the trainer is told another number.
        validation: how much of train is kept for validation: a number of images, or a fraction in (0,1).
        crop: side in pixels of the keyed random crops that are trained on; `None` for whole images.
        tested_only: nothing is trained, as when a trained model is evaluated; set after the task is made.

    Raises:
        InputError: a number is out of its range.
    """

    batch_size: int
    epochs: int
    validation: int | float
    crop: int | None
    tested_only: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "epochs", *([] if self.crop is None else ["crop"]))
        if isinstance(self.validation, float):
            require_fraction(self, "validation", "a whole number of images of at least 1, or ")
        else:
            require_positive(self, "validation", remedy="a fraction between 0 and 1, or ")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for; H and W are `crop` where it is set. Nothing is downloaded."""

    @property
    def possible_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Return the shapes that images may have when they are degraded; the degradation must suit one."""
        return (self.shape,)

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Return the number of classes, 0 where there are no labels. Nothing is downloaded."""

    @abstractmethod
    def load(self, root: Path) -> Splits:
        """Read the images.

        Args:
            root: the folder of all data sets; what is missing there is downloaded.

        Raises:
            InputError: a file is missing, wrong or unreadable, or the images do not fit the settings.
        """

    def split(self, train: ImageStore, test: ImageStore) -> Splits:
        """Cut validation from train, once and by key.

        Args:
            train: the images that are not test, of which `validation` are kept for validation.
            test: the images that are only test.

        Raises:
            InputError: none would be left to train on.
        """
        kept = self.validation if isinstance(self.validation, int) else max(1, round(self.validation * len(train)))
        if kept >= len(train):
            raise InputError(
                f"task.validation={self.validation} would keep {kept} of the {len(train)} training images "
                "and leave none to train on: choose less, or add images."
            )
        rest, validation = cut(len(train), kept, "validation")
        return Splits(train.subset(rest), train.subset(validation), test)


def require_positive(task: Task, *names: str, remedy: str = "") -> None:
    """Raise InputError for the first of the named settings that is no whole number of at least 1."""
    for name in names:
        value = getattr(task, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"task.{name}={value} is not possible: give {remedy}a whole number of at least 1.")


def require_fraction(task: Task, name: str, remedy: str = "") -> None:
    """Raise InputError if the named setting is no fraction in (0,1)."""
    value = getattr(task, name)
    if not isinstance(value, float) or not 0 < value < 1:
        raise InputError(f"task.{name}={value} is not possible: give {remedy}a fraction between 0 and 1.")


def cut(count: int, kept: int, stream: str) -> tuple[Tensor, Tensor]:
    """Cut `kept` places by key from 0..count-1: the rest (count-kept,) and the kept (kept,), in rising order."""
    order = keyed.permutation(0, stream, 0, count)
    return order[kept:].sort().values, order[:kept].sort().values


class _Labelled(Task):
    """A public set of small labelled images of one size, in ten classes."""

    image_shape: ClassVar[tuple[int, int, int]]

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.image_shape
        if self.crop is None:
            return channels, height, width
        if self.crop > min(height, width):
            raise InputError(
                f"task.crop={self.crop} is larger than the images ({height}x{width}): choose a smaller crop, or null."
            )
        return channels, self.crop, self.crop

    @property
    def num_classes(self) -> int:
        return 10


class Digits(_Labelled):
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn ships; the last 360 are test.

    The values 0..16 become round(v·255/16). See https://scikit-learn.org/stable/datasets/toy_dataset.html.
    """

    image_shape = (1, 8, 8)

    def load(self, root: Path) -> Splits:
        """Read the images; nothing is downloaded."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
        train, test = slice(None, 1437), slice(1437, None)
        return self.split(
            ImageStore.from_arrays(images[train], digits.target[train]),
            ImageStore.from_arrays(images[test], digits.target[test]),
        )


class _Idx(_Labelled):
    """A set in the four gzipped idx files of MNIST: 60,000 images to train and 10,000 to test, 28x28 pixels."""

    image_shape = (1, 28, 28)
    folder: ClassVar[str]
    md5: ClassVar[tuple[str, str, str, str]]
    urls: ClassVar[list[str]]

    def load(self, root: Path) -> Splits:
        """Read the images, downloading the files that are missing."""
        names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
        paths = fetch(root / self.folder, dict(zip(names, self.md5, strict=True)), self.urls)
        images, labels, test_images, test_labels = map(_read_idx, paths)
        return self.split(
            ImageStore.from_arrays(images[:, None], labels), ImageStore.from_arrays(test_images[:, None], test_labels)
        )


class MNIST(_Idx):
    """Handwritten digits (LeCun, Cortes & Burges 1998)."""

    folder = "mnist"
    md5 = (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    )
    urls: ClassVar = [
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ]


class FashionMNIST(_Idx):
    """Pictures of clothing (Xiao, Rasul & Vollgraf 2017, https://arxiv.org/abs/1708.07747)."""

    folder = "fashion-mnist"
    md5 = (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    )
    urls: ClassVar = ["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"]


def _read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: two zeros, the type 8, the rank, the big-endian sizes, then the values."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(data, ">i4", rank, offset=4))


class CIFAR10(_Labelled):
    """Small colour photographs (Krizhevsky 2009): 50,000 images to train and 10,000 to test, 32x32 pixels.

    Reads the binary version, in which a record is one byte of label and 3072 of pixels in the order C, H, W. A folder
    that holds only some of the training batches and `test_first1000.bin`, the first 1,000 records of the test batch,
    is used as it is, with a warning.
    """

    image_shape = (3, 32, 32)
    archive = "cifar-10-binary.tar.gz"
    md5 = "c32a1d4ab5d03f1284b67883e8d87530"
    urls: ClassVar = ["https://www.cs.toronto.edu/~kriz"]

    def load(self, root: Path) -> Splits:
        """Read the images, downloading and unpacking the archive when the files are missing."""
        folder = root / "cifar10" / "cifar-10-batches-bin"
        train = [folder / f"data_batch_{number}.bin" for number in range(1, 6)]
        test, excerpt = folder / "test_batch.bin", folder / "test_first1000.bin"
        here = [path for path in train if path.is_file()]
        if here and excerpt.is_file() and not (len(here) == 5 and test.is_file()):
            warnings.warn(
                f"{folder} is not the whole of CIFAR-10: training uses {len(here)} of the 5 batches, "
                "and figures are on the first 1,000 test images.",
                stacklevel=2,
            )
            return self.split(_read_records(here, 10_000), _read_records([excerpt], 1000))
        if not all(path.is_file() for path in [*train, test]):
            [archive] = fetch(root / "cifar10", {self.archive: self.md5}, self.urls)
            _unpack(archive, folder, [path.name for path in [*train, test]])
        return self.split(_read_records(train, 10_000), _read_records([test], 10_000))


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """Write the named files of a verified archive into `folder`; no path that the archive gives is followed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            for name in names:
                stream = tar.extractfile(f"{folder.name}/{name}")
                assert stream is not None  # the checksum says that these are plain files
                part = folder / f".{name}.{os.getpid()}.part"
                part.write_bytes(stream.read())
                part.replace(folder / name)
    except OSError as error:
        raise InputError(
            f"{archive} cannot be unpacked to {folder} ({error.strerror}): free some space there, "
            "or set data.root (or RECON_DATA) to a folder that can be written."
        ) from error


def _read_records(paths: list[Path], count: int) -> ImageStore:
    """Read CIFAR-10's binary files of `count` records each."""
    parts = []
    for path in paths:
        records = np.fromfile(path, np.uint8)
        if records.size != count * 3073 or records[::3073].max() > 9:
            raise InputError(
                f"{path} is not a file of {count} CIFAR-10 records: remove it, so that it is fetched again."
            )
        parts.append(records.reshape(count, 3073))
    records = np.concatenate(parts)
    return ImageStore.from_arrays(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])


@dataclass(kw_only=True)
class Photos(Task):
    """Seven natural RGB photographs that scikit-image and scikit-learn ship; two lossless ones are test.

    Attributes:
        crops_per_image: how many random crops of each training photograph make an epoch.
    """

    crops_per_image: int

    TRAIN: ClassVar = [
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/rocket.jpg"),
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
    ]
    TEST: ClassVar = [("skimage", "data/chelsea.png"), ("skimage", "data/coffee.png")]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "crops_per_image")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (3,crop,crop)."""
        if self.crop is None or self.crop > 300:  # the smallest is 300 pixels high
            raise InputError(f"task.crop={self.crop} does not suit photographs of many sizes: give a number up to 300.")
        return 3, self.crop, self.crop

    @property
    def num_classes(self) -> int:
        """Return 0: there are no labels."""
        return 0

    def load(self, root: Path) -> Splits:
        """Read the photographs; nothing is downloaded."""
        _ = self.shape  # refuses a crop that does not fit
        require_crops(self, len(self.TRAIN), self.crops_per_image)
        train, test = (
            ImageStore.from_arrays([read_image(Path(str(files(package))) / name, 3) for package, name in names])
            for names in (self.TRAIN, self.TEST)
        )
        return repeat_train(self.split(train, test), self.crops_per_image)


def require_crops(task: Task, count: int, crops_per_image: int) -> None:
    """Raise InputError if an epoch of so many crops of each of `count` images has more than can be shuffled."""
    if count * crops_per_image > _LARGEST_EPOCH:
        raise InputError(
            f"task.crops_per_image={crops_per_image} of {count} images make more crops than an epoch may have "
            f"({_LARGEST_EPOCH:,}): give at most {_LARGEST_EPOCH // count}, and more task.epochs."
        )


def repeat_train(splits: Splits, times: int) -> Splits:
    """Let an epoch visit each training image `times` times; the repeats share the pixels and draw their own crops."""
    return splits._replace(train=splits.train.subset(torch.arange(len(splits.train)).repeat_interleave(times)))
