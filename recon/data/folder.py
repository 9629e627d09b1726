"""The task of the user's own images, in a folder."""

import glob
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np

from recon.data.images import BadImage, Header, in_threads, pixel_limit, read_header, read_image
from recon.data.sources import Splits, Task, cut, repeat_train, require_fraction, require_positive
from recon.data.store import ImageStore
from recon.errors import InputError

T = TypeVar("T")
R = TypeVar("R")


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
        require_positive(self, "crops_per_image", "max_pixels")
        require_fraction(self, "test_fraction")
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
            rest, kept = cut(len(train), max(1, round(self.test_fraction * len(train))), "test")
            train, test = train.subset(rest), train.subset(kept)
        return repeat_train(self.split(train, test), 1 if self.crop is None else self.crops_per_image)

    @cached_property
    def _headers(self) -> tuple[list[Header], list[Header]]:
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

    def _scan(self, key: str, pattern: str) -> list[Header]:
        """Read the headers of all images that `pattern` (the value of `task.<key>`) names."""
        found = self._find(key, pattern)
        with pixel_limit(self.max_pixels):
            headers = self._each(lambda item: read_header(*item), found, "Reading image headers")
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

    def _decode_all(self, headers: list[Header]) -> ImageStore:
        """Decode images and number their classes, -1 for none."""
        numbers = {category: number for number, category in enumerate(self._categories)}
        channels = self._channels

        def decode(header: Header) -> tuple[np.ndarray, int]:
            image = read_image(header.path, channels)
            if image.shape != (channels, header.height, header.width):
                raise BadImage(header.path, "its header tells another size")
            return image, numbers.get(header.category, -1)

        with pixel_limit(self.max_pixels):
            decoded = self._each(decode, headers, "Reading images")
        if not decoded:
            raise InputError(f"none of {len(headers)} images can be read, such as {headers[0].path}: replace them.")
        images, labels = zip(*decoded, strict=True)
        return ImageStore.from_arrays(images, labels)

    def _each(self, function: Callable[[T], R], items: Sequence[T], title: str) -> list[R]:
        """Apply a function that raises `BadImage` to all items, and treat bad images as `on_bad_image` says."""

        def attempt(item: T) -> R | BadImage:
            try:
                return function(item)
            except BadImage as error:
                if self.on_bad_image == "raise":
                    raise InputError(f"{error}: replace or remove it, or set task.on_bad_image=skip.") from error
                return error

        outcomes = in_threads(attempt, items, title)
        bad = [outcome.path.name for outcome in outcomes if isinstance(outcome, BadImage)]
        if bad:
            names = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
            warnings.warn(f"left out {len(bad)} of {len(items)} images that cannot be used: {names}", stacklevel=2)
        return [outcome for outcome in outcomes if not isinstance(outcome, BadImage)]
