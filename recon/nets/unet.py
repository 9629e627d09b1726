"""U-Net: Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.

With 'same' convolutions, so that nothing is cropped, optional batch norm, and a 1x1 convolution with nearest-neighbour
enlarging in place of the up-convolution.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.nets.common import require_size
from recon.ranges import require_widths


class UNet(nn.Module):
    """An encoder and a decoder with skips between equal scales: (B,C',H,W) to images (B,C,H,W), any size from 4x4.

    Odd sizes are halved rounding up, and nearest-neighbour enlarging restores the size of the upper scale. The
    output is not clamped.

    >>> UNet(channels=3)(torch.zeros(2, 3, 17, 21)).shape
    torch.Size([2, 3, 17, 21])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        widths: channels at each scale, the full one first.
        batch_norm: whether batch norm follows each 3x3 convolution.
        residual: whether the net learns the difference from the image.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        in_channels: int | None = None,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        batch_norm: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        in_channels = channels if in_channels is None else in_channels
        self.channels = channels
        self.residual = residual
        ladder = [in_channels, *widths]
        pairs = list(pairwise(widths))[::-1]
        self.down = nn.ModuleList(_double(inputs, outputs, batch_norm) for inputs, outputs in pairwise(ladder))
        self.up = nn.ModuleList(nn.Conv2d(below, here, 1) for here, below in pairs)
        self.merge = nn.ModuleList(_double(2 * here, here, batch_norm) for here, _ in pairs)
        self.last = nn.Conv2d(widths[0], channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B,C',H,W): (B,C,H,W)."""
        require_size("UNet", x.shape)
        first, *others = self.down
        skips: list[Tensor] = [first(x)]
        for stage in others:
            skips.append(stage(F.max_pool2d(skips[-1], 2, ceil_mode=True)))
        y = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            y = merge(torch.cat([skip, F.interpolate(up(y), size=skip.shape[2:])], dim=1))
        image: Tensor = self.last(y)
        return x[:, : self.channels] + image if self.residual else image


def _double(inputs: int, outputs: int, batch_norm: bool) -> nn.Sequential:
    """Stack two 3x3 convolutions, each with ReLU and optional batch norm."""
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers.append(nn.Conv2d(width, outputs, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
