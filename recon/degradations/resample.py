"""Resampling: smaller images, as Pillow and MATLAB make them, and back to the size they had."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, check_shape, part
from recon.degradations.levels import LARGEST_SCALE, one_of, too_small
from recon.errors import InputError
from recon.filters.exact import exact_matmul
from recon.ranges import require_number, require_whole

_LARGEST_SIDE = 1 << 16  # pixels
_BLOCK = 64  # rows of a resampling matrix that are multiplied at a time; wider ones hold mostly zeros


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(x.dtype)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _cubic(x: Tensor) -> Tensor:
    """Interpolate by the cubic convolution of Keys (1981) with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


class _Method(NamedTuple):
    """How an output pixel weighs those around it.

    Attributes:
        kernel: the weight at a distance, in pixels of the image with fewer of them.
        support: the distance at which the kernel ends.
        mirrored: whether the image goes on beyond its border, mirrored, or the kernel is cut there.
        by_scale: whether `Downsample` takes exactly `scale` pixels for one where the side is no multiple of it; the
            others spread all pixels over the rounded size.
        in_bytes: whether values are whole levels of 255 before, between and after the two passes.
    """

    kernel: Callable[[Tensor], Tensor]
    support: float
    mirrored: bool = False
    by_scale: bool = False
    in_bytes: bool = False


_METHODS: dict[str, _Method] = {
    "bicubic": _Method(_cubic, 2),
    "bicubic_matlab": _Method(_cubic, 2, mirrored=True, by_scale=True),
    "bicubic_matlab_uint8": _Method(_cubic, 2, mirrored=True, by_scale=True, in_bytes=True),
    "area": _Method(_box, 0.5, by_scale=True),
    "bilinear": _Method(_triangle, 1),
    "lanczos": _Method(_lanczos, 3),
    "nearest": _Method(_box, 0.5),
}


