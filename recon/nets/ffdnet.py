"""FFDNet: Zhang, Zuo & Zhang, "FFDNet: toward a fast and flexible solution for CNN-based image denoising", TIP 2018."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from recon.nets.common import cut_to, padded_to, require_size
from recon.ranges import DEEPEST, require_whole


class FFDNet(nn.Module):
    """Convolutions on unshuffled pixels, with bias and ReLU between: (B,C',H,W) to (B,C,H,W), any size.

    At the defaults 0.485 million weights for grey images, 121 thousand multiply-adds for each pixel, receptive radius
    31 pixels. The result is made directly, not as a difference. The output is not clamped.

    >>> FFDNet(depth=4)(torch.zeros(2, 1, 17, 21)).shape
    torch.Size([2, 1, 17, 21])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        depth: number of convolutions, at least 2; 15 in the paper for grey images, 12 for colour.
        width: channels of the hidden layers; 64 in the paper for grey images, 96 for colour.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(self, *, in_channels: int | None = None, channels: int = 1, depth: int = 15, width: int = 64) -> None:
        super().__init__()
        require_whole("depth", depth, 2, DEEPEST)
        require_whole("width", width)
        in_channels = channels if in_channels is None else in_channels
        layers: list[nn.Module] = [nn.Conv2d(4 * in_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 4 * channels, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images (B,C',H,W): (B,C,H,W)."""
        require_size("FFDNet", x.shape)
        height, width = x.shape[2:]
        image: Tensor = F.pixel_shuffle(self.body(F.pixel_unshuffle(padded_to(2, x), 2)), 2)
        return cut_to(height, width, image)
