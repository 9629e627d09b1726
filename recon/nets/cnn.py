"""A plain convolutional classifier: the small nets of the Keras examples, and with batch norm a good default.

Batch norm: Ioffe & Szegedy 2015; dropout: Srivastava et al. 2014.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from recon.errors import InputError
from recon.nets.common import require_built_size, require_classes, require_size
from recon.ranges import require_share, require_whole, require_widths


class CNN(nn.Module):
    """Stages of 3x3 convolution, ReLU and 2x2 max-pooling, then two dense layers: (B,C,H,W) in [0,1] to logits (B,K).

    A side of one pixel is pooled no further.

    >>> CNN(channels=3, image_size=(16, 16))(torch.zeros(2, 3, 16, 16)).shape
    torch.Size([2, 10])

    Args:
        channels, image_size: of the images.
        num_classes: K.
        widths: channels of each stage.
        padding: "valid" or "same", of every convolution.
        batch_norm: whether batch norm stands between each convolution and its ReLU.
        dropout: the fraction of features dropped before the first dense layer.
        hidden: width of the first dense layer.
    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 10,
        widths: Sequence[int] = (32, 64, 128),
        padding: Literal["valid", "same"] = "same",
        batch_norm: bool = True,
        dropout: float = 0.3,
        hidden: int = 128,
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        require_share("dropout", dropout)
        require_whole("hidden", hidden)
        if padding not in ("valid", "same"):
            raise InputError(f"padding '{padding}' is unknown: choose valid or same.")
        require_size("CNN", image_size, 4 if padding == "same" else _least_valid_side(len(widths)))
        require_classes("CNN", num_classes)
        self.image_size = tuple(image_size)
        height, width = image_size
        layers: list[nn.Module] = []
        for outputs in widths:
            layers.append(nn.Conv2d(channels, outputs, 3, padding=padding, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            if padding == "valid":
                height, width = height - 2, width - 2
            pool = min(2, height), min(2, width)
            layers += [nn.ReLU(), nn.MaxPool2d(pool)]
            height, width = height // pool[0], width // pool[1]
            channels = outputs
        self.features = nn.Sequential(*layers)
        inputs = channels * height * width
        first, last = nn.Linear(inputs, hidden), nn.Linear(hidden, num_classes)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), first, nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images (B,C,H,W): logits (B,K)."""
        require_built_size("CNN", x, self.image_size)
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _least_valid_side(stages: int) -> int:
    """Return the smallest side that leaves a pixel after the last "valid" 3x3 convolution: 4, 8, 18, 38, ..."""
    side = 3
    for _ in range(stages - 1):
        side = 2 * side + 2
    return max(side, 4)
