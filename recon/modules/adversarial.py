"""Adversarial training: a generator against a discriminator, and what any module with two optimisers needs."""

from typing import Any, cast

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recon.modules.base import Module
from recon.pair import Pair
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
