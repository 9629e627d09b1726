"""Filtering images (B,C,H,W) by a kernel of each or one for all, up to their borders.

Boundaries continue an image, in brackets the mode of `scipy.ndimage`: "reflect" mirrors it about the outer edge of its
border pixels ("reflect"), "replicate" repeats these pixels ("nearest"), "circular" repeats the image ("wrap"), "zero"
is black ("constant"). A kernel may be larger than the image, which is then mirrored or repeated as often as needed.

On one device, the bits of a filtered image do not depend on its batch.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.filters.bands import ALIGNED, filter_matrices, source
from recon.filters.exact import exact_matmul

_LARGEST_MATRIX = 64  # above this side, shifting and adding is faster than a banded matrix product
_TRANSFORM = 150, 1_300_000  # products that cost as much as a plane's Fourier transforms: per pixel, and in total
_SUM = 75  # products in one running sum: in float32, a longer sum of equal ones drifts by 1e-6 and more
_ELEMENTS = 1 << 18  # of the images filtered at a time, so that they stay in the cache
_LANES = 16  # images or strips that a convolution filters side by side


def filter_apart(image: Tensor, down: Tensor, right: Tensor, boundary: str) -> Tensor:
    """Filter each image by its weights along columns and along rows, both (B,k) or the same for all (1,k), k odd.

    >>> weights = torch.tensor([[0.25, 0.5, 0.25]])
    >>> filter_apart(clean, weights, weights, "reflect")[0, 0, 0]
    tensor([0.0403, 0.0645, 0.0968, 0.1210])
    """
    same, down = right is down, down.to(image.dtype)
    right = down if same else right.to(image.dtype)
    # Only on the CPU do matrix products return the same bits for any batch size.
    if image.device.type == "cpu" and max(image.shape[2:]) <= _LARGEST_MATRIX and exact_matmul():
        return _by_matrix(image, down, right, boundary)
    return _by_shifts(_by_shifts(image, down.unsqueeze(2), boundary), right.unsqueeze(1), boundary)


def filter_whole(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Correlate each image with its kernel (B,h,w), or all with one (1,h,w); h and w are odd.

    >>> filter_whole(clean, torch.tensor([[[0.0, 0.0, 1.0]]]), "zero")[0, 0, 0]
    tensor([0.0323, 0.0645, 0.0968, 0.0000])
    """
    kernels = kernels.to(image.dtype).expand(len(image), -1, -1)
    rows, columns = kernels.shape[1:]
    taps = rows * columns
    if image.device.type != "cpu" or taps == 1 or not len(image):
        return _by_shifts(image, kernels, boundary)
    # In double precision, or without oneDNN, torch splits the convolution into one small operation for each image.
    quick = image.dtype == torch.float32 and torch.backends.mkldnn.is_available() and columns <= _SUM
    if quick and taps <= _TRANSFORM[0] + _TRANSFORM[1] / math.prod(image.shape[2:]):
        return _by_convolution(image, kernels, boundary)
    return _by_fourier(image, kernels, boundary)


