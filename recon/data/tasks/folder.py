"""The task of the user's own images, in a folder."""

import re
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor

from recon.data.augment import Augment
from recon.data.find import identity
from recon.data.image_files import ImageFiles
from recon.data.images import Header, abridged
from recon.data.sets import SETS, pattern_of
from recon.data.store import ImageStore, joined
from recon.data.task import Splits, Task, cut, require_crops, require_disjoint, require_file_settings, require_positive
from recon.degradations.base import Degradation
from recon.degradations.file import FromFiles
from recon.errors import InputError

# What the numbers of a run stand under beside those of its test sets.
_TAKEN = ("path", "test", "train", "val", "cost", "expected")


@dataclass(kw_only=True)
class Folder(Task):
    """The user's own images, or a public set of `recon.data.sets`: PNG, JPEG, BMP, TIFF or WebP, of any sizes.

    A folder of images has no labels; in a folder of folders, each folder is a class, numbered by sorted name; a glob
    has no labels. Each file counts once, whatever links lead to it. Images are turned by EXIF or XMP, and alpha is
    dropped; they stay grey if all of them are grey, unless `channels` says otherwise. Values are read by
    `recon.data.pixels.to_array`, of several frames the first.

    Several test sets have a name each, under which their numbers stand, and the channels of the images to train on. The
    damage of an image depends on its position in its own set alone.

    Attributes:
        path: a folder or a glob (`**` for any depth) of the images to train on, or the name of a public set.
        test: the same for the images to test on, or a list of such; `None` cuts them from `path` by key.
        test_fraction: the fraction in (0,1) that is cut from `path` where `test` is `None`.
        crops_per_image: random crops of each training image in an epoch, where `crop` is set.
        channels: 1 reads every image as grey, 3 as colour.
        on_bad_image: "raise" for an unreadable file, or "skip" to leave it out with a warning.
        max_pixels: larger images are bad ones, as a small file may unpack to fill the memory.
    """

    path: str = field(kw_only=False)
    batch_size: int = 16
    epochs: int = 20
    validation: int | float = 0.1
    crop: int | list[int] | None = None
    test: str | list[str] | None = None
    test_fraction: float = 0.1
    crops_per_image: int = 1
    channels: int | None = None
    on_bad_image: Literal["raise", "skip"] = "raise"
    max_pixels: int = 89_478_485

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "crops_per_image")
        require_file_settings(self)
        if self._is_named:
            _by_name(self.test)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for, from the files' headers; of crops of a public set without these."""
        if self.side is not None and self._is_named and self.path in SETS:
            return self._channels, self.side, self.side
        train = self._headers[0]
        if self.side is not None:
            return self._channels, self.side, self.side
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
        return 0 if self.path in SETS else len(self._categories)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the class folders."""
        return () if self.path in SETS else tuple(self._categories)

    def check(self, degradation: Degradation, augment: Augment | None, cache: Path | None) -> None:
        """Raise InputError for augmentation that would change the damage of degraded files."""
        if isinstance(degradation, FromFiles) and augment is not None and not augment.rearranges:
            raise InputError(
                "augment.rotate and augment.crop_padding would change the damage that degradation=file is to show: "
                "set them to 0, or choose augment=flip|turns|none."
            )

    def load_for(self, root: Path, degradation: Degradation, cache: Path | None) -> Splits:
        """Decode the images, with their degraded files if the degradation has them; see `Task.load_for`."""
        return self.load(root, cache, degradation if isinstance(degradation, FromFiles) else None)

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Return the names of the test sets where there are some."""
        return tuple(self._files)[1:] if self._is_named else ()

    def load(self, root: Path, cache: Path | None = None, degraded: FromFiles | None = None) -> Splits:
        """Decode the images; nothing is downloaded.

        Args:
            root: where the public sets lie.
            cache: see `Task.load_for`.
            degraded: names the degraded images, which are read with the channels of the clean ones; or `None`.

        Raises:
            InputError: see `Task.load`; `cache` cannot hold the images; or an image lacks its degraded one.
        """
        self.root = root
        _ = self.shape  # refuses sizes that do not fit
        repeats = 1 if self.crop is None or self.tested_only else self.crops_per_image
        require_crops(self, len(self._headers[0]), repeats)
        partners = [] if degraded is None else [self._partners(setting, degraded, cache) for setting in self._files]
        stores = {
            name: files.store(files.headers, self._channels, self._categories, cache)
            for name, files in self._files.items()
        }
        if partners:
            stores = dict(zip(stores, map(_paired, stores.values(), partners), strict=True))
        train, *tests = stores.values()
        if self._is_named:
            test = joined(dict(zip(self.test_sets, tests, strict=True)))
        else:
            train, test = (train, *tests) if tests else self._cut_test(train)
        splits = self.split(train, test, repeats)
        assert isinstance(splits.train, ImageStore)
        if self.normal is None:
            self._warn_of_classes(splits.train.label)
        return splits

    def _cut_test(self, store: ImageStore) -> tuple[ImageStore, ImageStore]:
        count = max(1, round(self.test_fraction * len(store)))
        if count > len(store) - 2:
            raise InputError(
                f"task.test_fraction={self.test_fraction} would keep {count} of {len(store)} images for the test "
                "and leave fewer than 2 to train and validate on: choose less, or add images."
            )
        rest, test = cut(len(store), count, "test")
        return store.subset(rest), store.subset(test)

    def _warn_of_classes(self, label: Tensor) -> None:
        """Warn of the classes that have no image to train on."""
        present = set(label.tolist())
        lacking = [name for number, name in enumerate(self._categories) if number not in present]
        if lacking:
            warnings.warn(
                f"task.path={self.path}: {len(lacking)} of {len(self._categories)} classes have no image to train on, "
                f"as theirs were all drawn for validation or the test: {abridged(lacking)}",
                stacklevel=2,
            )

    def _partners(self, setting: str, degraded: FromFiles, cache: Path | None) -> ImageStore:
        """Decode the degraded images of `task.<setting>`, which `degradation.<setting>` names."""
        if self._is_named:
            raise InputError("task.test: degradation=file pairs one folder of test images; give one folder or glob.")
        if (degraded.test is None) != (self.test is None):
            given, lacking = ("degradation", "task") if self.test is None else ("task", "degradation")
            raise InputError(f"{given}.test is set and {lacking}.test is not: set both, or neither.")
        remedy, pattern = "replace it, or remove it and its clean image", getattr(degraded, setting)
        files = ImageFiles(f"degradation.{setting}", pattern, self.max_pixels, remedy=remedy)
        originals, headers = self._files[setting].by_name(), files.by_name()
        alone = [header.path for name, header in originals.items() if name not in headers]
        if alone:
            raise InputError(
                f"{files.key}={pattern} has no degraded image of {alone[0]} ({len(alone)} of {len(originals)} images "
                "lack theirs): give each the name of its clean image, with any suffix."
            )
        for name, original in originals.items():
            _require_partner(headers[name], original, degraded.scale)
        return files.store([headers[name] for name in originals], self._channels, cache=cache)

    @cached_property
    def _files(self) -> dict[str, ImageFiles]:
        """The files of `path`, and of `test`, if it is set, or of each test set."""
        patterns = {"path": ("task.path", self.path)}
        if self._is_named:
            patterns |= {name: ("task.test", pattern) for name, pattern in _by_name(self.test).items()}
        elif self.test is not None:
            patterns["test"] = ("task.test", str(self.test))
        files = {}
        for name, (key, pattern) in patterns.items():
            found = pattern_of(key, pattern, self.root) if pattern in SETS else pattern
            files[name] = ImageFiles(key, found, self.max_pixels, self.on_bad_image)
        return files

    @property
    def _is_named(self) -> bool:
        """Whether the test sets have names."""
        return isinstance(self.test, list | tuple) or self.test in SETS

    @cached_property
    def _headers(self) -> tuple[list[Header], list[Header]]:
        """Read the headers of the images of `path` and of `test`, if it is set."""
        train = self._files["path"].headers
        test = [header for name, files in self._files.items() if name != "path" for header in files.headers]
        least, purpose = (3, "train, validate and test") if self.test is None else (2, "train and validate")
        if len(train) < least:
            raise InputError(
                f"task.path={self.path} has {len(train)} usable image{'s' * (len(train) != 1)}, too few to {purpose}: "
                f"give a folder or a glob of at least {least}."
            )
        if self.side is not None and not self.tested_only:
            # Images of `test` are whole, except for nets of one size, which `DataModule` checks.
            small = [header for header in train if min(header.height, header.width) < self.side]
            if small:
                raise InputError(
                    f"{small[0].path} has only {small[0].width}x{small[0].height} pixels, fewer than "
                    f"task.crop={self.side}: choose a smaller crop or take the file away."
                )
        require_disjoint({identity(h.path): h.path for h in train}, {identity(h.path) for h in test}, "file")
        categories = {header.category for header in train}
        if any(categories) and not categories >= {header.category for header in test}:
            raise InputError(
                f"task.test={self.test} has images outside the class folders of task.path: sort them into "
                f"{', '.join(sorted(categories)[:5])}, ..."
            )
        return train, test

    @property
    def _smallest(self) -> tuple[int, int, int]:
        """The shape of the smallest image to test, which is tested whole."""
        train, test = self._headers
        return self._channels, *min((header.height, header.width) for header in test or train)

    @property
    def _channels(self) -> int:
        if self.channels is not None:
            return self.channels
        if self._is_named and self.path in SETS:
            return SETS[self.path].channels
        train, test = self._headers
        return max(header.channels for header in (train if self._is_named else [*train, *test]))

    @cached_property
    def _categories(self) -> list[str]:
        return sorted({header.category for header in self._headers[0]} - {""})


