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

from recon.filters.bands import source

_TRANSFORM = 150, 1_300_000  # products that cost as much as a plane's Fourier transforms: per pixel, and in total
SUM = 75  # products in one running sum: in float32, a longer sum of equal ones drifts by 1e-6 and more
_ELEMENTS = 1 << 18  # of the images filtered at a time, so that they stay in the cache
_LANES = 16  # images or strips that a convolution filters side by side


def filter_apart(image: Tensor, down: Tensor, right: Tensor, boundary: str) -> Tensor:
    """Filter each image by its weights along columns and along rows, both (B,k) or the same for all (1,k), k odd.

    >>> weights = torch.tensor([[0.25, 0.5, 0.25]])
    >>> filter_apart(clean, weights, weights, "reflect")[0, 0, 0]
    tensor([0.0403, 0.0645, 0.0968, 0.1210])
    """
    down, right = down.to(image.dtype), right.to(image.dtype)
    size = max(1, _ELEMENTS // math.prod(image.shape[1:])) if image.device.type == "cpu" else len(image)
    if len(image) <= size:
        return _apart(image, down, right, boundary)
    parts = (slice(first, first + size) for first in range(0, len(image), size))
    return torch.cat([_apart(image[part], _share(down, part), _share(right, part), boundary) for part in parts])


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
    quick = image.dtype == torch.float32 and torch.backends.mkldnn.is_available() and columns <= SUM
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
    at_once = -(-rows // -(-rows * columns // SUM))
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
    return _sum(shifted, kernels.reshape(len(kernels), rows * columns, 1, 1, 1).unbind(1))


def _apart(image: Tensor, down: Tensor, right: Tensor, boundary: str) -> Tensor:
    """Sum along columns, then along rows; a plane is one line of values, as calls for short rows would be slow."""
    width = image.shape[3]
    rows = _continued(image, 2, down.shape[1] // 2, down.shape[1] // 2, boundary)
    half = _by_steps(rows.flatten(2), down, width).view_as(image)
    columns = _continued(half, 3, right.shape[1] // 2, right.shape[1] // 2, boundary)
    # Sums that begin in one row and end in the next are left out.
    return _by_steps(columns.flatten(2), right, 1).unfold(2, width, columns.shape[3]).contiguous()


def _by_steps(lines: Tensor, weights: Tensor, step: int) -> Tensor:
    """Correlate lines (B,C,N) with weights (B,k) for values that lie `step` apart."""
    length = lines.shape[2] - step * (weights.shape[1] - 1)
    shifted = [lines.narrow(2, first, length) for first in range(0, lines.shape[2] - length + 1, step)]
    return _sum(shifted, weights.view(*weights.shape, 1, 1).unbind(1))


def _sum(images: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Add up weighted images, in the order and with the roundings of `recon.degradations.compiled`."""
    starts = range(0, len(weights), SUM)
    total: Tensor = reduce(torch.add, (_short_sum(images[i : i + SUM], weights[i : i + SUM]) for i in starts))
    return total


def _short_sum(images: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = images[0] * weights[0]
    for image, weight in zip(images[1:], weights[1:], strict=True):
        # Of `addcmul` the processor decides whether the product is rounded.
        total = total.add_(image * weight) if total.is_cpu else total.addcmul_(image, weight)
    return total


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
