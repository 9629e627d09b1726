"""The base of all loaders, the protocol of a split, and the step from a batch of images to pairs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from recon import keyed
from recon.data.augment import as_float
from recon.degradations.base import Degradation, all_known
from recon.errors import InputError
from recon.pair import Pair

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

    def finish(images: Tensor) -> Tensor:
        return as_float(images if augment is None else augment(images, keyed.fold(keys, "augment")))

    clean = finish(pixels[..., :height, :width])
    if degraded is not None:
        severity = torch.zeros(len(keys), device=keys.device)
        return Pair(finish(degraded), clean, all_known(clean), label, index, severity)
    image, mask, severity = degradation(clean, keyed.fold(keys, "degrade"))
    return Pair(image, clean, mask, label, index, severity)


def corners(keys: Tensor, sizes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Draw the top rows (B,) and left columns (B,) of square windows in images of sizes (B,2), by keys (B,)."""
    room = sizes - side + 1
    return keyed.integers(keyed.fold(keys, "top"), room[:, 0]), keyed.integers(keyed.fold(keys, "left"), room[:, 1])


def windows(whole: Sequence[Pair], keys: Tensor, largest: int, scale: int) -> Pair:
    """Cut the pairs of single images to windows of one size.

    They are degraded before they are cut, as in the evaluation: a mask for whole images would not fit a window.

    Args:
        whole: B pairs of one image each.
        keys: (B,) int64 of these images, which draw the corners of the windows.
        largest: upper bound of the windows' side in pixels; the smallest image is another.
        scale: how many times smaller the degraded images are.
    """
    sizes = torch.tensor([pair.degraded.shape[2:] for pair in whole])
    side = max(1, min(largest // scale, int(sizes.min())))
    top, left = (starts.tolist() for starts in corners(keys, sizes.to(keys.device), side))

    def cut(images: Tensor, row: int, column: int, times: int) -> Tensor:
        height, width = (slice(start * times, (start + side) * times) for start in (row, column))
        return images[:, :, height, width]

    parts = [
        pair._replace(
            degraded=cut(pair.degraded, row, column, 1),
            clean=cut(pair.clean, row, column, scale),
            mask=cut(pair.mask, row, column, scale),
        )
        for pair, row, column in zip(whole, top, left, strict=True)
    ]
    return Pair(*(torch.cat(field) for field in zip(*parts, strict=True)))


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

    @abstractmethod
    def preview(self, count: int, largest: int = 128) -> Pair:
        """Make the pair of the split's first `count` images, always the same; cut to one size where they differ."""

    @property
    def _per_rank(self) -> int:
        return -(-self.batch_size // self.world_size)

    def _evaluated_together(self, shape: Sequence[int]) -> int:
        """Return how many images of a shape (C,H,W) make a batch of an evaluation."""
        return max(1, min(self._per_rank, _EVALUATION_VALUES // math.prod(shape)))

    def _pair(self, pixels: Tensor, label: Tensor, index: Tensor, keys: Tensor, degraded: Tensor | None = None) -> Pair:
        """Make the pair of a batch on the device; see `make_pair`."""
        pixels, label, index, keys = (values.to(self.device) for values in (pixels, label, index, keys))
        degraded = None if degraded is None else degraded.to(self.device)
        augment = self.augment if self.training else None
        return make_pair(pixels, label, index, keys, augment, self.degradation, degraded)
