"""The task of tar shards, for sets beyond one disk: read as a stream, decoded on the way, degraded on the device.

A set is listed once, from the names in its shards. From then on each process knows which samples are whose, so that
every sample is seen once an epoch by one process, and all processes take the same number of steps.
"""

import glob
import hashlib
import random
import re
import tarfile
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import count as counted
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Literal, NamedTuple
from urllib.parse import urlparse

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from recon import keyed
from recon.data.find import Identity, expanded, identity
from recon.data.images import in_threads, pixel_limit
from recon.data.loader import EVALUATION_ELEMENTS, make_pair, windows
from recon.data.pixels import Unusable, channels_of, opened, to_array
from recon.data.task import Splits, Task, require_fraction, require_positive
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.pair import Pair

_PARTS = ("train", "validation", "test")
_MOST_WORKERS = 256
_WHOLE = 8  # large images that are in memory before they are cropped


@dataclass(kw_only=True)
class WebDataset(Task):
    """Images in tar shards, as the `webdataset` library writes and reads them (https://github.com/webdataset/webdataset).

    A sample is a run of files that share a name up to its first dot, such as `0042.jpg` and `0042.cls`. Its name must
    be its own in the whole set, as the split, the crops and the damage depend on the name alone: not on the shard, nor
    on the place in it. Shards lie on a disk or behind http(s); what else the library opens is refused, above all its
    `pipe:`, which would run a stranger's shell commands.

    A set is listed before it is used, once in each process: of a local shard only the headers are read, a remote or
    compressed one is read whole. Images are converted as those of a folder are, see `recon.data.images.read_image`.

    Attributes:
        path: local shards or http(s) URLs to train on, with braces or a glob (local only), several joined by `::`.
        test: the same for the shards to test on; `None` keeps samples of `path` by their names.
        test_fraction: the fraction in (0,1) that is kept from `path` where `test` is `None`.
        image: the endings of a sample's image, joined by `;`; the first that is there is taken.
        label: the ending of the file that holds the sample's class as a whole number from 0.
        num_classes: how many classes there are, 0 for no labels.
        channels: 1 to read all images as grey, 3 as colour; `None` to do as the first image is.
        shuffle: how many training samples wait, encoded, in each process to be drawn in random order; 0 for none.
        workers: how many processes read and decode for each device; 0 for none but its own.
        on_bad_image: "raise" for an unreadable image, or "skip" to leave it out and say so.
        max_pixels: larger images are bad ones, as a small file may unpack to fill the memory.

    Raises:
        InputError: the library is missing, a shard is not there, or a setting is out of its range.
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
        require_positive(self, "max_pixels")
        require_fraction(self, "validation")
        require_fraction(self, "test_fraction")
        for name in ("shuffle", "workers", "num_classes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InputError(f"task.{name}={value} is not possible: give a whole number of at least 0.")
        if self.workers > _MOST_WORKERS:
            raise InputError(f"task.workers={self.workers} is not possible: give at most {_MOST_WORKERS} processes.")
        if self.channels not in (None, 1, 3):
            raise InputError(f"task.channels={self.channels} is not possible: give 1, 3 or null.")
        if self.on_bad_image not in ("raise", "skip"):
            raise InputError(f"task.on_bad_image={self.on_bad_image} is unknown: choose raise or skip.")
        if self.num_classes and not self.label:
            raise InputError(f"task.label={self.label} tells no class: give the ending of the files that do, as cls.")
        files = {_identity(shard) for shard in self._test_shards}
        shared = [shard for shard in self._shards if _identity(shard) in files]
        if shared:
            raise InputError(
                f"{min(shared)} is in both task.path and task.test: test images must not be trained on, "
                "so give two places without a common shard."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C,H,W) that nets are built for, from the first image."""
        channels, height, width = self._first
        return (channels, height, width) if self.crop is None else (channels, self.crop, self.crop)

    def load(self, root: Path) -> Splits:
        """List the samples of all shards; `root` is not used, and no image is decoded but the first."""
        contents, shards = self._contents, [*self._shards, *self._test_shards]
        listed = in_threads(self._list, shards, "Listing the samples of the shards")
        self._require_images(listed)
        _refuse_repeats(listed[: len(self._shards)])
        _refuse_repeats(listed[len(self._shards) :])
        parts = [
            ShardSplit(
                shards=[one.shard for one in listed],
                indices=[one.index[one.part == number] for one in listed],
                contents=contents,
                shuffle=self.shuffle,
                workers=self.workers,
            )
            for number in range(len(_PARTS))
        ]
        for name, part in zip(_PARTS, parts, strict=True):
            if not len(part):
                setting = self._blamed(name)
                raise InputError(
                    f"task.{setting}={getattr(self, setting)} leaves no sample for {name} of the "
                    f"{sum(len(one.index) for one in listed)} that there are: add samples or change the fractions."
                )
        return Splits(*parts)  # type: ignore[arg-type]  # streams in the place of stores: `DataModule` knows both

    def _blamed(self, part: str) -> str:
        """Name the setting by which a part has no sample."""
        if part == "test":
            return "test_fraction" if self.test is None else "test"
        if part == "validation":
            return "validation"
        return "test_fraction" if self.test is None and self.test_fraction > self.validation else "validation"

    @cached_property
    def _shards(self) -> list[str]:
        return _expand("path", self.path)

    @cached_property
    def _test_shards(self) -> list[str]:
        return [] if self.test is None else _expand("test", self.test)

    @cached_property
    def _first(self) -> tuple[int, int, int]:
        """The shape of the first image that can be used."""
        contents = self._settings(self.channels, None)
        for shard in self._shards:
            with closing(contents.read(shard)) as samples, pixel_limit(self.max_pixels):
                for sample in samples:
                    if (image := contents.decode(sample, self.crop)) is not None:
                        return image.shape
        raise InputError(f"task.path={self.path} has no usable image that ends in {self.image}: set task.image.")

    @cached_property
    def _contents(self) -> "_Contents":
        channels, *size = self._first
        return self._settings(channels, None if self.crop else size)

    def _settings(self, channels: int | None, size: Sequence[int] | None) -> "_Contents":
        return _Contents(
            images=self.image.lower().split(";"),
            label=self.label.lower() if self.label and self.num_classes else None,
            num_classes=self.num_classes,
            channels=channels,
            all_grey=self.channels is None and channels == 1,
            size=None if size is None else tuple(size),
            max_pixels=self.max_pixels,
            skip=self.on_bad_image == "skip",
        )

    def _list(self, shard: str) -> "_Listing":
        """List the samples of a shard by their names, reading only headers where the shard is local."""
        from webdataset.tariterators import group_by_keys

        names: list[str] = []
        without: list[str] = []
        with _reading(shard), _headers(shard) as headers:
            files = ({"fname": name, "data": b"", "__url__": shard} for name in headers)
            for sample in group_by_keys(files):
                (names if any(ending in sample for ending in self._contents.images) else without).append(
                    sample["__key__"]
                )
        test = shard in self._test_shards
        return _Listing(
            shard,
            np.array([_hash(name, "index") for name in names], np.int64),
            np.array([2 if test else self._part(name) for name in names], np.uint8),
            without,
        )

    def _part(self, name: str) -> int:
        """Say to which of `_PARTS` a sample of `path` belongs."""
        if self.test is None and _hash(name, "test") < self.test_fraction * 2**63:
            return 2
        return int(_hash(name, "validation") < self.validation * 2**63)

    def _require_images(self, listed: "Sequence[_Listing]") -> None:
        """Treat samples without an image as `on_bad_image` says."""
        without = [f"{one.shard}/{name}" for one in listed for name in one.without]
        if not without:
            return
        if self.on_bad_image == "raise":
            raise InputError(
                f"{without[0]} has no file that ends in {self.image}: set task.image to the ending of the images, "
                "or task.on_bad_image=skip."
            )
        _warn_left_out(without, len(without) + sum(len(one.index) for one in listed))


