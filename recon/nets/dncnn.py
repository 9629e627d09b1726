"""DnCNN: Zhang, Zuo, Chen, Meng & Zhang, "Beyond a Gaussian denoiser", IEEE Transactions on Image Processing 2017."""

from typing import ClassVar

from torch import Tensor, nn

from recon.nets.common import require_size
from recon.ranges import DEEPEST, require_whole


class DnCNN(nn.Module):
    """A stack of 3x3 convolutions that estimates the noise and subtracts it: (B,C',H,W) to (B,C,H,W), any size.

    Without batch norm the layers are those of the authors' merged weights: convolutions with bias and ReLU between. The
    output is not clamped.

    >>> DnCNN(depth=4)(torch.zeros(2, 1, 16, 20)).shape
    torch.Size([2, 1, 16, 20])

    Args:
        in_channels: C' of the input, whose first C are the image; None for C.
        channels: C of the output.
        depth: number of convolutions, at least 2; 17 in the paper for one noise level, 20 for blind denoising.
        width: channels of the hidden layers.
        batch_norm: whether batch norm follows each convolution but the first and the last.

    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self,
        *,
        in_channels: int | None = None,
        channels: int = 1,
        depth: int = 17,
        width: int = 64,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        require_whole("depth", depth, 2, DEEPEST)
        require_whole("width", width)
        in_channels = channels if in_channels is None else in_channels
        self.channels = channels
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
        self.noise = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images (B,C',H,W): (B,C,H,W)."""
        require_size("DnCNN", x.shape)
        noise: Tensor = self.noise(x)
        return x[:, : self.channels] - noise
