"""The tasks: which clean images there are, their labels, and how they are split.

A task knows its shape and its classes before anything is downloaded or decoded. The official test set is only test;
validation is cut from train once, by key, so that every run of a task sees the same splits.
"""

import glob
import gzip
import os
import tarfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from rich.progress import Progress
from torch import Tensor

from recon import keyed
from recon.data.download import fetch
from recon.data.store import ImageStore
from recon.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


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

    Raises:
        InputError: a number is out of its range.
    """

    batch_size: int
    epochs: int
    validation: int | float
    crop: int | None

    def __post_init__(self) -> None:
        _require_positive(self, "batch_size", "epochs", *([] if self.crop is None else ["crop"]))
        if isinstance(self.validation, float):
            _require_fraction(self, "validation")
        else:
            _require_positive(self, "validation")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for; H and W are `crop` where it is set. Nothing is downloaded."""

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

    def _split(self, train: ImageStore, test: ImageStore) -> Splits:
        """Cut validation from train, once and by key."""
        kept = self.validation if isinstance(self.validation, int) else max(1, round(self.validation * len(train)))
        if kept >= len(train):
            raise InputError(
                f"task.validation={self.validation} would keep {kept} of the {len(train)} training images "
                "and leave none to train on: choose less."
            )
        rest, validation = _cut(len(train), kept, "validation")
        return Splits(train.subset(rest), train.subset(validation), test)


def _require_positive(task: Task, *names: str) -> None:
    for name in names:
        value = getattr(task, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"task.{name}={value} is not possible: give a whole number of at least 1.")


def _require_fraction(task: Task, name: str) -> None:
    value = getattr(task, name)
    if not isinstance(value, float) or not 0 < value < 1:
        raise InputError(f"task.{name}={value} is not possible: give a fraction between 0 and 1.")


