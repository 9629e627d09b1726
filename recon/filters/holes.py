"""Holes filled plainly."""

import torch
import torch.nn.functional as F
from torch import Tensor

_NOTHING = 1e-4  # how much grey counts where no known pixel is near


def mean_filled(degraded: Tensor, mask: Tensor) -> Tensor:
    """Fill the holes of each image with the mean of its known pixels, a number for each channel; NaN without any.

    >>> mean_filled(torch.tensor([[[[1.0, 0.0, 3.0]]]]), torch.tensor([[[[1.0, 0.0, 1.0]]]]))
    tensor([[[[1., 2., 3.]]]])

    Args:
        degraded: (B,C,H,W).
        mask: (B,1,H,W), 1 where a pixel is known and 0 in a hole.
    """
    known = (degraded * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    return degraded.where(mask > 0, known)


def smoothly_filled(image: Tensor, known: Tensor, levels: int) -> Tensor:
    """Continue known pixels smoothly into holes, by means over larger and larger squares.

    The pull-push of Gortler, Grzeszczuk, Szeliski & Cohen, "The lumigraph", SIGGRAPH 1996, with weights by the share of
    known pixels. Farther from any than 2^`levels` pixels it gives grey.

    >>> row = torch.tensor([[[[1.0, 0.0, 0.0, 3.0]]]]).expand(1, 1, 4, 4)
    >>> smoothly_filled(row, torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(1, 1, 4, 4), 2)[0, 0, 0]
    tensor([1.0000, 1.6665, 2.3331, 3.0000])

    Args:
        image: (B,C,H,W), sides of whole multiples of 2^`levels`.
        known: (B,1,H,W), 1 where a pixel is known and 0 in a hole.
        levels: how often the squares double.
    """
    pyramid = [torch.cat([image * known, known], 1)]
    for _ in range(levels):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    sums = pyramid[-1]
    for finer in reversed(pyramid[:-1]):
        wide = F.interpolate(sums, scale_factor=2.0, mode="bilinear", align_corners=False)
        sums = finer + (1 - finer[:, -1:]) * wide
    return (sums[:, :-1] + 0.5 * _NOTHING * (1 - known)) / (sums[:, -1:] + _NOTHING * (1 - known))
