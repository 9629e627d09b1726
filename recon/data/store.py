"""All clean images of one split in a single buffer, read a whole batch at a time, and the loader of their pairs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recon import keyed
from recon.data.augment import runs
from recon.data.loader import Loader, View, corners, filled, small, windows
from recon.degradations.base import Degradation
from recon.degradations.batch import as_float
from recon.pair import Pair

_TOGETHER = 1 << 19  # values of the batches of small images that are made at once: 2 MiB in float32


@dataclass(frozen=True, eq=False)
class ImageStore:
    """The clean images of one split; reading a batch is one operation for any mix of sizes. It is a `Split`.

    Attributes:
        buffer: (bytes,) uint8, the pixels of every image in the order C, H, W; subsets share it.
        offset: (N,) int64, where each image starts in `buffer`.
        shape: (N,3) int64, rows (C,H,W); C is the same for the whole store.
        label: (N,) int64 class, -1 where there is none.
        names: (N,) str, the path of each image below its folder, or None where images are no files.
        check: of a mapped store: called with the offsets (n,) int64 of images in `buffer` before they are read.
        degraded: the degraded images of the same samples where they are files, or None.
        sets: of several sets in one store, how many images each has, by name and in order; else empty.
    """

    buffer: Tensor
    offset: Tensor
    shape: Tensor
    label: Tensor
    names: np.ndarray | None = None
    check: Callable[[Tensor], None] | None = None
    degraded: "ImageStore | None" = None
    sets: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray | Sequence[np.ndarray],
        labels: np.ndarray | Sequence[int] | None = None,
        names: Sequence[str] | None = None,
    ) -> "ImageStore":
        """Copy images, (N,C,H,W) or N arrays (C,H,W) of any sizes, uint8, and labels (N,), if any, into a new store.

        Images that are files have names (N,).

        Raises:
            ValueError: there is no image, the type is not uint8, the channels differ or the labels do not fit.
        """
        arrays = [images] if isinstance(images, np.ndarray) else [image[None] for image in images]
        if sum(map(len, arrays)) == 0 or any(array.dtype != np.uint8 or array.ndim != 4 for array in arrays):
            raise ValueError("an image store needs one or more (C,H,W) uint8 images")
        shape = torch.cat([torch.tensor(array.shape[1:]).expand(len(array), 3) for array in arrays])
        if (shape[:, 0] != shape[0, 0]).any():
            raise ValueError(f"the images of a store share their channels, here {sorted(set(shape[:, 0].tolist()))}")
        label = torch.full((len(shape),), -1) if labels is None else torch.tensor(np.asarray(labels, np.int64))
        if label.shape != (len(shape),):
            raise ValueError(f"{len(shape)} images cannot have labels of shape {tuple(label.shape)}")
        end = shape.prod(1).cumsum(0)
        # `concatenate` copies, so that the store owns its memory.
        buffer = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))
        return cls(buffer, end - shape.prod(1), shape, label, None if names is None else np.array(names, object))

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def device(self) -> torch.device:
        """Return the device of the images."""
        return self.buffer.device

    @cached_property
    def channels(self) -> int:
        """Return the channels C of every image."""
        return int(self.shape[0, 0])

    @property
    def sizes(self) -> Tensor:
        """Return (N,2) int64 rows (H,W)."""
        return self.shape[:, 1:]

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Return the distinct shapes (C,H,W), see `Split`."""
        return [(channels, height, width) for channels, height, width in self.shape.unique(dim=0).tolist()]

    @cached_property
    def uniform(self) -> bool:
        """Return whether all images have one size."""
        return bool((self.shape == self.shape[0]).all())

    @cached_property
    def _first_shape(self) -> list[int]:
        return list(map(int, self.shape[0]))

    def gather(self, index: Tensor) -> Tensor:
        """Read whole images (B,C,H,W) uint8 by their indices (B,) int64 on the store's device.

        Raises:
            ValueError: the images differ in size; read them one by one or with `crop`.
        """
        channels, height, width = self._first_shape
        if not self.uniform:
            shapes = self.shape.index_select(0, index)
            if (shapes != shapes[0]).any():
                raise ValueError("images of different sizes make no batch: gather them one by one, or crop them")
            channels, height, width = shapes[0].tolist()
        start = self._checked_offset(index)
        return runs(self.buffer, start, channels * height * width).view(-1, channels, height, width)

    def crop(self, index: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
        """Read one window of each image, for any mix of image sizes: (B,C,h,w) uint8.

        Args:
            index: (B,) int64 on the store's device, as `top` and `left`.
            top: (B,) int64 in [0,H-h], the first row of each window.
            left: (B,) int64 in [0,W-w], the first column of each window.
            size: (h,w) of the windows.

        Raises:
            ValueError: a window leaves its image (checked on the CPU only).
        """
        rows, columns = size
        height, width = self.sizes.index_select(0, index).unbind(1)
        # On a GPU the result would have to travel back to the host, which would stall the device in every step.
        if index.device.type == "cpu" and bool(
            ((top < 0) | (left < 0) | (top + rows > height) | (left + columns > width)).any()
        ):
            raise ValueError(f"a window of {rows}x{columns} pixels leaves its image")
        corner = self._checked_offset(index) + top * width + left
        plane = torch.arange(self.channels, device=index.device).view(1, -1, 1) * (height * width).view(-1, 1, 1)
        row = torch.arange(rows, device=index.device) * width.view(-1, 1, 1)
        start = corner.view(-1, 1, 1) + plane + row
        return runs(self.buffer, start.view(-1), columns).view(len(index), self.channels, rows, columns)

    def _checked_offset(self, index: Tensor) -> Tensor:
        start = self.offset.index_select(0, index)
        if self.check is not None:
            self.check(start)
        return start

    def subset(self, index: Tensor) -> "ImageStore":
        """Choose images by index (n,) int64, in that order and with repeats if wanted; the buffer is shared."""
        return replace(
            self,
            offset=self.offset[index],
            shape=self.shape[index],
            label=self.label[index],
            names=None if self.names is None else self.names[index.cpu().numpy()],
            degraded=None if self.degraded is None else self.degraded.subset(index),
            sets={},
        )

    def not_on(self, device: torch.device) -> list[Tensor]:
        """Return the buffers to be copied to a device, see `Split`; mapped ones stay on the disk."""
        buffers = [] if self.degraded is None else self.degraded.not_on(device)
        return buffers if self.check is not None or self.device == device else [self.buffer, *buffers]

    def over(self, copies: Mapping[Tensor, Tensor]) -> "ImageStore":
        """Return the same images, read from the copy of each buffer that has one."""
        degraded = None if self.degraded is None else self.degraded.over(copies)
        if self.buffer not in copies:
            return replace(self, degraded=degraded)
        buffer = copies[self.buffer]
        offset, shape, label = (values.to(buffer.device) for values in (self.offset, self.shape, self.label))
        return ImageStore(buffer, offset, shape, label, self.names, degraded=degraded, sets=self.sets)

    def to(self, device: torch.device | str) -> "ImageStore":
        """Move everything to `device`; the store itself is returned when it is there already."""
        buffers = self.not_on(torch.device(device))
        return self.over({buffer: buffer.to(device) for buffer in buffers}) if buffers else self

    def loader(self, name: str, batch_size: int, degradation: Degradation, **options: Any) -> "PairLoader":
        """Return the loader of these images, see `Split`."""
        return PairLoader(self, name, batch_size, degradation, **options)


class PairLoader(Loader[ImageStore]):
    """Iterate over the batches of a store; see `Loader`.

    A training epoch is a keyed permutation cut into global batches, of which each rank takes every `world_size`-th
    sample: one or two devices see the same batches. The last, incomplete batch is left out. An evaluation takes every
    image once, in order, images of equal size together. Batches of small images are views of several made at once.

    Where crops grow, `batch_size` is that of the first side. A batch of larger ones takes fewer of its samples, and an
    epoch has the same number of batches.
    """

    is_indexed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training:
            self.batch_size = min(self.batch_size, len(self.source) - len(self.source) % self.world_size)
        self._groups = [] if self.training else list(self._evaluation_groups())

    def __len__(self) -> int:
        return len(self.source) // self.batch_size if self.training else max(1, len(self._groups))

    def __iter__(self) -> Iterator[Pair]:
        if not self.training:
            yield from map(self.pair, self._groups)
            return
        order = keyed.permutation(self.seed, "order", self.epoch, len(self.source)).to(self.source.device)
        order = order[: len(self) * self.batch_size].view(len(self), -1)[:, self.rank :: self.world_size]
        keys = self.keys(order)
        first, self.start = self.start, 0
        together = self._made_together()
        for step in range(first, len(self), together):
            self._begin_level(step)
            own = slice(step, step + together), slice(self._begin_stage(step))
            index = order[own]
            pair = self._pair_of(index.flatten(), keys[own].flatten())
            yield from map(Pair._make, zip(*(field.split(index.shape[1]) for field in pair), strict=True))

    def _made_together(self) -> int:
        """Return how many batches are made at once, of small images, whose calls cost more than the arithmetic."""
        if self.stages or self.curriculum or (self.crop is None and not self.source.uniform):
            return 1
        height, width = self.source.sizes[0].tolist() if self.crop is None else (self.crop, self.crop)
        return max(1, _TOGETHER // (self._per_rank * self.source.channels * height * width))

    def images(self, batches: int) -> int:
        """Count the images of the first batches of the training, see `Loader`."""
        if self.stages is None:
            return super().images(batches)
        return sum(self._count(self.stages.side(0, number)) for number in range(batches))

    def _begin_stage(self, step: int) -> int:
        """Choose the crops of a batch of this epoch, and return how many a rank has at most."""
        if self.stages is None:
            return self._per_rank
        self.crop = self.stages.side(self.epoch, step)
        return self._count(self.crop) // self.world_size

    def _count(self, side: int) -> int:
        """Return how many crops of a side have as many pixels as a batch of the first one; each rank has as many."""
        assert self.stages is not None
        count = int(self.batch_size * (self.stages.sides[0] / side) ** 2)
        return max(self.world_size, count - count % self.world_size)

    def pair(self, index: Tensor) -> Pair:
        """Make the pair of samples by their indices (B,) int64; whole images must share one size."""
        index = index.to(self.source.device)
        return self._pair_of(index, self.keys(index))

    def _pair_of(self, index: Tensor, keys: Tensor) -> Pair:
        pixels, degraded = self._pixels(index, keys)
        return self._pair(pixels, self.source.label[index], index, keys, degraded)

    def preview(self, count: int, largest: int = 128) -> View:
        """Look at the first images, see `Loader`."""
        sizes = list(self.source.sets.values()) or [len(self.source)]
        # Of several sets, the same number each.
        first = [start + torch.arange(min(-(-count // len(sizes)), size))
                 for start, size in zip(accumulate([0, *sizes]), sizes, strict=False)]  # fmt: skip
        return self.look_at(torch.cat(first)[:count], largest)

    def keys(self, index: Tensor) -> Tensor:
        """Return the keys of samples by their indices, of any shape; in one of several sets by their positions."""
        if self.source.sets:
            starts = torch.tensor([0, *accumulate(self.source.sets.values())][:-1], device=index.device)
            index = index - starts[torch.bucketize(index, starts, right=True) - 1]
        return self.draws.keys(index)

    def look_at(self, index: Tensor, largest: int = 128) -> View:
        """Look at samples (B,) int64, cut to one size where they differ or are larger than `largest`."""
        source, names = self.source, self.source.names
        shown = None if names is None else names[index.numpy()].tolist()
        if self.crop is not None:
            return self._crops(index, self.crop)._replace(names=shown)
        if source.uniform and max(source.sizes[0]) <= largest:
            return View(self.pair(index), shown)
        keys, scale = self.keys(index), self.degradation.scale
        sizes = (source.sizes[index] // scale).cpu()
        return windows(map(self.pair, index.split(1)), sizes, keys, largest, scale)._replace(names=shown)

    def _crops(self, index: Tensor, crop: int) -> View:
        """Look at the crops that a net of one size is evaluated on, and at the clean images that they are cut from."""
        index = index.to(self.source.device)
        sizes, pair = self.source.sizes[index], self.pair(index)
        if bool(sizes.eq(crop).all()):
            return View(pair)
        top, left, side = self._corners(index, self.keys(index))
        whole, known = zip(*(small(Pair.of(as_float(self.source.gather(one)))) for one in index.split(1)), strict=True)
        place = torch.stack([top, left, *[torch.full_like(top, side)] * 2, *sizes.unbind(1)], 1).cpu()
        return View(pair, None, filled(whole), filled(known, 1.0), place)

    def _pixels(self, index: Tensor, keys: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read whole images or keyed crops (B,C,H,W) uint8, and the same parts of the degraded images, if any."""
        clean, degraded = self.source, self.source.degraded
        if self.crop is None:
            return clean.gather(index), None if degraded is None else degraded.gather(index)
        top, left, side = self._corners(index, keys)
        pixels = clean.crop(index, top, left, (side, side))
        if degraded is None:
            return pixels, None
        scale = self.degradation.scale
        return pixels, degraded.crop(index, top // scale, left // scale, (side // scale, side // scale))

    def _corners(self, index: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, int]:
        """Draw the top rows (B,) and left columns (B,) of crops, and return their side."""
        assert self.crop is not None
        if self.source.degraded is None:
            return *corners(keys, self.source.sizes[index], self.crop), self.crop
        # Drawn on the smaller grid, so that both windows begin and end at the same pixels.
        scale = self.degradation.scale
        side = self.crop // scale
        top, left = corners(keys, self.source.degraded.sizes[index], side)
        return top * scale, left * scale, side * scale

    def _evaluation_groups(self) -> Iterator[Tensor]:
        """Cut this rank's images into batches of equal size, small enough for large images."""
        mine = torch.arange(len(self.source))[self.rank :: self.world_size]
        if not len(mine):
            return
        if self.crop is None:
            sizes, group = self.source.sizes.cpu()[mine].unique(dim=0, return_inverse=True)
        else:
            sizes, group = torch.tensor([[self.crop, self.crop]]), torch.zeros_like(mine)
        for number, size in enumerate(sizes.tolist()):
            yield from mine[group == number].split(self._evaluated_together([self.source.channels, *size]))


def joined(stores: Mapping[str, ImageStore]) -> ImageStore:
    """Join several sets of images with the same channels into one store, in memory; one alone stays where it is."""
    if len(stores) == 1:
        [(name, store)] = stores.items()
        return replace(store, sets={name: len(store)})
    starts = accumulate([0, *(len(store.buffer) for store in stores.values())])
    names = [store.names for store in stores.values() if store.names is not None]
    return ImageStore(
        torch.cat([store.buffer for store in stores.values()]),
        torch.cat([store.offset + start for store, start in zip(stores.values(), starts, strict=False)]),
        torch.cat([store.shape for store in stores.values()]),
        torch.cat([store.label for store in stores.values()]),
        np.concatenate(names) if len(names) == len(stores) else None,
        sets={name: len(store) for name, store in stores.items()},
    )
