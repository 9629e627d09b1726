"""The batch of every task: degraded images, their clean originals, masks and labels."""

from typing import NamedTuple

import torch
from torch import Tensor


class Pair(NamedTuple):
    """A batch of degraded/clean pairs; no field is ever `None`.

    >>> Pair(clean, clean, torch.ones(2, 1, 4, 4), torch.tensor([3, 7]), torch.arange(2), torch.zeros(2)).label
    tensor([3, 7])

    Attributes:
        degraded: (B,C,h,w) float, nominally in [0,1]; noise is not clipped, as in the denoising literature.
        clean: (B,C,H,W) float in [0,1].
        mask: (B,1,H,W) float, 1 where the pixel is known and 0 in a hole.
        label: (B,) int64 class, -1 where there is none.
        index: (B,) int64, the sample's index in its split.
        severity: (B,) float, the drawn level in the degradation's own unit (sigma, fraction missing, ...).
    """

    degraded: Tensor
    clean: Tensor
    mask: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which no batch needs
    severity: Tensor

    @classmethod
    def of(
        cls, degraded: Tensor, clean: Tensor | None = None, mask: Tensor | None = None, label: Tensor | None = None
    ) -> "Pair":
        """Make pairs of images that belong to no split: indices from 0, severity 0.

        >>> Pair.of(clean).mask.shape, Pair.of(clean).label.tolist()
        (torch.Size([2, 1, 4, 4]), [-1, -1])

        Args:
            degraded: (B,C,h,w).
            clean: (B,C,H,W), or None for the same images.
            mask: (B,1,H,W), or None where all pixels are known.
            label: (B,) int64, or None for no labels.
        """
        clean = degraded if clean is None else clean
        index = torch.arange(len(degraded), device=degraded.device)
        mask = torch.ones_like(clean[:, :1]) if mask is None else mask
        label = torch.full_like(index, -1) if label is None else label
        return cls(degraded, clean, mask, label, index, torch.zeros(len(index), device=degraded.device))
