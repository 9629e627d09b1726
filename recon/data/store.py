"""All clean images of one split in a single buffer, read a whole batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageStore:
    """The clean images of one split; reading a batch is one operation for any mix of sizes.

    Attributes:
        buffer: (bytes,) uint8, the pixels of every image in the order C, H, W; subsets share it.
        offset: (N,) int64, where each image starts in `buffer`.
        shape: (N,3) int64, rows (C,H,W); C is the same for the whole store.
        label: (N,) int64 class, -1 where there is none.
        names: (N,) str, what each image is called in its set, or None.
        check: called with where images start in `buffer` (n,) int64 before they are read, or None.
    """

    buffer: Tensor
    offset: Tensor
    shape: Tensor
    label: Tensor
    names: np.ndarray | None = None
    check: Callable[[Tensor], None] | None = None

    @classmethod
    def from_arrays(
        cls, images: np.ndarray | Sequence[np.ndarray], labels: np.ndarray | Sequence[int] | None = None
    ) -> "ImageStore":
        """Copy images into a new store.

        Args:
            images: (N,C,H,W) uint8, or N arrays (C,H,W) uint8 of any sizes.
            labels: (N,) integers, or `None` for no labels.

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
        # `concatenate` copies, so that the store never depends on an array that someone else may change or free.
        buffer = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]))
        return cls(buffer, end - shape.prod(1), shape, label)

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def device(self) -> torch.device:
        """Return where the images lie."""
        return self.buffer.device

    @cached_property
    def channels(self) -> int:
        """Return the channels C of every image."""
        return int(self.shape[0, 0])

    @property
    def sizes(self) -> Tensor:
        """Return (N,2) int64 rows (H,W)."""
        return self.shape[:, 1:]

    @cached_property
    def uniform(self) -> bool:
        """Return whether all images have one size."""
        return bool((self.shape == self.shape[0]).all())

    @cached_property
    def _first_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.shape[0].tolist()
        return channels, height, width

    def gather(self, index: Tensor) -> Tensor:
        """Read whole images.

        Args:
            index: (B,) int64 on the store's device, places in this store; their images share one size.

        Returns:
            (B,C,H,W) uint8.

        Raises:
            ValueError: the images differ in size; read them one by one or with `crop`.
        """
        channels, height, width = self._first_shape
        if not self.uniform:
            shapes = self.shape.index_select(0, index)
            if (shapes != shapes[0]).any():
                raise ValueError("images of different sizes make no batch: gather them one by one, or crop them")
            channels, height, width = shapes[0].tolist()
        start = self._start_of(index)
        return runs(self.buffer, start, channels * height * width).view(-1, channels, height, width)

    def crop(self, index: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
        """Read one window of each image, for any mix of image sizes.

        Args:
            index: (B,) int64 on the store's device, places in this store.
            top: (B,) int64 in [0,H-h], the first row of each window.
            left: (B,) int64 in [0,W-w], the first column of each window.
            size: (h,w) of the windows.

        Returns:
            (B,C,h,w) uint8.

        Raises:
            ValueError: a window leaves its image (looked for on the CPU only).
        """
        rows, columns = size
        height, width = self.sizes.index_select(0, index).unbind(1)
        # Elsewhere the answer would have to travel back to the host, which would stall the device in every step.
        if index.device.type == "cpu" and bool(
            ((top < 0) | (left < 0) | (top + rows > height) | (left + columns > width)).any()
        ):
            raise ValueError(f"a window of {rows}x{columns} pixels leaves its image")
        corner = self._start_of(index) + top * width + left
        plane = torch.arange(self.channels, device=index.device).view(1, -1, 1) * (height * width).view(-1, 1, 1)
        row = torch.arange(rows, device=index.device) * width.view(-1, 1, 1)
        start = corner.view(-1, 1, 1) + plane + row
        return runs(self.buffer, start.view(-1), columns).view(len(index), self.channels, rows, columns)

    def _start_of(self, index: Tensor) -> Tensor:
        """Tell where images start in the buffer, after these were checked."""
        start = self.offset.index_select(0, index)
        if self.check is not None:
            self.check(start)
        return start

    def subset(self, index: Tensor) -> "ImageStore":
        """Choose images by place (n,) int64, in that order and with repeats if wanted; the buffer is shared."""
        names = None if self.names is None else self.names[index.cpu().numpy()]
        return ImageStore(self.buffer, self.offset[index], self.shape[index], self.label[index], names, self.check)

    def over(self, buffer: Tensor) -> "ImageStore":
        """Give the same images, read from a copy of the buffer that lies on another device."""
        offset, shape, label = (x.to(buffer.device) for x in (self.offset, self.shape, self.label))
        return ImageStore(buffer, offset, shape, label, self.names)

    def to(self, device: torch.device | str) -> "ImageStore":
        """Move everything to `device`; the store itself is returned when it is there already."""
        return self if self.device == torch.device(device) else self.over(self.buffer.to(device))


def runs(buffer: Tensor, start: Tensor, length: int) -> Tensor:
    """Read `length` values from each place of `start` (n,) int64 in a buffer (bytes,): (n,length).

    The view holds every run of the buffer as a row without using memory, so that `index_select` copies whole runs: 8
    times faster than an index per byte, and the index stays small for large images.
    """
    return buffer.as_strided((len(buffer) - length + 1, length), (1, 1)).index_select(0, start)
