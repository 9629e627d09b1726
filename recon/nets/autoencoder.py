"""Autoencoders: Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural networks", Science 2006.

The convolutional form follows Masci et al., "Stacked convolutional auto-encoders", ICANN 2011, with strides for pools.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from recon.nets.common import dense, halved_sizes, require_built_size, require_size
from recon.ranges import require_whole, require_widths


class DenseAutoencoder(nn.Module):
    """Dense layers down to a vector code and, mirrored, back: images (B,C,H,W) in [0,1] to the same, rebuilt.

    Args:
        channels: C of the image.
        image_size: (H, W) in pixels, at least 4x4.
        hidden: widths of the encoder's layers before the code; the decoder has them in reverse.
        latent_dim: length of the code.
        activation: of the hidden layers; see `recon.nets.common.ACTIVATIONS`.
        code_activation: of the code.

    Raises:
        InputError: if the images are smaller, or of another size than built for, or an activation is unknown, or
            a number is out of its range.
    """

    fixed_size: ClassVar[bool] = True

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
        super().__init__()
        require_widths("hidden", hidden, 0)
        require_whole("latent_dim", latent_dim)
        require_size("DenseAutoencoder", image_size)
        self.image_size = tuple(image_size)
        self.image_shape = (channels, *image_size)
        self.latent_dim = latent_dim
        widths = [prod(self.image_shape), *hidden, latent_dim]
        self.encoder = dense(widths, activation, code_activation)
        self.decoder = dense(widths[::-1], activation, "sigmoid")

    def encode(self, x: Tensor) -> Tensor:
        """Compress images (B,C,H,W) into codes (B,latent_dim)."""
        require_built_size("DenseAutoencoder", x, self.image_size)
        code: Tensor = self.encoder(x.flatten(1))
        return code

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) in [0,1] from codes (B,latent_dim)."""
        image: Tensor = self.decoder(z).unflatten(1, self.image_shape)
        return image

    def forward(self, x: Tensor) -> Tensor:
        """Compress and rebuild images (B,C,H,W)."""
        return self.decode(self.encode(x))


class ConvAutoencoder(nn.Module):
    """Strided convolutions down to a vector code and back: images (B,C,H,W) in [0,1] to the same, rebuilt.

    Args:
        channels: C of the image.
        image_size: (H, W) in pixels, at least 4x4; each stage halves it, rounding up, and the decoder retraces it.
        widths: channels of each stage.
        latent_dim: length of the code.

    Raises:
        InputError: if the images are smaller, or of another size than built for, or a number is out of its range.
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
        ladder = ladder[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1) for inputs, outputs in pairwise(ladder)
        )

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