def _by_name(test: Any) -> dict[str, str]:
    """Name test sets: the public ones by their names, others by the last words of their paths."""
    sets: dict[str, str] = {}
    for pattern in [test] if isinstance(test, str) else test:
        words = [word for word in re.split(r"[/\\]", str(pattern)) if word and not set("*?[{") & set(word)]
        name = pattern if pattern in SETS else re.sub(r"\W+", "_", words[-1] if words else "").strip("_")
        if not isinstance(pattern, str) or not name or name in (*sets, *_TAKEN):
            raise InputError(
                f"task.test={test} is not possible: give different sets ({', '.join(SETS)}), folders or globs, each "
                f"with a name of its own other than {', '.join(_TAKEN)}."
            )
        sets[name] = pattern
    if not sets:
        raise InputError("task.test=[] names no set: give some, such as task.test=[bsd68,set12], or null.")
    return sets


def _require_partner(degraded: Header, clean: Header, scale: int) -> None:
    """Raise InputError unless a degraded image is another file than its clean one, and `scale` times smaller."""
    if identity(degraded.path) == identity(clean.path):
        raise InputError(f"degradation: {clean.path} is both the clean and the degraded image: give another folder.")
    if (degraded.height, degraded.width) != (clean.height // scale, clean.width // scale):
        raise InputError(
            f"degradation.scale={scale} does not fit {degraded.path} of {degraded.width}x{degraded.height} pixels, as "
            f"{clean.path} has {clean.width}x{clean.height}: replace one, or set how many times smaller it is."
        )


def _paired(clean: ImageStore, degraded: ImageStore) -> ImageStore:
    """Return the clean images with the degraded ones of the same names."""
    assert clean.names is not None
    assert degraded.names is not None
    # Their suffixes may differ.
    index = {PurePosixPath(name).with_suffix(""): index for index, name in enumerate(degraded.names)}
    order = [index[PurePosixPath(name).with_suffix("")] for name in clean.names]
    return replace(clean, degraded=degraded.subset(torch.tensor(order)))
