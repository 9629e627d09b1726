"""Resampling images to another size, as Pillow and MATLAB do."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.errors import InputError
from recon.filters.bands import source
from recon.filters.exact import exact_matmul
from recon.ranges import require_number

LARGEST_SCALE = 256  # how many times smaller or larger images can be made
_LARGEST_SIDE = 1 << 16  # pixels
_BLOCK = 64  # rows of a resampling matrix that are multiplied at a time; more rows hold mostly zeros


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(x.dtype)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _cubic(x: Tensor) -> Tensor:
    """Weigh as the cubic convolution of Keys (1981) with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


class Method(NamedTuple):
    """How an output pixel weighs those around it.

    >>> METHODS["bicubic"].support
    2

    Attributes:
        kernel: the weight at a distance, in pixels of the smaller of the two images.
        support: the distance at which the kernel ends.
        mirrored: whether the image is mirrored at its border; otherwise the kernel is cut there.
        by_scale: whether `Downsample` takes exactly `scale` pixels for one where the side is no multiple of it; the
            others spread all pixels over the rounded size.
        in_bytes: whether values are whole levels of 255 before, between and after the two passes.
    """

    kernel: Callable[[Tensor], Tensor]
    support: float
    mirrored: bool = False
    by_scale: bool = False
    in_bytes: bool = False


METHODS: dict[str, Method] = {
    "bicubic": Method(_cubic, 2),
    "bicubic_matlab": Method(_cubic, 2, mirrored=True, by_scale=True),
    "bicubic_matlab_uint8": Method(_cubic, 2, mirrored=True, by_scale=True, in_bytes=True),
    "area": Method(_box, 0.5, by_scale=True),
    "bilinear": Method(_triangle, 1),
    "lanczos": Method(_lanczos, 3),
    "nearest": Method(_box, 0.5),
}


def resize(image: Tensor, size: Sequence[int], method: str, ratio: float | None = None) -> Tensor:
    """Resample images to another size, smaller (antialiased) or larger, without clipping.

    >>> resize(torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]]), (1, 2), "area").tolist()
    [[[[0.5, 2.5]]]]

    Args:
        image: (B,C,H,W) float; half precision is computed in float32.
        size: height and width of the result.
        method: see `recon.degradations.Downsample`; "area" as Pillow's BOX. "bicubic_matlab_uint8" clips to [0,1] and
            rounds to 8 bits.
        ratio: how many pixels of the image lie side by side in one of the result, from the upper left corner; None
            fits the whole image to the result.

    Returns:
        (B,C,*size) of the image's type; the image itself where nothing changes.

    Raises:
        InputError: the method, the size, the ratio or the image is not one of these.
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r} does not exist; give one of {', '.join(METHODS)}")
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
    if METHODS[method].in_bytes:
        # In float64, as the last bit of a sum decides which way a half is rounded.
        small = _resize(_in_bytes(image.double() * 255), size, method, ratio)
        return small.div_(255).to(image.dtype)
    return _resize(image, size, method, ratio)


def _in_bytes(values: Tensor) -> Tensor:
    """Round to whole levels 0..255, halves upwards, as MATLAB converts to uint8; sums of halves are up to 1e-13 off."""
    return values.add(0.5 + 1e-9).floor_().clamp_(0, 255)


def _resize(image: Tensor, size: Sequence[int], method: str, ratio: float | None) -> Tensor:
    """Resample images of float32 or float64 along columns, then along rows."""
    # Only on the CPU do matrix products return the same bits for any batch size.
    exact = image.device.type == "cpu" and exact_matmul() and method != "nearest"
    planes = image.flatten(0, 1)
    with torch.autocast(image.device.type, enabled=False):
        for dim, (side, wanted) in enumerate(zip(image.shape[2:], size, strict=True), 1):
            arguments = side, wanted, method, ratio or side / wanted, image.device, image.dtype
            planes = _by_bands(planes, dim, _bands(*arguments)) if exact else _by_taps(planes, dim, *_taps(*arguments))
            planes = _in_bytes(planes) if METHODS[method].in_bytes else planes
    return planes.view(*image.shape[:2], *size)


def _by_bands(planes: Tensor, dim: int, bands: tuple[tuple[int, Tensor], ...]) -> Tensor:
    """Multiply each plane (N,H,W) along `dim` by one matrix, cut into bands."""
    parts = []
    for first, band in bands:
        part, matrix = planes.narrow(dim, first, band.shape[1]), band.expand(len(planes), -1, -1)
        parts.append(matrix @ part if dim == 1 else part @ matrix.mT)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _by_taps(planes: Tensor, dim: int, index: Tensor, weight: Tensor) -> Tensor:
    """Add up the pixels of each tap along `dim` of planes (N,H,W)."""
    weight = weight.unsqueeze(2) if dim == 1 else weight.unsqueeze(1)
    total = planes.index_select(dim, index[0]) * weight[0]
    for tap in range(1, len(index)):
        total = total.addcmul_(planes.index_select(dim, index[tap]), weight[tap])
    return total


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # a matrix made in an evaluation may be used in training
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
@torch.inference_mode(False)  # a table made in an evaluation may be used in training
def _taps(
    side: int, size: int, method: str, ratio: float, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the pixels that each output pixel adds up and their weights: (taps,size) int64 and `dtype`."""
    matrix = _matrix(side, size, method, ratio)
    used = matrix != 0
    count = int(used.sum(1).max())
    # A stable sort leaves the pixels in use in their order, in front of the others.
    index = used.int().argsort(dim=1, descending=True, stable=True)[:, :count]
    return index.T.contiguous().to(device), matrix.gather(1, index).T.contiguous().to(device, dtype)


def _matrix(side: int, size: int, method: str, ratio: float) -> Tensor:
    """Return the matrix (size,side) that resamples a vector, border included; in float64."""
    kernel, support, mirrored, *_ = METHODS[method]
    if method == "nearest":
        # The pixel that holds the centre, summed as Pillow does: its rounding decides for a centre between two pixels.
        centres = torch.tensor([*accumulate(repeat(ratio, size - 1), initial=ratio / 2)], dtype=torch.float64)
        return F.one_hot(centres.long().clamp_max(side - 1), side).double()
    centre = ((torch.arange(size, dtype=torch.float64) + 0.5) * ratio).unsqueeze(1)
    stretch = max(1.0, ratio)
    margin = int((support + 1) * stretch) + 1 if mirrored else 0
    index = torch.arange(-margin, side + margin)
    reach = support * stretch
    inside = (index >= (centre - reach + 0.5).floor()) & (index < (centre + reach + 0.5).floor())
    weight = kernel((index - centre + 0.5) * (1 / stretch)) * inside
    weight /= weight.sum(1, keepdim=True)
    return torch.zeros(size, side, dtype=torch.float64).index_add_(1, source(index, side, "reflect"), weight)
