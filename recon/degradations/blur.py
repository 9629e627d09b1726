"""Blur: Gaussian, motion, defocus, box, and any given kernel.

All share three boundaries, what an image is taken to be outside itself (in brackets the mode of `scipy.ndimage`):
"reflect" mirrors it about the outer edge of its border pixels ("reflect"), "circular" repeats it ("wrap"), "replicate"
continues its border pixels ("nearest", as MATLAB's 'replicate' and OpenCV's BORDER_REPLICATE), "zero" is
black ("constant"). A kernel may be larger than the image, which is then mirrored or repeated as often as it needs.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.degradations.base import Degradation, Degraded, Range, all_known, draw, ends
from recon.errors import InputError
from recon.metrics import exact_matmul

_BOUNDARIES = ("reflect", "circular", "replicate", "zero")
_MOST_NUMBERS = 1 << 22  # of kernels from a file
_LARGEST = 512.0  # pixels; the largest kernel has 8 times as many and one to spare
_LARGEST_MATRIX = 64  # beyond this side, shifting and adding is faster than a banded matrix product
_ALIGNED = 4  # sides of matrices; the bits of a product hang on where in a cache line its matrices begin
_TRANSFORM = 150, 1_300_000  # products that cost as much as a plane's Fourier transforms: for each pixel, and in all
_SUM = 75  # products added up in one go: in float32, a longer sum of equal ones drifts by 1e-6 and more
_ELEMENTS = 1 << 18  # of the images that are filtered at a time, so that they stay in the cache
_LANES = 16  # images or strips that a direct sum works on side by side


class GaussianBlur(Degradation):
    """Blur with a Gaussian, sampled at the pixels; it may be longer in one direction.

    The kernel of each image is the square that ends at `int(4 sigma + 0.5)` pixels of its own sigma. With `ratio` 1 it
    equals `scipy.ndimage.gaussian_filter` with truncate 4. The severity is sigma.

    Args:
        sigma: standard deviation in pixels along `angle`, at least 0; 0 leaves the image as it is.
        ratio: standard deviation across `angle` as a part of sigma, above 0 and at most 1.
        angle: direction in degrees, counter-clockwise from the horizontal axis.
        boundary: "reflect", "circular", "replicate" or "zero".

    Raises:
        InputError: a parameter is out of its bounds.
    """

    examples: ClassVar = {"sigma": (1, 2, 4)}

    def __init__(self, sigma: Range, ratio: Range = 1.0, angle: Range = 0.0, boundary: str = "reflect") -> None:
        self.level = ends("sigma", sigma, high=_LARGEST)
        self.ratio = ends("ratio", ratio, high=1)
        if self.ratio[0] == 0:
            raise InputError(f"ratio must be above 0, not {ratio!r}: a Gaussian needs some width.")
        self.angle = ends("angle", angle, low=-3600, high=3600)
        self.boundary = _known(boundary)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        radius = _radius(self.level[1])
        if self.ratio == (1, 1):
            distinct = _distinct(sigma, self.level)
            weights = _gaussian(distinct, distinct, radius)
            return Degraded(_filter_apart(clean, weights, weights, self.boundary), all_known(clean), sigma)
        ratio, angle = draw(self.ratio, keys, "ratio"), draw(self.angle, keys, "angle")
        if self.angle[0] == self.angle[1] and self.angle[0] % 90 == 0:
            along, across = _gaussian(sigma, sigma, radius), _gaussian(sigma.double() * ratio, sigma, radius)
            down, right = (across, along) if self.angle[0] % 180 == 0 else (along, across)
            return Degraded(_filter_apart(clean, down, right, self.boundary), all_known(clean), sigma)
        ratio, angle = _distinct(ratio, self.ratio), _distinct(angle, self.angle)
        kernels = _turned_gaussian(_distinct(sigma, self.level), ratio, angle, radius)
        return Degraded(_filter(clean, kernels, self.boundary), all_known(clean), sigma)


class MotionBlur(Degradation):
    """Blur along a straight line, as a camera does that moves evenly while the shutter is open.

    The kernel is that of MATLAB's `fspecial('motion', length, angle)`: a pixel weighs 1 less its distance to the line,
    at least 0. The severity is the length.

    Args:
        length: of the line in pixels, at least 1; 1 leaves the image as it is.
        angle: of the line in degrees, counter-clockwise from the horizontal axis.
        boundary: "reflect", "circular", "replicate" or "zero".

    Raises:
        InputError: a parameter is out of its bounds.
    """

    examples: ClassVar = {"length": (7, 15, 31)}

    def __init__(self, length: Range, angle: Range = (0.0, 180.0), boundary: str = "reflect") -> None:
        self.level = ends("length", length, low=1, high=_LARGEST)
        self.angle = ends("angle", angle, low=-3600, high=3600)
        self.boundary = _known(boundary)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        length, angle = draw(self.level, keys, "length"), draw(self.angle, keys, "angle")
        kernels = _line(_distinct(length, self.level), _distinct(angle, self.angle), math.ceil((self.level[1] - 1) / 2))
        return Degraded(_filter(clean, kernels, self.boundary), all_known(clean), length)


class DefocusBlur(Degradation):
    """Blur with a uniform disk, the image of a point through a round aperture out of focus.

    As in MATLAB's `fspecial('disk', radius)`, a pixel of the kernel weighs the area of it that the disk covers. The
    severity is the radius.

    Args:
        radius: of the disk in pixels, at least 0; up to 0.5 it leaves the image as it is.
        boundary: "reflect", "circular", "replicate" or "zero".

    Raises:
        InputError: a parameter is out of its bounds.
    """

    examples: ClassVar = {"radius": (2, 4, 8)}

    def __init__(self, radius: Range, boundary: str = "reflect") -> None:
        self.level = ends("radius", radius, high=_LARGEST)
        self.boundary = _known(boundary)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        radius = draw(self.level, keys, "radius")
        kernels = _disk(_distinct(radius, self.level), max(0, math.ceil(self.level[1] - 0.5)))
        return Degraded(_filter(clean, kernels, self.boundary), all_known(clean), radius)


class BoxBlur(Degradation):
    """Blur with the mean over a square, equal to `scipy.ndimage.uniform_filter`.

    The severity is the size.

    Args:
        size: the square's side in pixels, odd; 1 leaves the image as it is, a range draws odd sizes only.
        boundary: "reflect", "circular", "replicate" or "zero".

    Raises:
        InputError: a parameter is out of its bounds, or a size is even.
    """

    examples: ClassVar = {"size": (3, 7, 15)}

    def __init__(self, size: Range, boundary: str = "reflect") -> None:
        self.level = ends("size", size, low=1, high=_LARGEST)
        if not all(end % 2 == 1 for end in self.level):
            raise InputError(f"size must be odd, or a range between two odd sizes such as [3, 9], not {size!r}.")
        self.boundary = _known(boundary)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        low, high = map(int, self.level)
        size = (low + 2 * keyed.integers(keyed.fold(keys, "size"), (high - low) // 2 + 1)).float()
        place = torch.arange(-(high // 2), high // 2 + 1, device=size.device)
        weights = (2 * place.abs() < size.unsqueeze(1)) / size.double().unsqueeze(1)
        return Degraded(_filter_apart(clean, weights, weights, self.boundary), all_known(clean), size)


class KernelBlur(Degradation):
    """Convolve with a given kernel, or with one of several, chosen by key.

    It is the true convolution of `scipy.ndimage.convolve`, which turns a single bright pixel into the kernel as it is
    given. The severity is the number of the chosen kernel, from 0.

    Args:
        kernel: (h,w) numbers, or (K,h,w) for K kernels, h and w odd: nested lists, an array, the path of a NumPy file
            (.npy), or that of an image, whose grey values are taken.
        normalise: divide each kernel by its sum, so that the brightness stays.
        boundary: "reflect", "circular", "replicate" or "zero".

    Raises:
        InputError: the kernel cannot be read, has an even side or values that are no numbers, or sums to 0 and cannot
            be normalised.
    """

    def __init__(self, kernel: str | Path | ArrayLike, normalise: bool = True, boundary: str = "reflect") -> None:
        self.boundary = _known(boundary)
        values = _read(kernel)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or not len(values) or not all(side % 2 for side in values.shape[1:]):
            raise InputError(
                f"kernel must have two odd sides, or be several such kernels (K,h,w), not the shape {values.shape}: "
                "add a row or column of zeros."
            )
        total = values.sum((1, 2), keepdims=True)
        if not np.isfinite(total).all():
            raise InputError("kernel holds values that are no finite numbers: give every pixel a weight.")
        if normalise:
            if not total.all():
                raise InputError("kernel sums to 0, which no division brings to 1: set normalise to false.")
            values = values / total
        self.level = 0.0, len(values) - 1.0
        # A convolution weighs by the kernel turned by 180°.
        self._kernels = torch.tensor(values).flip(1, 2)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        chosen = keyed.integers(keyed.fold(keys, "kernel"), len(self._kernels))
        kernels = self._kernels.to(clean.device, non_blocking=True)
        if len(kernels) > 1:
            kernels = kernels.index_select(0, chosen)
        return Degraded(_filter(clean, kernels, self.boundary), all_known(clean), chosen.float())


def _known(boundary: str) -> str:
    if boundary not in _BOUNDARIES:
        raise InputError(f"boundary must be one of {', '.join(_BOUNDARIES)}, not {boundary!r}.")
    return boundary


def _read(kernel: str | Path | ArrayLike) -> NDArray[np.float64]:
    """Read a kernel from a file, or from numbers."""
    try:
        if not isinstance(kernel, str | Path):
            return np.asarray(kernel, dtype=np.float64)
        if not Path(kernel).expanduser().is_file():  # a pipe would never end
            raise OSError
        if Path(kernel).suffix == ".npy":
            numbers = np.load(Path(kernel).expanduser(), mmap_mode="r", allow_pickle=False)  # its header may lie
            if numbers.size > _MOST_NUMBERS:
                raise ValueError(f"it holds more than {_MOST_NUMBERS} numbers")
            return np.asarray(numbers, dtype=np.float64)
        with Image.open(Path(kernel).expanduser()) as image:
            # 16-bit grey must not pass through the 8 bits of "L".
            return np.asarray(image.convert("F" if image.mode[0] in "IF" else "L"), dtype=np.float64)
    except (OSError, EOFError, ValueError, TypeError) as error:
        given = f"the file {str(kernel)!r}" if isinstance(kernel, str | Path) else "what was given"
        raise InputError(
            f"kernel cannot be read from {given}: give a .npy file, an image file, or rows of numbers of one length."
        ) from error


# Kernels


def _distinct(values: Tensor, level: tuple[float, float]) -> Tensor:
    """Give only the first of values (B,) that are all equal, so that one kernel is computed for all images."""
    return values[:1] if level[0] == level[1] else values


def _radius(sigma: float) -> int:
    return int(4 * sigma + 0.5)


def _gaussian(sigma: Tensor, longest: Tensor, radius: int) -> Tensor:
    """Give each sigma's weights (B,2·radius+1), zero beyond the radius of `longest`; in float64, as it is small."""
    sigma = sigma.double().unsqueeze(1)
    place = torch.arange(-radius, radius + 1, device=sigma.device)
    # The clamp keeps sigma 0 from dividing 0 by 0; its radius is 0.
    kernel = (-0.5 * (place / sigma.clamp_min(1e-9)) ** 2).exp() * _reached(place, longest.unsqueeze(1))
    return kernel / kernel.sum(1, keepdim=True)


