"""A residual U-Net of DRUNet's kind: Zhang et al., "Plug-and-play image restoration with deep denoiser prior", 2021.

Smaller than theirs, and on pixels that are unshuffled first, so that a two-core machine trains it: a pixel takes an
eleventh of DnCNN's multiply-adds.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError
from recon.filters.holes import smoothly_filled
from recon.nets.common import cut_to, padded_to, require_size
from recon.ranges import require_whole, require_widths


class DRU(nn.Module):
    """Residual blocks at several scales that estimate the damage and subtract it: (B,C',H,W) to (B,C,H,W), any size.

    Nothing has a bias and nothing is normed, so that scaling an image scales the result (Mohan et al., ICLR 2020). At
    the defaults 1.04 million weights, 49 thousand multiply-adds for each pixel, receptive radius 91 pixels. The output
    is not clamped.

    >>> DRU(channels=3)(torch.zeros(2, 3, 17, 21)).shape
    torch.Size([2, 3, 17, 21])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        widths: channels at each scale, that of the unshuffled pixels first.
        blocks: residual blocks at each scale on the way down, and again on the way up.
        unshuffle: side of the squares of pixels that become channels before the first convolution.
        fill: how often the squares double by whose means holes are filled first, see `smoothly_filled`; then the mask
            is the channel behind the image. 0 for no filling.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        in_channels: int | None = None,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        unshuffle: int = 2,
        fill: int = 0,
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        require_whole("blocks", blocks)
        require_whole("unshuffle", unshuffle, 1, 8)
        require_whole("fill", fill, 0, 6)
        in_channels = channels if in_channels is None else in_channels
        if fill and in_channels == channels:
            raise InputError("fill: there is no mask of holes beside the image; choose model=inpainting, or fill=0")
        self.channels, self.unshuffle, self.fill = channels, unshuffle, fill
        self.multiple = math.lcm(unshuffle * 2 ** (len(widths) - 1), 2**fill)  # of which sides are padded
        steps = list(pairwise(widths))
        self.first = _convolution(in_channels * unshuffle**2, widths[0])
        self.encode = nn.ModuleList(_blocks(width, blocks) for width in widths[:-1])
        self.down = nn.ModuleList(_halved(here, below) for here, below in steps)
        self.middle = _blocks(widths[-1], blocks)
        self.up = nn.ModuleList(_doubled(below, here) for here, below in reversed(steps))
        self.decode = nn.ModuleList(_blocks(width, blocks) for width in reversed(widths[:-1]))
        self.last = _convolution(widths[0], channels * unshuffle**2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # Each block begins near the identity, so that the sum over many of them does not grow.
        for module in self.modules():
            if isinstance(module, _Block):
                nn.init.zeros_(module.second.weight)
        nn.init.normal_(self.last.weight, std=1e-2)

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B,C',H,W): (B,C,H,W)."""
        require_size("DRU", x.shape)
        height, width = x.shape[2:]
        padded = padded_to(self.multiple, x)
        if self.fill:
            image, known = padded[:, : self.channels], padded[:, self.channels : self.channels + 1]
            filled = smoothly_filled(image, known, self.fill)
            padded = torch.cat([filled, padded[:, self.channels :]], 1)
        y = self.first(F.pixel_unshuffle(padded, self.unshuffle))
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            skips.append(encode(y))
            y = down(skips[-1])
        y = self.middle(y)
        for up, decode in zip(self.up, self.decode, strict=True):
            y = decode(up(y) + skips.pop())
        damage = F.pixel_shuffle(self.last(y), self.unshuffle)
        return cut_to(height, width, padded[:, : self.channels] - damage)


class _Block(nn.Module):
    """A residual block: (B,C,H,W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.second = _convolution(width, width), _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.inner(x)))
        return x + change


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _halved(inputs: int, outputs: int) -> nn.Sequential:
    """Turn squares of 2x2 pixels into channels and mix them, which loses nothing as a stride would."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inputs, outputs, 1, bias=False))


def _doubled(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1, bias=False), nn.PixelShuffle(2))
