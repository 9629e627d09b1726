"""ResNet: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016, with its CIFAR stem."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from recon.nets.common import require_classes, require_size
from recon.ranges import require_whole


class ResNet18(nn.Module):
    """Residual classifier for small images, with a 3x3 stem and no max-pooling: (B,C,H,W) in [0,1] to logits (B,K).

    Four stages of two basic blocks, `width` to 8·`width` channels, then global average pooling: any size from 4x4.

    >>> ResNet18(width=8)(torch.zeros(2, 1, 16, 20)).shape
    torch.Size([2, 10])

    Args:
        channels: of the image.
        num_classes: K.
        width: channels of the first stage; 64 in the paper.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(self, *, channels: int = 1, num_classes: int = 10, width: int = 64) -> None:
        super().__init__()
        require_whole("width", width)
        require_classes("ResNet18", num_classes)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _Block(width, width, stride=1),
            _Block(width, width, stride=1),
        ]
        for inputs in (width, 2 * width, 4 * width):
            layers += [_Block(inputs, 2 * inputs, stride=2), _Block(2 * inputs, 2 * inputs, stride=1)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B,C,H,W): logits (B,K)."""
        require_size("ResNet18", x.shape)
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))
