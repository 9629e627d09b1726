"""JPEG damage that the file no longer records: a PNG made from a JPEG, or a JPEG saved again at a higher quality."""

from __future__ import annotations

import numpy as np
import torch

from recon.degradations.jpeg import compress, to_bytes

_SIDE = 160  # pixels of the part that is compressed again and again
_QUALITIES = torch.arange(1, 98)
_HIGHEST = 92  # above it JPEG changes so little that nothing follows from it
_BLOCKY = 0.03  # how much rougher pictures are across the borders of blocks, both ways together; others are by 0.012
_DIP = 0.4  # how much less a JPEG changes at its own quality than at those 3 to 5 away; others change as much there


def hidden_quality(luma: np.ndarray) -> int | None:
    """Return the quality at which a picture was compressed before it was saved without loss; None where it was not.

    A picture that went through a JPEG hardly changes when it goes through it again, at the same quality and with the
    same grid of blocks; at any other quality, or without a JPEG before, it changes more.

    Args:
        luma: (H,W) uint8.
    """
    if min(luma.shape) < 16:
        return None
    (rows, down), (columns, across) = _grid(luma, 0), _grid(luma, 1)
    if down + across < _BLOCKY or (part := _busiest(luma[rows:, columns:])) is None:
        return None
    changes = _changes(part) + 1e-3
    nearby = np.pad(changes, 5, constant_values=np.inf)
    around = np.min([nearby[5 + shift : 5 + shift + len(changes)] for shift in (-5, -4, -3, 3, 4, 5)], 0)
    # A quality whose steps divide those of the true one changes little too, and is higher.
    dips = np.flatnonzero((changes / around)[:_HIGHEST] < _DIP)
    return int(dips[0] + changes[dips[0] : dips[0] + 3].argmin()) + 1 if len(dips) else None


def _changes(luma: np.ndarray) -> np.ndarray:
    """Return by how many levels each pixel changes on average when a picture is compressed at each quality."""
    values = torch.from_numpy(luma.astype(np.float32))
    again = compress((values / 255).expand(len(_QUALITIES), 1, -1, -1), _QUALITIES, "4:4:4")
    return (to_bytes(again)[:, 0] - values).abs_().mean((1, 2), dtype=torch.float64).numpy()


def _grid(luma: np.ndarray, axis: int) -> tuple[int, float]:
    """Return the first row or column where a block of 8 begins, and how much rougher its border is than any other.

    Across the border a third difference is largest.
    """
    values = luma.astype(np.float32) if axis == 0 else luma.T.astype(np.float32)
    steps = np.abs(values[:-3] - 3 * values[1:-2] + 3 * values[2:-1] - values[3:])
    strength = np.array([np.minimum(steps[phase::8], 20).mean() for phase in range(8)])
    second, first = np.sort(strength)[-2:]
    return (int(strength.argmax()) + 2) % 8, float(first / max(second, 1e-6)) - 1


def _busiest(luma: np.ndarray) -> np.ndarray | None:
    """Return the part of whole blocks with the most contrast; None where no block is whole, or all is flat."""
    height, width = (side // 8 * 8 for side in luma.shape)
    side_down, side_across = min(height, _SIDE), min(width, _SIDE)
    if side_down < 16 or side_across < 16:
        return None
    corners = [(top, left) for top in range(0, height - side_down + 1, side_down)
               for left in range(0, width - side_across + 1, side_across)]  # fmt: skip
    parts = [luma[top : top + side_down, left : left + side_across] for top, left in corners]
    busiest = max(parts, key=lambda part: float(np.abs(np.diff(part.astype(np.int16), axis=0)).mean()))
    return np.ascontiguousarray(busiest) if busiest.std() > 1 else None
