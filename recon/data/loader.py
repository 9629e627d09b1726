"""The base of all loaders, the protocol of a split, and the step from a batch of images to pairs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, all_known
from recon.degradations.batch import as_float, degrade_bytes
from recon.errors import InputError
from recon.pair import Pair
from recon.runs.tiles import whole_size

# Whole images of one size are evaluated together up to this many values: 16 MiB in float32.
_EVALUATION_VALUES = 1 << 22


def make_pair(
    pixels: Tensor,
    label: Tensor,
    index: Tensor,
    keys: Tensor,
    augment: Callable[[Tensor, Tensor], Tensor] | None,
    degradation: Degradation,
    degraded: Tensor | None = None,
) -> Pair:
    """Make a batch of pairs.

    Args:
        pixels: (B,C,H,W) uint8, the clean images.
        label: (B,) int64.
        index: (B,) int64.
        keys: (B,) int64.
        augment: changes images (B,C,H,W) uint8 by keys (B,), or None.
        degradation: makes the degraded images.
        degraded: (B,C,h,w) uint8, the degraded images where they are read from files; the same keys change them as the
            clean ones, so `augment` must only rearrange pixels.

    Raises:
        InputError: the images are smaller than `degradation.scale`.
    """
    # Training on smaller images needs clean ones that are whole multiples of them, in the literature too ("modcrop").
    height, width = (side - side % degradation.scale for side in pixels.shape[2:])
    if not height or not width:
        raise InputError(
            f"degradation.scale={degradation.scale} leaves nothing of an image of {pixels.shape[3]}x{pixels.shape[2]} "
            "pixels: take such small images away, or choose a smaller scale."
        )

    def augmented(images: Tensor) -> Tensor:
        return images if augment is None else augment(images, keyed.fold(keys, "augment"))

    pixels = augmented(pixels[..., :height, :width])
    if degraded is not None:
        clean, severity = as_float(pixels), torch.zeros(len(keys), device=keys.device)
        return Pair(as_float(augmented(degraded)), clean, all_known(clean), label, index, severity)
    clean, (image, mask, severity) = degrade_bytes(degradation, pixels, keyed.fold(keys, "degrade"))
    return Pair(image, clean, mask, label, index, severity)


def corners(keys: Tensor, sizes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Draw the top rows (B,) and left columns (B,) of square windows in images of sizes (B,2), by keys (B,)."""
    room = sizes - side + 1
    return keyed.integers(keyed.fold(keys, "top"), room[:, 0]), keyed.integers(keyed.fold(keys, "left"), room[:, 1])


class View(NamedTuple):
    """Some samples to look at.

    Attributes:
        pair: (B,…) their pair, or that of windows of one size.
        names: of their files, B; or None where they are no files.
        whole: where these are windows, the whole degraded images made small, filled up with zeros to (B,C,h,w).
        known: (B,1,h,w) in [0,1], what share of the small images' pixels is known.
        window: (B,6) int64: top, left, height, width, and height and width of the whole, in pixels of the clean image.
    """

    pair: Pair
    names: list[str] | None = None
    whole: Tensor | None = None
    known: Tensor | None = None
    window: Tensor | None = None


