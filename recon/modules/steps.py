"""The losses of training steps, recorded without reading them at each step."""

from typing import Any

import torch
from torch import Tensor

from recon.errors import InputError
from recon.training.lightning import FastModule


class Steps(FastModule):
    """The part of a module that records the losses of training steps and logs them every few steps."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: list[dict[str, Tensor]] = []  # the terms of the steps since they were last read
        self._sums: dict[str, float] = {}
        self._steps = 0

    def note(self, **terms: Tensor) -> None:
        """Keep scalars of one training step without reading them: `self.log` costs 0.3 ms a key and step."""
        self._pending.append({name: term.detach() for name, term in terms.items()})

    def log_steps(self) -> None:
        """Read the scalars kept since the last call, stop at one that is not finite, log their means."""
        if not self._pending:
            return
        kept = self.require_finite()
        self._pending.clear()
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        means = {f"train/{name}": float(values.mean()) for name, values in kept.items()}
        for logger in self.loggers:
            logger.log_metrics({**means, "train/lr": rate}, step=self.trainer.global_step)
        count = len(next(iter(kept.values())))
        for name, mean in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + mean * count
        self._steps += count

    def running_loss(self) -> float | None:
        """The mean training loss of this epoch so far, as of the latest look."""
        return self._sums["train/loss"] / self._steps if self._steps else None

    @property
    def condition(self) -> str | None:
        """What the training says of its health, in a word; None where it says nothing."""
        return None

    def asks_for_checkpoint(self, step: int, resumed: bool) -> bool:
        """Return whether a checkpoint is due before a step, the first since the training was resumed or a later one."""
        return False

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean losses once."""
        self.log_steps()
        means = {name: total / self._steps for name, total in self._sums.items()}
        self.log_dict(means, sync_dist=True)
        self._sums, self._steps = {}, 0

    def require_finite(self) -> dict[str, Tensor]:
        """Stack the scalars kept since the last look, (steps,) each; raises InputError at one that is not finite."""
        if not self._pending:
            return {}
        kept = {name: values.float() for name, values in self._stacked().items()}
        bad = (~torch.stack(list(kept.values())).isfinite()).any(0).nonzero()
        if len(bad):
            step = self.trainer.global_step - len(self._pending) + int(bad[0]) + 1
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            wider = "" if self.trainer.precision == "32-true" else ", or trainer.precision=32-true"
            raise InputError(
                f"optimizer.lr: the loss is not finite at step {step} with learning rate {rate:.3g}; lower it or set "
                f"trainer.gradient_clip_val=1{wider} (checkpoints written before are kept)"
            )
        return kept

    def _stacked(self) -> dict[str, Tensor]:
        # Those of a checkpoint are on the CPU.
        names = self._pending[0] if self._pending else ()
        return {name: torch.stack([terms[name].to(self.device) for terms in self._pending]) for name in names}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the scalars since the last look and their sums, of every process: each trains on other images."""
        pending = {name: values.cpu() for name, values in self._stacked().items()}
        mine = {"pending": pending, "sums": dict(self._sums), "steps": self._steps}
        checkpoint["losses"] = [mine]
        if self.trainer.world_size > 1:
            checkpoint["losses"] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(checkpoint["losses"], mine)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue with the scalars and sums of this process."""
        mine = checkpoint["losses"][self.global_rank]
        steps = zip(*(values.unbind() for values in mine["pending"].values()), strict=True)
        self._pending = [dict(zip(mine["pending"], values, strict=True)) for values in steps]
        self._sums, self._steps = mine["sums"], mine["steps"]
