"""Blur: Gaussian, motion, defocus, box, and any given kernel.

All share the boundaries of `recon.filters.convolve`, which continue an image beyond its border: "reflect",
"replicate", "circular" or "zero". A kernel may be larger than the image.
"""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, draw
from recon.degradations.levels import Range, ends, one_of, whole_ends
from recon.errors import InputError
from recon.filters.bands import BOUNDARIES
from recon.filters.convolve import filter_apart, filter_whole

_WIDEST = 401  # pixels of a kernel's side; a wider one leaves nothing of a photograph to restore
_MOST_WEIGHTS = 1 << 24  # of all kernels of a `KernelBlur`
_TURN = 3600  # degrees, ten times around
_HEAVIEST = 1e6  # weight of a pixel


class GaussianBlur(Degradation):
    """Blur with a Gaussian, sampled at the pixels; it may be longer in one direction.

    The kernel of each image is the square that ends at `int(4 sigma + 0.5)` pixels of its own sigma. With `ratio` 1 it
    equals `scipy.ndimage.gaussian_filter` with truncate 4. The severity is sigma.

    >>> GaussianBlur(0.8)(clean, keys).image[0, 0, 0]
    tensor([0.0478, 0.0712, 0.1020, 0.1254])

    Args:
        sigma: standard deviation in pixels along `angle`, from 0 to 50; 0 leaves the image unchanged.
        ratio: standard deviation across `angle` as a part of sigma, from 0.01 to 1.
        angle: direction in degrees, from -3600 to 3600, counter-clockwise from the horizontal axis.
        boundary: "reflect", "replicate", "circular" or "zero".
    """

    examples: ClassVar = ("sigma", (1, 2, 4))

    def __init__(self, sigma: Range, ratio: Range = 1.0, angle: Range = 0.0, boundary: str = "reflect") -> None:
        self.level = ends("sigma", sigma, 0, (_WIDEST - 1) / 8)
        self.ratio = ends("ratio", ratio, 0.01, 1)
        self.angle = ends("angle", angle, -_TURN, _TURN)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        radius = int(4 * self.level[1] + 0.5)
        if self.ratio == (1, 1):
            distinct = _distinct(sigma, self.level)
            weights = _gaussian(distinct, distinct, radius)
            return Degraded(filter_apart(clean, weights, weights, self.boundary), all_known(clean), sigma)
        ratio, angle = draw(self.ratio, keys, "ratio"), draw(self.angle, keys, "angle")
        if self.angle[0] == self.angle[1] and self.angle[0] % 90 == 0:
            along, across = _gaussian(sigma, sigma, radius), _gaussian(sigma.double() * ratio, sigma, radius)
            down, right = (across, along) if self.angle[0] % 180 == 0 else (along, across)
            return Degraded(filter_apart(clean, down, right, self.boundary), all_known(clean), sigma)
        ratio, angle = _distinct(ratio, self.ratio), _distinct(angle, self.angle)
        kernels = _turned_gaussian(_distinct(sigma, self.level), ratio, angle, radius)
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), sigma)


class MotionBlur(Degradation):
    """Blur along a straight line, as a camera does that moves evenly while the shutter is open.

    The kernel is that of MATLAB's `fspecial('motion', length, angle)`: a pixel weighs 1 less its distance to the line,
    at least 0. The severity is the length.

    >>> MotionBlur(3, angle=0, boundary="replicate")(clean, keys).image[0, 0, 0]
    tensor([0.0108, 0.0323, 0.0645, 0.0860])

    Args:
        length: of the line in pixels, from 1 to 401; 1 leaves the image unchanged.
        angle: of the line in degrees, from -3600 to 3600, counter-clockwise from the horizontal axis.
        boundary: "reflect", "replicate", "circular" or "zero".
    """

    examples: ClassVar = ("length", (7, 15, 31))

    def __init__(self, length: Range, angle: Range = (0.0, 180.0), boundary: str = "reflect") -> None:
        self.level = ends("length", length, 1, _WIDEST)
        self.angle = ends("angle", angle, -_TURN, _TURN)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        length, angle = draw(self.level, keys, "length"), draw(self.angle, keys, "angle")
        kernels = _line(_distinct(length, self.level), _distinct(angle, self.angle), math.ceil((self.level[1] - 1) / 2))
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), length)


class DefocusBlur(Degradation):
    """Blur with a uniform disk, the image of a point through a round aperture out of focus.

    As in MATLAB's `fspecial('disk', radius)`, a pixel of the kernel weighs the area of it that the disk covers. The
    severity is the radius.

    >>> DefocusBlur(1.5)(clean, keys).image[0, 0, 0]
    tensor([0.0471, 0.0699, 0.1022, 0.1250])

    Args:
        radius: of the disk in pixels, from 0 to 200; up to 0.5 it leaves the image unchanged.
        boundary: "reflect", "replicate", "circular" or "zero".
    """

    examples: ClassVar = ("radius", (2, 4, 8))

    def __init__(self, radius: Range, boundary: str = "reflect") -> None:
        self.level = ends("radius", radius, 0, (_WIDEST - 1) / 2)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        radius = draw(self.level, keys, "radius")
        kernels = _disk(_distinct(radius, self.level), max(0, math.ceil(self.level[1] - 0.5)))
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), radius)


