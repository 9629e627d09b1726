"""How far a net looks: which pixels of an image one pixel of the result depends on."""

import copy

import torch
from torch import Tensor, nn

_DRAWS = 2  # of weights and images: a pooled maximum depends on one pixel of several
_UNIT = 32  # pixels, a multiple of what nets pad to; rows of all positions in the squares that a net halves are tried


def receptive_radius(net: nn.Module, channels: int = 1, largest: int = 128) -> int | None:
    """Measure how many pixels away a pixel of the result can depend on the image, by the support of its gradient.

    The weights are replaced by positive ones in a copy, so that no ReLU is dead and nothing cancels: what is measured
    is the architecture's, not that of a training. Where a net halves images, the radius differs by where a pixel lies;
    the largest counts.

    >>> from recon.nets import DnCNN
    >>> receptive_radius(DnCNN(depth=5, width=4))
    5

    Args:
        net: from images (B,C',H,W) to images (B,C,H,W) of the same size.
        channels: C'.
        largest: the search ends here.

    Returns:
        The radius in pixels, or None where it is above `largest`, as that of a net that takes a mean over the image.
    """
    net = copy.deepcopy(net).float().cpu().eval().requires_grad_(False)
    radius = 16
    while radius < 2 * largest:
        radius = min(2 * radius, largest + 1)
        if (found := _within(net, channels, radius)) < radius:
            return found
        if radius > largest:
            break
    return None


def _within(net: nn.Module, channels: int, radius: int) -> int:
    """Return the largest radius among pixels in the middle of a strip that reaches `radius` pixels further."""
    generator = torch.Generator().manual_seed(0)
    found = 0
    for _ in range(_DRAWS):
        for weight in net.parameters():
            # The sum over the inputs of a layer stays near 1, so that nothing overflows.
            inputs = max(1, weight[0].numel()) if weight.ndim > 1 else 1
            weight.copy_((0.5 + torch.rand(weight.shape, generator=generator)) / inputs)
        # Filters are square: a narrow strip tells the radius at a fraction of the cost.
        strip = (0.5 + torch.rand(1, channels, 2 * radius + _UNIT, _UNIT, generator=generator)).requires_grad_()
        for row in range(radius, radius + _UNIT, 5):
            pixel: Tensor = net(strip)[..., row, _UNIT // 2].sum()
            (gradient,) = torch.autograd.grad(pixel, strip)
            rows = gradient.abs().amax((0, 1, 3)).nonzero().flatten()
            found = max(found, row - int(rows[0]), int(rows[-1]) - row)
    return found
