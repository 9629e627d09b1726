"""LeNet-5: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", 1998.

With ReLU and max-pooling in place of the paper's squashing function and trainable average, as is usual today.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from recon.nets.common import dense, require_built_size, require_classes, require_size
from recon.ranges import require_whole, require_widths


class LeNet(nn.Module):
    """Two convolutions, each with ReLU and 2x2 max-pooling, then dense layers: (B,C,H,W) in [0,1] to logits (B,K).

    The convolutions are 'valid' where that leaves at least 4x4 features (from 28x28 pixels with kernel 5) and 'same'
    in smaller images.

    >>> LeNet()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])

    Args:
        channels, image_size: of the images, at least 4x4.
        num_classes: K.
        widths: channels of the two convolutions.
        kernel: their side in pixels.
        hidden: widths of the dense layers before the last.

    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 10,
        widths: Sequence[int] = (6, 16),
        kernel: int = 5,
        hidden: Sequence[int] = (120, 84),
    ) -> None:
        super().__init__()
        require_widths("widths", widths, count=2)
        require_whole("kernel", kernel, 1, 101)
        require_widths("hidden", hidden, 0)
        require_size("LeNet", image_size)
        require_classes("LeNet", num_classes)
        self.image_size = tuple(image_size)
        size, padding = [_valid_size(side, kernel) for side in image_size], "valid"
        if min(size) < 4:
            size, padding = [side // 4 for side in image_size], "same"
        first, second = widths
        self.features = nn.Sequential(
            nn.Conv2d(channels, first, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(first, second, kernel, padding=padding), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.classifier = dense([second * size[0] * size[1], *hidden, num_classes], "relu", "linear")

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B,C,H,W): logits (B,K)."""
        require_built_size("LeNet", x, self.image_size)
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _valid_size(side: int, kernel: int) -> int:
    """Return the side after two 'valid' convolutions, each halved."""
    return ((side - kernel + 1) // 2 - kernel + 1) // 2
