"""A classifier that learns fast: a whitened first layer and small stages.

After Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, 2024 (airbench); the whitening is
Page's, "How to train your ResNet 8: bag of tricks", 2019.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recon.nets.common import require_built_size, require_classes, require_size
from recon.ranges import require_whole, require_widths

_EPSILON = 5e-4  # of the mean variance of a pixel, so that directions of almost no variance are not blown up


class SpeedNet(nn.Module):
    """Whitened patches, then stages of two 3x3 convolutions and one pool: (B,C,H,W) in [0,1] to logits (B,K).

    The first layer shows the principal components of small patches, each with its negative, all of one variance. It is
    fitted to training images before the training, which changes its bias alone. A side of one pixel is pooled no
    further; what is left of the sides in the end is pooled by its largest value.

    >>> SpeedNet(channels=3, image_size=(16, 16), widths=(8, 8))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])

    Args:
        channels, image_size: of the images.
        num_classes: K.
        widths: channels of each stage.
        kernel: side of the whitened patches.
        stride: pixels from one patch to the next.
        components: how many principal components are shown, those of the largest variance; None = all.
        train_bias: whether the bias of the first layer is trained; no gradient has to reach that layer otherwise.
    """

    fixed_size: ClassVar[bool] = True
    fitted: Tensor

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 10,
        widths: Sequence[int] = (32, 64, 128),
        kernel: int = 2,
        stride: int = 1,
        components: int | None = None,
        train_bias: bool = True,
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        require_whole("kernel", kernel, 1, 4)
        require_whole("stride", stride, 1, 4)
        require_size("SpeedNet", image_size)
        require_classes("SpeedNet", num_classes)
        self.image_size = tuple(image_size)
        most = channels * kernel**2
        components = most if components is None else components
        require_whole("components", components, 1, most)
        self.whitening = nn.Conv2d(channels, 2 * components, kernel, stride)
        self.whitening.weight.requires_grad_(False)
        cast(Tensor, self.whitening.bias).requires_grad_(train_bias)
        self.register_buffer("fitted", torch.tensor(0))
        height, width = ((side - kernel) // stride + 1 for side in image_size)
        inputs, stages = self.whitening.out_channels, []
        for outputs in widths:
            pool = min(2, height), min(2, width)
            stages.append(_stage(inputs, outputs, pool))
            inputs, height, width = outputs, height // pool[0], width // pool[1]
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(inputs, num_classes, bias=False)
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    @torch.no_grad()
    def fit_to(self, images: Tensor) -> None:
        """Whiten the patches of images (N,C,H,W), once: a fitted net is left as it is."""
        if self.fitted:
            return
        side = self.whitening.kernel_size[0]
        patches = F.unfold(images.double(), side).transpose(1, 2).flatten(0, 1)
        variances, directions = torch.linalg.eigh(patches.T.cov())
        rows = (directions / (variances + _EPSILON * variances.mean() + 1e-12).sqrt()).T
        rows = rows[-(self.whitening.out_channels // 2) :]  # the variances rise
        weight = torch.cat([rows, -rows])
        self.whitening.weight.copy_(weight.view_as(self.whitening.weight))
        cast(Tensor, self.whitening.bias).copy_(-(weight @ patches.mean(0)))
        self.fitted.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B,C,H,W): logits (B,K)."""
        require_built_size("SpeedNet", x, self.image_size)
        features = self.features(F.gelu(self.whitening(x)))
        logits: Tensor = self.classifier(features.amax((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, pool: tuple[int, int]) -> nn.Sequential:
    """Return two convolutions, each with batch norm; the first is pooled."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(pool),
        nn.BatchNorm2d(outputs),
        nn.GELU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.GELU(),
    )
