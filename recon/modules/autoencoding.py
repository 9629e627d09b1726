"""Autoencoding: compress the image into a code and rebuild it; the variational form also samples new images."""

from typing import cast

from torch import Tensor, nn

from recon import keyed, losses
from recon.modules.outcome import Outcome
from recon.modules.restoration import RestorationModule
from recon.nets.contracts import Coder, VariationalCoder
from recon.pair import Pair
from recon.ranges import require_number
from recon.training.options import Training


class AutoencodingModule(RestorationModule):
    """Rebuild the clean image through a code; with a degradation, a denoising autoencoder (Vincent et al. 2008).

    The arguments are those of `RestorationModule`; the net has `encode` and `decode` as well.
    """

    contract = Coder
    monitor = "val/mse"
    mode = "min"


class VAEModule(RestorationModule):
    """Variational autoencoder (Kingma & Welling 2014) with a weight on the divergence (Higgins et al. 2017).

    The loss is in nats per image: the pixel loss summed over the image plus `beta` times the divergence of the code
    from the standard normal. Training decodes a sample of the code, evaluation its mean.

    Args:
        net: has `encode(image) -> (mean, log_variance)`, (B,D) each, and `decode(code (B,D)) -> image`.
        beta: weight of the divergence, at least 0.
        loss: `BCE` for the Bernoulli likelihood of the paper, or another loss of the pixels.
        training: see `Module`.

    Raises:
        InputError: a number out of its range.
    """

    contract = VariationalCoder
    monitor = "val/loss"
    mode = "min"

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.PixelLoss,
        beta: float,
    ) -> None:
        super().__init__(net, training, loss)
        require_number("beta", beta)
        self.beta = beta

    def step(self, pair: Pair) -> Outcome:
        """Encode, draw a code, rebuild and compare; the loss is the negative evidence lower bound where beta is 1."""
        net = cast(VariationalCoder, self.active_net)
        mean, log_variance = net.encode(self.like_weights(pair.degraded))
        code = mean + (log_variance / 2).exp() * keyed.normal(self.keys(pair, "code"), mean.shape[1:])
        image = net.decode(self.like_weights(code))
        pixels = self.pixel_loss(image, pair.clean)
        reconstruction = pixels.sum((1, 2, 3)) if pixels.ndim > 1 else pixels * pair.clean[0].numel()
        divergence = losses.kl_to_standard_normal(mean, log_variance)
        terms = {"reconstruction": reconstruction, "divergence": divergence}
        # The bound uses a sampled code in evaluation too; the image shown and scored is decoded from the mean.
        shown = image if self.training else net.decode(mean)
        return Outcome(reconstruction + self.beta * divergence, shown, terms=terms)

    def generate(self, keys: Tensor, label: Tensor) -> Tensor:
        """Sample new images from the prior, one for each key: (B,) int64 -> (B,C,H,W); `label` is not used."""
        return self.from_latents(self.latents(keys), label)

    def latents(self, keys: Tensor) -> Tensor:
        """Draw the code of an image for each key: (B,) -> (B,D)."""
        return keyed.normal(keys, (cast(VariationalCoder, self.active_net).latent_dim,))

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images of codes (B,D): (B,C,H,W); `label` is not used."""
        return cast(VariationalCoder, self.active_net).decode(self.like_weights(z))

    def pictures(self, pair: Pair) -> dict[str, Tensor]:
        """Add samples from the prior to the columns."""
        return {**super().pictures(pair), "sample": self.generate(self.keys(pair, "sample"), pair.label)}
