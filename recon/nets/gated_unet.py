"""A U-Net of gated convolutions: Yu et al., "Free-form image inpainting with gated convolution", ICCV 2019.

The coarse net of the paper in the shape of a U-Net: one stage, no attention, no discriminator of patches.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.nets.common import require_size
from recon.ranges import require_widths


class GatedUNet(nn.Module):
    """An encoder and a decoder that learn which pixels to use: (B,C',H,W) to (B,C,H,W), any size from 4x4.

    Each 3x3 convolution is multiplied by a gate between 0 and 1 that another one makes from the same pixels, so that
    holes need not count as black. At the defaults 0.94 million weights, 222 thousand multiply-adds for each
    pixel, receptive radius 23 pixels. The output is not clamped.

    >>> GatedUNet(in_channels=4, channels=3)(torch.zeros(2, 4, 17, 21)).shape
    torch.Size([2, 3, 17, 21])

    Args:
        in_channels: C' of the input, the image and its mask; None for C.
        channels: C of the output.
        widths: channels at each scale, the full one first.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self, *, in_channels: int | None = None, channels: int = 1, widths: Sequence[int] = (32, 64, 128)
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        ladder = [channels if in_channels is None else in_channels, *widths]
        pairs = list(pairwise(widths))[::-1]
        self.down = nn.ModuleList(_two(inputs, outputs) for inputs, outputs in pairwise(ladder))
        self.merge = nn.ModuleList(_two(below + here, here) for here, below in pairs)
        self.last = nn.Conv2d(widths[0], channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Fill the holes of images (B,C',H,W): (B,C,H,W)."""
        require_size("GatedUNet", x.shape)
        first, *others = self.down
        skips: list[Tensor] = [first(x)]
        for stage in others:
            skips.append(stage(F.avg_pool2d(skips[-1], 2, ceil_mode=True)))
        y = skips.pop()
        for merge in self.merge:
            skip = skips.pop()
            y = merge(torch.cat([skip, F.interpolate(y, size=skip.shape[2:])], dim=1))
        image: Tensor = self.last(y)
        return image


class _Gated(nn.Module):
    """A gated 3x3 convolution: (B,C,H,W) to (B,D,H,W)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.both = nn.Conv2d(inputs, 2 * outputs, 3, padding=1)  # values and gates in one convolution

    def forward(self, x: Tensor) -> Tensor:
        values, gates = self.both(x).chunk(2, dim=1)
        gated: Tensor = F.elu(values) * gates.sigmoid()
        return gated


def _two(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_Gated(inputs, outputs), _Gated(outputs, outputs))
