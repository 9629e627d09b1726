"""Adversarial training: a generator against a discriminator, and what any module with two optimisers needs."""

from typing import Any, cast

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recon import losses
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.pair import Pair
from recon.ranges import require_number
from recon.training.lightning import leave_uncounted


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


class OpposedModule(AdversarialModule):
    """A module with a loss of its own, whose net also learns to deceive a discriminator where that has a weight.

    Without one there is no second player, and Lightning optimises by itself.
    """

    def oppose(self, adversarial: float, discriminator: nn.Module | None) -> None:
        """Set the weight of the adversarial term, and its discriminator: (image (B,C,H,W), label (B,)) -> logit (B,).

        Raises:
            InputError: a weight out of its range, or one without a discriminator.
        """
        require_number("adversarial", adversarial)
        if adversarial and discriminator is None:
            raise InputError("discriminator: the adversarial term needs one; give it, or set adversarial=0")
        self.adversarial_weight = adversarial
        self.adversarial = losses.Minimax()
        self.automatic_optimization = adversarial == 0
        self.discriminator = discriminator if adversarial else None

    def nets(self) -> tuple[nn.Module, ...]:
        """The net and, with the adversarial term, its discriminator."""
        return (self.net,) if self.discriminator is None else (self.net, self.discriminator)

    def contested(self, pair: Pair) -> tuple[Outcome, Tensor]:
        """Return the outcome of a training step, and the images (nB,C,H,W) that are to pass for clean ones."""
        outcome = self.step(pair)
        assert outcome.image is not None
        return outcome, outcome.image

    def matched(self, outcome: Outcome, pair: Pair) -> dict[str, Tensor]:
        """Compare what the discriminator sees in the images of a step and in clean ones: scalars to minimise, by name.

        They have the weight of the adversarial term.
        """
        return {}

    def weight_against(self, pair: Pair) -> float:
        """Return the weight of the adversarial term beside the loss of a batch."""
        return self.adversarial_weight

    def try_out(self, pair: Pair) -> Outcome:
        """Use the discriminator too, which evaluation does not; raises InputError when it does not work."""
        outcome = self.step(pair)
        if self.discriminator is None:
            return outcome
        try:
            logit = self.judged(self.discriminator, pair.clean, pair.label)
            self.matched(outcome, pair)
        except Exception as error:  # a user's own net may raise anything
            reason = str(error).strip() or type(error).__name__
            raise InputError(
                f"model.discriminator: it does not work on these images and labels ({reason.splitlines()[0]}); correct "
                "it, or set model.adversarial=0"
            ) from error
        return outcome._replace(terms={"logit": logit})

    def training_step(self, pair: Pair, batch_idx: int) -> Tensor | None:
        """Take a plain step, or one of each player."""
        if self.discriminator is None:
            return super().training_step(pair, batch_idx)
        outcome, fake = self.contested(pair)
        self.only(1)
        clean = self.judged(self.discriminator, pair.clean, pair.label)
        critic_loss = self.adversarial.discriminator(clean, self._logits(fake.detach(), pair)).mean()
        self.minimise(critic_loss, player=1)
        self.only(0)
        deceit = self.adversarial.generator(self._logits(fake, pair)).mean()
        matched = self.matched(outcome, pair)
        loss = outcome.loss.mean()
        terms = {name: term.mean() for name, term in outcome.terms.items()}
        self.note(loss=loss, **terms, **matched, loss_adversarial=deceit, loss_discriminator=critic_loss)
        self.minimise(loss + self.weight_against(pair) * (deceit + sum(matched.values())), player=0)
        return None

    def _logits(self, image: Tensor, pair: Pair) -> Tensor:
        """Let the discriminator judge images (nB,C,H,W) by the labels of a batch: (n,B)."""
        assert self.discriminator is not None
        count = len(image) // len(pair.label)
        return self.judged(self.discriminator, image, pair.label.repeat(count)).view(count, -1)
