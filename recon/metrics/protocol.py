"""How restored images are measured: as numbers, or by the protocol under which a field publishes its figures.

The protocol stands in the convention of each number, so that a report never puts numbers of two in one column.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from recon.errors import InputError
from recon.measures import ROWS, Measure
from recon.metrics.images import decibels
from recon.ranges import require_whole

_SAME = "mean over images of 10·log10(1/MSE) in dB, capped at 100 dB; "
_PLAIN = "images clamped to [0,1], no 8-bit rounding"


class Protocol:
    """The plain protocol: images clamped to [0,1] and nothing rounded, all pixels and channels.

    Attributes:
        says: what is measured, in the words of a convention; "" where the table of measures says it.
    """

    says: ClassVar[str] = ""

    def check(self, channels: int, scale: int) -> None:
        """Raise InputError where images of so many channels, made so many times smaller, do not fit the protocol."""

    def seen(self, image: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return what of a restored image and of the clean one is compared: (B,C,H,W) to (B,c,h,w) each."""
        return image, clean

    def measure(self, image: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """Measure by the protocol's own measures what `seen` returned: (B,) each."""
        return {}

    @property
    def rows(self) -> tuple[Measure, ...]:
        """The rows of the table of measures whose convention it changes."""
        if not self.says:
            return ()
        names = ("psnr", "ssim", "mse", "psnr_degraded", "ssim_degraded")
        return tuple(replace(ROWS[name], convention=_by(ROWS[name].convention, self.says)) for name in names)


def _by(convention: str, says: str) -> str:
    """Word a convention for a protocol."""
    pixels = ", no border cropped"
    return f"{convention.replace(_PLAIN, 'images clamped to [0,1]').replace(pixels, '')}; protocol {says}"


class Denoising(Protocol):
    """As the denoising literature since Zhang et al. 2017 (DnCNN): outputs are rounded to 8 bit.

    Its noise is not clipped, which is the default of `degradation=noise`, and a set's figure is the mean of the PSNR of
    its images.
    """

    says = "denoising: the compared images rounded to 8 bit"

    def check(self, channels: int, scale: int) -> None:
        """Refuse smaller images, see `Protocol`."""
        _require_same_size("denoising", scale)

    def seen(self, image: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Round to 8 bit, see `Protocol`."""
        return rounded(image), clean


class SuperResolution(Protocol):
    """As the super-resolution literature since Timofte et al. 2014: luma alone, without the border.

    The luma is Y of ITU-R BT.601 in studio range, 16 to 235 of 255, as MATLAB's `rgb2ycbcr` computes it, of outputs
    that are rounded to 8 bit; `scale` pixels at each side do not count. The small images are to be made by
    `degradation=downsample degradation.method=bicubic_matlab_uint8`.

    Args:
        border: the pixels at each side that do not count; None for the scale of the degradation.
    """

    says = "super_resolution: luma (BT.601 studio range) of the compared images rounded to 8 bit, border cropped"

    def __init__(self, border: int | None = None) -> None:
        if border is not None:
            require_whole("border", border, 0, 256)
        self.border = border

    def check(self, channels: int, scale: int) -> None:
        """Refuse grey images, and a border that is not known, see `Protocol`."""
        if channels != 3:
            raise InputError(
                "protocol: super_resolution measures the luma of colour images, and these are grey; choose "
                "protocol=denoising, which rounds to 8 bit too"
            )
        if self.border is None and scale == 1:
            raise InputError(
                "protocol.border: super_resolution leaves out as many pixels as the images are made smaller, which "
                "this degradation does not say; set protocol.border=2 for a scale of 2"
            )
        self.border = scale if self.border is None else self.border

    def seen(self, image: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Take the luma of the inner part, see `Protocol`."""
        border = self.border or 0
        if min(image.shape[2:]) <= 2 * border:
            raise InputError(
                f"protocol.border: {border} pixels at each side leave nothing of an image of {image.shape[3]}x"
                f"{image.shape[2]}; take such images away, or set protocol.border=0"
            )
        inner = (..., slice(border, image.shape[2] - border), slice(border, image.shape[3] - border))
        return luma(rounded(image)[inner]), luma(clean[inner])


class JPEG(Protocol):
    """As the literature of JPEG artefacts (Dong et al. 2015): grey images rounded to 8 bit; PSNR, SSIM and PSNR-B."""

    says = "jpeg: the compared images rounded to 8 bit"

    def check(self, channels: int, scale: int) -> None:
        """Refuse colour and smaller images, see `Protocol`."""
        _require_same_size("jpeg", scale)
        if channels != 1:
            raise InputError(
                "protocol: jpeg measures grey images, and these are in colour; train on grey ones, such as "
                "task=bsd400, or choose protocol=denoising, which rounds to 8 bit too"
            )

    def seen(self, image: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Round to 8 bit, see `Protocol`."""
        return rounded(image), clean

    def measure(self, image: Tensor, clean: Tensor) -> dict[str, Tensor]:
        """Return PSNR-B, see `Protocol`."""
        return {"psnr_b": psnr_b(image, clean)}

    @property
    def rows(self) -> tuple[Measure, ...]:
        """Add PSNR-B to the rows, see `Protocol`."""
        convention = f"{_SAME}the MSE plus the blocking effect of the restored image (Yim & Bovik 2011)"
        own = replace(ROWS["psnr"], name="psnr_b", label="PSNR-B", convention=f"{convention}; protocol {self.says}")
        return (*super().rows, replace(own, before=None))


def _require_same_size(name: str, scale: int) -> None:
    if scale != 1:
        raise InputError(
            f"protocol: {name} compares images of one size, and this degradation makes them {scale} times smaller; "
            "choose protocol=super_resolution or plain"
        )


@torch.no_grad()
def rounded(image: Tensor) -> Tensor:
    """Round images to the 256 levels of 8 bit, half to even; they become float32 in [0,1]."""
    return image.float().clamp(0, 1).mul_(255).round_().div_(255)


@torch.no_grad()
def luma(image: Tensor) -> Tensor:
    """Return Y of ITU-R BT.601 in studio range as MATLAB's `rgb2ycbcr` does of 8-bit images: (B,3,H,W) to (B,1,H,W).

    >>> luma(torch.ones(1, 3, 1, 1)) * 255
    tensor([[[[235.]]]])
    """
    weights = image.new_tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return ((image * weights).sum(1, keepdim=True) + 16).round_().div_(255)


@torch.no_grad()
def psnr_b(image: Tensor, clean: Tensor, block: int = 8) -> Tensor:
    """PSNR of each image whose error includes its blocking (Yim & Bovik, IEEE Trans. Image Processing 2011).

    The blocking effect factor compares the squared steps across the borders of blocks of 8x8 pixels with those between
    all other neighbours; it is 0 where the borders are no rougher.

    Args:
        image: (B,1,H,W), the restored images, clamped to [0,1].
        clean: as `image`.
        block: side of the blocks.

    Returns:
        (B,) float32 in dB, at most 100; NaN where either image holds a NaN or an infinity.
    """
    height, width = image.shape[2:]
    error = (image.float().clamp(0, 1) - clean.float().clamp(0, 1)).square().mean((1, 2, 3))
    effect = torch.zeros_like(error)
    across = [image.float().clamp(0, 1).diff(dim=dim).square() for dim in (3, 2)]
    borders = [torch.arange(block - 1, max(side, block) - 1, block, device=image.device) for side in (width, height)]
    at_border = [steps.index_select(dim, index) for steps, dim, index in zip(across, (3, 2), borders, strict=True)]
    count = sum(steps[0].numel() for steps in at_border)
    others = sum(steps[0].numel() for steps in across) - count
    if count and others:
        rough = torch.stack([steps.sum((1, 2, 3)) for steps in at_border]).sum(0)
        smooth = torch.stack([steps.sum((1, 2, 3)) for steps in across]).sum(0) - rough
        rough, smooth = rough / count, smooth / others
        weight = math.log2(block) / math.log2(min(height, width))
        effect = torch.where(rough > smooth, weight * (rough - smooth), effect)
    finite = (image - image).add(clean - clean).flatten(1).sum(1)  # 0, or NaN
    return decibels(error + effect) + finite
