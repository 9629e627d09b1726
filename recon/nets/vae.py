"""Variational autoencoder: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, with dense layers."""

from collections.abc import Sequence
from math import prod
from typing import ClassVar

from torch import Tensor, nn

from recon.nets.common import dense, require_built_size, require_size
from recon.ranges import require_whole, require_widths


class VAE(nn.Module):
    """Dense encoder to a normal distribution over codes and a mirrored decoder: images (B,C,H,W) in [0,1], rebuilt.

    The code is not sampled here: `forward` decodes the mean, and who trains adds the noise.

    Args:
        channels: C of the image.
        image_size: (H, W) in pixels, at least 4x4.
        hidden: widths of the encoder's layers before the code; the decoder has them in reverse.
        latent_dim: length of the code.
        activation: of the hidden layers; see `recon.nets.common.ACTIVATIONS`.

    Raises:
        InputError: if the images are smaller, or of another size than built for, or the activation is unknown, or
            a number is out of its range.
    """

    fixed_size: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        hidden: Sequence[int] = (512, 256),
        latent_dim: int = 16,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        require_widths("hidden", hidden, 0)
        require_whole("latent_dim", latent_dim)
        require_size("VAE", image_size)
        self.image_size = tuple(image_size)
        self.image_shape = (channels, *image_size)
        self.latent_dim = latent_dim
        widths = [prod(self.image_shape), *hidden]
        self.encoder = dense([*widths, 2 * latent_dim], activation, "linear")
        self.decoder = dense([latent_dim, *widths[::-1]], activation, "sigmoid")

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Describe images (B,C,H,W) by the mean and log-variance of their codes, (B,latent_dim) each."""
        require_built_size("VAE", x, self.image_size)
        mean, log_variance = self.encoder(x.flatten(1)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) in [0,1] from codes (B,latent_dim)."""
        image: Tensor = self.decoder(z).unflatten(1, self.image_shape)
        return image

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) from the mean of their codes."""
        return self.decode(self.encode(x)[0])
