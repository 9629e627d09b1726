"""Banded matrices that filter a vector, and the pixels that continue an image beyond its border."""

from functools import lru_cache

import torch
from torch import Tensor

BOUNDARIES = ("reflect", "replicate", "circular", "zero")
ALIGNED = 4  # sides of matrices: the last bits of a product depend on where in a cache line its matrices begin


def source(index: Tensor, side: int, boundary: str) -> Tensor:
    """Map indices outside 0..side-1 to those of the pixels shown there; for "zero" to any.

    >>> source(torch.arange(-2, 5), 3, "reflect").tolist()
    [1, 0, 0, 1, 2, 2, 1]
    """
    if boundary == "replicate":
        return index.clamp(0, side - 1)
    if boundary != "reflect":
        return index.remainder(side)
    index = index.remainder(2 * side)
    return torch.minimum(index, 2 * side - 1 - index)


def filter_matrices(weights: Tensor, side: int, boundary: str) -> Tensor:
    """Return the matrices (B,s,s) that filter a vector of `side` by weights (B,k); s is the next multiple of 4.

    >>> filter_matrices(torch.tensor([[0.25, 0.5, 0.25]]), 4, "reflect")[0, 0].tolist()
    [0.75, 0.25, 0.0, 0.0]
    """
    aligned = side + -side % ALIGNED
    return (weights @ _layout(side, weights.shape[1] // 2, boundary).to(weights.dtype)).view(-1, aligned, aligned)


@lru_cache(maxsize=8)
def _layout(side: int, radius: int, boundary: str) -> Tensor:
    """Return the entries of the filter's matrix that each weight adds to: (2·radius+1, s·s) of 0 and 1."""
    row, shift = torch.arange(side).unsqueeze(1), torch.arange(2 * radius + 1)
    index = row + shift - radius
    layout = torch.zeros(len(shift), side + -side % ALIGNED, side + -side % ALIGNED, dtype=torch.float32)
    inside = ((index >= 0) & (index < side)).float()
    layout[shift, row, source(index, side, boundary)] = inside if boundary == "zero" else torch.ones_like(inside)
    return layout.flatten(1)