class _Listing(NamedTuple):
    """The samples of one shard in their order: `index` (n,) int64, `part` (n,) places in `_PARTS`, and odd ones."""

    shard: str
    index: np.ndarray  # type: ignore[assignment]  # as in `Pair`
    part: np.ndarray
    without: list[str]


def _hash(name: str, purpose: str) -> int:
    """Hash a sample's name to 63 bits; a name in a tar file may hold bytes that are no text."""
    data = name.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose.encode()).digest(), "little") >> 1


def _refuse_repeats(listed: Sequence[_Listing]) -> None:
    """Raise InputError if two samples have one name."""
    if not listed:
        return
    shard = np.repeat(np.arange(len(listed)), [len(one.index) for one in listed])
    index = np.concatenate([one.index for one in listed])
    order = index.argsort(kind="stable")
    again = np.flatnonzero(index[order][1:] == index[order][:-1])
    if len(again):
        one, other = (listed[shard[order[again[0] + step]]].shard for step in (0, 1))
        raise InputError(
            f"{one} and {other} hold samples of one name, {len(again)} in the whole set: write the shards with names "
            "that are unique, as the damage depends on them."
            if one != other
            else f"{one} holds several samples of one name: write it again with names that are unique."
        )


def _expand(key: str, pattern: str) -> list[str]:
    """List the shards that `task.<key>` names, without repeats: absolute paths and http(s) URLs.

    An absolute path has no scheme, so that not even a file whose name is `pipe:…` makes the library run a command.
    """
    try:
        from webdataset import SimpleShardList
    except ImportError as error:
        raise InputError("task=webdataset needs the webdataset package: pip install 'recon[webdataset]'.") from error
    try:
        found = SimpleShardList(pattern).urls
    except Exception as error:  # of unbalanced braces, of ${NAME} without an environment variable WDS_NAME
        raise InputError(f"task.{key}={pattern} cannot be expanded ({error}): correct it.") from error
    shards: list[str] = []
    for one in found:
        scheme = urlparse(one).scheme
        if scheme not in ("", "http", "https"):
            raise InputError(
                f"task.{key}={pattern} asks for {scheme}:, which is not read, as it may run commands: "
                "give local paths or http(s) URLs."
            )
        shards += [one] if scheme else _local(key, one)
    return list({_identity(shard): shard for shard in reversed(shards)}.values())[::-1]


