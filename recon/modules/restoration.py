"""Restoration: learn degraded -> clean."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recon import losses
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.pair import Pair
from recon.training.options import Training


class RestorationModule(Module):
    """Map the degraded image to the clean one.

    Args:
        net: (B,C',h,w) -> (B,C,H,W), larger where the degradation makes images smaller.
        loss: averaged over an image's pixels and channels.
        training: see `Module`.
        noise_map: give the net the level of the noise as one more channel, as FFDNet does (Zhang et al., TIP 2018), so
            that C' is C+1; else it is blind to the level.
    """

    monitor: str | None = "val/psnr"
    mode = "max"
    takes_teacher = True  # see `Training.teacher`

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.PixelLoss,
        noise_map: bool = False,
    ) -> None:
        super().__init__(net, training)
        self.pixel_loss = loss
        self.noise_map = noise_map

    @staticmethod
    def in_channels(channels: int, settings: Mapping[str, Any]) -> int:
        """The image's channels, and the map of the noise level where there is one."""
        return channels + bool(settings.get("noise_map"))

    def prepare_for(self, damage: Degradation) -> None:
        """Refuse damage without a level of noise where there is a map of it, see `Module`."""
        super().prepare_for(damage)
        if self.noise_map and not damage.gaussian:
            raise InputError(
                "model.noise_map: the map is of the level of Gaussian noise, which this degradation does not add; "
                "choose degradation=noise, or set model.noise_map=false"
            )

    def forward(self, degraded: Tensor, level: Tensor | None = None) -> Tensor:
        """Restore images (B,C,h,w), with the levels (B,) of their noise where the net has a map: (B,C,H,W)."""
        if not self.noise_map:
            return super().forward(degraded)
        assert level is not None, "a net with a noise map is given the level of the noise"
        levels = level.to(degraded.dtype).view(-1, 1, 1, 1).expand_as(degraded[:, :1])
        return super().forward(torch.cat([degraded, levels], 1))

    def predict(self, pair: Pair) -> Tensor:
        """Restore, see `Module`."""
        restored: Tensor = self(pair.degraded, pair.severity)
        return restored

    def step(self, pair: Pair) -> Outcome:
        """Restore and compare."""
        image = self.predict(pair)

        def distance(other: Tensor) -> Tensor:
            return losses.per_image(self.pixel_loss(image, other))

        loss = distance(pair.clean)
        return Outcome(self.options.taught(loss, pair, distance) if self.training else loss, image)