def _reached(place: Tensor, sigma: Tensor) -> Tensor:
    return place.abs() <= (4 * sigma.double() + 0.5).floor()


def _turned(angle: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give the places -radius..radius, and how far each pixel of a kernel lies along and across directions (B,)."""
    place = torch.arange(-radius, radius + 1, dtype=torch.float64, device=angle.device)
    angle = angle.double().deg2rad().view(-1, 1, 1)
    right, up = place, -place.unsqueeze(1)  # rows are counted downwards
    return place, right * angle.cos() + up * angle.sin(), up * angle.cos() - right * angle.sin()


def _turned_gaussian(sigma: Tensor, ratio: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Give the kernels (B,2·radius+1,2·radius+1) of Gaussians longer along their angle; in float64."""
    place, along, across = _turned(angle, radius)
    sigma, ratio = sigma.double().view(-1, 1, 1), ratio.double().view(-1, 1, 1)
    reached = _reached(place, sigma)
    kernels = (-0.5 * (along.square() + (across / ratio).square()) / sigma.clamp_min(1e-9).square()).exp()
    return _normalised(kernels * (reached & reached.transpose(1, 2)))


def _line(length: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Give the kernels (B,2·radius+1,2·radius+1) of MATLAB's `fspecial('motion')`; in float64."""
    place, along, across = _turned(angle, radius)
    half = (length.double().view(-1, 1, 1) - 1) / 2
    # Farther from the middle than the line's ends, the distance is that to the nearer end; else, that to the line.
    far = place.square() + place.square().unsqueeze(1) >= half.square()
    distance = (across.square() + ((half - along.abs()) * far).square()).sqrt()
    return _normalised((1 - distance).clamp_min(0))


def _disk(radius: Tensor, reach: int) -> Tensor:
    """Give the kernels (B,2·reach+1,2·reach+1) of disks, each pixel's weight the exact area inside; in float64."""
    radius = radius.double().view(-1, 1, 1).clamp_min(1e-9)
    place = torch.arange(reach + 1, dtype=torch.float64, device=radius.device)
    # One quarter, its innermost pixels cut in half by the axes.
    left, right = (place - 0.5).clamp_min(0), place + 0.5
    low, high = left.unsqueeze(1), right.unsqueeze(1)
    # Going right along a pixel, the circle is first above it, then crosses it, then is below it.
    enters = (radius.square() - high.square()).clamp_min(0).sqrt().maximum(left).minimum(right)
    leaves = (radius.square() - low.square()).clamp_min(0).sqrt().maximum(left).minimum(right)
    area = (enters - left) * (high - low) - (leaves - enters) * low
    area = area + _under_circle(leaves, radius) - _under_circle(enters, radius)
    halves = torch.where(place == 0, 2.0, 1.0).double()
    area = area * halves * halves.unsqueeze(1)
    mirrored = torch.arange(-reach, reach + 1, device=radius.device).abs()
    return _normalised(area.index_select(1, mirrored).index_select(2, mirrored))


def _under_circle(place: Tensor, radius: Tensor) -> Tensor:
    """Give the area between the axis and the circle, from the middle to `place` (at most the radius is counted)."""
    place = place.minimum(radius)
    height = (radius.square() - place.square()).sqrt()
    return (place * height + radius.square() * (place / radius).asin()) / 2


def _normalised(kernels: Tensor) -> Tensor:
    return kernels / kernels.sum((1, 2), keepdim=True)


# Filters: on one device, all give the same bits for any batch


def _filter_apart(image: Tensor, down: Tensor, right: Tensor, boundary: str) -> Tensor:
    """Filter each image by its weights along columns and along rows, both (B,k) or the same for all (1,k), k odd."""
    alike, down = right is down, down.to(image.dtype)
    right = down if alike else right.to(image.dtype)
    # Only on the CPU do matrix products give the same bits for any batch size.
    if image.device.type == "cpu" and max(image.shape[2:]) <= _LARGEST_MATRIX and exact_matmul():
        return _by_matrix(image, down, right, boundary)
    return _by_shifts(_by_shifts(image, down.unsqueeze(2), boundary), right.unsqueeze(1), boundary)


def _filter(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Correlate each image with its kernel (B,h,w), or all with one (1,h,w); h and w are odd."""
    kernels = kernels.to(image.dtype).expand(len(image), -1, -1)
    rows, columns = kernels.shape[1:]
    taps = rows * columns
    if image.device.type != "cpu" or taps == 1 or not len(image):
        return _by_shifts(image, kernels, boundary)
    # Of a convolution in double precision, or without oneDNN, torch makes one small operation for each image.
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
    # The convolution works on many channels at once: few large images are cut into strips, few small ones filled up.
    strips = max(1, _LANES // size)
    strip = -(-height // strips)
    filtered = []
    for parts in zip(image.split(size), kernels.split(size), strict=True):
        some, weights = (_filled(part, min(size, _LANES)) for part in parts)
        some = _framed(some, rows, columns, boundary, strips * strip - height)
        some = some.unfold(2, strip + rows - 1, strip).permute(1, 0, 2, 4, 3)
        some = some.reshape(channels, -1, strip + rows - 1, width + columns - 1)
        some = _convolution(some, weights.repeat_interleave(strips, 0))
        some = some.view(channels, -1, strips * strip, width).transpose(0, 1)
        filtered.append(some[: len(parts[0]), :, :height])
    return torch.cat(filtered)


def _filled(values: Tensor, multiple: int) -> Tensor:
    """Add zeros up to a multiple along the first dimension."""
    lacking = -len(values) % multiple
    return F.pad(values, (0, 0) * (values.ndim - 1) + (0, lacking)) if lacking else values


def _convolution(image: Tensor, kernels: Tensor) -> Tensor:
    """Correlate images (C,B,H,W) with kernels (B,h,w) where they lie inside, some rows of the kernel at a time."""
    count, rows, columns = kernels.shape
    at_once = -(-rows // -(-rows * columns // _SUM))
    height = image.shape[2] - rows + 1
    sums = (
        F.conv2d(image.narrow(2, row, height + some.shape[2] - 1), some, groups=count)
        for row, some in zip(range(0, rows, at_once), kernels.unsqueeze(1).split(at_once, 2), strict=True)
    )
    return reduce(torch.add, sums)


def _by_fourier(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Multiply spectra, plane by plane: the bits of several transforms in one hang on their and the threads' number."""
    rows, columns = kernels.shape[1:]
    height, width = image.shape[2:]
    size = _smooth(height + rows - 1), _smooth(width + columns - 1)
    planes = []
    for one, kernel in zip(image.split(1), kernels, strict=True):
        weights = torch.fft.rfft2(kernel, s=size).conj()
        for plane in _framed(one, rows, columns, boundary)[0]:
            spectrum = torch.fft.rfft2(plane, s=size) * weights
            planes.append(torch.fft.irfft2(spectrum, s=size)[:height, :width])
    return torch.stack(planes).view(image.shape)


@lru_cache(maxsize=256)
def _smooth(count: int) -> int:
    """Give the least even number, at least `count`, without a prime factor above 5: its transform is fast."""
    powers_of_all = 60**16
    return next(even for even in range(count + count % 2, 2 * count + 2, 2) if powers_of_all % even == 0)


def _by_shifts(image: Tensor, kernels: Tensor, boundary: str) -> Tensor:
    """Add up shifted images, weight by weight; on every device the same bits for any batch."""
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
    below, beside = -height % _ALIGNED, -width % _ALIGNED
    padded = F.pad(image, (0, beside, 0, below)) if below or beside else image
    alike = down is right and height == width
    size = max(1, _ELEMENTS // (2 * channels * height * width))  # beside them, as many are kept in between
    parts = []
    for first in range(0, max(1, len(image)), size):
        part = slice(first, first + size)
        rows = _bands(_share(down, part), height, boundary)
        columns = rows if alike else _bands(_share(right, part), width, boundary)
        some = padded[part]
        half = torch.bmm(some.flatten(1, 2), columns.mT.expand(len(some), -1, -1)).view_as(some)
        if len(rows) == 1:  # `matmul` would copy the matrix for every plane
            planes = half.flatten(0, 1)
            parts.append(torch.bmm(rows.expand(len(planes), -1, -1), planes).view_as(some))
        else:
            parts.append(rows.unsqueeze(1) @ half)
    filtered = parts[0] if len(parts) == 1 else torch.cat(parts)
    return filtered[:, :, :height, :width].contiguous()


def _share(weights: Tensor, part: slice) -> Tensor:
    """Give the weights (b,k) of some images, or the one row that all have in common."""
    return weights if len(weights) == 1 else weights[part]


def _bands(weights: Tensor, side: int, boundary: str) -> Tensor:
    """Give the matrices (B,s,s) that filter a vector, border included; s is the next multiple of `_ALIGNED`."""
    layout = _layout(side, weights.shape[1] // 2, boundary).to(weights.dtype)
    return (weights @ layout).view(-1, side + -side % _ALIGNED, side + -side % _ALIGNED)


@lru_cache(maxsize=8)
def _layout(side: int, radius: int, boundary: str) -> Tensor:
    """Which entries of the filter's matrix each weight adds to: (2·radius+1, s·s) of 0 and 1."""
    row, shift = torch.arange(side).unsqueeze(1), torch.arange(2 * radius + 1)
    place = row + shift - radius
    layout = torch.zeros(len(shift), side + -side % _ALIGNED, side + -side % _ALIGNED)
    inside = ((place >= 0) & (place < side)).float()
    layout[shift, row, _source(place, side, boundary)] = inside if boundary == "zero" else torch.ones(())
    return layout.flatten(1)


def _framed(image: Tensor, rows: int, columns: int, boundary: str, below: int = 0) -> Tensor:
    """Continue images beyond their borders by half a kernel, and below by some rows more."""
    image = _continued(image, 2, rows // 2, rows // 2 + below, boundary)
    return _continued(image, 3, columns // 2, columns // 2, boundary)


def _continued(image: Tensor, dim: int, before: int, after: int, boundary: str) -> Tensor:
    if not before and not after:
        return image
    if boundary == "zero":
        return F.pad(image, (0, 0) * (3 - dim) + (before, after))
    place = torch.arange(-before, image.shape[dim] + after, device=image.device)
    return image.index_select(dim, _source(place, image.shape[dim], boundary))


def _source(place: Tensor, side: int, boundary: str) -> Tensor:
    """Map places outside 0..side-1 to those whose pixel they show; for "zero" to any."""
    if boundary == "replicate":
        return place.clamp(0, side - 1)
    if boundary != "reflect":
        return place.remainder(side)
    place = place.remainder(2 * side)
    return torch.minimum(place, 2 * side - 1 - place)
