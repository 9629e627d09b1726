"""What every module shares: the outcome of a step, metrics, logging, optimisers, the moving average of weights."""

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recon import keyed, losses, metrics
from recon.degradations.resample import resize
from recon.errors import InputError
from recon.pair import Pair

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[..., LRScheduler]


class Outcome(NamedTuple):
    """What a step found out about a batch; every value is per image, so that no number depends on the batch size.

    Attributes:
        loss: (B,) what training minimises the mean of.
        image: (B,C,H,W) the restored image, or None.
        logits: (B,K) the class scores, or None.
        terms: (B,) each, further quantities worth recording, by name.
    """

    loss: Tensor
    image: Tensor | None = None
    logits: Tensor | None = None
    terms: dict[str, Tensor] = {}  # noqa: RUF012  read only


class Module(LightningModule):
    """The base of all modules: a subclass says what its `step` is, the rest is here once.

    Args:
        net: the network.
        optimizer: makes an optimiser of parameters.
        scheduler: makes a learning-rate schedule of an optimiser. A signature that asks for `T_max` or `total_steps`
            is given the number of training steps and runs per step, any other per epoch.
        seed: the run's seed, for the module's own keyed draws.
        l1: weight of the sum of absolute weights in the training loss.
        ema: decay of the moving average of the net's weights, which evaluation then uses; 0 = off.

    Attributes:
        monitor: the metric that tells the best checkpoint, or None for the latest.
        mode: "min" or "max".
    """

    monitor: str | None = "val/loss"
    mode: str = "min"

    # Lightning skips a hook that is not callable; an empty one costs time at every training step.
    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None

    def __init__(
        self, net: nn.Module, optimizer: MakeOptimizer, scheduler: MakeScheduler, seed: int, l1: float, ema: float
    ) -> None:
        super().__init__()
        self.net = net
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.seed = seed
        self.l1 = l1
        self.clip_norm: float | None = None  # for modules that optimise by hand; Lightning clips for the others
        self.average = self._average_of(self.averaged_net, ema) if ema else None
        self.table = metrics.PerImage()
        self.results: dict[str, Tensor] = {}  # the columns of the latest evaluation, one value per image
        self.summary: dict[str, float] = {}  # and what they come to, in float64
        self._pending: list[dict[str, Tensor]] = []  # the terms of the steps since the latest look at them
        self._sums: dict[str, float] = {}
        self._steps = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keep the signature of the training step, which Lightning asks for, and Python works out, at every step."""
        super().__init_subclass__(**kwargs)
        cls.training_step.__signature__ = inspect.signature(cls.training_step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; Lightning notes the hook it is in 44 times a step, which torch would check for weights."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def _apply_batch_transfer_handler(self, batch: Any, *_: Any, **__: Any) -> Any:
        """Give the batch back: the loaders make it on the device; Lightning would look through three hooks first."""
        return batch

    # What a subclass says ------------------------------------------------------------------------------------------

    @staticmethod
    def in_channels(channels: int) -> int:
        """How many channels the net sees for images of `channels`."""
        return channels

    @property
    def averaged_net(self) -> nn.Module:
        """The part of the net of which `ema` keeps a moving average."""
        return self.net

    def step(self, pair: Pair) -> Outcome:
        """Work on one batch; the same for training, validation and test."""
        raise NotImplementedError

    def pictures(self, pair: Pair) -> dict[str, Tensor]:
        """Name the columns (B,C,H,W) of the image grid for some pairs."""
        image = self.step(pair).image
        if image is None:
            return {"degraded": pair.degraded}
        error = (image - pair.clean).abs()
        degraded = resize(pair.degraded, image.shape[2:], "nearest")
        return {"degraded": degraded, "restored": image, "clean": pair.clean, "error": error}

    def predict(self, pair: Pair) -> Tensor:
        """Do what the model is for, without the loss: restore (B,C,H,W), score (B,K), or generate (B,C,H,W)."""
        predicted: Tensor = self(pair.degraded)
        return predicted

    # What the base does --------------------------------------------------------------------------------------------

    @property
    def active_net(self) -> nn.Module:
        """The net to use now: the moving average when evaluating, if there is one, else the net itself."""
        # Before its first update the average holds the initial weights, which must never stand in for trained ones.
        if self.average is not None and not self.training and int(self.average.n_averaged) > 0:
            averaged: nn.Module = self.average.module
            return averaged
        return self.averaged_net

    def keys(self, pair: Pair, name: str) -> Tensor:
        """Make the keys (B,) of the module's own draw `name`: fresh each epoch in training, fixed in evaluation."""
        if self.training:
            return keyed.keys(self.seed, name, self.current_epoch, pair.index)
        return keyed.keys(keyed.EVALUATION_SEED, name, 0, pair.index)

    def reseed(self, rank: int, step: int) -> None:
        """Let what the net itself draws, as dropout does, hang on (seed, rank, step): no state is needed to go on."""
        word = keyed.word(self.seed, "net", rank, step)
        torch.default_generator.manual_seed(word)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(word)

    def training_step(self, pair: Pair, batch_idx: int) -> Tensor | None:
        """Take one step of the optimiser, which Lightning drives."""
        outcome = self.step(pair)
        loss = outcome.loss.mean()
        self.note(loss=loss, **{name: term.mean() for name, term in outcome.terms.items()})
        return loss + self.l1 * losses.l1_penalty(self.net.parameters()) if self.l1 else loss

    def on_train_batch_end(self, outputs: Any, batch: Pair, batch_idx: int) -> None:
        """Move the average and, every few steps, look at the losses."""
        trainer: Any = self.trainer
        if self.average is not None:
            self.average.update_parameters(self.averaged_net)
        if len(self._pending) >= trainer.log_every_n_steps:
            self.log_steps()
        if trainer.max_steps > 0 and trainer.global_step == trainer.max_steps:
            # Lightning stops here too, but only a stop that is asked for validates and keeps the last weights.
            trainer.should_stop = True

    def on_validation_start(self) -> None:
        """Look at the losses before weights are validated and kept; let every process validate the same ones.

        Statistics of batch norm are of each process's own images until the next training step; the first's are kept.
        """
        self.log_steps()
        if self.trainer.world_size > 1:
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

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

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean losses once."""
        self.log_steps()
        means = {name: total / self._steps for name, total in self._sums.items()}
        self.log_dict(means, sync_dist=True)
        self._sums, self._steps = {}, 0

    def validation_step(self, pair: Pair, batch_idx: int) -> None:
        """Record the metrics of each image."""
        self._evaluate(pair)

    def test_step(self, pair: Pair, batch_idx: int) -> None:
        """Record the metrics of each image."""
        self._evaluate(pair)

    def on_validation_epoch_end(self) -> None:
        """Log the means over the images."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Log the means over the images."""
        self._conclude("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and its schedule."""
        return self.scheduled(self.make_optimizer(self.net.parameters()))  # type: ignore[return-value]

    def scheduled(self, optimizer: Optimizer) -> dict[str, Any]:
        """Pair an optimiser with its schedule, in Lightning's form."""
        wanted = inspect.signature(self.make_scheduler).parameters
        estimated = self.trainer.estimated_stepping_batches
        steps = max(1, int(estimated)) if math.isfinite(estimated) else None  # recon.trainer asks for a length first
        known: dict[str, Any] = {
            "T_max": steps,
            "total_steps": steps,
            "max_lr": [group["lr"] for group in optimizer.param_groups],
        }
        given = getattr(self.make_scheduler, "keywords", {})
        if "patience" in wanted:  # ReduceLROnPlateau must know which way the monitored metric should go
            known["mode"] = self.mode
        filled = {name: value for name, value in known.items() if name in wanted and name not in given}
        per_step = not {"T_max", "total_steps"}.isdisjoint(filled)
        schedule: dict[str, Any] = {
            "scheduler": self.make_scheduler(optimizer, **filled),
            "interval": "step" if per_step else "epoch",
        }
        if "patience" in wanted:  # a metric is new only after a validation
            schedule["frequency"] = self.trainer.check_val_every_n_epoch or 1
        if self.automatic_optimization:
            schedule["monitor"] = self.monitor
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _evaluate(self, pair: Pair) -> None:
        outcome = self.step(pair)
        columns = {"loss": outcome.loss, "severity": pair.severity, **outcome.terms}
        if outcome.image is not None:
            columns |= self.image_metrics(outcome.image, pair)
        if outcome.logits is not None:
            columns |= {"prediction": outcome.logits.argmax(1), "label": pair.label}
        self.table.update(pair.index, columns)

    def image_metrics(self, image: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Measure restored images against the clean ones, and what was there before the net: (B,) each."""
        # A smaller image is judged by its enlargement: the baseline of the super-resolution literature.
        degraded = resize(pair.degraded, pair.clean.shape[2:], "bicubic_matlab")
        return {
            "psnr": metrics.psnr(image, pair.clean),
            "ssim": metrics.ssim(image, pair.clean),
            "mse": metrics.mse(image, pair.clean),
            "psnr_hole": metrics.psnr(image, pair.clean, mask=1 - pair.mask),
            "psnr_degraded": metrics.psnr(degraded, pair.clean),
            "ssim_degraded": metrics.ssim(degraded, pair.clean),
        }

    def summarise(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Reduce the columns of an evaluation to its metrics; one that is defined for no image is left out."""
        place = {"index", "severity", "prediction", "label"}
        means = {name: metrics.mean(column) for name, column in columns.items() if name not in place}
        if "prediction" in columns:
            means |= metrics.classification(columns["prediction"].long(), columns["label"].long(), self.num_classes)
        return {name: value for name, value in means.items() if not math.isnan(value) or name == "loss"}

    def worst(self, count: int) -> Tensor:
        """Give the places (K,) int64 of the images of the latest evaluation that came out worst, the worst first.

        Worst is by the monitored metric; for classes, those told wrong with the highest loss. K is `count` or less:
        only images told wrong, only those that the metric is defined for, none for a model without such a metric.
        """
        table, name = self.results, (self.monitor or "/").split("/")[1]
        if "prediction" in table:
            badness = table["loss"].where(table["prediction"] != table["label"], math.nan)
        elif name in table:
            badness = table[name] if self.mode == "min" else -table[name]
        else:
            return torch.empty(0, dtype=torch.int64)
        known = ~badness.isnan()
        order = badness[known].argsort(descending=True, stable=True)
        return table["index"][known][order[:count]]

    @property
    def num_classes(self) -> int:
        """How many classes the net tells apart."""
        raise NotImplementedError

    def _conclude(self, split: str) -> None:
        self.results = self.table.compute()
        self.table.reset()
        self.summary = {f"{split}/{name}": value for name, value in self.summarise(self.results).items()}
        # Every rank holds the whole table: there is nothing left to reduce, and saying so keeps Lightning quiet.
        # The best weights, validated once more after training, are no point of the learning curve.
        self.log_dict(self.summary, sync_dist=True, logger=False if self.trainer.state.fn == "validate" else None)

    def require_finite(self) -> dict[str, Tensor]:
        """Stack the scalars kept since the last look, (steps,) each; raises InputError at one that is not finite."""
        if not self._pending:
            return {}
        kept = {name: values.float() for name, values in self._stacked().items()}
        bad = (~torch.stack(list(kept.values())).isfinite()).any(0).nonzero()
        if len(bad):
            step = self.trainer.global_step - len(self._pending) + int(bad[0]) + 1
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise InputError(
                f"optimizer.lr: the loss is not finite at step {step} with learning rate {rate:.3g}; lower it or set "
                "trainer.gradient_clip_val=1 (checkpoints written before are kept)"
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
        """Go on with the scalars and sums of this process."""
        mine = checkpoint["losses"][self.global_rank]
        steps = zip(*(values.unbind() for values in mine["pending"].values()), strict=True)
        self._pending = [dict(zip(mine["pending"], values, strict=True)) for values in steps]
        self._sums, self._steps = mine["sums"], mine["steps"]

    @staticmethod
    def _average_of(net: nn.Module, decay: float) -> AveragedModel:
        average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        return average.requires_grad_(False)
