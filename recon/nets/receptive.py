"""How far a net looks, and by how many pixels an image can be moved so that the result moves along."""

import copy

import torch
from torch import Tensor, nn

_DRAWS = 2  # of weights and images: a pooled maximum depends on one pixel of several
_UNIT = 32  # pixels, a multiple of what nets pad to; rows of all positions in the squares that a net halves are tried


def receptive_radius(net: nn.Module, channels: int = 1, largest: int = 128, scale: int = 1) -> int | None:
    """Measure how many pixels away a pixel of the result can depend on the image, by the support of its gradient.

    The weights are replaced by positive ones in a copy, so that no ReLU is dead and nothing cancels: what is measured
    is the architecture's, not that of a training. Where a net halves images, the radius differs by where a pixel lies;
    the largest counts.

    >>> from recon.nets import DnCNN
    >>> receptive_radius(DnCNN(depth=5, width=4))
    5

    Args:
        net: from images (B,C',h,w) to images (B,C,scale·h,scale·w).
        channels: C'.
        largest: the search ends here.
        scale: how many times larger the result is.

    Returns:
        The radius in pixels of the input, or None where it is above `largest`, as that of a net that takes a mean over
        the image.
    """
    net = copy.deepcopy(net).float().cpu().eval().requires_grad_(False)
    radius = 16
    while radius < 2 * largest:
        radius = min(2 * radius, largest + 1)
        if (found := _within(net, channels, radius, scale)) < radius:
            return found
        if radius > largest:
            break
    return None


def _within(net: nn.Module, channels: int, radius: int, scale: int) -> int:
    """Return the largest radius among pixels in the middle of a strip that reaches `radius` pixels further."""
    generator = torch.Generator().manual_seed(0)
    found = 0
    for _ in range(_DRAWS):
        make_positive(net, generator)
        # Filters are square: a narrow strip shows the radius at a fraction of the cost.
        strip = (0.5 + torch.rand(1, channels, 2 * radius + _UNIT, _UNIT, generator=generator)).requires_grad_()
        for row in range(radius, radius + _UNIT, 5):
            place = slice(scale * row, scale * (row + 1)), slice(scale * (_UNIT // 2), scale * (_UNIT // 2 + 1))
            pixel: Tensor = net(strip)[(..., *place)].sum()
            (gradient,) = torch.autograd.grad(pixel, strip)
            rows = gradient.abs().amax((0, 1, 3)).nonzero().flatten()
            found = max(found, row - int(rows[0]), int(rows[-1]) - row)
    return found


def make_positive(net: nn.Module, generator: torch.Generator) -> None:
    """Replace the weights of a net by random positive ones: no ReLU is dead then, and nothing cancels.

    >>> net = nn.Conv2d(1, 1, 3)
    >>> make_positive(net, torch.Generator())
    >>> bool((net.weight > 0).all())
    True
    """
    with torch.no_grad():
        for weight in net.parameters():
            # The sum over the inputs of a layer stays near 1, so that nothing overflows.
            inputs = max(1, weight[0].numel()) if weight.ndim > 1 else 1
            weight.copy_((0.5 + torch.rand(weight.shape, generator=generator)) / inputs)


@torch.no_grad()
def stride(net: nn.Module, radius: int, channels: int = 1, scale: int = 1) -> int | None:
    """Measure by how many pixels an image must be moved so that the result is the same, moved along.

    >>> from recon.nets import DnCNN, DRU
    >>> stride(DnCNN(depth=5, width=4), 5), stride(DRU(), 91)
    (1, 8)

    Args:
        net: as for `receptive_radius`.
        radius: what `receptive_radius` measured.
        channels: C'.
        scale: how many times larger the result is.

    Returns:
        The smallest power of two up to 64, or None where there is none.
    """
    net = copy.deepcopy(net).double().cpu().eval()
    generator = torch.Generator().manual_seed(0)
    make_positive(net, generator)
    image = torch.rand(1, channels, 2 * radius + 4 * _UNIT, _UNIT, generator=generator, dtype=torch.float64)
    whole = net(image)
    for step in (1, 2, 4, 8, 16, 32, 64):
        moved = net(image[:, :, step:])
        # Rows that see no border in either.
        rows = slice(scale * (radius + step), scale * (image.shape[2] - radius - 2 * _UNIT))
        there = slice(scale * radius, scale * (image.shape[2] - radius - 2 * _UNIT - step))
        if torch.allclose(whole[:, :, rows], moved[:, :, there], rtol=1e-9, atol=0):
            return step
    return None
