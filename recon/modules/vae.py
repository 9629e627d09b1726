"""The variational autoencoder, which also samples new images."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from recon import keyed, losses
from recon.degradations.base import Degradation, Identity
from recon.errors import InputError
from recon.measures import ROWS, Measure
from recon.modules.adversarial import OpposedModule
from recon.modules.outcome import Outcome
from recon.modules.restoration import RestorationModule
from recon.nets.contracts import VariationalCoder
from recon.nets.features import before_last
from recon.pair import Pair
from recon.ranges import require_number, require_whole
from recon.training.options import Training

_NATS = "nats for an image; the pixels are "


class VAEModule(OpposedModule, RestorationModule):
    """Variational autoencoder (Kingma & Welling 2014) with a weight on the divergence (Higgins et al. 2017).

    The loss is in nats per image: the pixel loss summed over the image plus `beta` times the divergence of the code
    from the standard normal. Training decodes a sample of the code, evaluation its mean.

    With `adversarial` above 0 it is a VAE-GAN (Larsen et al. 2016): a discriminator learns to tell clean images from
    rebuilt ones and from samples of the prior, the decoder to deceive it, and encoder and decoder to rebuild what the
    discriminator sees in an image (the input of its last dense layer), beside the pixels, which the paper leaves out.

    Args:
        net: has `encode(image) -> (mean, log_variance)`, (B,D) each, and `decode(code (B,D)) -> image`; with
            `num_classes` above 0 both are given the labels (B,) too.
        training: see `Module`.
        loss: `BCE` for the Bernoulli likelihood of the paper, `Gaussian`, `DiscretisedLogistic`, or another loss of the
            pixels.
        beta: weight of the divergence, at least 0.
        warm_up: training steps over which `beta` rises from 0 (Sønderby et al. 2016).
        free_bits: nats of divergence, as a mean over the batch, below which training does not push any number of the
            code (Kingma et al. 2016).
        binarised: whether every pixel is drawn as 0 or 1, with its value as the probability of 1 (Salakhutdinov &
            Murray 2008): fresh in every epoch, fixed in evaluation.
        importance_samples: codes for the importance-weighted bound of every test image (Burda et al. 2016); 0 = none.
        adversarial: weight of the adversarial term beside the mean loss of a pixel, at least 0; 0 = off.
        discriminator: (image (B,C,H,W), label (B,)) -> logit (B,), the last of its layers dense; used when
            `adversarial` is above 0.

    Raises:
        InputError: a number out of its range.
    """

    takes_teacher = False
    contract = VariationalCoder
    monitor: str | None = "val/loss"
    mode = "min"

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.PixelLoss,
        beta: float,
        warm_up: int = 0,
        free_bits: float = 0.0,
        binarised: bool = False,
        importance_samples: int = 0,
        adversarial: float = 0.0,
        discriminator: nn.Module | None = None,
    ) -> None:
        super().__init__(net, training, loss)
        require_number("beta", beta)
        require_whole("warm_up", warm_up, 0, 1 << 40)
        require_number("free_bits", free_bits)
        require_whole("importance_samples", importance_samples, 0, 100_000)
        self.beta, self.warm_up, self.free_bits = beta, warm_up, free_bits
        self.binarised, self.importance_samples = binarised, importance_samples
        self.oppose(adversarial, discriminator)
        if adversarial:  # the bound falls behind while images sharpen, so that by it the earliest weights were best
            self.monitor = None

    def prepare_for(self, damage: Degradation) -> None:
        """Refuse damage of images that are to be black and white, see `Module`."""
        super().prepare_for(damage)
        if self.binarised and not isinstance(damage, Identity):
            raise InputError("model.binarised: pixels are drawn from the clean image, which this degradation would "
                             "have to damage first; choose degradation=none, or set model.binarised=false")  # fmt: skip

    @property
    def rows(self) -> dict[str, Measure]:
        """The table of measures, whose bounds say of what pixels they are."""
        drawn = "drawn as 0 or 1 (dynamic binarisation)" if self.binarised else "as they are, not binarised"
        with_codes = f"{self.importance_samples} codes for each image; {_NATS}{drawn}"
        bound = f"negative evidence lower bound with the divergence weighted by {self.beta:g}, one code; {_NATS}{drawn}"
        own = (
            Measure("loss", ROWS["loss"].label, -1, "nats", None, "loss", bound),
            Measure("bound_iwae", "importance-weighted bound", -1, "nats", None, "loss",
                    f"negative importance-weighted bound of the log-likelihood, {with_codes}"),
        )  # fmt: skip
        return {**super().rows, **{row.name: row for row in own}}

    # Codes ---------------------------------------------------------------------------------------------------------

    def described(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and log-variance (B,D) of the codes of images (B,C,H,W) with labels (B,), -1 for none."""
        return cast(VariationalCoder, self.active_net).encode(self.like_weights(image), *self._known(label))

    def latents(self, keys: Tensor) -> Tensor:
        """Draw the code of an image for each key: (B,) -> (B,D)."""
        return keyed.normal(keys, (cast(VariationalCoder, self.active_net).latent_dim,))

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images (B,C,H,W) of codes (B,D), with the labels (B,) where the net is conditional."""
        return cast(VariationalCoder, self.active_net).decode(self.like_weights(z), *self._known(label))

    def generate(self, keys: Tensor, label: Tensor) -> Tensor:
        """Sample new images from the prior, one for each key and label: (B,) int64 each -> (B,C,H,W)."""
        return self.from_latents(self.latents(keys), label)

    def _known(self, label: Tensor) -> tuple[Tensor, ...]:
        return (label,) if getattr(self.active_net, "num_classes", 0) else ()

    # What a module does --------------------------------------------------------------------------------------------

    def predict(self, pair: Pair) -> Tensor:
        """Rebuild images (B,C,H,W) from the mean of their codes."""
        return self.from_latents(self.described(pair.degraded, pair.label)[0], pair.label)

    def step(self, pair: Pair) -> Outcome:
        """Encode, draw a code, rebuild and compare; the loss is the negative evidence lower bound where beta is 1."""
        return self._rebuilt(pair)[0]

    def contested(self, pair: Pair) -> tuple[Outcome, Tensor]:
        """Rebuild images and draw others of the prior, see `OpposedModule`; the encoder deceives nobody."""
        outcome, code = self._rebuilt(pair)
        codes = torch.cat([code.detach(), self.latents(self.keys(pair, "prior"))])
        return outcome, self.from_latents(codes, pair.label.repeat(2))

    def matched(self, outcome: Outcome, pair: Pair) -> dict[str, Tensor]:
        """Compare rebuilt and clean images by what the last dense layer of the discriminator is given."""
        assert outcome.image is not None
        seen, wanted = (self._features(image, pair.label) for image in (outcome.image, pair.clean))
        return {"loss_features": (seen - wanted.detach()).square().mean()}

    def weight_against(self, pair: Pair) -> float:
        """Return the weight beside a loss that is summed over the pixels."""
        return self.adversarial_weight * pair.clean[0].numel()

    def _features(self, image: Tensor, label: Tensor) -> Tensor:
        """Return what the last dense layer of the discriminator is given for images (B,C,H,W): (B,D)."""
        net = self.discriminator
        assert net is not None
        # By `forward`, as a compiled net knows nothing of hooks.
        return losses.wide(before_last(net, lambda: net.forward(self.like_weights(image), label))[1])

    def _rebuilt(self, pair: Pair) -> tuple[Outcome, Tensor]:
        """Return the outcome of a step, and the codes (B,D) that were drawn."""
        if self.binarised:
            drawn = keyed.uniform(self.keys(pair, "pixels"), tuple(pair.clean.shape[1:])) < pair.clean
            pair = pair._replace(clean=drawn.to(pair.clean.dtype), degraded=drawn.to(pair.clean.dtype))
        mean, log_variance = self.described(pair.degraded, pair.label)
        code = mean + (log_variance / 2).exp() * keyed.normal(self.keys(pair, "code"), mean.shape[1:])
        image = self.from_latents(code, pair.label)
        reconstruction = self._nats(image, pair.clean)
        divergences = losses.kl_to_standard_normal(mean.reshape(-1, 1), log_variance.reshape(-1, 1)).view(mean.shape)
        terms = {"reconstruction": reconstruction, "divergence": divergences.sum(1)}
        # The bound uses a sampled code in evaluation too; the image shown and scored is decoded from the mean.
        shown = image if self.training else self.from_latents(mean, pair.label)
        loss = reconstruction + self._weight() * self._pushed(divergences)
        return Outcome(loss, shown, terms, self._importance_weighted(mean, log_variance, pair)), code

    def pictures(self, pair: Pair) -> dict[str, Tensor]:
        """Add samples from the prior to the columns."""
        return {**super().pictures(pair), "sample": self.generate(self.keys(pair, "sample"), pair.label)}

    def _nats(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return the pixel loss summed over each image: (B,)."""
        pixels = self.pixel_loss(image, clean)
        return pixels.sum((1, 2, 3)) if pixels.ndim > 1 else pixels * clean[0].numel()

    def _weight(self) -> float:
        """Return the weight of the divergence now."""
        if not self.training or not self.warm_up or self._trainer is None:
            return self.beta
        return self.beta * min(1.0, (self.trainer.global_step + 1) / self.warm_up)

    def _pushed(self, divergences: Tensor) -> Tensor:
        """Return what of the divergences (B,D) is minimised: (B,)."""
        if not self.training or not self.free_bits:
            return divergences.sum(1)
        return divergences.mean(0).clamp_min(self.free_bits).sum().expand(len(divergences))

    def _importance_weighted(self, mean: Tensor, log_variance: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Return the negative importance-weighted bound (B,) of a test's images."""
        if not self.importance_samples or self._trainer is None or not self._trainer.testing:
            return {}
        mean, log_variance = losses.wide(mean), losses.wide(log_variance)
        total = torch.full_like(mean[:, 0], -math.inf, dtype=torch.float64)
        for number in range(self.importance_samples):
            noise = keyed.normal(self.keys(pair, f"importance {number}"), mean.shape[1:])
            code = mean + (log_variance / 2).exp() * noise
            # log p(z) - log q(z|x), in which the constants cancel.
            ratio = (noise.square() - code.square() + log_variance).sum(1) / 2
            weight = ratio - self._nats(self.from_latents(code, pair.label), pair.clean)
            total = total.logaddexp(weight.double())
        return {"bound_iwae": math.log(self.importance_samples) - total}
