"""Pairs of training images made one, and their labels with them."""

import torch
from torch import Tensor

from recon import keyed
from recon.ranges import require_number


class Mix:
    """Mix each image of a batch with the one before it, by its own key: the whole of both, or a rectangle.

    Shares and rectangles are those of the key alone. The other image is the batch's, which is a keyed permutation.

    Args:
        mixup: alpha of the Beta(alpha, alpha) distribution of an image's share; 0 = off. Zhang, Cisse, Dauphin &
            Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018.
        cutmix: the same, of the area that an image keeps outside a rectangle of the other; 0 = off. Yun et al.,
            "CutMix: regularization strategy to train strong classifiers with localizable features", ICCV 2019. With
            both, each image draws one of the two.

    Raises:
        InputError: a number out of its range.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0) -> None:
        require_number("mixup", mixup, 0, 100)
        require_number("cutmix", cutmix, 0, 100)
        self.mixup, self.cutmix = mixup, cutmix

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix)

    def __call__(self, images: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images (B,C,H,W) and the shares of their classes (B,K) by keys (B,) int64."""
        if not self:
            return images, targets
        shares = torch.ones(len(keys), 1, *images.shape[2:], device=images.device)
        if self.mixup:
            shares = shares * keyed.beta(keyed.fold(keys, "mixup"), self.mixup).view(-1, 1, 1, 1)
        if self.cutmix:
            outside = _outside(keyed.beta(keyed.fold(keys, "area"), self.cutmix), keyed.fold(keys, "place"), images)
            cut = keyed.uniform(keyed.fold(keys, "which")) < (0.5 if self.mixup else 1.0)
            shares = torch.where(cut.view(-1, 1, 1, 1), outside, shares)
        return _blended(images, shares), _blended(targets, shares.mean((1, 2, 3)).unsqueeze(1))


def _outside(kept: Tensor, keys: Tensor, images: Tensor) -> Tensor:
    """Return (B,1,H,W), 1 outside rectangles with the images' proportions, of areas 1 - `kept` (B,) until cut off.

    Their middles are uniform in the images, so that a part may lie outside.
    """
    side, middle = (1 - kept).clamp_min(0).sqrt().unsqueeze(1), keyed.uniform(keys, (2,))
    inside = []
    for axis, length in enumerate(images.shape[2:]):
        place = (torch.arange(length, device=images.device) + 0.5) / length
        inside.append((place - middle[:, axis : axis + 1]).abs() < side / 2)
    return 1 - (inside[0][:, None, :, None] & inside[1][:, None, None, :]).float()


def _blended(values: Tensor, shares: Tensor) -> Tensor:
    """Blend each of the values (B,...) with the one before it, the first with the last."""
    shares = shares.to(values.dtype)
    return values * shares + values.roll(1, 0) * (1 - shares)