def _identity(shard: str) -> Identity:
    """Tell a shard from all others, whatever links lead to it."""
    return (shard,) if urlparse(shard).scheme else identity(Path(shard))


def _local(key: str, pattern: str) -> list[str]:
    """List the files that a path or glob names, as absolute paths."""
    path = expanded(pattern)
    paths = [path] if path.is_file() else sorted(map(Path, glob.iglob(str(path), recursive=True)))
    files = [str(path.absolute()) for path in paths if path.is_file()]
    if not files:
        raise InputError(f"task.{key}: {pattern} matches no file: give tar shards, such as shards/train-*.tar.")
    return files


class _Strict(tarfile.TarInfo):
    """Headers of an archive that must end as it should; `tarfile` takes a cut or garbled one for its end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Strict":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # two blocks of zeros: the end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} after {tarfile_.offset} bytes") from error


@contextmanager
def _headers(shard: str) -> Iterator[Iterator[str]]:
    """Give the names of the files in a shard that the library reads, without their contents where it is local."""
    with _stream(shard) as stream:
        mode: Any = "r|*" if urlparse(shard).scheme else "r:*"
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=_Strict) as tar:
            yield _names(tar)
        while stream.read(1 << 20):  # to the end, where a broken transfer is told
            pass


def _names(tar: tarfile.TarFile) -> Iterator[str]:
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # which would hold every header of the shard
        if member.isreg() and not re.match(r"__[^/]*__($|/)", member.name):
            yield member.name


@contextmanager
def _stream(shard: str) -> Iterator[IO[bytes]]:
    from webdataset.gopen import gopen

    with gopen(shard) as stream:
        yield stream


@contextmanager
def _reading(shard: str) -> Iterator[None]:
    """Whatever goes wrong with a shard becomes one sentence that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # OSError, tarfile's, zlib's, EOFError, ValueError of the library
        curl = re.search(r"curl.*(exit \d+)", str(error))
        reason = f"curl: {curl[1]}" if curl else str(error).split("\n")[0].rstrip(":")
        raise InputError(
            f"{shard} cannot be read to its end as a tar archive ({reason or type(error).__name__}): "
            "fetch or write it again."
        ) from error


