"""Generative adversarial networks."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recon import keyed, losses
from recon.errors import InputError
from recon.modules.adaptive import Augmentation
from recon.modules.adversarial import AdversarialModule
from recon.modules.generating import GeneratingModule
from recon.modules.health import EVERY, Signs
from recon.modules.outcome import Artifact, Outcome
from recon.nets.contracts import Players
from recon.pair import Pair
from recon.ranges import require_number, require_whole
from recon.training.options import Training

_WATCHED = 64  # images that are made of the same noise at each look


class GANModule(AdversarialModule, GeneratingModule):
    """Generative adversarial network (Goodfellow et al. 2014), conditional on labels where the net is.

    Args:
        net: has `generator(latent (B,D), label (B,)) -> image`, `discriminator(image, label (B,)) -> logit (B,)` and
            `latent_dim` D.
        training: see `Module`; each player has an optimiser of its own.
        loss: of both players.
        gradient_penalty: weight of the penalty on the discriminator's gradient norm between clean and generated images
            (Gulrajani et al. 2017), at least 0.
        r1: weight of half the squared gradient at clean images (Mescheder et al. 2018), at least 0.
        r2: the same at generated images.
        penalty_every: updates of the discriminator between two with penalties, which then count as many times (Karras
            et al. 2020).
        discriminator_steps: discriminator updates for each update of the generator, at least 1.
        discriminator_rate: how many times the generator's learning rate the discriminator's is (Heusel et al. 2017).
        instance_noise: sigma of noise that all images have for the discriminator (Sønderby et al. 2017), at least 0.
        augment, augment_probability, augment_target, augment_images: the arguments of `Augmentation`.

    Raises:
        InputError: a number out of its range, a loss that there is not, or a penalty with batch norm.
    """

    contract = Players

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.AdversarialLoss,
        gradient_penalty: float = 0.0,
        discriminator_steps: int = 1,
        r1: float = 0.0,
        r2: float = 0.0,
        penalty_every: int = 1,
        discriminator_rate: float = 1.0,
        instance_noise: float = 0.0,
        augment: list[str] | tuple[str, ...] = (),
        augment_probability: float = 0.0,
        augment_target: float = 0.0,
        augment_images: int = 500_000,
    ) -> None:
        super().__init__(net, training)
        penalties = {"gradient_penalty": gradient_penalty, "r1": r1, "r2": r2}
        for name, value in penalties.items():
            require_number(name, value)
            if value and _mixes(cast(nn.Module, net.discriminator)):
                raise InputError(
                    f"model.{name}: it is taken image by image, which batch norm mixes; "
                    "add model.net.norm=none or model.net.norm=spectral"
                )
        require_whole("discriminator_steps", discriminator_steps, most=1000)
        require_whole("penalty_every", penalty_every, most=1000)
        require_number("discriminator_rate", discriminator_rate, 1e-6, 1e6)
        require_number("instance_noise", instance_noise, 0, 10)
        self.automatic_optimization = False
        self.adversarial, self.penalties = loss, penalties
        self.penalty_every, self.discriminator_steps = penalty_every, discriminator_steps
        self.discriminator_rate, self.instance_noise = discriminator_rate, instance_noise
        self.augmentation = Augmentation(augment, augment_probability, augment_target, augment_images)
        self.signs: list[Signs] = []  # of health, so far
        self._logits: tuple[Tensor, Tensor] | None = None  # of clean and of generated images, at the latest update
        self._variance: Tensor | None = None  # of clean images within their classes, at the first step

    @property
    def averaged_net(self) -> nn.Module:
        """The generator."""
        return cast(nn.Module, self.net.generator)

    def nets(self) -> tuple[nn.Module, ...]:
        """Generator and discriminator."""
        return cast(nn.Module, self.net.generator), cast(nn.Module, self.net.discriminator)

    def scheduled(self, optimizer: Optimizer) -> dict[str, Any]:
        """Pair an optimiser with its schedule; the discriminator's rate is `discriminator_rate` times as high."""
        first = next(self.nets()[1].parameters())
        if any(weight is first for group in optimizer.param_groups for weight in group["params"]):
            for group in optimizer.param_groups:
                group["lr"] *= self.discriminator_rate
        return super().scheduled(optimizer)

    def latents(self, keys: Tensor) -> Tensor:
        """Draw the noise of an image for each key: (B,) -> (B,D)."""
        return keyed.normal(keys, (cast(int, self.net.latent_dim),))

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        """Make images of noise (B,D) and labels (B,) int64: (B,C,H,W)."""
        image: Tensor = self.active_net(self.like_weights(z), label)
        return image

    def training_step(self, pair: Pair, batch_idx: int) -> None:
        """Update the discriminator, then the generator."""
        self.only(1)
        for update in range(self.discriminator_steps):
            with torch.no_grad():
                fake = self.generate(self.keys(pair, f"latent {update}"), pair.label)
            critic_loss = self._critic_loss(pair, fake, update)
            self.minimise(critic_loss, player=1)
        self.only(0)
        fake = self.generate(self.keys(pair, "latent"), pair.label)
        logit, real = self._seen(fake, pair, "generator"), None
        if self.adversarial.pairs:
            with torch.no_grad():
                real = self._seen(pair.clean, pair, "generator")
        loss = self.adversarial.generator(logit, real).mean()
        self.note(loss=loss, loss_discriminator=critic_loss)
        self.minimise(loss, player=0)
        self._watch(pair)

    def _watch(self, pair: Pair) -> None:
        """Read the signs of health every few steps."""
        if self._variance is None:
            self._variance = _within_classes(pair.clean, pair.label)
        if self._logits is None or self.trainer.global_step % EVERY:
            return
        real, fake = (logit.detach().float() for logit in self._logits)
        spread = torch.cat([real - real.mean(), fake - fake.mean()]).std()
        certain = (real - fake if self.adversarial.pairs else real).sign().mean()
        gradients = (nn.utils.get_total_norm([w.grad for w in net.parameters() if w.grad is not None])
                     for net in self.nets())  # fmt: skip
        values = torch.stack([real.mean(), fake.mean(), spread, certain, *gradients, self._diversity(pair)])
        self.signs.append(Signs(int(self.trainer.global_step), *values.tolist(), **self._at_validation))

    @torch.no_grad()
    def _diversity(self, pair: Pair) -> Tensor:
        """Compare how images of the same class differ among a fixed batch of generated and among clean ones."""
        generator = self.nets()[0]
        label = torch.arange(_WATCHED, device=self.device) % 8
        label = pair.label[label % len(pair.label)]
        z = self.latents(keyed.keys(self.options.seed, "watched", 0, torch.arange(_WATCHED, device=self.device)))
        generator.eval()
        images = generator(self.like_weights(z), label).float()
        generator.train()
        assert self._variance is not None
        return (_within_classes(images, label) / self._variance.clamp_min(1e-12)).sqrt()

    def step(self, pair: Pair) -> Outcome:
        """Judge one generated image beside each clean one."""
        _, discriminator = self.nets()
        fake = self.generate(self.keys(pair, "latent"), pair.label)
        real_logit, fake_logit = (self.judged(discriminator, image, pair.label) for image in (pair.clean, fake))
        terms = {
            "loss_discriminator": self.adversarial.discriminator(real_logit, fake_logit),
            "logit_real": real_logit,
            "logit_fake": fake_logit,
        }
        columns = self.looked_at(fake, pair)
        return Outcome(self.adversarial.generator(fake_logit, real_logit), terms=terms, columns=columns)

    @property
    def _at_validation(self) -> dict[str, float]:
        """The signs that only a validation gives, of the latest one."""
        summary = {name.removeprefix("val/"): value for name, value in self.summary.items()}
        covered = next((value for name, value in summary.items() if name.startswith("coverage_")), math.nan)
        signs = {"followed": summary.get("recognised", math.nan), "covered": covered}
        if not self.signs or "logit_real" not in summary:
            return signs
        last = self.signs[-1]
        apart = last.real - last.fake
        return {**signs, "held_out": (last.real - summary["logit_real"]) / apart if apart > 0 else math.nan}

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        """Those of all generators, and the signs of health."""
        signs = [asdict(look) for look in self.signs]
        return {**super().artifacts(columns), **({"health": signs} if signs else {})}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the augmentation and the signs of health too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["augmentation"] = self.augmentation.state_dict()
        checkpoint["health"] = {"signs": [asdict(look) for look in self.signs], "variance": self._variance}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again; older checkpoints have none."""
        super().on_load_checkpoint(checkpoint)
        if state := checkpoint.get("augmentation"):
            self.augmentation.load_state_dict(state)
        if state := checkpoint.get("health"):
            self.signs = [Signs(**look) for look in state["signs"]]
            self._variance = None if (variance := state["variance"]) is None else variance.to(self.device)

    def _seen(self, image: Tensor, pair: Pair, draw: str) -> Tensor:
        """Let the discriminator judge images (B,C,H,W) as it sees them in training, with noise and augmentation."""
        # Both images of a pair are changed alike where the loss compares them.
        keys = self.keys(pair, f"seen {draw}")
        image = self.augmentation(image, keys)
        if self.instance_noise:
            image = image + self.instance_noise * keyed.normal(keyed.fold(keys, "noise"), tuple(image.shape[1:]))
        return self.judged(self.nets()[1], image, pair.label)

    def _critic_loss(self, pair: Pair, fake: Tensor, update: int) -> Tensor:
        real_logit, fake_logit = (
            self._seen(image, pair, f"{name} {update}") for name, image in (("real", pair.clean), ("fake", fake))
        )
        self.augmentation.watch(real_logit - fake_logit if self.adversarial.pairs else real_logit)
        self._logits = real_logit, fake_logit
        loss = self.adversarial.discriminator(real_logit, fake_logit).mean()
        # Counted by what the optimiser has done, so that a resumed training counts alike.
        if any(self.penalties.values()) and (self._updates() + update) % self.penalty_every == 0:
            loss = loss + self.penalty_every * self._penalty(pair, fake, update)
        return loss

    def _updates(self) -> int:
        return int(self.trainer.global_step) * self.discriminator_steps

    def _penalty(self, pair: Pair, fake: Tensor, update: int) -> Tensor:
        """Return the sum of the penalties on the discriminator's gradients, a scalar."""

        def critic(name: str) -> Any:
            return lambda image: self._seen(image, pair, f"{name} {update}")

        total = pair.clean.new_zeros(())
        if self.penalties["gradient_penalty"]:
            mix = keyed.uniform(self.keys(pair, f"mix {update}"))
            between = losses.gradient_penalty(critic("real"), pair.clean, fake, mix)
            total = total + self.penalties["gradient_penalty"] * between
        for name, image, of in (("r1", pair.clean, "real"), ("r2", fake, "fake")):
            if self.penalties[name]:
                total = total + self.penalties[name] / 2 * losses.gradient_square(critic(of), image).mean()
        return total


def _within_classes(images: Tensor, label: Tensor) -> Tensor:
    """Return the mean variance of pixels among images (B,C,H,W) of the same label (B,), a scalar."""
    x = images.float().flatten(1)
    total, count = x.new_zeros(()), 0
    for one in label.unique().tolist():
        of_class = x[label == one]
        total, count = total + (of_class - of_class.mean(0)).square().sum(), count + len(of_class) - 1
    return total / max(1, count) / x.shape[1]


def _mixes(net: nn.Module) -> bool:
    """Return whether a net mixes the images of a batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())
