"""EDSR: Lim, Son, Kim, Nah & Lee, "Enhanced deep residual networks for single image super-resolution", CVPRW 2017.

With the sub-pixel convolution of Shi et al., "Real-time single image and video super-resolution using an efficient
sub-pixel convolutional neural network", CVPR 2016. The net adds to the bicubic enlargement of the image, where the
paper's adds to the mean colour of its training set, and its last convolution starts at zero: training starts from the
bicubic baseline and learns detail alone.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recon.nets.common import LEAST_SIDE, require_size, two_convolutions
from recon.ranges import DEEPEST, require_number, require_whole


class EDSR(nn.Module):
    """Residual blocks without batch norm at the size of the input, then sub-pixel convolutions that enlarge.

    It maps (B,C',h,w) to images (B,C,scale·h,scale·w) of any size from 4x4; with `scale` 1 it restores at the same
    size. The output is not clamped.

    >>> EDSR(channels=3, scale=2)(torch.zeros(2, 3, 16, 20)).shape
    torch.Size([2, 3, 32, 40])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        scale: how many times larger the output is, in one sub-pixel convolution for each prime factor.
        blocks: number of residual blocks; 16 in the paper's baseline, 32 in its largest net.
        width: channels of the blocks; 64 and 256.
        residual_scale: what each block is multiplied by before it is added; 1 and 0.1.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        in_channels: int | None = None,
        channels: int = 1,
        scale: int = 1,
        blocks: int = 8,
        width: int = 32,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__()
        require_whole("scale", scale)
        require_whole("blocks", blocks, 1, DEEPEST)
        require_whole("width", width)
        require_number("residual_scale", residual_scale)
        in_channels = channels if in_channels is None else in_channels
        self.channels = channels
        self.scale = scale
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.body = nn.Sequential(
            *(_ResidualBlock(width, residual_scale) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1)
        )
        self.enlarge = nn.Sequential(*(_enlarge(width, factor) for factor in _prime_factors(scale)))
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge images (B,C',h,w): (B,C,scale·h,scale·w)."""
        require_size("EDSR", x.shape, -(-LEAST_SIDE // self.scale))
        image = x[:, : self.channels]
        if self.scale > 1:
            # `antialias` chooses the kernel of the super-resolution literature, a = -1/2 instead of -3/4; torch has it
            # for float32 and float64 alone.
            wide = image if image.dtype == torch.float64 else image.float()
            image = F.interpolate(wide, scale_factor=self.scale, mode="bicubic", antialias=True).to(x.dtype)
        features = self.first(x)
        detail: Tensor = self.last(self.enlarge(features + self.body(features)))
        return image + detail


class _ResidualBlock(nn.Module):
    """Two convolutions, scaled and added to the input."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.body = two_convolutions(width)

    def forward(self, x: Tensor) -> Tensor:
        difference: Tensor = self.body(x)
        return x + self.scale * difference


def _enlarge(width: int, factor: int) -> nn.Sequential:
    """Return the sub-pixel convolution, which turns each pixel's channels into factor·factor pixels."""
    return nn.Sequential(nn.Conv2d(width, width * factor**2, 3, padding=1), nn.PixelShuffle(factor))


def _prime_factors(number: int) -> list[int]:
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *_prime_factors(number // factor)]
    return []
