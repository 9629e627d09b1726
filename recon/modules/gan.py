"""Generative adversarial networks."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from recon import keyed, losses
from recon.errors import InputError
from recon.health import EVERY, STATES, Signs
from recon.modules.adaptive import Augmentation
from recon.modules.adversarial import AdversarialModule
from recon.modules.generating import GeneratingModule
from recon.modules.health import Health, held_out, read, within
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
        health: what looks at the training, and whether it returns when it is unhealthy.

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
        health: Health | None = None,
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
        self.health = health or Health()
        self._logits: tuple[Tensor, Tensor] | None = None  # of clean and of generated images, at the latest update
        self._latest: Pair | None = None  # of training

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
        """Look at the health of the training every few steps, the same on every rank."""
        if not self.health.reference.is_whole:
            self.health.reference.add(*self._on_all_ranks(*within(pair.clean, pair.label)))
        self._latest = pair
        if self._logits is None or self.trainer.global_step % EVERY:
            return
        gradients = (nn.utils.get_total_norm([w.grad for w in net.parameters() if w.grad is not None])
                     for net in self.nets())  # fmt: skip
        values = [*read(*self._logits, self.adversarial.pairs), *gradients, self._diversity()]
        step = int(self.trainer.global_step)
        self.health.look(Signs(step, *self._on_all_ranks(*values), **self.health.at_validation))
        for logger in self.loggers:
            logger.log_metrics(self.health.scalars(), step=step)
        self.health.require_health(self.penalties, self._can_be_penalised)

    def _on_all_ranks(self, *values: Tensor) -> list[float]:
        """Read scalars, the means over the ranks."""
        stacked = torch.stack([value.float() for value in values])
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(stacked)
            stacked /= self.trainer.world_size
        read: list[float] = stacked.tolist()
        return read

    def require_finite(self) -> dict[str, Tensor]:
        """Stack the losses since the last look; where one is not finite, on any rank, the training returns, or ends."""
        found, error = {}, None
        try:
            found = super().require_finite()
        except InputError as caught:
            error = caught
        if self.health.can_return:
            (bad,) = self._on_all_ranks(torch.tensor(float(error is not None), device=self.device))
            if bad:
                self.health.require_health(self.penalties, self._can_be_penalised, "diverging")
        if error is not None:
            raise error
        return found

    @property
    def _can_be_penalised(self) -> bool:
        return not _mixes(self.nets()[1]) and self.trainer.precision != "16-true"

    @property
    def condition(self) -> str:
        """The state of its health."""
        return self.health.state

    def asks_for_checkpoint(self, step: int, resumed: bool) -> bool:
        """Return whether a checkpoint to return to is due; or was, when this training was killed."""
        return self.health.asks_for_checkpoint(step) or (resumed and self.health.kept == step)

    def on_train_epoch_end(self) -> None:
        """Log the state of health beside the epoch's losses."""
        super().on_train_epoch_end()
        self.log("train/health", float(STATES.index(self.health.state)))

    @torch.no_grad()
    def _diversity(self) -> Tensor:
        """Compare how images of the same class differ among a fixed batch of generated and among clean ones."""
        generator, classes = self.nets()[0], int(self.facts.get("num_classes", 0))
        index = torch.arange(_WATCHED, device=self.device)
        label = index % 8 * classes // 8 if classes else torch.full_like(index, -1)
        z = self.latents(keyed.keys(self.options.seed, "watched", 0, index))
        generator.eval()
        images = generator(self.like_weights(z), label).float()
        generator.train()
        return self.health.reference.compared(images, label)

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

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Measure the images as a set; of a validation in training, note what it says of health."""
        summary = super().conclude(columns)
        if self.trainer.state.fn == "fit" and self._latest is not None:
            with torch.no_grad():
                known = self.judged(self.nets()[1], self._latest.clean, self._latest.label).float().mean()
            (known_real,) = self._on_all_ranks(known)
            covered = next((value for name, value in summary.items() if name.startswith("coverage_")), math.nan)
            seen, classes = columns.get("recognised"), int(self.facts.get("num_classes", 0))
            share = math.nan if seen is None else float(seen.nanmean())
            self.health.at_validation = {
                "held_out": held_out(known_real, *(float(columns[f"logit_{one}"].mean()) for one in ("real", "fake"))),
                "followed": (share * classes - 1) / (classes - 1) if classes > 1 else math.nan,
                "covered": covered,
            }
        return summary

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        """Those of all generators, the signs of health, and the returns."""
        tables = {"health": self.health.rows(), "health_events": self.health.returns}
        return {**super().artifacts(columns), **{name: rows for name, rows in tables.items() if rows}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the augmentation and of health too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["augmentation"] = self.augmentation.state_dict()
        checkpoint["health"] = {**self.health.state_dict(), "penalties": dict(self.penalties)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again; older checkpoints have none."""
        super().on_load_checkpoint(checkpoint)
        if state := checkpoint.get("augmentation"):
            self.augmentation.load_state_dict(state)
        if state := checkpoint.get("health"):
            self.health.load_state_dict(state)
            self.penalties |= state.get("penalties", {})

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


def _mixes(net: nn.Module) -> bool:
    """Return whether a net mixes the images of a batch."""
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())
