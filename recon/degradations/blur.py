"""Blur: Gaussian, motion, defocus, box, and any given kernel.

All share the boundaries of `recon.filters.convolve`, which continue an image beyond its border: "reflect",
"replicate", "circular" or "zero". A kernel may be larger than the image.
"""

import math
from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.degradations import fused
from recon.degradations.base import Degradation, Degraded, all_known, draw
from recon.degradations.kernels import disk, distinct, gaussian, line, turned_gaussian
from recon.degradations.levels import Range, ends, one_of, whole_ends
from recon.errors import InputError
from recon.filters.bands import BOUNDARIES
from recon.filters.convolve import filter_apart, filter_whole

_WIDEST = 401  # pixels of a kernel's side; a wider one leaves nothing of a photograph to restore
_MOST_WEIGHTS = 1 << 24  # of all kernels of a `KernelBlur`
_TURN = 3600  # degrees, ten times around
_HEAVIEST = 1e6  # weight of a pixel


class Blur(Degradation):
    """A convolution of each image with a kernel, up to its borders.

    >>> BoxBlur(3).kernel(3)[0]
    tensor([0.1111, 0.1111, 0.1111], dtype=torch.float64)

    Attributes:
        boundary: what continues an image beyond its border: "reflect", "replicate", "circular" or "zero".
    """

    boundary: str

    @abstractmethod
    def kernel(self, severity: float) -> Tensor:
        """Return the kernel (h,w) float64 of an image by its severity: a single bright pixel becomes it.

        Raises:
            InputError: the kernel also depends on what is drawn for each image and recorded nowhere.
        """


class SeparableBlur(Blur):
    """A blur along columns and along rows, one after the other, which has a fused form.

    >>> BoxBlur(3).weights(keys)[0][0]
    tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
    """

    @abstractmethod
    def weights(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights along columns and along rows, (B,k) each or (1,k), k odd, and the severity (B,)."""

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        down, right, severity = self.weights(keys)
        return Degraded(filter_apart(clean, down, right, self.boundary), all_known(clean), severity)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Blur the images, see `Degradation`."""
        down, right, severity = self.weights(keys)
        head = torch.tensor([[BOUNDARIES.index(self.boundary), down.shape[1], right.shape[1]]])
        values = torch.cat([part.float().expand(len(keys), -1) for part in (head, down, right)], 1)
        return fused.Plan([fused.Step(fused.BLUR, keys, [], values.T, severity)])


class GaussianBlur(SeparableBlur):
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

    def kernel(self, severity: float) -> Tensor:
        """Return the kernel of a severity, see `Blur`."""
        ratio, angle = constant("ratio", self.ratio), constant("angle", self.angle)
        return turned_gaussian(_one(severity), _one(ratio), _one(angle), int(4 * severity + 0.5))[0]

    @property
    def fuses(self) -> bool:
        """Return whether it is separable, see `Degradation`."""
        return self.ratio == (1, 1) or (self.angle[0] == self.angle[1] and self.angle[0] % 90 == 0)

    def weights(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weights of a round Gaussian, or of one along an axis, see `SeparableBlur`."""
        sigma, radius = draw(self.level, keys, "sigma"), int(4 * self.level[1] + 0.5)
        if self.ratio == (1, 1):
            fixed = self.level[0] == self.level[1]
            weights = _fixed(self.level[0], radius, sigma.device) if fixed else gaussian(sigma, sigma, radius)
            return weights, weights, sigma
        ratio = draw(self.ratio, keys, "ratio")
        along, across = gaussian(sigma, sigma, radius), gaussian(sigma.double() * ratio, sigma, radius)
        return (across, along, sigma) if self.angle[0] % 180 == 0 else (along, across, sigma)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        if self.fuses:
            return super().degrade(clean, keys)
        sigma = draw(self.level, keys, "sigma")
        ratio = distinct(draw(self.ratio, keys, "ratio"), self.ratio)
        angle = distinct(draw(self.angle, keys, "angle"), self.angle)
        kernels = turned_gaussian(distinct(sigma, self.level), ratio, angle, int(4 * self.level[1] + 0.5))
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), sigma)


class MotionBlur(Blur):
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

    def kernel(self, severity: float) -> Tensor:
        """Return the kernel of a severity, see `Blur`."""
        angle = constant("angle", self.angle)
        return line(_one(severity), _one(angle), math.ceil((severity - 1) / 2))[0]

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        length, angle = draw(self.level, keys, "length"), draw(self.angle, keys, "angle")
        kernels = line(distinct(length, self.level), distinct(angle, self.angle), math.ceil((self.level[1] - 1) / 2))
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), length)


class DefocusBlur(Blur):
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

    def kernel(self, severity: float) -> Tensor:
        """Return the kernel of a severity, see `Blur`."""
        return disk(_one(severity), max(0, math.ceil(severity - 0.5)))[0]

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        radius = draw(self.level, keys, "radius")
        kernels = disk(distinct(radius, self.level), max(0, math.ceil(self.level[1] - 0.5)))
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), radius)


class BoxBlur(SeparableBlur):
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

    def kernel(self, severity: float) -> Tensor:
        """Return the kernel of a severity, see `Blur`."""
        size = int(severity)
        return torch.full((size, size), 1 / size**2, dtype=torch.float64)

    def weights(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same weights for all pixels of the square, see `SeparableBlur`."""
        low, high = map(int, self.level)
        size = (low + 2 * keyed.integers(keyed.fold(keys, "size"), (high - low) // 2 + 1)).float()
        offset = torch.arange(-(high // 2), high // 2 + 1, device=size.device)
        weights = (2 * offset.abs() < size.unsqueeze(1)) / size.double().unsqueeze(1)
        return weights, weights, size


class KernelBlur(Blur):
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

    def kernel(self, severity: float) -> Tensor:
        """Return the kernel of a severity, see `Blur`."""
        return self._kernels[int(severity)].flip(0, 1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        chosen = keyed.integers(keyed.fold(keys, "kernel"), len(self._kernels))
        kernels = self._kernels.to(clean.device, non_blocking=True)
        if len(kernels) > 1:
            kernels = kernels.index_select(0, chosen)
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), chosen.float())


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # what an evaluation makes first must serve gradients too
def _fixed(sigma: float, radius: int, device: torch.device) -> Tensor:
    """Return the weights (1,k) of a Gaussian whose sigma is not drawn."""
    one = torch.tensor([sigma], device=device)
    return gaussian(one, one, radius)


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


def _one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def constant(name: str, ends: tuple[float, float]) -> float:
    """Return what a kernel needs beside its severity; raises InputError where it is drawn for each image.

    >>> constant("angle", (45.0, 45.0))
    45.0
    """
    if ends[0] < ends[1]:
        raise InputError(f"{name}: it is drawn for each image, so that no kernel is known; give one number")
    return ends[0]
