"""Variational autoencoder: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, with dense layers."""

from collections.abc import Sequence

from torch import Tensor

from recon.nets.common import DenseCoder


class VAE(DenseCoder):
    """Dense encoder to a normal distribution over codes and a mirrored decoder: images (B,C,H,W) in [0,1], rebuilt.

    `forward` decodes the mean; training adds the noise.

    >>> mean, log_variance = VAE(latent_dim=3).encode(torch.zeros(2, 1, 28, 28))
    >>> mean.shape, log_variance.shape
    (torch.Size([2, 3]), torch.Size([2, 3]))

    Args:
        channels, image_size: of the images, at least 4x4.
        hidden: widths of the encoder's layers before the code; the decoder has them in reverse.
        latent_dim: length of the code.
        activation: of the hidden layers; see `recon.nets.common.ACTIVATIONS`.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        hidden: Sequence[int] = (512, 256),
        latent_dim: int = 16,
        activation: str = "gelu",
    ) -> None:
        super().__init__(channels, image_size, hidden, latent_dim, activation, "linear", codes=2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Describe images (B,C,H,W) by the mean and log-variance of their codes, (B,latent_dim) each."""
        mean, log_variance = self.encoded(x).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) from the mean of their codes."""
        return self.decode(self.encode(x)[0])
