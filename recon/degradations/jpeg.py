"""JPEG of batched tensors, with the values of libjpeg-turbo.

It follows ITU-T T.81 and computes what libjpeg's accurate integer transform computes (the flow graph of Loeffler,
Ligtenberg & Moschytz 1989 with 13-bit constants), rounding wherever it rounds. All numbers are whole multiples of a
power of two, and sums stay within the 24 bits of a float32. So the order of a sum does not matter: an image has the
same bits alone and in any batch. From the change of colours to the end, samples are shifted by 128, to lie about 0.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.filters.exact import exact_matmul

# How many luma pixels stand for one of chroma, downwards and to the right.
SUBSAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}
_BLOCK = 1 << 17  # pixels computed at a time on the CPU

# The left half of the forward transform, times 2^13; a row is as symmetric as its cosine. It is what the flow graph
# multiplies by, sums of its rounded constants, so not everywhere the cosine's nearest whole number.
_LEFT_HALF = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
# Tables K.1 and K.2 of ITU-T T.81.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# From bytes of R, G, B and a 1 to Y, Cb, Cr of JFIF, less 128 and ready to be rounded down, times 2^16.
_TO_YCC = (
    (19595, 38470, 7471, -127 * 65536 - 32768),
    (-11059, -21709, 32768, 32767),
    (32768, -27439, -5329, 32767),
)
# What Cr adds to R, Cb and Cr to G, and Cb to B.
_CR_TO_R, _CB_TO_G, _CR_TO_G, _CB_TO_B = (value / 65536 for value in (91881, -22554, -46802, 116130))


def to_bytes(image: Tensor, out: Tensor | None = None) -> Tensor:
    """Round images in [0,1] to the whole numbers 0..255 that a file holds, in new memory or in `out`.

    >>> to_bytes(torch.tensor([0.0, 0.5, 1.5]))
    tensor([  0., 128., 255.])
    """
    return torch.clamp(image, 0, 1, out=out).mul_(255).round_()


def unrounded(clean: Tensor, subsampling: str) -> Tensor:
    """Apply the codec without rounding, differentiably: the clamp and the loss of colour detail.

    >>> unrounded(torch.tensor([0.5, 1.5]).view(1, 1, 1, 2), "4:2:0")
    tensor([[[[0.5000, 1.0000]]]])
    """
    image = clean.clamp(0, 1)
    down, across = SUBSAMPLINGS[subsampling]
    if image.shape[1] == 1 or across == 1:
        return image
    height, width = image.shape[2:]
    forward = torch.tensor(_TO_YCC, dtype=torch.float64)[:, :3] / 65536
    ycc = torch.einsum("ij,bjhw->bihw", forward.to(image), image)
    chroma = F.pad(ycc[:, 1:], (0, width % across, 0, height % down), mode="replicate")
    chroma = chroma.unflatten(3, (-1, across)).mean(4).unflatten(2, (-1, down)).mean(3)
    # Linear interpolation between pixel centres weighs by 3/4 and 1/4, as libjpeg does.
    mode = "bilinear" if _is_smoothed(width, across) else "nearest"
    chroma = F.interpolate(chroma, scale_factor=(float(down), float(across)), mode=mode)[..., :height, :width]
    return torch.einsum("ij,bjhw->bihw", forward.inverse().to(image), torch.cat([ycc[:, :1], chroma], 1))


def _is_smoothed(width: int, across: int) -> bool:
    """Return whether libjpeg interpolates colour of reduced width; at a width of one or two it repeats it."""
    return -(-width // across) > 2


class _Steps(NamedTuple):
    """The factors of coefficients before and after rounding: (B or 1,1,8,W) each, of luma and of chroma."""

    before: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]


def compress(clean: Tensor, quality: Tensor | int, subsampling: str) -> Tensor:
    """Compress images (B,C,H,W) at the quality of each (B,), or at one for all, and decode them.

    >>> compress(clean, 20, "4:4:4")[0, 0, 0]
    tensor([0.0392, 0.0510, 0.0784, 0.1020])
    """
    # Products and sums must be exact: float64 where float32 products may be TF32 or bfloat16.
    work = clean if exact_matmul() and clean.device.type in ("cpu", "mps") else clean.double()
    height, width = work.shape[2:]
    sampling = (1, 1) if work.shape[1] == 1 else SUBSAMPLINGS[subsampling]
    rows, columns = (8 * step * -(-side // (8 * step)) for side, step in zip((height, width), sampling, strict=True))
    image = torch.empty_like(work, memory_format=torch.contiguous_format)
    # A GPU has room for more.
    count = max(1, _BLOCK // (rows * columns)) if work.device.type == "cpu" else max(1, len(work))
    for first in range(0, len(work), count):
        batch = slice(first, first + count)
        if isinstance(quality, int):
            steps = _constant_steps(quality, columns // 8, work.device, work.dtype)
        else:
            steps = _steps(tables(work.device, work.dtype).index_select(0, quality[batch] - 1), columns // 8)
        if work.shape[1] == 1:
            _recode_grey(work[batch], steps, image[batch])
        else:
            _recode_colour(work[batch], steps, sampling, image[batch])
    return image.to(clean.dtype)


@lru_cache(maxsize=8)
def _constant_steps(quality: int, blocks: int, device: torch.device, dtype: torch.dtype) -> _Steps:
    return _steps(tables(device, dtype)[quality - 1 : quality], blocks)


def _steps(tables: Tensor, blocks: int) -> _Steps:
    """Lay tables (B,2,8,8) side by side, as often as there are blocks in a row."""
    luma, chroma = tables.repeat(1, 1, 1, blocks).unsqueeze(2).unbind(1)
    # Coefficients arrive scaled by 8. A whole number divided by 8 times the step is an exact half or far from one, so
    # the surplus only breaks ties, away from zero as libjpeg does.
    surplus = 1 + 2.0**-20
    return _Steps((surplus / (8 * luma), surplus / (8 * chroma)), (luma, chroma))


@lru_cache(maxsize=8)
def tables(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the tables of luma and chroma at qualities 1 to 100, by libjpeg's rule: (100,2,8,8).

    >>> tables(torch.device("cpu"), torch.int64)[49, 0, 0].tolist()
    [16, 11, 10, 16, 24, 40, 51, 61]
    """
    standard = torch.tensor((_LUMA, _CHROMA))
    scales = [5000 // quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)]
    scaled = (standard * torch.tensor(scales).view(-1, 1, 1, 1) + 50) // 100
    return scaled.clamp_(1, 255).to(device, dtype)


@lru_cache(maxsize=8)
def _matrices(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the transforms, scaled by powers of two: forward along rows, then columns; inverse the other way round.

    The second of each direction is split into its upper and lower bits, as its sums would not fit otherwise. Those of
    the inverse's first could exceed 24 bits by one in a block that coarse steps throw far out of its range; the bit
    lost is the last of eleven that are rounded off. Along rows they act on two blocks at a time, which is twice as fast
    on the CPU.
    """
    left = torch.tensor(_LEFT_HALF, dtype=torch.float64)
    sign = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64).unsqueeze(1)
    matrix = torch.cat([left, sign * left.flip(1)], 1)
    upper = (matrix / 128).round()
    lower = matrix - 128 * upper
    matrices = (
        torch.block_diag(matrix.T, matrix.T) / 2**11,
        upper / 2**8,
        lower / 2**7,
        matrix.T / 2**11,
        torch.block_diag(upper, upper) / 2**11,
        torch.block_diag(lower, lower) / 2**7,
    )
    return tuple(matrix.to(device, dtype).contiguous() for matrix in matrices)


def _pad(image: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column of images (B,C,H,W) until the sides are multiples of rows and columns."""
    below, right = -image.shape[2] % rows, -image.shape[3] % columns
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


def _recode_grey(clean: Tensor, steps: _Steps, out: Tensor) -> None:
    """Compress grey images (B,1,H,W) into `out`."""
    height, width = clean.shape[2:]
    samples = to_bytes(_pad(clean, 8, 8)).sub_(128).squeeze(1).contiguous()
    _recode(samples, samples.shape[1], steps)
    torch.add(samples[:, :height, :width], 128, out=out.squeeze(1)).div_(255)


def _recode_colour(clean: Tensor, steps: _Steps, sampling: tuple[int, int], out: Tensor) -> None:
    """Compress colour images (B,3,H,W) into `out`."""
    batch, _, height, width = clean.shape
    down, across = sampling
    padded = _pad(clean, 8 * down, 8 * across)
    rows, columns = padded.shape[2:]
    # Luma, and below it chroma, side by side where it has half the width: all blocks are transformed at once.
    samples = clean.new_empty(batch, rows + 2 * rows // (down * across), columns)
    luma, chroma = samples[:, :rows], samples[:, rows:]
    if across == 1:
        chroma = chroma.view(batch, 2, rows, columns).transpose(0, 1)
    else:
        chroma = chroma.view(batch, rows // down, 2, columns // 2).permute(2, 0, 1, 3)
    ycc = _to_ycc(padded)
    torch.floor(ycc[0], out=luma)
    _shrink(ycc[1:].floor_(), sampling, out=chroma)
    del ycc
    last = -(-height // down)
    if down == 2 and 2 * last < rows:
        # Only rows of the image are averaged; those below repeat the last average.
        chroma[:, :, last:] = chroma[:, :, last - 1 : last]
    _recode(samples, rows, steps)
    chroma = _enlarge(chroma[:, :, :last, : -(-width // across)], sampling, height, width)
    _to_rgb(luma[:, :height, :width].add_(128.5), chroma, out)


def _to_ycc(image: Tensor) -> Tensor:
    """Round RGB images (B,3,H,W) to bytes and convert them to Y, Cb, Cr (3,B,H,W), not yet rounded down."""
    batch, _, height, width = image.shape
    rgb1 = image.new_empty(4, batch, height, width)
    to_bytes(image.transpose(0, 1), out=rgb1[:3])
    rgb1[3] = 1
    return torch.mm(_colours(image.device, image.dtype), rgb1.view(4, -1)).view(3, batch, height, width)


@lru_cache(maxsize=8)
def _colours(device: torch.device, dtype: torch.dtype) -> Tensor:
    return (torch.tensor(_TO_YCC, dtype=torch.float64) / 65536).to(device, dtype)


@lru_cache(maxsize=32)
def _alternating(even: float, odd: float, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return (count,) alternating numbers."""
    return torch.tensor((even, odd)).repeat(count // 2).to(device, dtype)


def _shrink(chroma: Tensor, sampling: tuple[int, int], out: Tensor) -> None:
    """Average chroma (2,B,H,W) over boxes into `out`, halves rounded up in every other column, down in the others."""
    down, across = sampling
    if across == 1:
        out.copy_(chroma)
        return
    if down == 2:
        chroma = chroma[:, :, 0::2] + chroma[:, :, 1::2]
    chroma = chroma[..., 0::2] + chroma[..., 1::2]
    even, odd = (1 / 4, 2 / 4) if down == 2 else (0, 1 / 2)
    bias = _alternating(even, odd, chroma.shape[3], chroma.device, chroma.dtype)
    torch.floor(torch.add(bias, chroma, alpha=1 / (2 * down), out=chroma), out=out)


def _enlarge(chroma: Tensor, sampling: tuple[int, int], height: int, width: int) -> Tensor:
    """Bring chroma (2,B,h,w) to the size of the image, (2,B,height,width), by libjpeg's "fancy" triangular filter.

    A new pixel is 3/4 of the one that it lies in and 1/4 of its neighbour, along either axis; halves are rounded up in
    every other column and down in the others.
    """
    down, across = sampling
    if across == 2 and not _is_smoothed(width, across):
        chroma = chroma.repeat_interleave(across, 3).repeat_interleave(down, 2)
    elif across == 2:
        chroma = _double(_double(chroma, 2) if down == 2 else chroma, 3)
        even, odd = (8 / 16, 7 / 16) if down == 2 else (1 / 4, 2 / 4)
        bias = _alternating(even, odd, chroma.shape[3], chroma.device, chroma.dtype)
        torch.add(bias, chroma, alpha=4.0**-down, out=chroma).floor_()
    return chroma[:, :, :height, :width]


def _double(values: Tensor, dim: int) -> Tensor:
    """Double (2,B,h,w) along `dim` by the triangular filter, times 4; the ends are repeated."""
    side = values.shape[dim]
    doubled = values.new_empty(*values.shape[: dim + 1], 2, *values.shape[dim + 1 :])
    before, after = doubled.unbind(dim + 1)
    left, right = values.narrow(dim, 0, side - 1), values.narrow(dim, 1, side - 1)
    torch.add(left, right, alpha=3, out=before.narrow(dim, 1, side - 1))
    torch.add(right, left, alpha=3, out=after.narrow(dim, 0, side - 1))
    torch.mul(values.select(dim, 0), 4, out=before.select(dim, 0))
    torch.mul(values.select(dim, -1), 4, out=after.select(dim, -1))
    return doubled.flatten(dim, dim + 1)


def _to_rgb(luma: Tensor, chroma: Tensor, out: Tensor) -> None:
    """Convert Y (B,H,W), larger by a half, and Cb, Cr (2,B,H,W) to RGB bytes over 255 in `out` (B,3,H,W)."""
    blue, red = chroma
    torch.add(luma, red, alpha=_CR_TO_R, out=out[:, 0])
    torch.add(luma, blue, alpha=_CB_TO_G, out=out[:, 1]).add_(red, alpha=_CR_TO_G)
    torch.add(luma, blue, alpha=_CB_TO_B, out=out[:, 2])
    out.floor_().clamp_(0, 255).div_(255)


def _recode(samples: Tensor, split: int, steps: _Steps) -> None:
    """Transform, quantise and transform back all 8×8 blocks of `samples` (B,H,W), in place.

    Args:
        samples: whole numbers in [-128,127]; both sides are multiples of 8.
        split: the rows from here on are chroma.
        steps: of the quantisation.
    """
    rows, upper, lower, columns, rows_upper, rows_lower = _matrices(samples.device, samples.dtype)
    batch, height, width = samples.shape
    count = batch * height // 8
    upper, lower, columns = (matrix.expand(count, 8, 8) for matrix in (upper, lower, columns))
    slabs, pairs = samples.view(count, 8, width), samples.view(-1, 16)
    # libjpeg keeps two more bits between the passes: 2^13 2^-2 = 2^11. Halves are rounded up.
    between = torch.mm(pairs, rows).add_(0.5).floor_().view(count, 8, width)
    torch.bmm(lower, between, out=slabs).add_(128).floor_()
    slabs.baddbmm_(upper, between, beta=2.0**-8).floor_()
    coefficients = samples.view(batch, height // 8, 8, width)
    parts = coefficients.tensor_split((split // 8,), 1) if split < height else (coefficients,)
    for part, step in zip(parts, steps.before, strict=False):
        part.mul_(step)
    coefficients.round_()
    for part, step in zip(parts, steps.after, strict=False):
        part.mul_(step)
    # Halves turn rounding down into rounding; one added to the lowest frequency is added to all samples.
    slabs[:, 0].add_(_halves(width, samples.device, samples.dtype))
    torch.bmm(columns, slabs, out=between).floor_()
    torch.mm(between.view(-1, 16), rows_lower, out=pairs).floor_()
    pairs.addmm_(between.view(-1, 16), rows_upper, beta=2.0**-11).floor_().clamp_(-128, 127)


@lru_cache(maxsize=8)
def _halves(width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return what is added to the top row of coefficients: 1/2 after the pass along columns, and after both."""
    return torch.tensor([4 + 1 / 8] + [1 / 8] * 7).repeat(width // 8).to(device, dtype)
