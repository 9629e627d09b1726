"""A fully convolutional autoencoder whose code is a small image: Theis et al., "Lossy image compression", ICLR 2017."""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from recon.nets.common import cut_to, padded_to, require_size, two_convolutions
from recon.ranges import require_whole, require_widths


class SpatialAutoencoder(nn.Module):
    """Strided convolutions down to a code (B,latent_dim,H/s,W/s) and back: images (B,C,H,W) in [0,1] of any size.

    Each stage halves the size, so that s is 2 to the number of `widths`. Sides that are no multiple of s are padded,
    and what `decode` makes is of the padded size.

    >>> net = SpatialAutoencoder(channels=3, widths=[8, 16], latent_dim=4)
    >>> net.encode(torch.zeros(2, 3, 17, 20)).shape, net(torch.zeros(2, 3, 17, 20)).shape
    (torch.Size([2, 4, 5, 5]), torch.Size([2, 3, 17, 20]))

    Args:
        channels: of the images.
        widths: channels of each stage, the largest images first; the decoder mirrors them.
        blocks: residual blocks in each stage.
        latent_dim: channels of the code.

    Attributes:
        stride: s, how many pixels a cell of the code has at each side.
        reach: how many cells around one its code depends on, and around a pixel's cell that pixel.
    """

    fixed_size: ClassVar[bool] = False

    def __init__(
        self, *, channels: int = 1, widths: Sequence[int] = (32, 64, 96), blocks: int = 1, latent_dim: int = 8
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        require_whole("blocks", blocks, 0, 100)
        require_whole("latent_dim", latent_dim)
        self.latent_dim = latent_dim
        self.stride = 2 ** len(widths)
        # Each convolution reaches one cell of its stage: that between the stages, and two of each block.
        sides = [2**stage for stage in range(1, len(widths) + 1)]
        self.reach = -(-sum((2 * blocks + 1) * side for side in sides) // self.stride) + 1
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for outer, inner in pairwise([channels, *widths]):
            down += [nn.PixelUnshuffle(2), _convolution(4 * outer, inner), *_blocks(inner, blocks)]
            up = [*_blocks(inner, blocks), _convolution(inner, 4 * outer), nn.PixelShuffle(2), *up]
        self.encoder = nn.Sequential(*down, nn.Conv2d(widths[-1], latent_dim, 1))
        self.decoder = nn.Sequential(_convolution(latent_dim, widths[-1]), *up)

    def encode(self, x: Tensor) -> Tensor:
        """Compress images (B,C,H,W) into codes (B,latent_dim,⌈H/s⌉,⌈W/s⌉)."""
        require_size("SpatialAutoencoder", x.shape)
        code: Tensor = self.encoder(padded_to(self.stride, x) - 0.5)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images (B,C,s·h,s·w), nominally in [0,1], from codes (B,latent_dim,h,w)."""
        image: Tensor = self.decoder(z)
        return image + 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Compress and rebuild images (B,C,H,W)."""
        height, width = x.shape[2:]
        return cut_to(height, width, self.decode(self.encode(x)))


class _Block(nn.Module):
    """A residual block: (B,C,H,W) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = two_convolutions(width)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.layers(F.relu(x))
        return x + change


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [_Block(width) for _ in range(count)]


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