class BoxBlur(Degradation):
    """Blur with the mean over a square, equal to `scipy.ndimage.uniform_filter`; the severity is the size.

    >>> BoxBlur(3)(clean, keys).image[0, 0, 0]
    tensor([0.0538, 0.0753, 0.1075, 0.1290])

    Args:
        size: the square's side in pixels, odd, up to 401; 1 leaves the image unchanged, a range draws odd sizes only.
        boundary: "reflect", "replicate", "circular" or "zero".
    """

    examples: ClassVar = ("size", (3, 7, 15))

    def __init__(self, size: Range, boundary: str = "reflect") -> None:
        self.level = whole_ends("size", size, 1, _WIDEST)
        if not all(end % 2 == 1 for end in self.level):
            raise InputError(f"size: {size!r} is not odd; give an odd size, or a range of two such as [3,9]")
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        low, high = map(int, self.level)
        size = (low + 2 * keyed.integers(keyed.fold(keys, "size"), (high - low) // 2 + 1)).float()
        offset = torch.arange(-(high // 2), high // 2 + 1, device=size.device)
        weights = (2 * offset.abs() < size.unsqueeze(1)) / size.double().unsqueeze(1)
        return Degraded(filter_apart(clean, weights, weights, self.boundary), all_known(clean), size)


class KernelBlur(Degradation):
    """Convolve with a given kernel, or with one of several, chosen by key.

    It is the true convolution of `scipy.ndimage.convolve`, which turns a single bright pixel into the unaltered
    kernel. The severity is the number of the chosen kernel, from 0.

    >>> KernelBlur([[1, 1, 2]])(clean, keys).image[0, 0, 0]
    tensor([0.0081, 0.0242, 0.0565, 0.0806])

    Args:
        kernel: (h,w) numbers, or (K,h,w) for K kernels, h and w odd: nested lists, an array, the path of a NumPy file
            (.npy), or that of an image, whose grey values are taken.
        normalise: divide each kernel by its sum, so that the brightness stays.
        boundary: "reflect", "replicate", "circular" or "zero".
    """

    def __init__(self, kernel: str | Path | ArrayLike, normalise: bool = True, boundary: str = "reflect") -> None:
        self.boundary = one_of("boundary", boundary, BOUNDARIES)
        values = _read(kernel)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or not len(values) or not all(side % 2 for side in values.shape[1:]):
            raise InputError(
                f"kernel: its shape is {values.shape}; give it two odd sides, by zeros where need be, or give "
                "several such kernels (K,h,w)"
            )
        _require_small(values.shape)
        with np.errstate(over="ignore"):
            total = values.sum((1, 2), keepdims=True)
        if not np.isfinite(total).all():
            raise InputError("kernel: it holds values that are no finite numbers; give every pixel a weight")
        if normalise:
            if not (np.abs(total) > 1e-9 * np.abs(values).max((1, 2), keepdims=True)).all():
                raise InputError("kernel: it sums to 0, which no division brings to 1; set normalise to false")
            values = values / total
        if np.abs(values).max() > _HEAVIEST:
            raise InputError(f"kernel: its weights reach {np.abs(values).max():g}; scale them to {_HEAVIEST:g} at most")
        self.level = 0.0, len(values) - 1.0
        # A convolution weighs by the kernel turned by 180°.
        self._kernels = torch.tensor(values).flip(1, 2)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        chosen = keyed.integers(keyed.fold(keys, "kernel"), len(self._kernels))
        kernels = self._kernels.to(clean.device, non_blocking=True)
        if len(kernels) > 1:
            kernels = kernels.index_select(0, chosen)
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), chosen.float())


def _read(kernel: str | Path | ArrayLike) -> NDArray[np.float64]:
    """Read a kernel from a file, which is untrusted, or from numbers."""
    try:
        if not isinstance(kernel, str | Path):
            return np.asarray(kernel, dtype=np.float64)
        path = Path(kernel).expanduser()
        if not path.is_file():  # opening a pipe would block
            raise FileNotFoundError(path)
        if path.suffix == ".npy":
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # a header may claim any size
            _require_small(mapped.shape)
            return np.array(mapped, dtype=np.float64)
        with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP")) as image:
            _require_small(image.size)
            # 16-bit grey must not pass through the 8 bits of "L".
            return np.asarray(image.convert("F" if image.mode[0] in "IF" else "L"), dtype=np.float64)
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: SyntaxError, struct.error
        given = f"the file {str(kernel)!r}" if isinstance(kernel, str | Path) else "these values"
        raise InputError(
            f"kernel: it cannot be read from {given}; give a .npy file, an image file, or rows of numbers of one length"
        ) from error


def _require_small(shape: tuple[int, ...]) -> None:
    """Raise InputError, before kernels are read, for those that would take minutes or all memory."""
    if max(shape[-2:], default=0) > _WIDEST or math.prod(shape) > _MOST_WEIGHTS:
        raise InputError(
            f"kernel: its shape is {tuple(shape)}; give sides of at most {_WIDEST} pixels and at most {_MOST_WEIGHTS} "
            "weights in all"
        )


def _distinct(values: Tensor, level: tuple[float, float]) -> Tensor:
    """Return the first of values (B,) that are all equal, so that one kernel is computed for all images."""
    return values[:1] if level[0] == level[1] else values


def _gaussian(sigma: Tensor, longest: Tensor, radius: int) -> Tensor:
    """Return each sigma's weights (B,2·radius+1), zero beyond the radius of `longest`; in float64."""
    sigma = sigma.double().unsqueeze(1)
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    # The clamp keeps sigma 0 from dividing 0 by 0; its radius is 0.
    kernel = (-0.5 * (offset / sigma.clamp_min(1e-9)) ** 2).exp() * _reached(offset, longest.unsqueeze(1))
    return kernel / kernel.sum(1, keepdim=True)


def _reached(offset: Tensor, sigma: Tensor) -> Tensor:
    return offset.abs() <= (4 * sigma.double() + 0.5).floor()


def _turned(angle: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the offsets -radius..radius, and each kernel pixel's distance along and across directions (B,)."""
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64, device=angle.device)
    angle = angle.double().deg2rad().view(-1, 1, 1)
    right, up = offset, -offset.unsqueeze(1)  # rows are counted downwards
    return offset, right * angle.cos() + up * angle.sin(), up * angle.cos() - right * angle.sin()


def _turned_gaussian(sigma: Tensor, ratio: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Return the kernels (B,2·radius+1,2·radius+1) of Gaussians longer along their angle; in float64."""
    offset, along, across = _turned(angle, radius)
    sigma, ratio = sigma.double().view(-1, 1, 1), ratio.double().view(-1, 1, 1)
    reached = _reached(offset, sigma)
    kernels = (-0.5 * (along.square() + (across / ratio).square()) / sigma.clamp_min(1e-9).square()).exp()
    return _normalised(kernels * (reached & reached.transpose(1, 2)))


def _line(length: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Return the kernels (B,2·radius+1,2·radius+1) of MATLAB's `fspecial('motion')`; in float64."""
    offset, along, across = _turned(angle, radius)
    half = (length.double().view(-1, 1, 1) - 1) / 2
    # Farther from the middle than the line's ends, the distance is to the nearer end; otherwise to the line.
    far = offset.square() + offset.square().unsqueeze(1) >= half.square()
    distance = (across.square() + ((half - along.abs()) * far).square()).sqrt()
    return _normalised((1 - distance).clamp_min(0))


def _disk(radius: Tensor, reach: int) -> Tensor:
    """Return the kernels (B,2·reach+1,2·reach+1) of disks, each pixel's weight the exact area inside; in float64."""
    radius = radius.double().view(-1, 1, 1).clamp_min(1e-9)
    offset = torch.arange(reach + 1, dtype=torch.float64, device=radius.device)
    # One quarter, its innermost pixels cut in half by the axes.
    left, right = (offset - 0.5).clamp_min(0), offset + 0.5
    low, high = left.unsqueeze(1), right.unsqueeze(1)
    # Going right along a pixel, the circle is first above it, then crosses it, then is below it.
    enters = (radius.square() - high.square()).clamp_min(0).sqrt().maximum(left).minimum(right)
    leaves = (radius.square() - low.square()).clamp_min(0).sqrt().maximum(left).minimum(right)
    area = (enters - left) * (high - low) - (leaves - enters) * low
    area = area + _under_circle(leaves, radius) - _under_circle(enters, radius)
    halves = torch.where(offset == 0, 2.0, 1.0).double()
    area = area * halves * halves.unsqueeze(1)
    mirrored = torch.arange(-reach, reach + 1, device=radius.device).abs()
    return _normalised(area.index_select(1, mirrored).index_select(2, mirrored))


def _under_circle(x: Tensor, radius: Tensor) -> Tensor:
    """Return the area between the axis and the circle, from the middle to `x`, at most to the radius."""
    x = x.minimum(radius)
    height = (radius.square() - x.square()).sqrt()
    return (x * height + radius.square() * (x / radius).asin()) / 2


def _normalised(kernels: Tensor) -> Tensor:
    return kernels / kernels.sum((1, 2), keepdim=True)
