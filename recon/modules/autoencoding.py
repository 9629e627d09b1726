"""Autoencoding: compress the image into a code and rebuild it."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from recon import keyed, losses
from recon.codec.tables import bits, frequencies
from recon.errors import InputError
from recon.measures import Measure
from recon.modules.outcome import Outcome
from recon.modules.restoration import RestorationModule
from recon.nets.common import cut_to
from recon.nets.contracts import Coder
from recon.nets.quantisers import Quantised, Quantiser, Scalar
from recon.pair import Pair
from recon.ranges import require_number
from recon.training.options import Training


class AutoencodingModule(RestorationModule):
    """Rebuild the clean image through a code; with a degradation, a denoising autoencoder (Vincent et al. 2008).

    Of a quantised code every validation counts the symbols, and the counts are saved with the weights: by them a test
    says how many bits its images take, and `action=compress` writes just those.

    Args:
        net: has `encode(image) -> code (B,D,...)` and `decode(code) -> image`; with a quantiser `latent_dim` D.
        training: see `Module`.
        loss: averaged over an image's pixels and channels.
        quantiser: what the code is rounded to, or None.
        sparsity: weight of the mean absolute value of the code's numbers (Ng 2011), at least 0.
        rate: weight of the bits per pixel that a scalar quantiser is estimated to take, at least 0.
        contraction: weight of the squared Frobenius norm of the code's Jacobian (Rifai et al. 2011), at least 0; in
            training alone, estimated by one random direction for each image.

    Raises:
        InputError: a number out of its range, or a code that the quantiser does not take.
    """

    takes_teacher = False
    contract = Coder
    monitor = "val/mse"
    mode = "min"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure("bits_per_pixel", "bits per pixel", -1, "", 4, "cost",
                "mean over images of the bits that their symbols take, by frequencies counted in the validation, for "
                "each of height x width pixels; without the header of a file", bounds=(0.0, float("inf"))),
        Measure("symbols_in_use", "symbols in use", 0, "%", 1, "other",
                "share of the symbols of all alphabets that occur in the validation", factor=100.0, bounds=(0.0, 1.0)),
    )  # fmt: skip
    counts: Tensor

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.PixelLoss,
        quantiser: Quantiser | None = None,
        sparsity: float = 0.0,
        contraction: float = 0.0,
        rate: float = 0.0,
    ) -> None:
        super().__init__(net, training, loss)
        require_number("sparsity", sparsity)
        require_number("contraction", contraction)
        require_number("rate", rate)
        if rate and not isinstance(quantiser, Scalar):
            raise InputError("rate: bits are estimated for a scalar quantiser alone; set model/quantiser=scalar, or "
                             "rate=0")  # fmt: skip
        self.sparsity, self.contraction, self.rate, self.quantiser = sparsity, contraction, rate, quantiser
        self.alphabet: tuple[int, ...] = ()
        self._counts = False  # whether symbols are counted now
        if quantiser is not None:
            self.alphabet = _prepared(net, quantiser)
            # -1 where an alphabet is smaller than the largest.
            places = torch.arange(max(self.alphabet)).expand(len(self.alphabet), -1)
            sizes = torch.tensor(self.alphabet)[:, None]
            self.register_buffer("counts", torch.where(places < sizes, 0, -1))

    # Codes ---------------------------------------------------------------------------------------------------------

    def encode(self, image: Tensor) -> Tensor:
        """Compress images (B,C,H,W) into codes (B,D,...), before they are quantised."""
        return cast(Coder, self.active_net).encode(self.like_weights(image))

    def quantised(self, code: Tensor) -> Quantised | None:
        """Quantise codes (B,D,...); None without a quantiser."""
        return None if self.quantiser is None else cast(Quantised, self.quantiser(code))

    def decode(self, code: Tensor, height: int, width: int) -> Tensor:
        """Rebuild images (B,C,H,W) of a size from codes (B,D,...), quantised ones where there is a quantiser."""
        return cut_to(height, width, cast(Coder, self.active_net).decode(self.like_weights(code)))

    @property
    def frequencies(self) -> Tensor:
        """The frequencies (G,A) int64 of the symbols, see `recon.codec.tables`."""
        return frequencies(self.counts)

    # What a module does --------------------------------------------------------------------------------------------

    def forward(self, degraded: Tensor, level: Tensor | None = None) -> Tensor:
        """Compress and rebuild images (B,C,H,W)."""
        code = self.encode(degraded)
        quantised = self.quantised(code)
        return self.decode(code if quantised is None else quantised.code, *degraded.shape[2:])

    def step(self, pair: Pair) -> Outcome:
        """Compress, rebuild and compare; the penalties of the code are part of the loss."""
        contracted = self.training and self.contraction > 0
        seen = pair.degraded.detach().requires_grad_() if contracted else pair.degraded
        code = self.encode(seen)
        quantised = self.quantised(code)
        image = self.decode(code if quantised is None else quantised.code, *pair.clean.shape[2:])
        loss = losses.per_image(self.pixel_loss(image, pair.clean))
        terms: dict[str, Tensor] = {}
        if self.sparsity:
            terms["sparsity"] = losses.wide(code).abs().flatten(1).mean(1)
            loss = loss + self.sparsity * terms["sparsity"]
        if contracted:
            loss = loss + self.contraction * self._contraction(seen, code, pair)
        if quantised is None:
            return Outcome(loss, image, terms)
        if quantised.bits is not None:
            terms["rate"] = quantised.bits / pair.clean[0, 0].numel()
            loss = loss + self.rate * terms["rate"]
        return Outcome(loss + quantised.commitment, image, terms, self._counted(quantised.symbols, pair))

    def on_validation_start(self) -> None:
        """Begin to count symbols anew, see `Module`."""
        super().on_validation_start()
        if self.quantiser is not None:
            self.counts.clamp_(max=0)

    def validation_step(self, pair: Pair, batch_idx: int) -> None:
        """Count the symbols too, see `Module`; what is drawn or measured beside does not count."""
        self._counts = True
        super().validation_step(pair, batch_idx)
        self._counts = False

    def on_validation_epoch_end(self) -> None:
        """Sum the counts of all processes, see `Module`."""
        if self.quantiser is not None and self.trainer.world_size > 1:
            missing = self.counts < 0
            torch.distributed.all_reduce(self.counts)
            self.counts.masked_fill_(missing, -1)
        super().on_validation_epoch_end()

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Say how much of the alphabets is used."""
        found = super().conclude(columns)
        if self.quantiser is None or not self.is_counted:
            return found
        return {**found, "symbols_in_use": float((self.counts > 0).sum() / (self.counts >= 0).sum())}

    @property
    def is_counted(self) -> bool:
        """Whether a validation has counted symbols."""
        return self.quantiser is not None and bool((self.counts > 0).any())

    def _counted(self, symbols: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Count the symbols (B,G,...) of a validation; say how many bits those of a test take."""
        trainer: Any = self._trainer
        if self._counts:
            flat = symbols.movedim(1, 0).flatten(1)
            places = flat + torch.arange(len(flat), device=flat.device)[:, None] * self.counts.shape[1]
            self.counts += torch.bincount(places.flatten(), minlength=self.counts.numel()).view_as(self.counts)
        if trainer is None or not trainer.testing or not self.is_counted:
            return {}
        return {"bits_per_pixel": bits(self.frequencies, symbols) / pair.clean[0, 0].numel()}

    def _contraction(self, seen: Tensor, code: Tensor, pair: Pair) -> Tensor:
        """Estimate the squared Frobenius norm of the code's Jacobian, (B,): E |vᵀJ|² = |J|² for v of ±1."""
        signs = 2 * keyed.integers(self.keys(pair, "contraction"), 2, tuple(code.shape[1:])) - 1
        (slope,) = torch.autograd.grad((losses.wide(code) * signs).sum(), seen, create_graph=True)
        return losses.wide(slope).square().flatten(1).sum(1)


def _prepared(net: nn.Module, quantiser: Quantiser) -> tuple[int, ...]:
    """Prepare a quantiser for the codes of a net: the sizes of its alphabets; InputError where it cannot take them."""
    channels = getattr(net, "latent_dim", None)
    if not isinstance(channels, int):
        raise InputError(
            f"quantiser: {type(net).__name__} does not say how many channels its code has (latent_dim); choose "
            "another model/net, or model/quantiser=none"
        )
    try:
        alphabet = quantiser.alphabet(channels)
    except InputError as error:
        raise InputError(f"quantiser.{error}") from error
    quantiser.prepare(channels)
    return alphabet
