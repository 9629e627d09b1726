"""Nets of a user's own, for RECON_TRUST=own_nets."""

import torch
from torch import Tensor, nn


class Spoilt(nn.Module):
    """In evaluation it gives `value` in place of bright images."""

    def __init__(self, *, channels: int = 1, value: float = float("nan"), brighter_than: float = 0.33) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)
        self.value, self.brighter_than = value, brighter_than

    def forward(self, x: Tensor) -> Tensor:
        bad = x[:, :1].mean((1, 2, 3), keepdim=True) > self.brighter_than
        image = (x[:, : self.layer.in_channels] + 0.1 * self.layer(x[:, : self.layer.in_channels])).sigmoid()
        return image if self.training else image.masked_fill(bad, self.value)


class SpoiltClassifier(Spoilt):
    """The same of class scores."""

    def __init__(
        self, *, channels: int = 1, num_classes: int = 10, value: float = float("nan"), brighter_than: float = 0.33
    ) -> None:
        super().__init__(channels=channels, value=value, brighter_than=brighter_than)
        self.last = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(super().forward(x).mean((2, 3)))


class Broken(nn.Module):
    """It fails on any image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, 3))


class NotOnMeta(nn.Conv2d):
    """It looks at its weights when it is made, as one that loads them does."""

    def __init__(self) -> None:
        super().__init__(1, 1, 3, padding=1)
        self.scale = float(self.weight.detach().abs().max())

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / self.scale


class Halves(nn.Module):
    """It gives images of half the width."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, (1, 2))
