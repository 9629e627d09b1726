"""Inpainting: fill holes that are known."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recon import losses, metrics
from recon.filters.holes import mean_filled
from recon.modules.adversarial import OpposedModule
from recon.modules.outcome import Outcome
from recon.pair import Pair
from recon.ranges import require_number
from recon.training.options import Training


class InpaintingModule(OpposedModule):
    """Fill the hole of an image from what is known around it; known pixels are kept exactly.

    With `adversarial` above 0 a discriminator learns to tell filled from clean images and the net to deceive it: the
    context encoder (Pathak et al. 2016).

    Args:
        net: (B,C+1,H,W), the degraded image and its mask, -> (B,C,H,W).
        loss: of the pixels.
        hole_weight: how many known pixels one in the hole weighs, at least 0.
        adversarial: weight of the adversarial term, at least 0; 0 = off.
        discriminator: (image (B,C,H,W), label (B,)) -> logit (B,); used when `adversarial` is above 0.
        training: see `Module`.

    Raises:
        InputError: a number out of its range.
    """

    needs = frozenset({"holes"})
    monitor = "val/psnr_hole"
    mode = "max"
    takes_teacher = True  # see `Training.teacher`

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.PixelLoss,
        hole_weight: float,
        adversarial: float,
        discriminator: nn.Module,
    ) -> None:
        super().__init__(net, training)
        require_number("hole_weight", hole_weight)
        self.pixel_loss = loss
        self.hole_weight = hole_weight
        self.oppose(adversarial, discriminator)

    @staticmethod
    def in_channels(channels: int, settings: Mapping[str, Any]) -> int:
        """The image's channels and the mask."""
        return channels + 1

    def forward(self, degraded: Tensor, mask: Tensor) -> Tensor:
        """Fill the holes: (B,C,H,W) and mask (B,1,H,W), 1 = known, -> (B,C,H,W)."""
        return self._compose(self._paint(degraded, mask), degraded, mask)

    def step(self, pair: Pair) -> Outcome:
        """Fill and compare; known pixels contribute to the loss with a lower weight."""
        painted = self._paint(pair.degraded, pair.mask)

        def distance(other: Tensor) -> Tensor:
            return losses.hole_weighted(self.pixel_loss(painted, other), pair.mask, self.hole_weight)

        loss = distance(pair.clean)
        loss = self.options.taught(loss, pair, distance) if self.training else loss
        return Outcome(loss, self._compose(painted, pair.degraded, pair.mask))

    def predict(self, pair: Pair) -> Tensor:
        """Fill the holes."""
        filled: Tensor = self(pair.degraded, pair.mask)
        return filled

    def input_metrics(self, pair: Pair) -> dict[str, Tensor]:
        """Add the PSNR of the hole filled with the mean of the known pixels."""
        baseline = metrics.psnr(mean_filled(pair.degraded, pair.mask), pair.clean, mask=1 - pair.mask)
        return {**super().input_metrics(pair), "psnr_hole_mean": baseline}

    def _paint(self, degraded: Tensor, mask: Tensor) -> Tensor:
        painted: Tensor = self.active_net(self.like_weights(torch.cat([degraded, mask.to(degraded.dtype)], 1)))
        return painted

    @staticmethod
    def _compose(painted: Tensor, degraded: Tensor, mask: Tensor) -> Tensor:
        return torch.where(mask > 0, degraded, painted)
