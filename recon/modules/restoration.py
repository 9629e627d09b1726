"""Restoration: learn degraded -> clean."""

from torch import nn

from recon import losses
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.pair import Pair
from recon.training.options import Training


class RestorationModule(Module):
    """Map the degraded image to the clean one.

    Args:
        net: (B,C,h,w) -> (B,C,H,W), larger where the degradation makes images smaller.
        loss: averaged over an image's pixels and channels.
        training: see `Module`.

    """

    monitor = "val/psnr"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.PixelLoss,
    ) -> None:
        super().__init__(net, training)
        self.pixel_loss = loss

    def step(self, pair: Pair) -> Outcome:
        """Restore and compare."""
        image = self(pair.degraded)
        return Outcome(losses.per_image(self.pixel_loss(image, pair.clean)), image)