def windows(whole: Iterable[Pair], sizes: Tensor, keys: Tensor, largest: int, scale: int) -> View:
    """Cut the pairs of single images to windows of one size, each image in turn: only one is in memory.

    They are degraded before they are cut, as in the evaluation: a mask for whole images would not fit a window.

    Args:
        whole: B pairs of one image each.
        sizes: (B,2) int64, height and width of their degraded images.
        keys: (B,) int64 of these images, which draw the corners of the windows.
        largest: upper bound of the windows' side in pixels; the smallest image is another.
        scale: how many times smaller the degraded images are.
    """
    side = max(1, min(largest // scale, int(sizes.min())))
    parts = []
    for pair, size, key in zip(whole, sizes.to(keys.device), keys.split(1), strict=True):
        row, column = (scale * start for start in _corner(pair.mask, key, size, side, scale))
        degraded = pair.degraded[:, :, row // scale :, column // scale :][:, :, :side, :side]
        clean, mask = (i[:, :, row:, column:][:, :, : side * scale, : side * scale] for i in (pair.clean, pair.mask))
        # Copies, so that the memory of the whole image is freed.
        part = pair._replace(degraded=degraded.clone(), clean=clean.clone(), mask=mask.clone())
        window = torch.tensor([[row, column, side * scale, side * scale, *pair.clean.shape[2:]]])
        parts.append((part, *small(pair), window))
    pairs, wholes, known, place = zip(*parts, strict=True)
    joined = Pair(*map(torch.cat, zip(*pairs, strict=True)))
    return View(joined, None, filled(wholes), filled(known, 1.0), torch.cat(place))


def _corner(mask: Tensor, key: Tensor, size: Tensor, side: int, scale: int) -> tuple[int, int]:
    """Draw a window's corner in a degraded image: of eight draws the first of those with the most of a hole."""
    draws = [key, *(keyed.fold(key, f"window {number}") for number in range(1, 8 if float(mask.min()) == 0 else 1))]
    places = [(int(top), int(left)) for top, left in (corners(draw, size[None], side) for draw in draws)]
    holes = [mask[..., t * scale : (t + side) * scale, x * scale : (x + side) * scale].mean() for t, x in places]
    return places[min(range(len(places)), key=lambda place: float(holes[place]))]


def small(pair: Pair) -> tuple[Tensor, Tensor]:
    """Make the degraded image of a pair of one image small, (1,C,h,w), and its mask, (1,1,h,w) in [0,1]."""
    size = whole_size(*pair.clean.shape[2:])
    known = F.adaptive_avg_pool2d(pair.mask, size)
    if pair.degraded.shape[2:] != pair.mask.shape[2:] or bool((known == 1).all()):
        return F.adaptive_avg_pool2d(pair.degraded, size), known
    # Holes, whatever they are filled with, do not darken what is known beside them.
    return F.adaptive_avg_pool2d(pair.degraded * pair.mask, size) / known.clamp(min=1e-6), known


def filled(images: Sequence[Tensor], value: float = 0.0) -> Tensor:
    """Join images (1,C,h,w) of several sizes, filled up with a value at the right and below."""
    height, width = (max(image.shape[side] for image in images) for side in (2, 3))
    missing = [(0, width - image.shape[3], 0, height - image.shape[2]) for image in images]
    return torch.cat([F.pad(image, pad, value=value) for image, pad in zip(images, missing, strict=True)])


@dataclass(frozen=True)
class Stages:
    """Crops that grow over a training, in smaller batches, so that each step has as many pixels.

    After Zamir et al., "Restormer: efficient transformer for high-resolution image restoration", CVPR 2022.

    Attributes:
        sides: of the crops, rising.
        ends: the share of the training that is over when each stage ends; the last is 1.
        total: batches of the whole training, once it is known.
        per_epoch: batches of an epoch.
    """

    sides: tuple[int, ...]
    ends: tuple[float, ...]
    total: int = 1
    per_epoch: int = 1

    @classmethod
    def of(cls, sides: Sequence[int], shares: Sequence[float] | None) -> "Stages":
        """Check sides and shares of a configuration; raises InputError for those that make no stages."""
        if not sides or any(not isinstance(side, int) or side < 1 for side in sides) or list(sides) != sorted(sides):
            raise InputError(f"task.crop={list(sides)} is not possible: give rising sides in pixels, as [48,64,96].")
        shares = [1 / len(sides)] * len(sides) if shares is None else shares
        if len(shares) != len(sides) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise InputError(
                f"task.crop_share={list(shares)} is not possible: give {len(sides)} positive shares, one for each side "
                f"of task.crop, of the sum 1 (theirs is {sum(shares):g})."
            )
        return cls(tuple(sides), tuple(sum(shares[: number + 1]) for number in range(len(shares))))

    def side(self, epoch: int, batch: int) -> int:
        """Return the side of the crops of a batch, by its number in its epoch."""
        done = (epoch * self.per_epoch + batch) / self.total
        return next((side for side, end in zip(self.sides, self.ends, strict=True) if done < end), self.sides[-1])


@dataclass(frozen=True)
class Curriculum:
    """Damage that grows over a training: operators, each for an equal part of it.

    Attributes:
        operators: in the order in which they are used.
        total: batches of the whole training.
        per_epoch: batches of an epoch.
    """

    operators: Sequence[Degradation]
    total: int
    per_epoch: int

    def at(self, epoch: int, batch: int) -> Degradation:
        """Return the operator of a batch, by its number in its epoch."""
        done = (epoch * self.per_epoch + batch) / self.total
        return self.operators[min(int(done * len(self.operators)), len(self.operators) - 1)]


@dataclass(frozen=True)
class Draws:
    """The stream of one pass over a split: the run's seed, the split and the epoch; and the side of crops, or None."""

    seed: int
    split: str
    epoch: int
    crop: int | None

    def keys(self, index: Tensor) -> Tensor:
        """Return the keys (B,) of samples by their indices (B,)."""
        return keyed.keys(self.seed, self.split, self.epoch, index)


class Split(Protocol):
    """The clean images of one split, which make their own loader."""

    @property
    def names(self) -> np.ndarray | None:
        """Return the names (N,) of the images' files, or None where they are no files or their names are not known."""
        return None

    @property
    def sets(self) -> Mapping[str, int]:
        """Return how many images each of several sets has, by name and in order; none where the images are one set."""
        return {}

    def __len__(self) -> int: ...

    @property
    def shapes(self) -> Sequence[tuple[int, int, int]]:
        """Return the distinct shapes (C,H,W) of the images."""

    def loader(self, name: str, batch_size: int, degradation: Degradation, **options: Any) -> "Loader[Any]":
        """Return the loader of the split of this name; `options` are further arguments of `Loader`."""

    def not_on(self, device: torch.device) -> Sequence[Tensor]:
        """Return the buffers to be copied to a device before a loader reads them there; splits may share them."""
        return ()

    def over(self, copies: Mapping[Tensor, Tensor]) -> "Split":
        """Return the same split, read from copies of its buffers where there are some."""
        return self


S = TypeVar("S", bound=Split)


@dataclass(eq=False, repr=False)
class Loader(ABC, Generic[S]):
    """Iterate over the batches of one split, as pairs on a device.

    Attributes:
        source: the clean images.
        split: "train", "validation" or "test"; names the stream of the draws.
        batch_size: the global batch size, over all ranks; a training set smaller than it is one batch.
        degradation: makes the degraded images.
        augment: changes the clean images first (training only), or None.
        crop: the side of keyed random crops, or None for whole images.
        stages: of crops that grow (training only), or None.
        curriculum: of damage that grows (training only), or None.
        seed: the run's seed (training only).
        rank: this process.
        world_size: how many processes share each batch.
        device: where the pairs are made; a batch of images elsewhere travels there as bytes.
        repeat: repeat the batches of epoch 0 in every epoch, for overfitting on a few.
        start: the batch at which the next iteration of a training begins; later iterations begin with the first.
        epoch: the epoch of the next iteration.
        is_indexed: whether single samples can be read again, by `look_at`.
    """

    source: S
    split: str
    batch_size: int
    degradation: Degradation
    augment: Callable[[Tensor, Tensor], Tensor] | None = None
    crop: int | None = None
    stages: Stages | None = None
    curriculum: Curriculum | None = None
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    repeat: bool = False
    start: int = field(default=0, init=False)
    epoch: int = field(default=0, init=False)

    is_indexed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.training = self.split == "train"
        self.batch_sampler = SimpleNamespace(sampler=self)  # where Lightning looks for `set_epoch`

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next iteration of a training split has."""
        self.epoch = 0 if self.repeat else epoch

    @property
    def draws(self) -> Draws:
        """Return the stream of the next iteration; an evaluation is always the same."""
        seed, epoch = (self.seed, self.epoch) if self.training else (keyed.EVALUATION_SEED, 0)
        return Draws(seed, self.split, epoch, self.crop)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches of this rank; of an evaluation 1 where it has none.

        Lightning would leave a rank of length 0 out of the whole evaluation, and the others waiting for its results.
        """

    @abstractmethod
    def __iter__(self) -> Iterator[Pair]:
        """Yield the batches of this rank."""

    def images(self, batches: int) -> int:
        """Return how many images the first batches of the training have."""
        return batches * self.batch_size

    @abstractmethod
    def preview(self, count: int, largest: int = 128) -> View:
        """Look at the split's first `count` images, always the same; cut to one size where they differ."""

    @property
    def _per_rank(self) -> int:
        return -(-self.batch_size // self.world_size)

    def _evaluated_together(self, shape: Sequence[int]) -> int:
        """Return how many images of a shape (C,H,W) make a batch of an evaluation."""
        return max(1, min(self._per_rank, _EVALUATION_VALUES // math.prod(shape)))

    def _begin_level(self, step: int) -> None:
        """Choose the damage of a batch of this epoch."""
        if self.curriculum is not None:
            self.degradation = self.curriculum.at(self.epoch, step)

    def _pair(self, pixels: Tensor, label: Tensor, index: Tensor, keys: Tensor, degraded: Tensor | None = None) -> Pair:
        """Make the pair of a batch on the device; see `make_pair`."""
        pixels, label, index, keys = (values.to(self.device) for values in (pixels, label, index, keys))
        degraded = None if degraded is None else degraded.to(self.device)
        augment = self.augment if self.training else None
        return make_pair(pixels, label, index, keys, augment, self.degradation, degraded)
