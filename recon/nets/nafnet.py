"""NAFNet: Chen, Chu, Zhang & Sun, "Simple baselines for image restoration", ECCV 2022."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recon.nets.common import cut_to, padded_to, require_size
from recon.ranges import require_whole, require_widths


class NAFNet(nn.Module):
    """A U-Net of gates instead of nonlinear functions: (B,C',H,W) to (B,C,H,W), any size.

    Its attention takes the mean over the whole image: at sizes other than those of the training crops the paper's
    authors take it over a window of about their size instead (TLC, Chu et al., ECCV 2022), which is not done here. At
    the defaults 1.14 million weights, 19 thousand multiply-adds for each pixel. The output is not clamped.

    >>> NAFNet(channels=3)(torch.zeros(2, 3, 17, 21)).shape
    torch.Size([2, 3, 17, 21])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        width: channels at the full scale, doubled at each one below.
        encoder: blocks at each scale on the way down; as many scales are below the full one.
        middle: blocks at the lowest scale.
        decoder: blocks at each scale on the way up.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        in_channels: int | None = None,
        channels: int = 1,
        width: int = 16,
        encoder: Sequence[int] = (1, 1, 1, 1),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        require_widths("encoder", encoder)
        require_widths("decoder", decoder, count=len(encoder))
        require_whole("middle", middle)
        require_whole("width", width)
        in_channels = channels if in_channels is None else in_channels
        self.channels, self.multiple = channels, 2 ** len(encoder)
        widths = [width * 2**scale for scale in range(len(encoder) + 1)]
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.encode = nn.ModuleList(_blocks(wide, count) for wide, count in zip(widths, encoder, strict=False))
        self.down = nn.ModuleList(nn.Conv2d(wide, 2 * wide, 2, stride=2) for wide in widths[:-1])
        self.middle = _blocks(widths[-1], middle)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(wide, 2 * wide, 1, bias=False), nn.PixelShuffle(2)) for wide in widths[:0:-1]
        )
        self.decode = nn.ModuleList(_blocks(wide, count) for wide, count in zip(widths[-2::-1], decoder, strict=True))
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B,C',H,W): (B,C,H,W)."""
        require_size("NAFNet", x.shape)
        height, width = x.shape[2:]
        padded = padded_to(self.multiple, x)
        y = self.first(padded)
        skips = []
        for encode, down in zip(self.encode, self.down, strict=True):
            skips.append(encode(y))
            y = down(skips[-1])
        y = self.middle(y)
        for up, decode in zip(self.up, self.decode, strict=True):
            y = decode(up(y) + skips.pop())
        return cut_to(height, width, padded[:, : self.channels] + self.last(y))


class _Block(nn.Module):
    """Layer norm, depth-wise convolution, gate and channel attention; then a gated point-wise pair."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm_after = _LayerNorm(width), _LayerNorm(width)
        self.wide = nn.Conv2d(width, 2 * width, 1)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1))
        self.narrow = nn.Conv2d(width, width, 1)
        self.wide_after, self.narrow_after = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(width, width, 1)
        # The block begins as the identity.
        self.scale, self.scale_after = (nn.Parameter(torch.zeros(1, width, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = _gate(self.depthwise(self.wide(self.norm(x))))
        x = x + self.scale * self.narrow(y * self.attention(y))
        y = self.narrow_after(_gate(self.wide_after(self.norm_after(x))))
        result: Tensor = x + self.scale_after * y
        return result


class _LayerNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)


def _gate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return first * second


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))