class _Sample(NamedTuple):
    """A sample of a shard before it is decoded; `place` is its image's name, for messages."""

    place: str
    index: int  # type: ignore[assignment]  # as in `Pair`
    data: bytes
    label: bytes | None


@dataclass(frozen=True)
class _Contents:
    """What the files of a sample hold, and which images are good.

    Attributes:
        images: the endings of images.
        label: the ending of labels, or `None`.
        num_classes: labels are below it.
        channels: of every image; `None` for as many as it has.
        all_grey: whether an image in colour is a bad one.
        size: (H,W) that every image has, or `None` for any.
        max_pixels: the largest height·width of good images.
        skip: whether bad images are left out.
    """

    images: Sequence[str]
    label: str | None
    num_classes: int
    channels: int | None
    all_grey: bool
    size: tuple[int, ...] | None
    max_pixels: int
    skip: bool

    def read(self, shard: str) -> Generator[_Sample, None, None]:
        """Read the samples of a shard that have an image, in order."""
        from webdataset.tariterators import group_by_keys, tar_file_expander

        with _reading(shard), _stream(shard) as stream:
            for sample in group_by_keys(tar_file_expander([{"url": shard, "stream": stream}])):
                name = sample["__key__"]
                ending = next((ending for ending in self.images if ending in sample), None)
                if ending is not None:
                    label = None if self.label is None else sample.get(self.label, b"")
                    yield _Sample(f"{shard}/{name}.{ending}", _hash(name, "index"), sample[ending], label)

    def number(self, sample: _Sample) -> int:
        """Return the class of a sample, -1 where labels are not read."""
        if sample.label is None:
            return -1
        text = sample.label.decode(errors="replace").strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < self.num_classes):
            raise InputError(
                f"{sample.place} has the class {text[:20]!r} in its {self.label} file, no whole number below "
                f"task.num_classes={self.num_classes}: correct task.label, task.num_classes or the shard."
            )
        return int(text)

    def decode(self, sample: _Sample, crop: int | None = None) -> np.ndarray | None:
        """Decode a sample's image to (C,H,W) uint8, `None` for one that is left out; `crop` is cut from it, if any.

        Raises:
            InputError: the image cannot be used, and is not to be left out.
        """
        try:
            with opened(BytesIO(sample.data)) as image:
                channels = channels_of(image)
                if self.all_grey and channels == 3:
                    raise Unusable("in colour, unlike the first image; task.channels=3 or 1 allows both")
                return self._good(to_array(image, self.channels or channels), crop)
        except Unusable as error:
            reason = str(error)
        if self.skip:
            return None
        raise InputError(
            f"{sample.place} cannot be used as an image ({reason}): replace or remove it, "
            "or set task.on_bad_image=skip."
        )

    def _good(self, image: np.ndarray, crop: int | None) -> np.ndarray:
        """Refuse sizes that do not fit."""
        _, height, width = image.shape
        if crop is not None and min(height, width) < crop:
            raise Unusable(f"{width}x{height} pixels, fewer than task.crop={crop}")
        if self.size is not None and (height, width) != self.size:
            raise Unusable(f"{width}x{height} pixels, unlike the first image; task.crop allows any size")
        return image


