"""Holes filled plainly."""

from torch import Tensor


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
