"""The user's own masks, read like images and stored in memory with one bit per pixel."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon.data.find import find
from recon.data.pixels import Unusable, opened, to_array
from recon.errors import InputError

_MASK_FILES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class Mask(NamedTuple):
    """A mask in memory: `bits` are its pixels row by row, 1 in a hole; `missing` is the share of holes.

    >>> Mask(np.packbits([1, 0, 0, 0], bitorder="little"), 2, 2, 0.25).bits
    array([1], dtype=uint8)
    """

    bits: np.ndarray
    height: int
    width: int
    missing: float


class Stack(NamedTuple):
    """Masks of any sizes, one after another: their bits, and for each its first bit, its height and its width.

    >>> Stack.of(2 * [Mask(np.packbits([1, 0, 0, 0], bitorder="little"), 2, 2, 0.25)]).start
    tensor([0, 8])
    """

    bits: Tensor
    start: Tensor
    height: Tensor
    width: Tensor

    @classmethod
    def of(cls, masks: Sequence[Mask]) -> "Stack":
        """Stack masks on the CPU."""
        count = torch.tensor([8 * len(mask.bits) for mask in masks])
        height, width = (torch.tensor([getattr(mask, side) for mask in masks]) for side in ("height", "width"))
        bits = torch.from_numpy(np.concatenate([mask.bits for mask in masks]))
        return cls(bits, count.cumsum(0) - count, height, width)

    def known(self, chosen: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Look up the known pixels (B,H,W), float32 of 0 and 1, at rows (B,H) and columns (B,W) of masks (B,) int64."""
        index = self.start[chosen].unsqueeze(1) + row * self.width[chosen].unsqueeze(1)
        index = index.unsqueeze(2) + column.unsqueeze(1)
        shift = (index & 7).to(torch.uint8)
        hole = self.bits.take(index.bitwise_right_shift_(3)).bitwise_right_shift_(shift).bitwise_and_(1)
        return hole.bitwise_xor_(1).float()

    def to(self, device: torch.device) -> "Stack":
        """Move to a device; nothing is copied where it already is."""
        return Stack(*(field.to(device) for field in self))


def read_masks(path: Path) -> list[Mask]:
    """Read a mask, or all of a folder in the order of their paths; raises InputError for none or unreadable ones.

    >>> read_masks(mask_file)[0].missing
    0.5
    """
    single = [path] if path.is_file() else []
    files = find("path", str(path), _MASK_FILES).files if path.is_dir() else single
    if not files:
        what = "holds no mask" if path.is_dir() else "is no file" if path.exists() else "does not exist"
        raise InputError(
            f"path: {path} {what}; give an image file or a folder of {', '.join(sorted(_MASK_FILES))} files"
        )
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_read_mask, files))


def _read_mask(file: Path) -> Mask:
    try:
        with opened(file) as image:
            hole = to_array(image, 1)[0] >= 128
    except Unusable as error:
        raise InputError(f"path: {file} cannot be read as a mask ({error}); replace or remove it") from error
    height, width = hole.shape
    return Mask(np.packbits(hole, bitorder="little"), height, width, float(hole.mean()))
