"""Gaussian blur."""

from functools import lru_cache

import torch
from torch import Tensor

from recon.degradations.base import Degradation, Degraded, Range, all_known, draw, ends

_LARGEST_MATRIX = 64  # beyond this side, shifting and adding is faster than a banded matrix product


class GaussianBlur(Degradation):
    """Blur with a separable Gaussian, equal to `scipy.ndimage.gaussian_filter` with mode "reflect" and truncate 4.

    The kernel of each image ends at `int(4 sigma + 0.5)` pixels of its own sigma, and the image is mirrored about the
    outer edge of its border pixels, as often as the kernel needs. The severity is sigma.

    Args:
        sigma: standard deviation in pixels, at least 0; 0 leaves the image as it is.
    """

    def __init__(self, sigma: Range) -> None:
        self.level = ends("sigma", sigma)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        weights = _weights(sigma, _radius(self.level[1])).to(clean.dtype)
        # Only on the CPU do matrix products give the same bits for any batch size, and never reduced precision.
        by_matrix = clean.device.type == "cpu" and max(clean.shape[2:]) <= _LARGEST_MATRIX
        image = _blur_by_matrix(clean, weights) if by_matrix else _blur_by_shifts(clean, weights)
        return Degraded(image, all_known(clean), sigma)


def _radius(sigma: float) -> int:
    return int(4 * sigma + 0.5)


def _weights(sigma: Tensor, radius: int) -> Tensor:
    """Give each sigma's kernel (B,2·radius+1), zero beyond its own radius; in float64, as it is small."""
    sigma = sigma.double().unsqueeze(1)
    place = torch.arange(-radius, radius + 1, device=sigma.device)
    # The clamp keeps sigma 0 from dividing 0 by 0; its radius is 0.
    kernel = (-0.5 * (place / sigma.clamp_min(1e-9)) ** 2).exp() * (place.abs() <= (4 * sigma + 0.5).floor())
    return kernel / kernel.sum(1, keepdim=True)


def _mirror(place: Tensor, side: int) -> Tensor:
    """Map places outside 0..side-1 to those whose pixel they mirror: (d c b a | a b c d | d c b a)."""
    place = place.remainder(2 * side)
    return torch.minimum(place, 2 * side - 1 - place)


def _blur_by_shifts(image: Tensor, weights: Tensor) -> Tensor:
    radius = weights.shape[1] // 2
    columns = weights.view(len(weights), -1, 1, 1, 1).unbind(1)
    for dim in (2, 3):
        side = image.shape[dim]
        padded = image.index_select(dim, _mirror(torch.arange(-radius, side + radius, device=image.device), side))
        image = padded.narrow(dim, 0, side) * columns[0]
        for shift, column in enumerate(columns[1:], start=1):
            image.addcmul_(padded.narrow(dim, shift, side), column)
    return image


def _blur_by_matrix(image: Tensor, weights: Tensor) -> Tensor:
    batch, channels, height, width = image.shape
    rows = _bands(weights, height)
    columns = rows if width == height else _bands(weights, width)
    image = torch.bmm(image.reshape(batch, channels * height, width), columns.transpose(1, 2))
    return rows.unsqueeze(1) @ image.view(batch, channels, height, width)


def _bands(weights: Tensor, side: int) -> Tensor:
    """Give the matrices (B,side,side) that blur a vector, border included."""
    layout = _layout(side, weights.shape[1] // 2).to(weights.dtype)
    return (weights @ layout).view(-1, side, side)


@lru_cache(maxsize=8)
def _layout(side: int, radius: int) -> Tensor:
    """Which entries of the blur matrix each kernel weight adds to: (2·radius+1, side·side) of 0 and 1."""
    row, place = torch.arange(side).unsqueeze(1), torch.arange(2 * radius + 1)
    layout = torch.zeros(len(place), side, side)
    layout[place, row, _mirror(row + place - radius, side)] = 1
    return layout.flatten(1)
