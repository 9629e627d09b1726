"""From indices to batches of pairs: gather, augment, make float and degrade whole batches on the device."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor

from recon import keyed
from recon.data.augment import as_float
from recon.data.store import ImageStore
from recon.degradations.base import Degradation, all_known
from recon.errors import InputError
from recon.pair import Pair

# Whole images of one size are evaluated together up to this many pixels and channels: 16 MiB in float32.
EVALUATION_ELEMENTS = 1 << 22


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
        degraded: (B,C,h,w) uint8, the degraded images where they are at hand: their files; they are changed by the
            same keys as the clean ones, so `augment` must only rearrange pixels.

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


def windows(whole: Sequence[Pair], keys: Tensor, largest: int, scale: int) -> Pair:
    """Cut the pairs of single images to windows of one size.

    They are degraded before they are cut, as in the evaluation: a mask for whole images would not fit a window.

    Args:
        whole: B pairs of one image each.
        keys: (B,) int64 of these images, which draw the places of the windows.
        largest: of the windows' side; it is that of the smallest image where that is smaller.
        scale: how many times smaller the degraded images are.
    """
    sizes = torch.tensor([pair.degraded.shape[2:] for pair in whole])
    side = max(1, min(largest // scale, int(sizes.min())))
    room = (sizes - side + 1).to(keys.device)
    top = keyed.integers(keyed.fold(keys, "top"), room[:, 0]).tolist()
    left = keyed.integers(keyed.fold(keys, "left"), room[:, 1]).tolist()

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


class PairLoader:
    """Iterate over the batches of one split, as pairs on a device.

    A training epoch is a keyed permutation cut into global batches, of which each rank takes every `world_size`-th
    sample: one or two devices see the same batches. The last, incomplete batch is left out. An evaluation takes every
    image once, in order, images of equal size together.

    Args:
        store: the clean images.
        split: "train", "validation" or "test"; names the stream of the draws.
        batch_size: the global batch size, over all ranks.
        degradation: makes the degraded images.
        augment: changes the clean images first (training only), or None.
        crop: the side of keyed random crops, or None for whole images.
        seed: the run's seed (training only).
        rank: this process.
        world_size: how many processes share each batch.
        device: where the pairs are made; None for that of the store. Of a store elsewhere, as a mapped one, each batch
            travels as bytes.
        degraded: the degraded images of the same samples where they are files, smaller by `degradation.scale`.
        repeat: give the batches of epoch 0 in every epoch, for overfitting on a few.

    Attributes:
        start: the batch that the next iteration begins with, in training; the one after it begins with the first again.
    """

    def __init__(
        self,
        store: ImageStore,
        split: str,
        batch_size: int,
        degradation: Degradation,
        augment: Callable[[Tensor, Tensor], Tensor] | None = None,
        crop: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
        degraded: ImageStore | None = None,
        repeat: bool = False,
    ) -> None:
        self.store = store
        self.split = split
        self.degradation = degradation
        self.augment = augment
        self.crop = crop
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = store.device if device is None else device
        self.degraded = degraded
        self.repeat = repeat
        self.start = 0
        self.training = split == "train"
        # A set smaller than one batch still trains, on what it has.
        self.batch_size = min(batch_size, len(store) - len(store) % world_size) if self.training else batch_size
        self.epoch = 0
        self.batch_sampler = SimpleNamespace(sampler=self)  # where Lightning looks for `set_epoch`
        self._groups = [] if self.training else list(self._evaluation_groups())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and draws the next iteration of a training split gives."""
        self.epoch = 0 if self.repeat else epoch

    def __len__(self) -> int:
        """The number of batches that this rank gives; of an evaluation 1 where it has none.

        Lightning would leave a rank of length 0 out of the whole evaluation, and the others waiting for its results.
        """
        return len(self.store) // self.batch_size if self.training else max(1, len(self._groups))

    def __iter__(self) -> Iterator[Pair]:
        """Give the batches of this rank."""
        if not self.training:
            yield from map(self.pair, self._groups)
            return
        order = keyed.permutation(self.seed, "order", self.epoch, len(self.store))
        first, self.start = self.start, 0
        for step in range(first, len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.pair(batch[self.rank :: self.world_size])

    def pair(self, index: Tensor) -> Pair:
        """Make the pair of some samples: `index` (B,) int64; whole images must share one size."""
        index = index.to(self.store.device)
        keys = self.keys(index)
        pixels, degraded = self._pixels(index, keys)
        pixels, label, index, keys = (x.to(self.device) for x in (pixels, self.store.label[index], index, keys))
        if degraded is not None:
            degraded = degraded.to(self.device)
        return make_pair(
            pixels, label, index, keys, self.augment if self.training else None, self.degradation, degraded
        )

    def preview(self, count: int, largest: int = 128) -> Pair:
        """Make the pair of the split's first `count` images, always the same; cut to one size where they differ."""
        return self.look_at(torch.arange(min(count, len(self.store))), largest)

    def look_at(self, index: Tensor, largest: int = 128) -> Pair:
        """Make the pair of some samples (B,) int64, cut to one size where they differ or are larger than `largest`."""
        if self.crop is not None or (self.store.uniform and max(self.store.sizes[0]) <= largest):
            return self.pair(index)
        return windows([self.pair(one) for one in index.split(1)], self.keys(index), largest, self.degradation.scale)

    def keys(self, index: Tensor) -> Tensor:
        """Make the keys (B,) of samples by their indices (B,)."""
        seed, epoch = (self.seed, self.epoch) if self.training else (keyed.EVALUATION_SEED, 0)
        return keyed.keys(seed, self.split, epoch, index)

    def _pixels(self, index: Tensor, keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gather whole images or keyed crops: (B,C,H,W) uint8, and the same places of the degraded images, if any."""
        if self.crop is None:
            return self.store.gather(index), None if self.degraded is None else self.degraded.gather(index)
        # Drawn on the smaller grid, so that both windows begin and end at the same places.
        scale, small = (1, self.store) if self.degraded is None else (self.degradation.scale, self.degraded)
        side = self.crop // scale
        room = small.sizes[index] - side + 1
        top = keyed.integers(keyed.fold(keys, "top"), room[:, 0])
        left = keyed.integers(keyed.fold(keys, "left"), room[:, 1])
        clean = self.store.crop(index, top * scale, left * scale, (side * scale, side * scale))
        return clean, None if self.degraded is None else self.degraded.crop(index, top, left, (side, side))

    def _evaluation_groups(self) -> Iterator[Tensor]:
        """Cut this rank's images into batches of equal size, small enough for large images."""
        mine = torch.arange(len(self.store))[self.rank :: self.world_size]
        if not len(mine):
            return
        if self.crop is None:
            sizes, group = self.store.sizes.cpu()[mine].unique(dim=0, return_inverse=True)
        else:
            sizes, group = torch.tensor([[self.crop, self.crop]]), torch.zeros_like(mine)
        for place, (height, width) in enumerate(sizes.tolist()):
            affordable = EVALUATION_ELEMENTS // (self.store.channels * height * width)
            per_rank = -(-self.batch_size // self.world_size)
            yield from mine[group == place].split(max(1, min(per_rank, affordable)))
