"""Free-form brush strokes, painted into masks of any batch."""

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import draw

_SEGMENTS = 4  # of each stroke
_HEADINGS = 1024  # directions of a segment


def segments(keys: Tensor, length: tuple[float, float], height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the two ends (B,2) of each segment of one stroke of each image, (row, column) in pixels.

    >>> [len(ends) for ends in segments(keys, (0.1, 0.5), 8, 8)]
    [2, 2, 2, 2]
    """
    size = torch.tensor([height - 1, width - 1], device=keys.device)
    start = keyed.uniform(keyed.fold(keys, "start"), (2,)) * size
    heading = keyed.integers(keyed.fold(keys, "heading"), _HEADINGS)
    for segment in range(_SEGMENTS):
        segment_keys = keyed.fold(keys, f"segment {segment}")
        step = draw(length, segment_keys, "length").mul_(min(height, width)).unsqueeze(1)
        end = (start + step * _directions(keys.device)[heading]).clamp_min_(0).minimum(size)
        yield start, end
        start = end
        turn = keyed.integers(keyed.fold(segment_keys, "turn"), _HEADINGS * 3 // 4)
        heading = (heading + turn - _HEADINGS * 3 // 8) % _HEADINGS


@lru_cache(maxsize=8)
def _directions(device: torch.device) -> Tensor:
    """Return unit vectors all around (1024,2), a table so that no device's cosine matters."""
    angle = torch.arange(_HEADINGS, dtype=torch.float64) * (2 * math.pi / _HEADINGS)
    return torch.stack([angle.sin(), angle.cos()], 1).float().to(device)


def paint(known: Tensor, start: Tensor, end: Tensor, radius: Tensor) -> None:
    """Remove from `known` (B,H,W), in place, pixels within `radius` (B,) of the segments from start to end (B,2).

    >>> known = torch.ones(1, 3, 5)
    >>> paint(known, torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 4.0]]), torch.tensor([0.5]))
    >>> known.sum((0, 2))
    tensor([0., 5., 5.])
    """
    height, width = known.shape[1:]
    along = end - start
    # Relative to the segment's start; a segment of no length is a point.
    row = (torch.arange(height, device=known.device) - start[:, :1]).unsqueeze(2)
    column = (torch.arange(width, device=known.device) - start[:, 1:]).unsqueeze(1)
    along_row, along_column = along.view(-1, 2, 1, 1).unbind(1)
    squared = along.square().sum(1).clamp_min_(1e-9).view(-1, 1, 1)
    nearest = (row * (along_row / squared) + column * (along_column / squared)).clamp_(0, 1)
    off_row = torch.addcmul(row, nearest, along_row, value=-1)
    off_column = nearest.mul_(-along_column).add_(column)
    squared_distance = off_row.square_().addcmul_(off_column, off_column)
    known.mul_(squared_distance.gt_((radius * radius.abs()).view(-1, 1, 1)))
