"""Adversarial training: a generator against a discriminator, and what any module with two optimisers needs."""

from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recon import keyed, losses
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.nets.contracts import Players
from recon.pair import Pair
from recon.ranges import require_number, require_whole
from recon.training.lightning import leave_uncounted
from recon.training.options import Training


class AdversarialModule(Module):
    """A module that may have a second player: then it optimises by hand, and the first player counts `global_step`."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make an optimiser and schedule for each player."""
        return tuple(self.scheduled(self.options.optimizer(player.parameters())) for player in self.nets())  # type: ignore[return-value]

    def judged(self, discriminator: nn.Module, image: Tensor, label: Tensor) -> Tensor:
        """Let a discriminator judge images (B,C,H,W) with labels (B,): logits (B,)."""
        logit: Tensor = discriminator(self.like_weights(image), label)
        return logit

    def minimise(self, loss: Tensor, player: int) -> None:
        """Take one optimiser step of one player, who alone collects gradients; the first bears the penalties."""
        if player == 0:
            loss = self.penalised(loss)
        optimizer = cast(list[LightningOptimizer], self.optimizers())[player]
        if player == 1:
            leave_uncounted(optimizer, self.trainer)
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.clip_norm is not None:
            # By norm or by value, as `trainer.gradient_clip_algorithm` says. Gradients are still those of the scaled
            # loss here where float16 needs one, and so is their bound.
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            self.clip_gradients(optimizer.optimizer, self.clip_norm * (scaler.get_scale() if scaler else 1.0))
        optimizer.step()

    def only(self, player: int) -> None:
        """Let gradients flow to one player's weights alone."""
        for index, net in enumerate(self.nets()):
            net.requires_grad_(index == player)

    def on_train_batch_end(self, outputs: Any, batch: Pair, batch_idx: int) -> None:
        """Step the schedules that run per step; Lightning leaves that to modules that optimise by hand."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        self._step_schedules("step")

    def on_train_epoch_end(self) -> None:
        """Step the schedules that run per epoch."""
        super().on_train_epoch_end()
        self._step_schedules("epoch")

    def _step_schedules(self, interval: str) -> None:
        if self.automatic_optimization:
            return
        for config in self.trainer.lr_scheduler_configs:
            if config.interval != interval or (interval == "epoch" and (self.current_epoch + 1) % config.frequency):
                continue
            if isinstance(config.scheduler, ReduceLROnPlateau):
                config.scheduler.step(self.trainer.callback_metrics[self.monitor or "train/loss"])
            else:
                config.scheduler.step()


class GANModule(AdversarialModule):
    """Generative adversarial network (Goodfellow et al. 2014), conditional on labels where the net is.

    Args:
        net: has `generator(latent (B,D), label (B,)) -> image`, `discriminator(image, label (B,)) -> logit (B,)` and
            `latent_dim` D.
        training: see `Module`; each player has an optimiser of its own.
        loss: of both players.
        gradient_penalty: weight of the penalty on the discriminator's gradient norm (Gulrajani et al. 2017), at
            least 0.
        discriminator_steps: discriminator updates for each update of the generator, at least 1.

    Raises:
        InputError: a number out of its range, a loss that there is not, or a penalty with batch norm.
    """

    contract = Players
    kind = "generate"
    monitor = None

    def __init__(
        self,
        net: nn.Module,
        training: Training,
        loss: losses.AdversarialLoss,
        gradient_penalty: float,
        discriminator_steps: int,
    ) -> None:
        super().__init__(net, training)
        require_number("gradient_penalty", gradient_penalty)
        require_whole("discriminator_steps", discriminator_steps, most=1000)
        if gradient_penalty and any(
            isinstance(layer, nn.BatchNorm2d) for layer in cast(nn.Module, net.discriminator).modules()
        ):
            raise InputError(
                "model.gradient_penalty: it is taken image by image, which batch norm mixes; "
                "add model.net.norm=none or model.net.norm=spectral"
            )
        self.automatic_optimization = False
        self.adversarial = loss
        self.gradient_penalty = gradient_penalty
        self.discriminator_steps = discriminator_steps

    @property
    def averaged_net(self) -> nn.Module:
        """The generator."""
        return cast(nn.Module, self.net.generator)

    def nets(self) -> tuple[nn.Module, ...]:
        """Generator and discriminator."""
        return cast(nn.Module, self.net.generator), cast(nn.Module, self.net.discriminator)

    def generate(self, keys: Tensor, label: Tensor) -> Tensor:
        """Make one image for each key and label: (B,) int64 each -> (B,C,H,W)."""
        noise = keyed.normal(keys, (cast(int, self.net.latent_dim),))
        image: Tensor = self.active_net(self.like_weights(noise), label)
        return image

    def training_step(self, pair: Pair, batch_idx: int) -> None:
        """Update the discriminator, then the generator."""
        _, discriminator = self.nets()
        self.only(1)
        for update in range(self.discriminator_steps):
            with torch.no_grad():
                fake = self.generate(self.keys(pair, f"latent {update}"), pair.label)
            critic_loss = self._critic_loss(pair, fake, update)
            self.minimise(critic_loss, player=1)
        self.only(0)
        fake = self.generate(self.keys(pair, "latent"), pair.label)
        loss = self.adversarial.generator(self.judged(discriminator, fake, pair.label)).mean()
        self.note(loss=loss, loss_discriminator=critic_loss)
        self.minimise(loss, player=0)

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
        columns = self.options.recognised(fake, pair.label)
        return Outcome(self.adversarial.generator(fake_logit), terms=terms, columns=columns)

    def predict(self, pair: Pair) -> Tensor:
        """Generate an image of each label."""
        return self.generate(self.keys(pair, "sample"), pair.label)

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Count the classes that the judge recognised among the generated images."""
        seen = columns.get("recognised_as")
        return {} if seen is None else {"classes": float((seen.unique() >= 0).sum())}

    def pictures(self, pair: Pair) -> dict[str, Tensor]:
        """Show samples beside clean images of the same label."""
        samples = {f"sample {n}": self.generate(self.keys(pair, f"sample {n}"), pair.label) for n in range(1, 6)}
        return {"clean": pair.clean, **samples}

    def _critic_loss(self, pair: Pair, fake: Tensor, update: int) -> Tensor:
        _, discriminator = self.nets()
        real_logit, fake_logit = (self.judged(discriminator, image, pair.label) for image in (pair.clean, fake))
        loss = self.adversarial.discriminator(real_logit, fake_logit).mean()
        if self.gradient_penalty:
            mix = keyed.uniform(self.keys(pair, f"mix {update}"))
            penalty = losses.gradient_penalty(
                lambda image: self.judged(discriminator, image, pair.label), pair.clean, fake, mix
            )
            loss = loss + self.gradient_penalty * penalty
        return loss
