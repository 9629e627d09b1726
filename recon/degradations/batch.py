"""From the bytes of a batch to its degraded images."""

import torch
from torch import Tensor

from recon.degradations import fused
from recon.degradations.base import Degradation, Degraded


def degrade_bytes(operator: Degradation, pixels: Tensor, keys: Tensor) -> tuple[Tensor, Degraded]:
    """Make bytes floats in [0,1] and degrade them, in one pass where that can be.

    >>> from recon.degradations import GaussianNoise
    >>> degrade_bytes(GaussianNoise(0.1), torch.tensor([[[[255]]]], dtype=torch.uint8), keys[:1])[0].item()
    1.0

    Args:
        operator: the degradation.
        pixels: (B,C,H,W) uint8; floats are degraded as they are.
        keys: (B,) int64.

    Returns:
        The images in float32, and the degraded ones.
    """
    if pixels.dtype == torch.uint8 and operator.fuses and fused.takes(pixels):
        clean, result = fused.degrade(operator.plan, keys, pixels)
        return clean, Degraded.of(result)
    clean = as_float(pixels)
    return clean, operator(clean, keys)


def as_float(images: Tensor) -> Tensor:
    """Make bytes floats in [0,1]; floats are returned as they are.

    >>> as_float(torch.tensor([51], dtype=torch.uint8))
    tensor([0.2000])
    """
    if images.is_floating_point():
        return images
    # By a number CUDA multiplies with its rounded reciprocal, which makes half of the bytes differ from the CPU's.
    return images.float().div_(torch.full((), 255.0, device=images.device))