def _cut(count: int, kept: int, stream: str) -> tuple[Tensor, Tensor]:
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
        return self._split(
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
        return self._split(
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
            return self._split(_read_records(here, 10_000), _read_records([excerpt], 1000))
        if not all(path.is_file() for path in [*train, test]):
            [archive] = fetch(root / "cifar10", {self.archive: self.md5}, self.urls)
            _unpack(archive, folder, [path.name for path in [*train, test]])
        return self._split(_read_records(train, 10_000), _read_records([test], 10_000))


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
        _require_positive(self, "crops_per_image")

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
        train, test = (
            ImageStore.from_arrays([read_image(Path(str(files(package))) / name, 3) for package, name in names])
            for names in (self.TRAIN, self.TEST)
        )
        return _repeat_train(self._split(train, test), self.crops_per_image)


def _repeat_train(splits: Splits, times: int) -> Splits:
    """Let an epoch visit each training image `times` times; the repeats share the pixels and draw their own crops."""
    return splits._replace(train=splits.train.subset(torch.arange(len(splits.train)).repeat_interleave(times)))


class _Header(NamedTuple):
    """What is known of an image file before it is decoded; `category` is its class folder, "" for none."""

    path: Path
    category: str
    channels: int
    height: int
    width: int


@dataclass(kw_only=True)
class Folder(Task):
    """The user's own images: PNG, JPEG, BMP, TIFF or WebP; grey or colour; 8 or 16 bit; of any sizes.

    A folder of images has no labels; in a folder of folders, each folder is a class, numbered by sorted name; a glob
    has no labels. Images are turned as EXIF says, and alpha is dropped; they stay grey if all of them are grey. Of
    16-bit values v, grey ones become round(v/257); of colour ones Pillow gives the high byte. Of several frames the
    first is taken.

    Attributes:
        path: a folder or a glob (`**` for any depth) of the images to train on.
        test: the same for the images to test on; `None` cuts them from `path` by key.
        test_fraction: the fraction in (0,1) that is cut from `path` where `test` is `None`.
        crops_per_image: how many random crops of each training image make an epoch, where `crop` is set.
        on_bad_image: "raise" for an unreadable file, or "skip" to leave it out and say so.
        max_pixels: larger images are bad ones, as a small file may unpack to fill the memory.
    """

    path: str
    test: str | None
    test_fraction: float
    crops_per_image: int
    on_bad_image: Literal["raise", "skip"]
    max_pixels: int

    SUFFIXES: ClassVar = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, "crops_per_image", "max_pixels")
        _require_fraction(self, "test_fraction")
        if self.on_bad_image not in ("raise", "skip"):
            raise InputError(f"task.on_bad_image={self.on_bad_image} is unknown: choose raise or skip.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for, from the files' headers."""
        train, test = self._headers
        if self.crop is not None:
            for header in [*train, *test]:
                if min(header.height, header.width) < self.crop:
                    raise InputError(
                        f"{header.path} has only {header.width}x{header.height} pixels, fewer than "
                        f"task.crop={self.crop}: choose a smaller crop or take the file away."
                    )
            return self._channels, self.crop, self.crop
        sizes = {(header.height, header.width) for header in train}
        if len(sizes) > 1:
            raise InputError(
                f"the images of task.path={self.path} have {len(sizes)} different sizes: "
                f"set task.crop to train on crops, to {min(map(min, sizes))} at most."
            )
        return self._channels, *sizes.pop()

    @property
    def num_classes(self) -> int:
        """Return the number of class folders, 0 where there are none."""
        return len(self._categories)

    def load(self, root: Path) -> Splits:
        """Decode the images; `root` is not used, nothing is downloaded."""
        _ = self.shape  # refuses sizes that do not fit
        headers, test_headers = self._headers
        train = self._decode_all(headers)
        if test_headers:
            test = self._decode_all(test_headers)
        else:
            rest, cut = _cut(len(train), max(1, round(self.test_fraction * len(train))), "test")
            train, test = train.subset(rest), train.subset(cut)
        return _repeat_train(self._split(train, test), 1 if self.crop is None else self.crops_per_image)

    @cached_property
    def _headers(self) -> tuple[list[_Header], list[_Header]]:
        """Scan the headers of the images of `path` and of `test` (none where it is not set)."""
        train = self._scan("path", self.path)
        test = [] if self.test is None else self._scan("test", self.test)
        if not test and len(train) < 3:
            raise InputError(
                f"task.path={self.path} has {len(train)} usable images, too few to train, validate and test: "
                "add images (at least 3)."
            )
        shared = {header.path.resolve() for header in train} & {header.path.resolve() for header in test}
        if shared:
            raise InputError(
                f"{min(shared)} is in both task.path and task.test: test images must not be trained on, "
                "so give two places without a common file."
            )
        strangers = {header.category for header in test} - {header.category for header in train}
        if strangers and any(header.category for header in train):
            raise InputError(
                f"task.test={self.test} has images outside the class folders of task.path: sort them into "
                f"{', '.join(sorted({header.category for header in train})[:5])}, ..."
            )
        return train, test

    @property
    def _channels(self) -> int:
        return max(header.channels for headers in self._headers for header in headers)

    @cached_property
    def _categories(self) -> list[str]:
        return sorted({header.category for header in self._headers[0]} - {""})

    def _scan(self, key: str, pattern: str) -> list[_Header]:
        """Read the headers of all images that `pattern` (the value of `task.<key>`) names."""
        found = self._find(key, pattern)
        with _pixel_limit(self.max_pixels):
            headers = self._each(lambda item: _read_header(*item), found, "Reading image headers")
        if not headers:
            raise InputError(f"task.{key}={pattern} has no readable image: give a folder or a glob of good images.")
        return headers

    def _find(self, key: str, pattern: str) -> list[tuple[Path, str]]:
        """List (file, class folder) in an order that does not hang on the file system."""
        folder = Path(pattern).expanduser()
        # Like the shell's, Python's glob leaves out hidden files: the `._name.jpg` of macOS, `.ipynb_checkpoints`.
        names = f"{glob.escape(str(folder))}/**" if folder.is_dir() else str(folder)
        places = map(Path, glob.iglob(names, recursive=True))
        paths = sorted({path for path in places if path.suffix.lower() in self.SUFFIXES and path.is_file()})
        if not paths:
            raise InputError(
                f"task.{key}={pattern} matches no image: give a folder or a glob of "
                f"{', '.join(sorted(self.SUFFIXES))} files."
            )
        if not folder.is_dir():
            return [(path, "") for path in paths]
        flat = [path.parent == folder for path in paths]
        if any(flat) and not all(flat):
            raise InputError(
                f"task.{key}={pattern} has images both beside and inside its folders: move them all into class folders "
                f"or all out of them, or give a glob such as {folder}/*.png."
            )
        return [(path, "" if flat[0] else path.relative_to(folder).parts[0]) for path in paths]

    def _decode_all(self, headers: list[_Header]) -> ImageStore:
        """Decode images and number their classes, -1 for none."""
        numbers = {category: number for number, category in enumerate(self._categories)}
        channels = self._channels

        def decode(header: _Header) -> tuple[np.ndarray, int]:
            image = read_image(header.path, channels)
            if image.shape != (channels, header.height, header.width):
                raise _BadImage(header.path, "its header tells another size")
            return image, numbers.get(header.category, -1)

        with _pixel_limit(self.max_pixels):
            decoded = self._each(decode, headers, "Reading images")
        if not decoded:
            raise InputError(f"none of {len(headers)} images can be read, such as {headers[0].path}: replace them.")
        images, labels = zip(*decoded, strict=True)
        return ImageStore.from_arrays(images, labels)

    def _each(self, function: Callable[[T], R], items: Sequence[T], title: str) -> list[R]:
        """Apply a function that raises `_BadImage` to all items, and treat bad images as `on_bad_image` says."""

        def attempt(item: T) -> R | _BadImage:
            try:
                return function(item)
            except _BadImage as error:
                if self.on_bad_image == "raise":
                    raise InputError(f"{error}: replace or remove it, or set task.on_bad_image=skip.") from error
                return error

        outcomes = _in_threads(attempt, items, title)
        bad = [outcome.path.name for outcome in outcomes if isinstance(outcome, _BadImage)]
        if bad:
            names = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            warnings.warn(f"left out {len(bad)} of {len(items)} images that cannot be used: {names}", stacklevel=2)
        return [outcome for outcome in outcomes if not isinstance(outcome, _BadImage)]


class _BadImage(InputError):
    """A file that cannot be used as an image."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used as an image ({reason})")
        self.path = path


@contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever goes wrong until it is closed becomes `_BadImage`."""
    try:
        with Image.open(path) as image:
            if image.mode in ("F", "I"):
                raise _BadImage(path, "32 bits per value; 8 or 16 are read")
            yield image
    except _BadImage:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _BadImage(path, f"more pixels than task.max_pixels={Image.MAX_IMAGE_PIXELS}") from error
    except UnidentifiedImageError as error:
        raise _BadImage(path, "empty" if path.stat().st_size == 0 else "not in a format that can be read") from error
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: OSError, SyntaxError, struct.error
        raise _BadImage(path, f"{error}" or type(error).__name__) from error


def _read_header(path: Path, category: str) -> _Header:
    """Read what can be known of an image without decoding it."""
    with _open(path) as image:
        width, height = image.size
        # A PNG may keep its EXIF after its pixels, and Pillow would decode all of them to look for it there.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        if image.format == "TIFF":  # for which some versions of Pillow tell the size after turning, others before
            width, height = exif[ExifTags.Base.ImageWidth], exif[ExifTags.Base.ImageLength]
        if exif.get(ExifTags.Base.Orientation, 1) >= 5:  # a quarter turn
            width, height = height, width
        grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
        return _Header(path, category, 1 if grey else 3, height, width)


def read_image(path: Path, channels: int) -> np.ndarray:
    """Read an image file, turned as EXIF says and without alpha.

    Args:
        path: PNG, JPEG, BMP, TIFF or WebP; of 16-bit grey values v, round(v/257) is taken.
        channels: 1 for grey (ITU-R 601-2 luma of colour), 3 for RGB.

    Returns:
        (C,H,W) uint8.

    Raises:
        InputError: the file is missing, empty, truncated, too large or no image.
    """
    with _open(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I;16"):
            # 257 is odd, so that no v/257 lies half-way and integers round exactly.
            grey = ((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8)
            pixels = np.repeat(grey[..., None], channels, axis=2)
        else:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(image.height, image.width, -1)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def _pixel_limit(max_pixels: int) -> Iterator[None]:
    """Refuse larger images while they are opened, where Pillow only warns up to twice its limit.

    Both settings are the whole process's, hence around a pool of threads and not in each of them.
    """
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _in_threads(function: Callable[[T], R], items: Sequence[T], title: str) -> list[R]:
    """Return `function(item)` for each item, and show the progress of what takes longer than 2 seconds."""
    start, results = time.monotonic(), []
    with ThreadPoolExecutor() as pool, ExitStack() as shown:
        progress = Progress(transient=True)
        bar = progress.add_task(title, total=len(items))
        for result in pool.map(function, items):
            if not progress.live.is_started and time.monotonic() - start > 2:
                shown.enter_context(progress)
            progress.advance(bar)
            results.append(result)
    return results
