"""A net on a picture of any size, by tiles, with the very result of the whole picture at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Net = Callable[[Tensor], Tensor]


class Reach(NamedTuple):
    """What a net sees.

    Attributes:
        radius: pixels around a pixel of the input that the result depends on there.
        stride: by how many pixels an image must be moved so that the result is the same, moved along.
        scale: how many times larger the result is.
    """

    radius: int
    stride: int
    scale: int = 1


def tiled(
    net: Net, image: Tensor, reach: Reach, tile: int, done: Callable[[int], object] = lambda pixels: None
) -> Tensor:
    """Apply a net tile by tile.

    Each tile is computed with as many pixels around it as the net sees, from an origin at a whole multiple of the net's
    stride, and only the tile itself is kept. So no pixel sees the border of a tile, and the result is that of the whole
    picture but for the order of sums. Where memory does not suffice, the tiles are halved and the rest is done so.

    Args:
        net: maps images (1,C',h,w) to (1,C,scale·h,scale·w).
        image: (1,C',H,W).
        reach: what the net sees.
        tile: the side of a tile in pixels of the input.
        done: is called after each tile with the number of its pixels.

    Returns:
        (1,C,scale·H,scale·W).

    Raises:
        MemoryError, torch.OutOfMemoryError: a tile of one stride is too large.
    """
    height, width = image.shape[2:]
    whole: Tensor | None = None
    waiting = [(top, left, tile) for top in range(0, height, tile) for left in range(0, width, tile)][::-1]
    while waiting:
        top, left, side = waiting.pop()
        bottom, right = min(top + side, height), min(left + side, width)
        try:
            part = _part(net, image, reach, (top, bottom), (left, right))
        except (MemoryError, RuntimeError) as error:
            half = side // 2
            if not _is_memory(error) or half < reach.stride:
                raise
            # The quarters of this tile, and all that is left with tiles of this size.
            waiting = [quarter for place in waiting for quarter in _quarters(*place, height, width)]
            waiting += _quarters(top, left, side, height, width)
            continue
        if whole is None:
            channels, scale = part.shape[1], reach.scale
            whole = part.new_empty(1, channels, scale * height, scale * width)
        rows, columns = (slice(reach.scale * a, reach.scale * b) for a, b in ((top, bottom), (left, right)))
        whole[:, :, rows, columns] = part
        done((bottom - top) * (right - left))
    assert whole is not None, "an image has pixels"
    return whole


def _quarters(top: int, left: int, side: int, height: int, width: int) -> list[tuple[int, int, int]]:
    """Return the quarters of a tile that hold pixels, the last to be computed first."""
    half = (side + 1) // 2
    quarters = [(top + down, left + across, half) for down in (0, half) for across in (0, half)]
    return [place for place in quarters if place[0] < height and place[1] < width][::-1]


def _part(net: Net, image: Tensor, reach: Reach, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return the result (1,C,...) for the pixels of some rows and columns."""
    windows, inner = [], []
    for (start, end), size in zip((rows, columns), image.shape[2:], strict=True):
        first = max(0, start - reach.radius) // reach.stride * reach.stride
        last = min(size, end + reach.radius)
        windows.append(slice(first, last))
        inner.append(slice(reach.scale * (start - first), reach.scale * (end - first)))
    return net(image[:, :, windows[0], windows[1]])[:, :, inner[0], inner[1]]


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
