"""Convolutional attention net, after Zhang et al., "CVANet: cascaded visual attention network", Neural Networks 2024.

Of the paper's attention modules it keeps the pixel attention (Zhao et al., "Efficient image super-resolution using
pixel attention", ECCVW 2020), in residual blocks and at full resolution.
"""

from typing import ClassVar

from torch import Tensor, nn

from recon.nets.common import require_size, two_convolutions
from recon.ranges import DEEPEST, require_whole


class CVANet(nn.Module):
    """Residual blocks whose every pixel is gated by attention: (B,C',H,W) to images (B,C,H,W), any size from 4x4.

    The net learns the difference from the image; the output is not clamped.

    >>> CVANet(channels=3)(torch.zeros(2, 3, 16, 20)).shape
    torch.Size([2, 3, 16, 20])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        width: channels of the blocks.
        blocks: how many there are.
        squeeze: how many times fewer channels the attention branch has.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self, *, in_channels: int | None = None, channels: int = 1, width: int = 32, blocks: int = 4, squeeze: int = 4
    ) -> None:
        super().__init__()
        require_whole("width", width)
        require_whole("blocks", blocks, 1, DEEPEST)
        require_whole("squeeze", squeeze)
        in_channels = channels if in_channels is None else in_channels
        self.channels = channels
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1),
            *(_AttentionBlock(width, squeeze) for _ in range(blocks)),
            nn.Conv2d(width, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B,C',H,W): (B,C,H,W)."""
        require_size("CVANet", x.shape)
        difference: Tensor = self.body(x)
        return x[:, : self.channels] + difference


class _AttentionBlock(nn.Module):
    """Two convolutions, multiplied by a gate in (0,1) per pixel and channel and added to the input."""

    def __init__(self, width: int, squeeze: int) -> None:
        super().__init__()
        narrow = max(1, width // squeeze)
        self.body = two_convolutions(width)
        self.gate = nn.Sequential(nn.Conv2d(width, narrow, 1), nn.ReLU(), nn.Conv2d(narrow, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        gate: Tensor = self.gate(y)
        return x + y * gate