def _by_convolution(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Sum directly, each image a channel of its own of one convolution; on the CPU the fastest for small kernels."""
    channels, height, width = image.shape[1:]
    rows, columns = kernels.shape[1:]
    affordable = _ELEMENTS // (channels * (height + rows - 1) * (width + columns - 1))
    size = min(64, 1 << max(0, affordable.bit_length() - 1))
    # A convolution needs many channels to be fast: few large images are cut into strips, few small ones filled up.
    strips = max(1, _LANES // size)
    strip = -(-height // strips)
    filtered = []
    for parts in zip(image.split(size), kernels.split(size), strict=True):
        batch, weights = (_filled(part, min(size, _LANES)) for part in parts)
        batch = _framed(batch, rows, columns, boundary, strips * strip - height)
        batch = batch.unfold(2, strip + rows - 1, strip).permute(1, 0, 2, 4, 3)
        batch = batch.reshape(channels, -1, strip + rows - 1, width + columns - 1)
        batch = _convolution(batch, weights.repeat_interleave(strips, 0))
        batch = batch.view(channels, -1, strips * strip, width).transpose(0, 1)
        filtered.append(batch[: len(parts[0]), :, :height])
    return torch.cat(filtered)


def _filled(values: Tensor, multiple: int) -> Tensor:
    """Add zeros up to a multiple along the first dimension."""
    lacking = -len(values) % multiple
    return F.pad(values, (0, 0) * (values.ndim - 1) + (0, lacking)) if lacking else values


def _convolution(image: Tensor, kernels: Tensor) -> Tensor:
    """Correlate images (C,B,H,W) with kernels (B,h,w) where they lie inside, a few rows of the kernel at a time."""
    count, rows, columns = kernels.shape
    at_once = -(-rows // -(-rows * columns // _SUM))
    height = image.shape[2] - rows + 1
    sums = (
        F.conv2d(image.narrow(2, row, height + band.shape[2] - 1), band, groups=count)
        for row, band in zip(range(0, rows, at_once), kernels.unsqueeze(1).split(at_once, 2), strict=True)
    )
    return reduce(torch.add, sums)


def _by_fourier(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Multiply spectra, plane by plane: a batched FFT's last bits depend on batch size and thread count."""
    rows, columns = kernels.shape[1:]
    height, width = image.shape[2:]
    size = _smooth(height + rows - 1), _smooth(width + columns - 1)
    planes = []
    for single, kernel in zip(image.split(1), kernels, strict=True):
        weights = torch.fft.rfft2(kernel, s=size).conj()
        for plane in _framed(single, rows, columns, boundary)[0]:
            spectrum = torch.fft.rfft2(plane, s=size) * weights
            planes.append(torch.fft.irfft2(spectrum, s=size)[:height, :width])
    return torch.stack(planes).view(image.shape)


@lru_cache(maxsize=256)
def _smooth(count: int) -> int:
    """Return the least even number, at least `count`, without a prime factor above 5: its transform is fast."""
    powers_of_all = 60**16
    return next(even for even in range(count + count % 2, 2 * count + 2, 2) if powers_of_all % even == 0)


def _by_shifts(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Add up shifted images, weight by weight; on every device the bits do not depend on the batch."""
    height, width = image.shape[2:]
    rows, columns = kernels.shape[1:]
    padded = _framed(image, rows, columns, boundary)
    lines = (padded.narrow(2, row, height) for row in range(rows))
    shifted = [line.narrow(3, column, width) for line in lines for column in range(columns)]
    weights = kernels.reshape(len(kernels), rows * columns, 1, 1, 1).unbind(1)
    starts = range(0, len(weights), _SUM)
    total: Tensor = reduce(torch.add, (_sum(shifted[i : i + _SUM], weights[i : i + _SUM]) for i in starts))
    return total


def _sum(images: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = images[0] * weights[0]
    for image, weight in zip(images[1:], weights[1:], strict=True):
        total.addcmul_(image, weight)
    return total


def _by_matrix(image: Tensor, down: Tensor, right: Tensor, boundary: str) -> Tensor:
    """Multiply by banded matrices from both sides; on the CPU the fastest for small images."""
    channels, height, width = image.shape[1:]
    below, beside = -height % ALIGNED, -width % ALIGNED
    padded = F.pad(image, (0, beside, 0, below)) if below or beside else image
    same = down is right and height == width
    size = max(1, _ELEMENTS // (2 * channels * height * width))  # intermediate results take as much again
    parts = []
    for first in range(0, max(1, len(image)), size):
        part = slice(first, first + size)
        rows = filter_matrices(_share(down, part), height, boundary)
        columns = rows if same else filter_matrices(_share(right, part), width, boundary)
        batch = padded[part]
        half = torch.bmm(batch.flatten(1, 2), columns.mT.expand(len(batch), -1, -1)).view_as(batch)
        if len(rows) == 1:  # `matmul` would copy the matrix for every plane
            planes = half.flatten(0, 1)
            parts.append(torch.bmm(rows.expand(len(planes), -1, -1), planes).view_as(batch))
        else:
            parts.append(rows.unsqueeze(1) @ half)
    filtered = parts[0] if len(parts) == 1 else torch.cat(parts)
    return filtered[:, :, :height, :width].contiguous()


def _share(weights: Tensor, part: slice) -> Tensor:
    """Return the weights (b,k) of a part of the images, or the one row that all share."""
    return weights if len(weights) == 1 else weights[part]


def _framed(image: Tensor, rows: int, columns: int, boundary: str, below: int = 0) -> Tensor:
    """Continue images beyond their borders by half a kernel, and by `below` more rows at the bottom."""
    image = _continued(image, 2, rows // 2, rows // 2 + below, boundary)
    return _continued(image, 3, columns // 2, columns // 2, boundary)


def _continued(image: Tensor, dim: int, before: int, after: int, boundary: str) -> Tensor:
    if not before and not after:
        return image
    if boundary == "zero":
        return F.pad(image, (0, 0) * (3 - dim) + (before, after))
    index = torch.arange(-before, image.shape[dim] + after, device=image.device)
    return image.index_select(dim, source(index, image.shape[dim], boundary))
