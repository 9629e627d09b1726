"""Restoration: learn degraded -> clean."""

from torch import Tensor, nn

from recon import losses
from recon.modules.base import MakeOptimizer, MakeScheduler, Module, Outcome
from recon.pair import Pair


class RestorationModule(Module):
    """Map the degraded image to the clean one.

    Args:
        net: (B,C,h,w) -> (B,C,H,W), larger where the degradation makes images smaller.
        loss: "l1", "mse", "charbonnier" or "bce", the mean over an image's pixels and channels.
        optimizer, scheduler, seed, l1, ema: see `Module`.

    Raises:
        InputError: a number out of its range, or a loss that there is not.
    """

    monitor = "val/psnr"
    mode = "max"

    def __init__(
        self,
        net: nn.Module,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler,
        seed: int,
        l1: float,
        ema: float,
        loss: str,
    ) -> None:
        super().__init__(net, optimizer, scheduler, seed, l1, ema)
        self.pixel_loss = losses.pixel_loss(loss)

    def forward(self, degraded: Tensor) -> Tensor:
        """Restore images: (B,C,h,w) -> (B,C,H,W)."""
        restored: Tensor = self.active_net(self.like_weights(degraded))
        return restored

    def step(self, pair: Pair) -> Outcome:
        """Restore and compare."""
        image = self(pair.degraded)
        return Outcome(self.pixel_loss(image, pair.clean).mean((1, 2, 3)), image)
