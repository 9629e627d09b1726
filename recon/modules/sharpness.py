"""Sharpness-aware minimisation: a step by the gradient at the worst weights nearby.

Foret, Kleiner, Mobahi & Neyshabur, "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recon.ranges import require_number


class Sharpness:
    """Move weights up their loss before its gradient is computed, and back before the optimiser's step.

    On several devices each climbs by the gradient of its own images, as the paper does.

    Args:
        radius: the length of the way up, over all weights; 0 = off.

    Raises:
        InputError: the radius is out of its range.
    """

    def __init__(self, radius: float = 0.0) -> None:
        require_number("sam", radius, 0, 100)
        self.radius = radius
        self._weights: list[Tensor] = []
        self._before: list[Tensor] = []

    def __bool__(self) -> bool:
        return bool(self.radius)

    def climb(self, loss: Tensor, net: nn.Module) -> None:
        """Move the weights of a net by `radius` along the gradient of its loss, a scalar."""
        self._weights = [weight for weight in net.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(loss, self._weights, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            self._before = [weight.clone() for weight in self._weights]
            length = torch.stack(torch._foreach_norm([gradient.float() for gradient in gradients])).norm()
            rate = self.radius / (length + 1e-12)
            for weight, gradient in zip(self._weights, gradients, strict=True):
                weight.add_(gradient * rate.to(gradient.dtype))

    @torch.no_grad()
    def descend(self) -> None:
        """Give the weights their values back, once the gradient is there."""
        if self._before:
            torch._foreach_copy_(self._weights, self._before)
        self._weights, self._before = [], []


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norm as they are: the same images have been counted."""
    norms = [norm for norm in net.modules() if isinstance(norm, _BatchNorm) and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
