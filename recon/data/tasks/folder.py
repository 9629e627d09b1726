"""The task of the user's own images, in a folder."""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from recon.data.find import identity
from recon.data.image_files import ImageFiles
from recon.data.images import Header
from recon.data.store import ImageStore
from recon.data.task import Splits, Task, cut, repeat_train, require_crops, require_fraction, require_positive
from recon.degradations.file import FromFiles
from recon.errors import InputError


@dataclass(kw_only=True)
class Folder(Task):
    """The user's own images: PNG, JPEG, BMP, TIFF or WebP; grey or colour; of 1 to 16 bits; of any sizes.

    A folder of images has no labels; in a folder of folders, each folder is a class, numbered by sorted name; a glob
    has no labels. Each file counts once, whatever links lead to it. Images are turned as EXIF or XMP says, and alpha is
    dropped; they stay grey if all of them are grey. Values are read as `recon.data.pixels.to_array` says. Of several
    frames the first is taken.

    Attributes:
        path: a folder or a glob (`**` for any depth) of the images to train on.
        test: the same for the images to test on; `None` cuts them from `path` by key.
        test_fraction: the fraction in (0,1) that is cut from `path` where `test` is `None`.
        crops_per_image: how many random crops of each training image make an epoch, where `crop` is set.
        on_bad_image: "raise" for an unreadable file, or "skip" to leave it out and say so.
        max_pixels: larger images are bad ones, as a small file may unpack to fill the memory.
    """

    path: str = field(kw_only=False)
    batch_size: int = 16
    epochs: int = 20
    validation: int | float = 0.1
    crop: int | None = None
    test: str | None = None
    test_fraction: float = 0.1
    crops_per_image: int = 1
    on_bad_image: Literal["raise", "skip"] = "raise"
    max_pixels: int = 89_478_485

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "crops_per_image", "max_pixels")
        require_fraction(self, "test_fraction")
        if self.on_bad_image not in ("raise", "skip"):
            raise InputError(f"task.on_bad_image={self.on_bad_image} is unknown: choose raise or skip.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for, from the files' headers."""
        train = self._headers[0]
        if self.crop is not None:
            # Images of `test` are whole, except for nets of one size, which `DataModule` knows.
            for header in [] if self.tested_only else train:
                if min(header.height, header.width) < self.crop:
                    raise InputError(
                        f"{header.path} has only {header.width}x{header.height} pixels, fewer than "
                        f"task.crop={self.crop}: choose a smaller crop or take the file away."
                    )
            return self._channels, self.crop, self.crop
        sizes = {(header.height, header.width) for header in train}
        if len(sizes) == 1:
            return self._channels, *sizes.pop()
        if self.tested_only:
            return self._smallest
        raise InputError(
            f"the images of task.path={self.path} have {len(sizes)} different sizes: "
            f"set task.crop to train on crops, to {min(map(min, sizes))} at most."
        )

    @property
    def possible_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Return the shape of crops and, where nothing is trained on them, that of a whole image to test."""
        return (self.shape, self._smallest) if self.tested_only else (self.shape,)

    @property
    def num_classes(self) -> int:
        """Return the number of class folders, 0 where there are none."""
        return len(self._categories)

    def load(self, root: Path, cache: Path | None = None) -> Splits:
        """Decode the images.

        Args:
            root: not used, nothing is downloaded.
            cache: the folder of mapped stores, see `recon.data.cache`; `None` reads the images into memory.

        Raises:
            InputError: see `Task.load`; or `cache` cannot hold the images.
        """
        _ = self.shape  # refuses sizes that do not fit
        headers, test_headers = self._headers
        repeats = 1 if self.crop is None or self.tested_only else self.crops_per_image
        require_crops(self, len(headers), repeats)
        train = self._images.store(headers, self._channels, self._categories, cache)
        if self._test_images is not None:
            test = self._test_images.store(test_headers, self._channels, self._categories, cache)
        else:
            kept = max(1, round(self.test_fraction * len(train)))
            if kept > len(train) - 2:
                raise InputError(
                    f"task.test_fraction={self.test_fraction} would keep {kept} of {len(train)} images for the test "
                    "and leave fewer than 2 to train and validate on: choose less, or add images."
                )
            rest, tested = cut(len(train), kept, "test")
            train, test = train.subset(rest), train.subset(tested)
        splits = self.split(train, test)
        self._warn_of_classes(splits.train)
        return repeat_train(splits, repeats)

    def _warn_of_classes(self, train: ImageStore) -> None:
        """Say which classes have no image to train on."""
        known = set(train.label.tolist())
        lacking = [name for number, name in enumerate(self._categories) if number not in known]
        if lacking:
            some = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
            warnings.warn(
                f"task.path={self.path}: {len(lacking)} of {len(self._categories)} classes have no image to train on, "
                f"as theirs were all drawn for validation or the test: {some}",
                stacklevel=2,
            )

    def load_pairs(self, root: Path, degradation: FromFiles, cache: Path | None = None) -> tuple[Splits, Splits]:
        """Decode the images and the degraded ones that the user has of them.

        Args:
            root: see `load`.
            degradation: where the degraded images lie; they are read with the channels of the clean ones.
            cache: see `load`.

        Returns:
            The clean images, and the degraded ones of the same samples in the same order.

        Raises:
            InputError: see `load`; or an image has no degraded one, or one of another size, or one that cannot be
                read; or a setting does not fit those of the task.
        """
        if (degradation.test is None) != (self.test is None):
            given, lacking = ("degradation", "task") if self.test is None else ("task", "degradation")
            raise InputError(f"{given}.test is set and {lacking}.test is not: set both, or neither.")
        train = self._partners(self._images, "path", degradation, cache)
        test = train if self._test_images is None else self._partners(self._test_images, "test", degradation, cache)
        splits = self.load(root, cache)
        return splits, Splits(*(_in_order_of(*stores) for stores in zip(splits, (train, train, test), strict=True)))

    def _partners(self, clean: ImageFiles, setting: str, degradation: FromFiles, cache: Path | None) -> ImageStore:
        """Decode the degraded images of some clean ones, from the place that `degradation.<setting>` tells."""
        files = ImageFiles(
            f"degradation.{setting}",
            getattr(degradation, setting),
            self.max_pixels,
            remedy="replace it, or remove it and its clean image",
        )
        wanted, found = clean.by_name(), files.by_name()
        lacking = [header.path for name, header in wanted.items() if name not in found]
        if lacking:
            raise InputError(
                f"{files.key}={files.pattern} has no degraded image of {lacking[0]} ({len(lacking)} of {len(wanted)} "
                "images lack theirs): give each the name of its clean image, with any suffix."
            )
        headers = [found[name] for name in wanted]
        for header, original in zip(headers, wanted.values(), strict=True):
            _require_partner(header, original, degradation.scale)
        return files.store(headers, self._channels, cache=cache)

    @cached_property
    def _images(self) -> ImageFiles:
        return ImageFiles("task.path", self.path, self.max_pixels, self.on_bad_image)

    @cached_property
    def _test_images(self) -> ImageFiles | None:
        return None if self.test is None else ImageFiles("task.test", self.test, self.max_pixels, self.on_bad_image)

    @cached_property
    def _headers(self) -> tuple[list[Header], list[Header]]:
        """Scan the headers of the images of `path` and of `test` (none where it is not set)."""
        train = self._images.headers
        test = [] if self._test_images is None else self._test_images.headers
        least = 3 if self._test_images is None else 2
        if len(train) < least:
            raise InputError(
                f"task.path={self.path} has {len(train)} usable image{'s' * (len(train) != 1)}, too few to "
                f"{'train, validate and test' if least == 3 else 'train and validate'}: give a folder or a glob of at "
                f"least {least}."
            )
        tested = {identity(header.path) for header in test}
        shared = [header.path for header in train if identity(header.path) in tested]
        if shared:
            raise InputError(
                f"{shared[0]} is in both task.path and task.test: test images must not be trained on, "
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
    def _smallest(self) -> tuple[int, int, int]:
        """The shape of the smallest image to test, which is tested whole."""
        train, test = self._headers
        return self._channels, *min((header.height, header.width) for header in test or train)

    @property
    def _channels(self) -> int:
        return max(header.channels for headers in self._headers for header in headers)

    @cached_property
    def _categories(self) -> list[str]:
        return sorted({header.category for header in self._headers[0]} - {""})


def _require_partner(degraded: Header, clean: Header, scale: int) -> None:
    """Raise InputError unless a degraded image is another file than its clean one, and so many times smaller."""
    if identity(degraded.path) == identity(clean.path):
        raise InputError(f"degradation: {clean.path} is both the clean and the degraded image: give another folder.")
    if (degraded.height, degraded.width) != (clean.height // scale, clean.width // scale):
        raise InputError(
            f"degradation.scale={scale} does not fit {degraded.path} of {degraded.width}x{degraded.height} pixels, as "
            f"{clean.path} has {clean.width}x{clean.height}: replace one, or set how many times smaller it is."
        )


def _in_order_of(clean: ImageStore, degraded: ImageStore) -> ImageStore:
    """Choose the images with the names of the clean ones, in that order and with its repeats."""
    assert clean.names is not None
    assert degraded.names is not None
    places = {name: place for place, name in enumerate(degraded.names)}
    return degraded.subset(torch.tensor([places[name] for name in clean.names]))
