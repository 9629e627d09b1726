"""U-Net that knows the time and the label: what diffusion and flow models ask again and again.

Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020; Dhariwal & Nichol, "Diffusion models beat
GANs on image synthesis", NeurIPS 2021 (time and label scale and shift the normalised features). Without attention,
which images of these sizes gain little from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.nets.common import cut_to, padded_to, require_size
from recon.ranges import require_share, require_whole, require_widths

_LONGEST = 10_000  # the ratio of the longest to the shortest period of the embedded time, as in transformers


class TimeUNet(nn.Module):
    """Map images (B,C,H,W) at a time (B,) in [0,1], with labels (B,) or none, to (B,C,H,W); any size.

    >>> net = TimeUNet(channels=1, num_classes=10)
    >>> net(torch.zeros(2, 1, 9, 12), torch.tensor([0.0, 1.0]), torch.tensor([3, -1])).shape
    torch.Size([2, 1, 9, 12])

    Args:
        channels: C.
        num_classes: of the task; 0 = no labels.
        conditional: whether labels are used; a label of -1 stands for none.
        widths: channels at each scale, the whole image first; each but the first is half as large as that before.
        blocks: residual blocks at each scale, on the way down and on the way up.
        dropout: share of the features that each block drops.

    Raises:
        InputError: an argument out of its range.
    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        channels: int = 1,
        num_classes: int = 10,
        conditional: bool = True,
        widths: Sequence[int] = (32, 64, 96),
        blocks: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        require_whole("blocks", blocks)
        require_share("dropout", dropout)
        self.num_classes = num_classes if conditional else 0
        self.unit = 2 ** (len(widths) - 1)
        inner = 4 * widths[0]
        self.width = widths[0]
        self.time = nn.Sequential(nn.Linear(widths[0], inner), nn.SiLU(), nn.Linear(inner, inner))
        # The last row stands for no label.
        self.label = nn.Embedding(self.num_classes + 1, inner) if self.num_classes else None
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = widths[0]
        for width in widths:
            self.down.append(_Stage(before, width, blocks, inner, dropout))
            before = width
        self.middle = _Block(before, before, inner, dropout)
        for width in reversed(widths):
            self.up.append(_Stage(before + width, width, blocks, inner, dropout))
            before = width
        self.last = nn.Sequential(_norm(before), nn.SiLU(), nn.Conv2d(before, channels, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """Map images (B,C,H,W) at times (B,) with labels (B,) int64, -1 for none."""
        height, width = x.shape[2:]
        require_size("TimeUNet", (height, width))
        known = self.time(_waves(time, self.width).to(x.dtype))
        if self.label is not None:
            known = known + self.label(label.where(label >= 0, self.num_classes))
        x = self.first(padded_to(self.unit, x))
        kept = []
        for scale, stage in enumerate(self.down):
            x = stage(F.avg_pool2d(x, 2) if scale else x, known)
            kept.append(x)
        x = self.middle(x, known)
        for scale, stage in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2.0) if scale else x
            x = stage(torch.cat([x, kept.pop()], 1), known)
        return cut_to(height, width, self.last(x))


class _Stage(nn.Module):
    """The blocks at one scale."""

    def __init__(self, inputs: int, outputs: int, blocks: int, inner: int, dropout: float) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * blocks]
        self.blocks = nn.ModuleList(_Block(*pair, inner, dropout) for pair in pairwise(widths))

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, known)
        return x


class _Block(nn.Module):
    """Two convolutions around a residual, with time and label as the scale and shift of the second norm."""

    def __init__(self, inputs: int, outputs: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.Sequential(_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.known = nn.Linear(inner, 2 * outputs)
        self.norm = _norm(outputs)
        last = _silent(nn.Conv2d(outputs, outputs, 3, padding=1))  # each block begins as its skip
        self.after = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), last)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        scale, shift = self.known(F.silu(known))[:, :, None, None].chunk(2, 1)
        result: Tensor = self.skip(x) + self.after(self.norm(self.before(x)) * (1 + scale) + shift)
        return result


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """Let a convolution give nothing at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def _waves(time: Tensor, width: int) -> Tensor:
    """Embed times (B,) in [0,1] by sines and cosines of many periods: (B,width)."""
    half = width // 2
    rates = torch.exp(-math.log(_LONGEST) * torch.arange(half, device=time.device) / half)
    angles = 1000 * time[:, None].float() * rates
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    return F.pad(waves, (0, width - 2 * half))
