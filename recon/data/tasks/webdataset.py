"""The task of tar shards, for sets beyond one disk: read as a stream, decoded on the way, degraded on the device.

A set is listed once, from the names in its shards. From then on each process knows which samples it reads, so that
every sample is seen once an epoch by one process, and all processes take the same number of steps.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from recon.data.images import in_threads, pixel_limit, warn_omitted
from recon.data.samples import Contents, hashed
from recon.data.shards import ShardSplit
from recon.data.tar import expand, list_samples
from recon.data.task import Splits, Task, require_disjoint, require_file_settings, require_fraction, require_positive
from recon.errors import InputError

_PARTS = ("train", "validation", "test")
_MOST_WORKERS = 256


@dataclass(kw_only=True)
class WebDataset(Task):
    """Images in tar shards, as the `webdataset` library writes and reads them (https://github.com/webdataset/webdataset).

    A sample is a run of files that share a name up to its first dot, such as `0042.jpg` and `0042.cls`. Its name must
    be unique in the whole set, as the split, the crops and the damage depend on the name alone: not on the shard, nor
    on the position in it. Shards lie on a disk or behind http(s), see `recon.data.tar`.

    A set is listed before it is used, once in each process: of a local shard only the headers are read, a remote or
    compressed one is read whole. Images are converted as those of a folder are, see `recon.data.images.read_image`.

    conf/task/webdataset.yaml explains each setting.

    Raises:
        InputError: the library is missing, a shard does not exist, or a setting is out of its range.
    """

    path: str
    test: str | None
    test_fraction: float
    image: str
    label: str | None
    num_classes: int = 0
    channels: int | None
    shuffle: int
    workers: int
    on_bad_image: Literal["raise", "skip"]
    max_pixels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stages:
            raise InputError("task.crop: shards are cut while they are read, to one side; give one number.")
        require_file_settings(self)
        require_fraction(self, "validation")
        if self.normal is not None:
            raise InputError("task.normal: shards are read as they come, with all classes; leave it out.")
        if self.balanced:
            raise InputError("task.balanced: shards are read as they come, uncounted; set model.class_weights instead.")
        require_positive(self, "shuffle", "workers", "num_classes", least=0)
        if self.workers > _MOST_WORKERS:
            raise InputError(f"task.workers={self.workers} is not possible: give at most {_MOST_WORKERS} processes.")
        if self.num_classes and not self.label:
            raise InputError(f"task.label={self.label} names no files of classes: give their ending, such as cls.")
        train, test = expand("path", self.path), {} if self.test is None else expand("test", self.test)
        require_disjoint(train, test, "shard")
        self._shards, self._test_shards = list(train.values()), list(test.values())

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for, from the first image."""
        contents = self._contents
        assert contents.channels is not None
        return contents.channels, *(contents.size or (self.side or 0,) * 2)

    def load(self, root: Path) -> Splits:
        """List the samples of all shards; `root` is not used, and no image is decoded but the first."""
        contents, shards = self._contents, [*self._shards, *self._test_shards]
        listings = in_threads(self._list, shards, "Listing the samples of the shards")
        self._require_images(listings)
        _refuse_repeats(listings[: len(self._shards)])
        _refuse_repeats(listings[len(self._shards) :])
        total, splits = sum(len(listing.index) for listing in listings), []
        for number, name in enumerate(_PARTS):
            indices = [listing.index[listing.part == number] for listing in listings]
            if not any(map(len, indices)):
                setting = self._setting_of(name)
                raise InputError(
                    f"task.{setting}={getattr(self, setting)} leaves no sample for {name} of the {total} in all: "
                    "add samples or change the fractions."
                )
            splits.append(ShardSplit(shards, indices, contents, self.shape, self.shuffle, self.workers))
        return Splits(*splits)

    def _setting_of(self, part: str) -> str:
        """Return the setting that leaves a part without samples."""
        if part == "test":
            return "test_fraction" if self.test is None else "test"
        if part == "train" and self.test is None and self.test_fraction > self.validation:
            return "test_fraction"
        return "validation"

    @cached_property
    def _contents(self) -> Contents:
        """How samples are read, by the settings and the first image that can be used."""
        contents = Contents(
            images=self.image.lower().split(";"),
            label=self.label.lower() if self.label and self.num_classes else None,
            num_classes=self.num_classes,
            channels=self.channels,
            max_pixels=self.max_pixels,
            skip=self.on_bad_image == "skip",
        )
        for shard in self._shards:
            with closing(contents.read(shard)) as samples, pixel_limit(self.max_pixels):
                for sample in samples:
                    if (image := contents.decode(sample, self.side)) is not None:
                        channels, height, width = image.shape
                        all_grey = self.channels is None and channels == 1
                        size = None if self.side else (height, width)
                        return replace(contents, channels=channels, all_grey=all_grey, size=size)
        raise InputError(f"task.path={self.path} has no usable image that ends in {self.image}: set task.image.")

    def _list(self, shard: str) -> "_Listing":
        """List the samples of a shard by their names."""
        names: list[str] = []
        without: list[str] = []
        for sample in list_samples(shard):
            has_image = any(ending in sample for ending in self._contents.images)
            (names if has_image else without).append(sample["__key__"])
        part = (lambda _: 2) if shard in self._test_shards else self._part
        return _Listing(
            shard,
            np.array([hashed(name, "index") for name in names], np.int64),
            np.array([part(name) for name in names], np.uint8),
            without,
        )

    def _part(self, name: str) -> int:
        """Return the index in `_PARTS` of the part that a sample of `path` belongs to."""
        if self.test is None and hashed(name, "test") < self.test_fraction * 2**63:
            return 2
        return int(hashed(name, "validation") < self.validation * 2**63)

    def _require_images(self, listings: "Sequence[_Listing]") -> None:
        """Refuse samples without an image, or warn of them where `on_bad_image` is "skip"."""
        without = [f"{listing.shard}/{name}" for listing in listings for name in listing.without]
        if without and self.on_bad_image == "raise":
            raise InputError(
                f"{without[0]} has no file that ends in {self.image}: set task.image to the ending of the images, "
                "or task.on_bad_image=skip."
            )
        warn_omitted(sorted(without), len(without) + sum(len(listing.index) for listing in listings))


class _Listing(NamedTuple):
    """The samples of one shard in order: hashed names (n,) int64, indices in `_PARTS` (n,), and names without image."""

    shard: str
    index: np.ndarray  # type: ignore[assignment]  # as in `Pair`
    part: np.ndarray
    without: list[str]


def _refuse_repeats(listings: Sequence[_Listing]) -> None:
    """Raise InputError if two samples have one name."""
    if not listings:
        return
    shard = np.repeat(np.arange(len(listings)), [len(listing.index) for listing in listings])
    index = np.concatenate([listing.index for listing in listings])
    order = index.argsort(kind="stable")
    repeats = np.flatnonzero(index[order][1:] == index[order][:-1])
    if len(repeats):
        one, other = (listings[shard[order[repeats[0] + step]]].shard for step in (0, 1))
        raise InputError(
            f"{one} and {other} hold samples of one name, {len(repeats)} in the whole set: write the shards with names "
            "that are unique, as the damage depends on them."
            if one != other
            else f"{one} holds several samples of one name: write it again with names that are unique."
        )