@dataclass(frozen=True, eq=False)
class ShardSplit:
    """The samples of one split as they lie in the shards.

    Attributes:
        shards: paths and URLs.
        indices: for each shard, the hashed names (n,) int64 of the split's samples, in their order there.
        contents: how a sample is read.
        shuffle: how many training samples wait in a process to be drawn in random order.
        workers: how many processes decode for each rank.
    """

    shards: Sequence[str]
    indices: Sequence[np.ndarray]
    contents: _Contents
    shuffle: int
    workers: int

    def __len__(self) -> int:
        return sum(map(len, self.indices))

    def read(self, order: Sequence[int], start: int, stop: int) -> Generator[_Sample, None, None]:
        """Read samples `start` to `stop`-1 of the split, counted through the shards in `order`, round and round."""
        end = 0
        for shard in [*order, *order]:
            begin, end = end, end + len(self.indices[shard])
            first, last = max(start, begin), min(stop, end)
            if first < last:
                yield from self._read_shard(shard, first - begin, last - begin)

    def _read_shard(self, shard: int, first: int, last: int) -> Iterator[_Sample]:
        """Read samples `first` to `last`-1 of the split in one shard."""
        wanted, place = self.indices[shard], 0
        with closing(self.contents.read(self.shards[shard])) as samples:
            for sample in samples:
                if sample.index == wanted[place]:
                    place += 1
                    if place > first:
                        yield sample
                    if place == last:
                        return
        raise InputError(
            f"{self.shards[shard]} does not hold the samples any more that were listed at the start: start again."
        )


class _Batch(NamedTuple):
    """Decoded samples: (B,C,H,W) uint8, labels (B,) and indices (B,) int64, and the places of those left out."""

    pixels: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # as in `Pair`
    left_out: list[str]


@dataclass(frozen=True)
class _Draws:
    """The keys of one pass over a split: the run's seed, the split and the epoch, and the side of crops or `None`."""

    seed: int
    split: str
    epoch: int
    crop: int | None

    def keys(self, index: Tensor) -> Tensor:
        """Make the keys (B,) of samples by their indices (B,)."""
        return keyed.keys(self.seed, self.split, self.epoch, index)

    def cut(self, images: Sequence[np.ndarray], index: Sequence[int]) -> list[np.ndarray]:
        """Cut the keyed crops out of images (C,H,W); copies, so that the images' memory is free again."""
        if self.crop is None:
            return list(images)
        keys = self.keys(torch.tensor(index, dtype=torch.int64))
        room = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).view(-1, 2) - self.crop + 1
        top = keyed.integers(keyed.fold(keys, "top"), room[:, 0]).tolist()
        left = keyed.integers(keyed.fold(keys, "left"), room[:, 1]).tolist()
        return [
            image[:, row : row + self.crop, column : column + self.crop].copy()
            for image, row, column in zip(images, top, left, strict=True)
        ]


def _decode(contents: _Contents, draws: _Draws, samples: Sequence[_Sample]) -> _Batch:
    """Decode a batch, without its bad images."""
    good: list[_Sample] = []
    images: list[np.ndarray] = []
    with pixel_limit(contents.max_pixels):
        for start in range(0, len(samples), _WHOLE):
            decoded = [(sample, contents.decode(sample, draws.crop)) for sample in samples[start : start + _WHOLE]]
            some = [(sample, image) for sample, image in decoded if image is not None]
            good += [sample for sample, _ in some]
            images += draws.cut([image for _, image in some], [sample.index for sample, _ in some])
    kept = {sample.place for sample in good}
    return _Batch(
        torch.from_numpy(np.stack(images)) if images else torch.empty(0, dtype=torch.uint8),
        torch.tensor([contents.number(sample) for sample in good], dtype=torch.int64),
        torch.tensor([sample.index for sample in good], dtype=torch.int64),
        [sample.place for sample in samples if sample.place not in kept],
    )


