"""Autoencoders: Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 2006.

The convolutional form follows Masci et al., "Stacked convolutional auto-encoders", ICANN 2011, with strides for pools.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from recon.nets.common import DenseCoder, halved_sizes, require_built_size, require_size
from recon.ranges import require_whole, require_widths


class DenseAutoencoder(DenseCoder):
    """Dense layers down to a vector code and, mirrored, back: images (B,C,H,W) in [0,1] to the same, rebuilt.

    >>> DenseAutoencoder(latent_dim=3).encode(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 3])

    Args:
        channels, image_size: of the images, at least 4x4.
        hidden: widths of the encoder's layers before the code; the decoder has them in reverse.
        latent_dim: length of the code.
        activation: of the hidden layers; see `recon.nets.common.ACTIVATIONS`.
        code_activation: of the code.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        hidden: Sequence[int] = (512, 256),
        latent_dim: int = 32,
        activation: str = "gelu",
        code_activation: str = "linear",
    ) -> None:
        super().__init__(channels, image_size, hidden, latent_dim, activation, code_activation)

    def encode(self, x: Tensor) -> Tensor:
        """Compress images (B,C,H,W) into codes (B,latent_dim)."""
        return self.encoded(x)

    def forward(self, x: Tensor) -> Tensor:
        """Compress and rebuild images (B,C,H,W)."""
        return self.decode(self.encode(x))


class ConvAutoencoder(nn.Module):
    """Strided convolutions down to a vector code and back: images (B,C,H,W) in [0,1] to the same, rebuilt.

    >>> ConvAutoencoder(latent_dim=3).encode(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 3])

    Args:
        channels, image_size: of the images, at least 4x4.
        widths: channels of each stage, which halves the size, rounding up; the decoder mirrors them.
        latent_dim: length of the code.
    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        widths: Sequence[int] = (32, 64),
        latent_dim: int = 32,
    ) -> None:
        super().__init__()
        require_widths("widths", widths)
        require_whole("latent_dim", latent_dim)
        require_size("ConvAutoencoder", image_size)
        self.image_size = tuple(image_size)
        self.latent_dim = latent_dim
        self.sizes = halved_sizes(image_size, len(widths))[::-1]
        self.code_shape = (widths[-1], *self.sizes[0])
        ladder = [channels, *widths]
        down: list[nn.Module] = []
        for inputs, outputs in pairwise(ladder):
            down += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GELU()]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(prod(self.code_shape), latent_dim))
        self.expand = nn.Linear(latent_dim, prod(self.code_shape))
        self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in pairwise(ladder[::-1]))

    def encode(self, x: Tensor) -> Tensor:
        """Compress images (B,C,H,W) into codes (B,latent_dim)."""
        require_built_size("ConvAutoencoder", x, self.image_size)
        code: Tensor = self.encoder(x)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) in [0,1] from codes (B,latent_dim)."""
        x: Tensor = self.expand(z).unflatten(1, self.code_shape)
        for layer, (height, width) in zip(self.up, self.sizes[1:], strict=True):
            x = layer(nn.functional.gelu(x))[:, :, :height, :width]
        return x.sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Compress and rebuild images (B,C,H,W)."""
        return self.decode(self.encode(x))
