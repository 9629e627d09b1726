"""Image quality, one value per image: MSE, PSNR, SSIM.

They return (B,) so that models can be compared image by image; a single image (C,H,W) gives a scalar. The images are
clamped to [0,1] and nothing is rounded to 8 bits; one that holds a NaN or an infinity gives NaN. Everything is computed
in float32, also under autocast and whatever torch's default dtype is, and without gradients.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from recon.filters.bands import filter_matrices
from recon.filters.exact import exact_matmul


def mse(image: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of each image.

    >>> mse(torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 0.25))
    tensor(0.0625)

    Args:
        image: (B,C,H,W) or (C,H,W), clamped to [0,1].
        clean: as `image`.

    Returns:
        (B,) float32, or a scalar for a single image; NaN where either image holds a NaN or an infinity.
    """
    if image.ndim == clean.ndim == 3:
        return mse(image[None], clean[None])[0]
    return _squared_error(image, clean).mean((1, 2, 3))


def psnr(image: Tensor, clean: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, with data range 1, over all channels.

    >>> psnr(torch.full((2, 1, 4, 4), 0.5), torch.full((2, 1, 4, 4), 0.4))
    tensor([20., 20.])

    Args:
        image: (B,C,H,W) or (C,H,W), clamped to [0,1]. An image in half precision is itself off by its rounding: next to
            a clean one in float32, bfloat16 reaches 61 dB at most and float16 79 dB.
        clean: as `image`.
        mask: (B,1,H,W) or (1,H,W); only pixels where it is 1 count.

    Returns:
        (B,) float32, at most 100, or a scalar for a single image; NaN where the mask leaves no pixel of an image, or
        either image holds a NaN or an infinity where it counts.
    """
    if image.ndim == clean.ndim == 3:
        return psnr(image[None], clean[None], None if mask is None else mask[None])[0]
    if mask is None:
        return decibels(mse(image, clean))
    error = _squared_error(image, clean)
    counted = (mask == 1).expand_as(error)
    return decibels(error.where(counted, 0).sum((1, 2, 3)) / counted.sum((1, 2, 3)))


def decibels(error: Tensor) -> Tensor:
    """Return the PSNR of mean squared errors, of any shape, in dB: at most 100.

    >>> decibels(torch.tensor([0.01]))
    tensor([20.])
    """
    return (-10 * error.log10()).clamp(max=100)


@torch.no_grad()
def _squared_error(image: Tensor, clean: Tensor) -> Tensor:
    _check_shapes(image, clean)
    image, clean = image.float(), clean.float()
    error = image.clamp(0, 1).sub_(clean.clamp(0, 1)).square_()
    # Clamping hides infinities; a value minus itself is 0, or NaN where it is not finite.
    return error.add_(image - image).add_(clean - clean)


def _check_shapes(image: Tensor, clean: Tensor) -> None:
    if image.ndim != 4 or image.shape != clean.shape:  # broadcasting would silently give a wrong number
        raise ValueError(
            f"both images must be (B,C,H,W) or (C,H,W) of one shape, not {(*image.shape,)} and {(*clean.shape,)}"
        )


_C1, _C2 = 0.01**2, 0.03**2
_TILE_ROWS = 128


@torch.no_grad()
def ssim(image: Tensor, clean: Tensor) -> Tensor:
    """Structural similarity of each image (Wang, Bovik, Sheikh & Simoncelli 2004) in the scikit-image convention.

    Gaussian window of 11 taps and sigma 1.5, K1 0.01, K2 0.03, data range 1, population covariance, mean over the
    channels and the positions where the whole window fits. Where a side is shorter than 11 pixels the window shrinks
    to the largest odd number of taps that fits.

    >>> ssim(clean, clean)
    tensor([1., 1.])

    Args:
        image: (B,C,H,W) or (C,H,W), clamped to [0,1].
        clean: as `image`.

    Returns:
        (B,) float32, within 1e-5 of the value in float64, or a scalar for a single image; NaN where either image holds
        a NaN or an infinity.
    """
    if image.ndim == clean.ndim == 3:
        return ssim(image[None], clean[None])[0]
    _check_shapes(image, clean)
    batch, channels, height, width = image.shape
    taps = min(11, (min(height, width) - 1) // 2 * 2 + 1)
    finite = _finite(image) & _finite(clean)
    image, clean = image.flatten(0, 1), clean.flatten(0, 1)
    # Banded matrices are faster on small images, where many small passes cost more than multiplying by zeros;
    # elsewhere shift-and-add is. Accelerators would multiply in TF32, so they shift.
    blur = _matmul_blur if max(height, width) <= 64 and image.is_cpu and exact_matmul() else _shift_blur
    # Tiles of planes and rows stay in the cache and bound the memory; a GPU has room for more.
    planes = max(1, (1 << (17 if image.is_cpu else 22)) // (min(height, _TILE_ROWS) * width))
    total = torch.zeros(batch * channels, dtype=torch.float32, device=image.device)
    with torch.autocast(image.device.type, enabled=False):
        for first in range(0, len(total), planes):
            tile = slice(first, first + planes)
            for top in range(0, height - taps + 1, _TILE_ROWS):
                rows = slice(top, top + _TILE_ROWS + taps - 1)
                total[tile] += _ssim_map(image[tile, rows], clean[tile, rows], taps, blur).sum((1, 2))
    value = total.view(batch, channels).mean(1) / ((height - taps + 1) * (width - taps + 1))
    return value.where(finite, math.nan)


def _finite(images: Tensor) -> Tensor:
    """Return (B,) bool: which images (B,C,H,W) are finite, as their extremes tell; those of a NaN are NaN."""
    values = images.flatten(1)
    return values.amax(1).isfinite() & values.amin(1).isfinite()


def _ssim_map(image: Tensor, clean: Tensor, taps: int, blur: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return the structural similarity at each position of the window: (N,h,w) to (N,h-taps+1,w-taps+1).

    The sum s = x + y and the difference d = x - y need four blurs instead of five, as 2(var x + var y) = var s + var d
    and 4 cov = var s - var d, and likewise for the means. Both are centred before they are squared, as a variance by
    E[s²] - E[s]² loses its digits far from 0.
    """
    fields = image.new_empty(4, *image.shape, dtype=torch.float32)
    x = torch.clamp(image.float(), 0, 1, out=fields[2])
    y = torch.clamp(clean.float(), 0, 1, out=fields[3])
    torch.add(x, y, out=fields[0])
    torch.sub(x, y, out=fields[1])
    centre = fields[:2].mean((2, 3), keepdim=True)
    fields[:2].sub_(centre)
    torch.mul(fields[:2], fields[:2], out=fields[2:])
    blurred = blur(fields, taps)
    means, variances = blurred[:2], blurred[2:]
    variances.addcmul_(means, means, value=-1)
    means.add_(centre).square_()
    means[0].add_(2 * _C1)
    variances[0].add_(2 * _C2)
    of_sum, of_difference = blurred[::2], blurred[1::2]
    total = of_sum + of_difference
    ratio = of_sum.sub_(of_difference).div_(total)
    return ratio[0].mul_(ratio[1])


@lru_cache(maxsize=8)
def _window(taps: int) -> tuple[float, ...]:
    offset = torch.arange(taps, dtype=torch.float64) - taps // 2
    weight = (-0.5 * (offset / 1.5) ** 2).exp()
    return tuple((weight / weight.sum()).tolist())


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _band(size: int, taps: int) -> Tensor:
    """Return the blur along one axis as a matrix (size-taps+1,size) on the CPU."""
    weights = torch.tensor([_window(taps)], dtype=torch.float32)
    return filter_matrices(weights, size, "zero")[0, taps // 2 : size - taps // 2, :size].contiguous()


def _matmul_blur(fields: Tensor, taps: int) -> Tensor:
    """Blur (4,N,h,w) along both axes by banded matrix products: (4,N,h-taps+1,w-taps+1), with N last in memory.

    Both products have the images on the right, transposed: their rows are long then, which is faster and needs no copy.
    """
    count, planes, height, width = fields.shape
    rows, columns = _band(height, taps), _band(width, taps)
    across = columns @ fields.view(-1, width).T
    blurred = rows @ across.view(-1, planes, height).mT
    return blurred.view(len(columns), count, len(rows), planes).permute(1, 3, 2, 0)


def _shift_blur(fields: Tensor, taps: int) -> Tensor:
    """Blur (4,N,h,w) along both axes by adding shifted copies: (4,N,h-taps+1,w-taps+1)."""
    for axis in (2, 3):
        size = fields.shape[axis] - taps + 1
        weight = _window(taps)
        blurred = fields.narrow(axis, 0, size) * weight[0]
        for shift in range(1, taps):
            blurred.add_(fields.narrow(axis, shift, size), alpha=weight[shift])
        fields = blurred
    return fields