class Downsample(Degradation):
    """Make images `scale` times smaller, rounded up, and bring them back to their size if wished.

    The super-resolution literature makes its images with MATLAB's `imresize` of a uint8 image, which rounds to 8 bits
    after the rows are summed up and again at the end: "bicubic_matlab_uint8", of which nearly all values are those of
    the published low-resolution sets. "bicubic_matlab" is `imresize` of doubles, which rounds nothing. Pillow's bicubic
    differs at borders alone where `scale` divides the sides. The severity is `scale`. Whatever pixel of the small image
    `then` loses counts as missing wherever it lies over the clean one.

    Args:
        scale: how many times smaller, a whole number from 1 to 256 and at most the shorter side of the images; never a
            range, as the images of a batch share one size.
        method: "bicubic", "bilinear", "lanczos" and "nearest" as Pillow's `Image.resize`, "bicubic_matlab" and
            "bicubic_matlab_uint8" as MATLAB's `imresize` (antialiased), "area" the mean of boxes of scale × scale
            pixels, less where the border cuts them.
        upsample: the method that enlarges the image to the size of the clean one, or None to leave it small.
        then: what happens to the image while it is small, such as noise or JPEG, or None; with several steps a `Chain`
            (the orders of degradation of Wang et al., "Real-ESRGAN", ICCVW 2021). It draws on the stream "then".

    Raises:
        InputError: there is no such method, `scale` is out of range, or `then` is no degradation or changes the size.
    """

    examples: ClassVar = {"scale": (2, 3, 4)}

    def __init__(
        self, scale: int, method: str = "bicubic", upsample: str | None = None, then: Degradation | None = None
    ) -> None:
        require_whole("scale", scale, 1, LARGEST_SCALE)
        self.factor = scale
        self.method = one_of("method", method, _METHODS)
        self.upsample = upsample if upsample is None else one_of("upsample", upsample, _METHODS)
        if then is not None and part("then", then).scale != 1:
            raise InputError("then: it changes the size of images; leave that to scale")
        self.then = then
        self.level = float(scale), float(scale)
        self.scale = scale if upsample is None else 1
        self.makes_holes = then is not None and then.makes_holes

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Make the images smaller, see `Degradation`."""
        size, mask = clean.shape[2:], all_known(clean)
        ratio = float(self.factor) if _METHODS[self.method].by_scale else None
        back = ratio and 1 / ratio  # the same way, so that what comes back lies where it was
        image = resize(clean, self._small(*size), self.method, ratio)
        if self.then is not None:
            image, small_mask, _ = self.then(image, keyed.fold(keys, "then"))
            if self.then.makes_holes:
                mask = resize(small_mask, size, "nearest", back)
        if self.upsample is not None:
            image = resize(image, size, self.upsample, back)
        return Degraded(image, mask, torch.full((len(keys),), float(self.factor), device=keys.device))

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse images of less than a pixel, and ask `then` about the small ones, see `Degradation`."""
        channels, height, width = shape
        if min(height, width) < self.factor:
            raise too_small(self.factor, height, width)
        if self.then is not None:
            check_shape(self.then, "then", (channels, *self._small(height, width)))

    def _small(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.factor), -(-width // self.factor)


def resize(image: Tensor, size: Sequence[int], method: str, ratio: float | None = None) -> Tensor:
    """Resample images to another size, smaller (antialiased) or larger, without clipping.

    Args:
        image: (B,C,H,W) float; half precision is worked on in float32.
        size: height and width of the result.
        method: see `Downsample`; "area" as Pillow's BOX. "bicubic_matlab_uint8" clips to [0,1] and rounds to 8 bits.
        ratio: how many pixels of the image lie side by side in one of the result, from the upper left corner; None
            fits the whole image to the result.

    Returns:
        (B,C,*size) of the image's type; the image itself where nothing changes.

    Raises:
        InputError: there is no such method or size, or these are no such images.
    """
    one_of("method", method, _METHODS)
    if image.ndim != 4 or not image.is_floating_point():
        raise InputError(f"image must be (B,C,H,W) floats, not {image.dtype} of shape {tuple(image.shape)}.")
    if len(size) != 2 or not 1 <= min(size) <= max(size) <= _LARGEST_SIDE:
        raise InputError(f"size must be a height and a width from 1 to {_LARGEST_SIDE} pixels, not {tuple(size)}.")
    if ratio is not None:
        require_number("ratio", ratio, 1 / LARGEST_SCALE, LARGEST_SCALE)
    if image.shape[2:] == tuple(size) and ratio in (None, 1):
        return image
    if image.dtype in (torch.float16, torch.bfloat16):
        return resize(image.float(), size, method, ratio).to(image.dtype)
    if _METHODS[method].in_bytes:
        # In float64, as the last bit of a sum decides which way a half is rounded.
        small = _resize(_in_bytes(image.double() * 255), size, method, ratio)
        return small.div_(255).to(image.dtype)
    return _resize(image, size, method, ratio)


def _in_bytes(values: Tensor) -> Tensor:
    """Round to whole levels 0..255, halves upwards, as MATLAB converts to uint8; sums of halves are up to 1e-13 off."""
    return values.add(0.5 + 1e-9).floor_().clamp_(0, 255)


def _resize(image: Tensor, size: Sequence[int], method: str, ratio: float | None) -> Tensor:
    """Resample images of float32 or float64 along columns, then along rows."""
    between = _in_bytes if _METHODS[method].in_bytes else _as_it_is
    vertical, horizontal = (
        (side, wanted, method, ratio or side / wanted, image.device, image.dtype)
        for side, wanted in zip(image.shape[2:], size, strict=True)
    )
    # Matrix products give the same bits for any batch size on the CPU alone, where the user allows no faster ones.
    if image.device.type != "cpu" or not exact_matmul() or method == "nearest":
        return between(_by_taps(between(_by_taps(image, 2, *_taps(*vertical))), 3, *_taps(*horizontal)))
    batch, channels, *_ = image.shape
    with torch.autocast("cpu", enabled=False):
        planes = between(_by_bands(image.flatten(0, 1), 1, _bands(*vertical)))
        planes = between(_by_bands(planes, 2, _bands(*horizontal)))
    return planes.view(batch, channels, *size)


def _as_it_is(values: Tensor) -> Tensor:
    return values


def _by_bands(planes: Tensor, dim: int, bands: tuple[tuple[int, Tensor], ...]) -> Tensor:
    """Multiply each plane (N,H,W) along `dim` by one matrix, cut into bands."""
    parts = []
    for first, band in bands:
        some, matrix = planes.narrow(dim, first, band.shape[1]), band.expand(len(planes), -1, -1)
        parts.append(matrix @ some if dim == 1 else some @ matrix.mT)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _by_taps(image: Tensor, dim: int, place: Tensor, weight: Tensor) -> Tensor:
    """Add up the pixels of each tap along `dim` of images (B,C,H,W)."""
    weight = weight.unsqueeze(2) if dim == 2 else weight.unsqueeze(1)
    total = image.index_select(dim, place[0]) * weight[0]
    for tap in range(1, len(place)):
        total = total.addcmul_(image.index_select(dim, place[tap]), weight[tap])
    return total


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is made in an evaluation may serve a training
def _bands(
    side: int, size: int, method: str, ratio: float, device: torch.device, dtype: torch.dtype
) -> tuple[tuple[int, Tensor], ...]:
    """Cut a resampling matrix into blocks of rows without the columns of zeros around: (first column, block)."""
    bands = []
    for block in _matrix(side, size, method, ratio).split(_BLOCK):
        used = block.any(0).nonzero()
        first, last = int(used[0]), int(used[-1])
        bands.append((first, block[:, first : last + 1].to(device, dtype)))
    return tuple(bands)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what is made in an evaluation may serve a training
def _taps(
    side: int, size: int, method: str, ratio: float, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Give which pixels each output pixel adds up and by which weight: (taps,size) int64 and `dtype`."""
    matrix = _matrix(side, size, method, ratio)
    used = matrix != 0
    count = int(used.sum(1).max())
    # A stable sort leaves the pixels in use in their order, in front of the others.
    place = used.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    return place.T.contiguous().to(device), matrix.gather(1, place).T.contiguous().to(device, dtype)


def _matrix(side: int, size: int, method: str, ratio: float) -> Tensor:
    """Give the matrix (size,side) that resamples a vector, border included; in float64."""
    kernel, support, mirrored, *_ = _METHODS[method]
    if method == "nearest":
        # The pixel in which the centre lies, added up as Pillow does: the rounding decides where it lies between two.
        centres = torch.tensor([*accumulate(repeat(ratio, size - 1), initial=ratio / 2)], dtype=torch.float64)
        return F.one_hot(centres.long().clamp_max(side - 1), side).double()
    centre = ((torch.arange(size, dtype=torch.float64) + 0.5) * ratio).unsqueeze(1)
    stretch = max(1.0, ratio)
    margin = int((support + 1) * stretch) + 1 if mirrored else 0
    place = torch.arange(-margin, side + margin)
    reach = support * stretch
    inside = (place >= (centre - reach + 0.5).floor()) & (place < (centre + reach + 0.5).floor())
    weight = kernel((place - centre + 0.5) * (1 / stretch)) * inside
    weight /= weight.sum(1, keepdim=True)
    return torch.zeros(size, side, dtype=torch.float64).index_add_(1, _mirror(place, side), weight)


def _mirror(place: Tensor, side: int) -> Tensor:
    """Map places outside 0..side-1 to those whose pixel they mirror: (d c b a | a b c d | d c b a)."""
    place = place.remainder(2 * side)
    return torch.minimum(place, 2 * side - 1 - place)
