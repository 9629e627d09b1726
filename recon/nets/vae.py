"""Variational autoencoder: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, with dense layers.

By label it is that of Sohn et al., "Learning structured output representation", NeurIPS 2015.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

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
        conditional: whether encoder and decoder are given the label, where the images have labels.
        num_classes: of the images; 0 where they have no labels, or the net is not conditional.
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        hidden: Sequence[int] = (512, 256),
        latent_dim: int = 32,
        activation: str = "gelu",
        conditional: bool = False,
        num_classes: int = 10,
    ) -> None:
        known = num_classes if conditional else 0
        super().__init__(channels, image_size, hidden, latent_dim, activation, "linear", codes=2, known=known)
        self.num_classes = known

    def encode(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Describe images (B,C,H,W) by the mean and log-variance of their codes, (B,latent_dim) each."""
        mean, log_variance = self.encoded(x, *self._known(x, label)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Rebuild images (B,C,H,W) in [0,1] from codes (B,latent_dim)."""
        return self.decoded(z, *self._known(z, label))

    def forward(self, x: Tensor) -> Tensor:
        """Rebuild images (B,C,H,W) from the mean of their codes, without their labels."""
        return self.decode(self.encode(x)[0])

    def _known(self, like: Tensor, label: Tensor | None) -> list[Tensor]:
        """Write labels (B,) as (B,num_classes), 1 at the label, all 0 for one of -1 or none."""
        if not self.num_classes:
            return []
        if label is None:
            return [like.new_zeros(len(like), self.num_classes)]
        return [F.one_hot(label + 1, self.num_classes + 1)[:, 1:].to(like.dtype)]
