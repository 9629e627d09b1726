"""How a module is trained: the options that all modules share."""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from recon.config.construct import Trained
from recon.losses import l1_penalty
from recon.metrics import predicted
from recon.nets.features import sha256_of, with_features
from recon.pair import Pair
from recon.ranges import require_number, require_share

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[..., LRScheduler]


@dataclass(frozen=True)
class Training:
    """The options that all modules share, and what they do; a new one is added here and in `conf/training.yaml`.

    Attributes:
        optimizer: makes an optimiser of parameters.
        scheduler: makes a learning-rate schedule of an optimiser. If its signature has `T_max` or `total_steps`, it is
            given the number of training steps and runs per step, any other runs per epoch.
        seed: the run's seed, for the module's own keyed draws.
        l1: weight of the sum of absolute weights in the training loss, at least 0.
        judge: a classifier that decides whether restored or generated images are recognised as their label, or
            None.
        ema: decay of the moving average of the net's weights, which evaluation then uses, in [0,1); 0 = off. It rises
            to this as (1+t)/(10+t) over the steps t, so that the average soon forgets the initial weights.
        teacher: a trained model of the same kind, whose results are learned beside the truth (distillation), or None.
        teacher_share: of the loss that is the distance to the teacher's results, in [0,1].
        teacher_temperature: by which the scores of a classifier and its teacher are divided, above 0.

    Raises:
        InputError: a number out of its range.
    """

    optimizer: MakeOptimizer
    scheduler: MakeScheduler
    seed: int
    l1: float
    ema: float
    judge: Annotated[nn.Module, Trained("classifier")] | None = None
    teacher: Annotated[nn.Module, Trained()] | None = None
    teacher_share: float = 0.5
    teacher_temperature: float = 4.0

    def __post_init__(self) -> None:
        require_number("l1", self.l1)
        require_share("ema", self.ema)
        require_number("teacher_share", self.teacher_share, 0, 1)
        require_number("teacher_temperature", self.teacher_temperature, 0.1, 100)
        for other in (self.judge, self.teacher):
            if other is not None:
                other.eval().requires_grad_(False)

    def schedule(self, optimizer: Optimizer, module: Any) -> dict[str, Any]:
        """Make the schedule of an optimiser of a `Module` in training, in Lightning's form."""
        estimated = module.trainer.estimated_stepping_batches
        # recon.training.trainer refuses a schedule that needs a length where the training has none.
        steps = max(1, int(estimated)) if math.isfinite(estimated) else None
        wanted, given = inspect.signature(self.scheduler).parameters, getattr(self.scheduler, "keywords", {})
        rates = [group["lr"] for group in optimizer.param_groups]
        known: dict[str, Any] = {"T_max": steps, "total_steps": steps, "max_lr": rates}
        if "patience" in wanted:  # ReduceLROnPlateau must know which way the monitored metric should go
            known["mode"] = module.mode
        filled = {name: value for name, value in known.items() if name in wanted and name not in given}
        per_step = not {"T_max", "total_steps"}.isdisjoint(filled)
        made: dict[str, Any] = {"scheduler": self.scheduler(optimizer, **filled)}
        made["interval"] = "step" if per_step else "epoch"
        if "patience" in wanted:  # a metric is new only after a validation
            made["frequency"] = module.trainer.check_val_every_n_epoch or 1
        return made | ({"monitor": module.monitor} if module.automatic_optimization else {})

    def recognised(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Let the judge, if there is one, look at images (B,C,H,W) with their labels (B,).

        Returns:
            "recognised" (B,), 1 where an image is seen as its label, NaN where the judge sees nothing; and
            "recognised_as" (B,), the class that it sees or -1.
        """
        if self.judge is None:
            return {}
        return recognised(self.judge.to(image.device)(image.float()), label)

    def taught(self, loss: Tensor, pair: Pair, distance: Callable[[Tensor], Tensor]) -> Tensor:
        """Mix a training loss (B,) with the `distance` (B,) to what the teacher, if there is one, makes of it."""
        teacher: Any = self.teacher
        if teacher is None:
            return loss
        with torch.no_grad():
            result = teacher.to(pair.degraded.device).predict(pair)
        return torch.lerp(loss, distance(result).to(loss.dtype), self.teacher_share)

    def judge_name(self) -> tuple[str, str]:
        """Return the task that the judge was trained on, and the beginning of the sha256 of its weights."""
        judge: Any = self.judge
        return judge.trained_on or "images", sha256_of(judge.averaged_net)[:12]

    def looked_at(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the judge's scores for images (B,C,H,W), (B,K), and what its last layer is given, (B,D)."""
        assert self.judge is not None
        return with_features(self.judge, image)

    def penalised(self, loss: Tensor, net: nn.Module) -> Tensor:
        """Add the penalties on a net's weights to the loss to minimise, a scalar; the reported loss is without."""
        return loss + self.l1 * l1_penalty(net.parameters()) if self.l1 else loss

    def average_of(self, net: nn.Module) -> AveragedModel | None:
        """Make the moving average of a net's weights, or None where there is none."""
        if not self.ema:
            return None
        average = AveragedModel(net, multi_avg_fn=self._move, use_buffers=True)
        return average.requires_grad_(False)

    @torch.no_grad()
    def _move(self, averages: Any, weights: Any, updates: Tensor | int) -> None:
        """Move averages of one type, in place, towards the weights after a number of `updates`; copy counters."""
        decay = min(self.ema, (1 + int(updates)) / (10 + int(updates)))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, weights, 1 - decay)
        else:
            torch._foreach_copy_(averages, weights)


def recognised(scores: Tensor, label: Tensor) -> dict[str, Tensor]:
    """Return what `Training.recognised` says, by the scores (B,K) of a judge and the labels (B,)."""
    seen = predicted(scores)
    return {"recognised": (seen == label).float().where(seen >= 0, math.nan), "recognised_as": seen}
