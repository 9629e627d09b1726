"""The weights of blurs, in float64."""

import torch
from torch import Tensor


def distinct(values: Tensor, level: tuple[float, float]) -> Tensor:
    """Return the first of values (B,) that are all equal, so that one kernel is computed for all images.

    >>> distinct(torch.tensor([2.0, 2.0]), (2.0, 2.0))
    tensor([2.])
    """
    return values[:1] if level[0] == level[1] else values


def gaussian(sigma: Tensor, longest: Tensor, radius: int) -> Tensor:
    """Return each sigma's weights (B,2·radius+1), zero beyond the radius of `longest`; in float64.

    >>> gaussian(torch.tensor([0.5]), torch.tensor([0.5]), 2)
    tensor([[2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04]],
           dtype=torch.float64)
    """
    sigma = sigma.double().unsqueeze(1)
    offset = torch.arange(-radius, radius + 1, device=sigma.device)
    # The clamp keeps sigma 0 from dividing 0 by 0; its radius is 0.
    kernel = (-0.5 * (offset / sigma.clamp_min(1e-9)) ** 2).exp() * _reached(offset, longest.unsqueeze(1))
    return kernel / kernel.sum(1, keepdim=True)


def _reached(offset: Tensor, sigma: Tensor) -> Tensor:
    return offset.abs() <= (4 * sigma.double() + 0.5).floor()


def _turned(angle: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the offsets -radius..radius, and each kernel pixel's distance along and across directions (B,)."""
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64, device=angle.device)
    angle = angle.double().deg2rad().view(-1, 1, 1)
    right, up = offset, -offset.unsqueeze(1)  # rows are counted downwards
    return offset, right * angle.cos() + up * angle.sin(), up * angle.cos() - right * angle.sin()


def turned_gaussian(sigma: Tensor, ratio: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Return the kernels (B,2·radius+1,2·radius+1) of Gaussians longer along their angle; in float64.

    >>> turned_gaussian(torch.tensor([0.5]), torch.tensor([0.1]), torch.tensor([0.0]), 2)[0, 2]
    tensor([2.6387e-04, 1.0645e-01, 7.8657e-01, 1.0645e-01, 2.6387e-04],
           dtype=torch.float64)
    """
    offset, along, across = _turned(angle, radius)
    sigma, ratio = sigma.double().view(-1, 1, 1), ratio.double().view(-1, 1, 1)
    reached = _reached(offset, sigma)
    kernels = (-0.5 * (along.square() + (across / ratio).square()) / sigma.clamp_min(1e-9).square()).exp()
    return _normalised(kernels * (reached & reached.transpose(1, 2)))


def line(length: Tensor, angle: Tensor, radius: int) -> Tensor:
    """Return the kernels (B,2·radius+1,2·radius+1) of MATLAB's `fspecial('motion')`; in float64.

    >>> line(torch.tensor([4.0]), torch.tensor([0.0]), 2)[0, 2]
    tensor([0.1250, 0.2500, 0.2500, 0.2500, 0.1250], dtype=torch.float64)
    """
    offset, along, across = _turned(angle, radius)
    half = (length.double().view(-1, 1, 1) - 1) / 2
    # Farther from the middle than the line's ends, the distance is to the nearer end; otherwise to the line.
    far = offset.square() + offset.square().unsqueeze(1) >= half.square()
    distance = (across.square() + ((half - along.abs()) * far).square()).sqrt()
    return _normalised((1 - distance).clamp_min(0))


def trail(sigma: Tensor, angle: Tensor, reach: int) -> Tensor:
    """Return the kernels (B,2·reach+1,2·reach+1) that average a pixel and those on a half-line; in float64.

    >>> trail(torch.tensor([1.0]), torch.tensor([45.0]), 1)[0]
    tensor([[0.0000, 0.0000, 0.0000],
            [0.0000, 0.6225, 0.0000],
            [0.0000, 0.0000, 0.3775]], dtype=torch.float64)

    Args:
        sigma: (B,) of the half Gaussian that weighs them.
        angle: (B,) of the half-line in degrees, clockwise from the right.
        reach: in pixels.
    """
    step, side = torch.arange(reach + 1, dtype=torch.float64, device=sigma.device), 2 * reach + 1
    sigma, angle = sigma.double().unsqueeze(1), angle.double().deg2rad().unsqueeze(1)
    weights = (-0.5 * (step / sigma.clamp_min(1e-9)).square()).exp() * (step <= (4 * sigma + 0.5).floor())
    right, down = ((step * part - 0.5).ceil().long() + reach for part in (angle.cos(), angle.sin()))
    kernels = torch.zeros(len(sigma), side * side, dtype=torch.float64, device=sigma.device)
    return _normalised(kernels.scatter_add_(1, down * side + right, weights).view(-1, side, side))


def disk(radius: Tensor, reach: int) -> Tensor:
    """Return the kernels (B,2·reach+1,2·reach+1) of disks, each pixel's weight the exact area inside; in float64.

    >>> disk(torch.tensor([1.0]), 1)[0]
    tensor([[0.0251, 0.1453, 0.0251],
            [0.1453, 0.3183, 0.1453],
            [0.0251, 0.1453, 0.0251]], dtype=torch.float64)
    """
    radius = radius.double().view(-1, 1, 1).clamp_min(1e-9)
    offset = torch.arange(reach + 1, dtype=torch.float64, device=radius.device)
    # One quarter, its innermost pixels cut in half by the axes.
    left, right = (offset - 0.5).clamp_min(0), offset + 0.5
    low, high = left.unsqueeze(1), right.unsqueeze(1)
    # Going right along a pixel, the circle is first above it, then crosses it, then is below it.
    enters = (radius.square() - high.square()).clamp_min(0).sqrt().maximum(left).minimum(right)
    leaves = (radius.square() - low.square()).clamp_min(0).sqrt().maximum(left).minimum(right)
    area = (enters - left) * (high - low) - (leaves - enters) * low
    area = area + _under_circle(leaves, radius) - _under_circle(enters, radius)
    halves = torch.where(offset == 0, 2.0, 1.0).double()
    area = area * halves * halves.unsqueeze(1)
    mirrored = torch.arange(-reach, reach + 1, device=radius.device).abs()
    return _normalised(area.index_select(1, mirrored).index_select(2, mirrored))


def _under_circle(x: Tensor, radius: Tensor) -> Tensor:
    """Return the area between the axis and the circle, from the middle to `x`, at most to the radius."""
    x = x.minimum(radius)
    height = (radius.square() - x.square()).sqrt()
    return (x * height + radius.square() * (x / radius).asin()) / 2


def _normalised(kernels: Tensor) -> Tensor:
    return kernels / kernels.sum((1, 2), keepdim=True)
