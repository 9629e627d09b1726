"""Reading images between their pixels, by bilinear interpolation.

Coordinates count pixels from the middle of the first. Products and sums are taken one by one, so that on one device the
bits of an image do not depend on its batch.
"""

import torch
from torch import Tensor

from recon.filters.bands import source


def warp(image: Tensor, row: Tensor, column: Tensor, boundary: str) -> Tensor:
    """Read each image at coordinates of its own.

    >>> warp(torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, 1, 2), torch.tensor([[[0.5, 1.0]]]), "zero").tolist()
    [[[[0.5, 1.0]]]]

    Args:
        image: (B,C,H,W) float.
        row: (B,h,w) float64, the first coordinate of each pixel of the result.
        column: the second one.
        boundary: what continues the image, see `recon.filters.convolve`.

    Returns:
        (B,C,h,w) of the image's type.
    """
    top, left = row.floor(), column.floor()
    down, right = ((row - top).to(image.dtype).unsqueeze(1), (column - left).to(image.dtype).unsqueeze(1))
    top, left = top.long(), left.long()
    upper = _mixed(_read(image, top, left, boundary), _read(image, top, left + 1, boundary), right)
    lower = _mixed(_read(image, top + 1, left, boundary), _read(image, top + 1, left + 1, boundary), right)
    return _mixed(upper, lower, down)


def magnified(image: Tensor, factor: float) -> Tensor:
    """Enlarge images (B,C,H,W) about their middle by a factor of at least 1, and cut what no longer fits.

    >>> magnified(torch.tensor([[[[0.0, 4.0, 8.0]]]]), 2).tolist()
    [[[[2.0, 4.0, 6.0]]]]
    """
    for dim in (2, 3):
        side = image.shape[dim]
        at = (torch.arange(side, dtype=torch.float64, device=image.device) - (side - 1) / 2) / factor + (side - 1) / 2
        first = at.floor().clamp(0, max(0, side - 2))
        share = (at - first).to(image.dtype).view(-1, *[1] * (3 - dim))
        index = first.long()
        above = image.index_select(dim, (index + 1).clamp_max(side - 1))
        image = _mixed(image.index_select(dim, index), above, share)
    return image


def _mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first * (1 - share) + second * share


def _read(image: Tensor, row: Tensor, column: Tensor, boundary: str) -> Tensor:
    """Read whole pixels (B,h,w) int64: (B,C,h,w)."""
    height, width = image.shape[2:]
    index = source(row, height, boundary) * width + source(column, width, boundary)
    flat = index.flatten(1).unsqueeze(1).expand(-1, image.shape[1], -1)
    values = image.flatten(2).gather(2, flat).view(*image.shape[:2], *row.shape[1:])
    if boundary != "zero":
        return values
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return values * inside.unsqueeze(1).to(image.dtype)