@dataclass(eq=False)
class _Share(IterableDataset[_Batch | InputError | None]):
    """What one rank reads in one pass, cut into batches; each worker takes a run of whole batches.

    Attributes:
        split: the samples.
        draws: the keys.
        order: the order of the shards.
        start: the rank's first sample, counted in that order.
        stop: the end of its samples; may lie beyond the last one, where the count goes on with the first.
        batch_size: of this rank.
        shuffle: a name for the order in which samples leave the shuffle buffer, or `None` to keep them in order.
        skip: how many batches of the pass were taken before; they are not decoded, and None comes in their place.
    """

    split: ShardSplit
    draws: _Draws
    order: Sequence[int]
    start: int
    stop: int
    batch_size: int
    shuffle: str | None
    skip: int = 0

    def __iter__(self) -> Iterator[_Batch | InputError | None]:
        """Give the batches of this worker; an InputError is given, as the way out of a worker adds to its sentence."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = -(-(self.stop - self.start) // self.batch_size)
        first, last = (self.start + batches * edge // workers * self.batch_size for edge in (number, number + 1))
        samples = self._shuffled(self.split.read(self.order, first, min(last, self.stop)), number)
        try:
            # The workers give their batches in turn.
            for place in counted(number, workers):
                if not (batch := list(islice(samples, self.batch_size))):
                    break
                yield None if place < self.skip else _decode(self.split.contents, self.draws, batch)
        except InputError as error:
            yield error

    def _shuffled(self, samples: Iterator[_Sample], worker: int) -> Iterator[_Sample]:
        if self.shuffle is None or not self.split.shuffle:
            return samples
        from webdataset import shuffle

        waiting, chance = self.split.shuffle, random.Random(f"{self.shuffle} {worker}")
        return iter(shuffle(waiting, initial=waiting, rng=chance)(samples))


class ShardLoader:
    """Iterate over the batches of one split of a sharded set, as pairs on a device.

    In training, an epoch is the shards in a keyed order, gone round from a keyed place; of it each rank, and each of
    its workers, reads a run of equal length. The last, incomplete batch is left out, so that ranks take the same
    number of steps. Each process shuffles what it reads in a buffer: the same settings give the same order, another
    number of ranks or workers another one. In an evaluation the ranks share every sample once. The pair of a sample
    is the same for any number of ranks and workers and any batch size, as it depends on the sample's name.

    A batch from which bad images are left out is smaller. A shard that holds the end of one run and the start of the
    next is read by both; so give more shards than there are ranks times workers.

    Args:
        source: the samples.
        split: "train", "validation" or "test"; names the stream of the draws.
        batch_size: the global batch size, over all ranks. Whole images of a set that is trained on crops may differ
            in size, and are evaluated one by one.
        degradation: makes the degraded images.
        augment: changes the clean images first (training only), or None.
        crop: the side of keyed random crops, or None for whole images.
        seed: the run's seed (training only).
        rank: this process.
        world_size: how many processes share each batch.
        device: where the pairs are made; each batch travels there as bytes. None for the CPU.
        repeat: give the batches of epoch 0 in every epoch, for overfitting on a few.

    Attributes:
        start: the batch that the next iteration begins with, in training; the one after it begins with the first again.

    Raises:
        InputError: there are fewer training samples than ranks.
    """

    def __init__(
        self,
        source: ShardSplit,
        split: str,
        batch_size: int,
        degradation: Degradation,
        augment: Callable[[Tensor, Tensor], Tensor] | None = None,
        crop: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        repeat: bool = False,
    ) -> None:
        self.source = source
        self.split = split
        self.degradation = degradation
        self.augment = augment
        self.crop = crop
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = torch.device("cpu") if device is None else device
        self.repeat = repeat
        self.start = 0
        self.training = split == "train"
        # A set smaller than one batch still trains, on what it has.
        enough = min(batch_size, len(source)) // world_size * world_size
        self.batch_size = enough if self.training else batch_size
        if not self.batch_size:
            raise InputError(f"task.path has {len(source)} training samples for {world_size} devices: add samples.")
        self.epoch = 0
        self.batch_sampler = SimpleNamespace(sampler=self)  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next iteration of a training split gives."""
        self.epoch = 0 if self.repeat else epoch

    def __len__(self) -> int:
        """The number of batches that this rank gives; of an evaluation 1 where it has none, see `PairLoader`."""
        share = self._share()
        return max(1, -(-(share.stop - share.start) // share.batch_size))

    def __iter__(self) -> Iterator[Pair]:
        """Give the batches of this rank."""
        share, left_out, seen = self._share(), [], 0
        share.skip, self.start = self.start, 0
        batches: Any = share
        if self.source.workers:
            # With a generator of its own it leaves the run's global one as it was.
            own = torch.Generator()
            batches = DataLoader(share, batch_size=None, num_workers=self.source.workers, generator=own)
        try:
            for batch in islice(batches, share.skip, None):
                if isinstance(batch, InputError):
                    raise batch
                left_out += batch.left_out
                seen += len(batch.index) + len(batch.left_out)
                if len(batch.index):
                    yield self._pair(batch, share.draws)
                elif self.training:  # the other ranks have a step to take with this one
                    raise InputError(f"{batch.left_out[0]} and all others of a batch cannot be used: replace them.")
        finally:  # as Lightning leaves the iteration after the last batch, without asking for another
            if left_out:
                _warn_left_out(left_out, seen)

    def preview(self, count: int, largest: int = 128) -> Pair:
        """Make the pair of the split's first `count` images, always the same; cut to one size where they differ."""
        contents, draws = self.source.contents, self._share().draws
        chosen: list[_Sample] = []
        sizes: set[tuple[int, ...]] = set()
        with closing(self.source.read(range(len(self.source.shards)), 0, len(self.source))) as samples:
            for sample in samples:
                with pixel_limit(contents.max_pixels):
                    image = contents.decode(sample, self.crop)
                if image is not None:
                    chosen.append(sample)
                    sizes.add(image.shape[1:])
                if len(chosen) == count:
                    break
        if not chosen:
            raise InputError(f"{self.source.shards[0]} and all others have no usable image for {self.split}: add some.")
        if self.crop is not None or (len(sizes) == 1 and max(map(max, sizes)) <= largest):
            return self._pair(_decode(contents, draws, chosen), draws)
        whole = [self._pair(_decode(contents, draws, [sample]), draws) for sample in chosen]
        keys = draws.keys(torch.tensor([sample.index for sample in chosen]))
        return windows(whole, keys, largest, self.degradation.scale)

    def _pair(self, batch: _Batch, draws: _Draws) -> Pair:
        """Make the pair of a decoded batch, on the device."""
        pixels, label, index = (part.to(self.device) for part in batch[:3])
        augment = self.augment if self.training else None
        return make_pair(pixels, label, index, draws.keys(index), augment, self.degradation)

    def _share(self) -> _Share:
        """Say what this rank reads in the pass that comes next."""
        count, per_rank = len(self.source), -(-self.batch_size // self.world_size)
        if not self.training:
            # Of fewer samples than ranks, the first ranks have one.
            start, stop = (-(-count * edge // self.world_size) for edge in (self.rank, self.rank + 1))
            draws = _Draws(keyed.EVALUATION_SEED, self.split, 0, self.crop)
            order: Sequence[int] = range(len(self.source.shards))
            return _Share(self.source, draws, order, start, stop, self._affordable(per_rank), None)
        length = count // self.batch_size * (self.batch_size // self.world_size)
        order = keyed.permutation(self.seed, "shards", self.epoch, len(self.source.shards)).tolist()
        # From another place in each epoch, or with few shards the last batch would leave out the same ones always.
        start = int(keyed.integers(keyed.keys(self.seed, "start", self.epoch, torch.tensor([0])), count))
        start += self.rank * length
        draws = _Draws(self.seed, self.split, self.epoch, self.crop)
        shuffle = f"{self.seed} {self.epoch} {self.rank}"
        return _Share(self.source, draws, order, start, start + length, per_rank, shuffle)

    def _affordable(self, per_rank: int) -> int:
        """Say how many images are evaluated together."""
        contents = self.source.contents
        size = contents.size if self.crop is None else (self.crop, self.crop)
        if size is None:
            return 1
        return max(1, min(per_rank, EVALUATION_ELEMENTS // ((contents.channels or 3) * size[0] * size[1])))


def _warn_left_out(places: Sequence[str], count: int) -> None:
    names = ", ".join(sorted(places)[:5]) + (", ..." if len(places) > 5 else "")
    warnings.warn(f"left out {len(places)} of {count} images that cannot be used: {names}", stacklevel=3)
