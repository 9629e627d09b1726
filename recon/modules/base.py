"""What every module shares: the outcome of a step, metrics, optimisers, the moving average of weights."""

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from recon import keyed, metrics
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.filters.resize import resize
from recon.measures import Measure, with_own
from recon.metrics import per_image
from recon.metrics.protocol import Protocol
from recon.metrics.sure import sure_psnr
from recon.modules.outcome import Artifact, Outcome
from recon.modules.steps import Steps
from recon.modules.validation import MeasuredInput, require_a_validation
from recon.nets.contracts import Restorer, lacking
from recon.pair import Pair
from recon.training.options import Training


class Module(Steps):
    """The base of all modules: a subclass defines its `step` and declares what it needs; the rest is here once.

    Args:
        net: the network.
        training: the options that all modules share.

    Attributes:
        contract: the Protocol of the net.
        needs: what it needs of task and degradation: "labels", "holes".
        sees_degraded_size: whether the net is built for the size of the degraded images, not of the clean ones.
        monitor, mode: the metric that selects the best checkpoint, or None for the latest; "min" or "max".
        facts: the facts of the images that the net was built from (plain numbers); they are saved with the weights.
        least_batch: how many images a training batch must have on each device.
        trained_on: the name of the task of a trained model.
        class_names: of the classes of the images, in the order of their numbers; none where they have no names.
        trains: whether it is fitted to the training images; if not, a run only tests it.
        one_pass: whether it restores by one pass of its net; the time of anything else is not measured as a net's.
        kind: what the model is for: "restore", "recognise" or "generate".
        measures: rows for measures that `recon.measures` does not have, or has otherwise.
    """

    contract: ClassVar[type] = Restorer
    kind: ClassVar[str] = "restore"
    trains: ClassVar[bool] = True
    one_pass: ClassVar[bool] = True
    measures: ClassVar[tuple[Measure, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset()
    sees_degraded_size: ClassVar[bool] = False
    monitor: str | None = "val/loss"
    mode: str = "min"
    trained_on: str | None = None

    def __init__(self, net: nn.Module, training: Training) -> None:
        super().__init__()
        if missing := lacking(net, self.contract):
            raise InputError(f"net: {type(net).__name__} has no {' and no '.join(missing)}; choose another model/net")
        self.net = net
        self.options = training
        self.clip_norm: float | None = None  # for modules that optimise by hand; Lightning clips for the others
        self.facts: dict[str, Any] = {}
        self.least_batch = 1
        self.class_names: tuple[str, ...] = ()
        self.average = training.average_of(self.averaged_net)
        self.table = per_image.PerImage()
        self.results: dict[str, Tensor] = {}  # the columns of the latest evaluation, one value per image
        self.summary: dict[str, float] = {}  # and what they come to, in float64
        self.intervals: dict[str, tuple[float, float]] = {}  # of some of that, where it is a test
        self.images: dict[str, per_image.Images] = {}  # which images the latest test was of, by set
        self.holes = True  # whether the degradation makes holes
        self.gaussian = False  # whether it adds Gaussian noise of known sigma alone
        self.protocol = Protocol()
        self._input = MeasuredInput()

    # What a subclass says ------------------------------------------------------------------------------------------

    @staticmethod
    def in_channels(channels: int, settings: Mapping[str, Any]) -> int:
        """How many channels the net sees for images of `channels`, by the settings of `model`."""
        return channels

    def nets(self) -> tuple[nn.Module, ...]:
        """The nets that are trained and, where asked for, compiled."""
        return (self.net,)

    @property
    def built_for(self) -> dict[str, Any]:
        """The facts that the net asks for: on other images it cannot work."""
        asked = inspect.signature(type(self.net)).parameters
        return {name: fact for name, fact in self.facts.items() if name in asked}

    @property
    def averaged_net(self) -> nn.Module:
        """The part of the net of which `ema` keeps a moving average."""
        return self.net

    def prepare_for(self, damage: Degradation) -> None:
        """Take note of the damage; raises InputError where the module cannot work on such images."""
        self.holes, self.gaussian = damage.makes_holes, damage.gaussian

    def forward(self, *inputs: Any, **_: Any) -> Tensor:
        """Apply the net to degraded images: restore (B,C,h,w) -> (B,C,H,W), or score -> (B,K)."""
        return cast(Tensor, self.active_net(self.like_weights(inputs[0])))

    def step(self, pair: Pair) -> Outcome:
        """Work on one batch; the same for training, validation and test."""
        raise NotImplementedError

    def try_out(self, pair: Pair) -> Outcome:
        """Use every net once, as training will, on a batch that serves for nothing else."""
        return self.step(pair)

    def conclude(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Measure the images of an evaluation as a set, beside the means over them.

        Args:
            columns: the table of the evaluation, (N,) or (N,D) each, the same on every rank.
        """
        return {}

    def resampled(self, columns: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
        """Return the ends of the 95 % intervals over the images of what a test measures, by name; see `conclude`."""
        return {}

    def artifacts(self, columns: dict[str, Tensor]) -> dict[str, Artifact]:
        """Make tables (rows, for `<name>.csv`) and pictures (for `images/<name>.png`) of a test, by name."""
        return {}

    def badness(self, columns: dict[str, Tensor]) -> Tensor | None:
        """Return how bad each image came out, (N,), NaN for one that is not bad; None if it cannot be judged."""
        column = columns.get(self._monitored)
        return column if column is None or self.mode == "min" else -column

    def pictures(self, pair: Pair) -> dict[str, Tensor]:
        """Name the columns (B,C,H,W) of the image grid for some pairs."""
        image = self.step(pair).image
        if image is None:
            return {"degraded": pair.degraded}
        degraded = resize(pair.degraded, image.shape[2:], "nearest")
        return {"degraded": degraded, "restored": image, "clean": pair.clean}

    def predict(self, pair: Pair) -> Tensor:
        """Do what the model is for, without the loss: restore (B,C,H,W), score (B,K), or generate (B,C,H,W)."""
        return cast(Tensor, self(pair.degraded))

    def read_more(self, folder: Path) -> None:
        """Read what a run folder holds of a trained model beside its weights; raises InputError where it is damaged."""

    # What the base does --------------------------------------------------------------------------------------------

    @property
    def active_net(self) -> nn.Module:
        """The net to use now: the moving average when evaluating, if there is one, else the net itself."""
        # Before its first update the average holds the initial weights, which must never stand in for trained ones.
        if self.average is not None and not self.training and int(self.average.n_averaged) > 0:
            return self.average.module
        return self.averaged_net

    def like_weights(self, x: Tensor) -> Tensor:
        """Convert what a net is given to the type of the weights."""
        return x.to(self.dtype)

    def keys(self, pair: Pair, name: str) -> Tensor:
        """Make the keys (B,) of the module's own draw `name`: fresh each epoch in training, fixed in evaluation."""
        seed, epoch = (self.options.seed, self.current_epoch) if self.training else (keyed.EVALUATION_SEED, 0)
        return keyed.keys(seed, name, epoch, pair.index)

    def reseed(self, rank: int, step: int) -> None:
        """Seed torch's generators from (seed, rank, step), so that dropout needs no saved state on resume."""
        word = keyed.word(self.options.seed, "net", rank, step)
        torch.default_generator.manual_seed(word)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(word)

    def training_step(self, pair: Pair, batch_idx: int) -> Tensor | None:
        """Take one step of the optimiser, which Lightning drives."""
        outcome = self.step(pair)
        loss = outcome.loss.mean()
        self.note(loss=loss, **{name: term.mean() for name, term in outcome.terms.items()})
        return self.penalised(loss)

    def penalised(self, loss: Tensor) -> Tensor:
        """Add the penalties that all modules share to the loss to minimise, a scalar."""
        return self.options.penalised(loss, self.averaged_net)

    def on_train_batch_end(self, outputs: Any, batch: Pair, batch_idx: int) -> None:
        """Update the moving average and, every `log_every_n_steps` steps, log the losses."""
        trainer: Any = self.trainer
        if self.average is not None:
            self.average.update_parameters(self.averaged_net)
        if len(self._pending) >= trainer.log_every_n_steps:
            self.log_steps()
        if trainer.max_steps > 0 and trainer.global_step == trainer.max_steps:
            # Lightning stops here too, but only a stop that is asked for validates and keeps the last weights.
            trainer.should_stop = True

    def on_validation_start(self) -> None:
        """Check the losses before weights are validated and saved; let every rank validate the same ones.

        Batch-norm statistics differ between ranks until here; rank 0's are broadcast. DDP would broadcast them at every
        step, and wait for ever for a rank that has fewer batches to evaluate.
        """
        self.log_steps()
        if self.trainer.world_size > 1:
            if isinstance(parallel := self.trainer.strategy.model, DistributedDataParallel):
                parallel.broadcast_buffers = False
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, pair: Pair, batch_idx: int) -> None:
        """Record the metrics of each image."""
        self._evaluate(pair)

    def test_step(self, pair: Pair, batch_idx: int) -> None:
        """Record the metrics of each image, and which image it is."""
        self._evaluate(pair, per_image.image_hashes(pair.clean, pair.label))

    def on_validation_epoch_end(self) -> None:
        """Log the means over the images."""
        self._conclude("val")

    def on_test_epoch_end(self) -> None:
        """Log the means over the images."""
        self._conclude("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser and its schedule."""
        return self.scheduled(self.options.optimizer(self.net.parameters()))  # type: ignore[return-value]

    def scheduled(self, optimizer: Optimizer) -> dict[str, Any]:
        """Pair an optimiser with its schedule, in Lightning's form."""
        return {"optimizer": optimizer, "lr_scheduler": self.options.schedule(optimizer, self)}

    def _evaluate(self, pair: Pair, image: Tensor | None = None) -> None:
        outcome = self.step(pair)
        columns = {"loss": outcome.loss, "severity": pair.severity, **outcome.terms, **outcome.columns}
        if outcome.image is not None:
            columns |= self.image_metrics(outcome.image, pair)
            columns |= self.input_metrics(pair) if image is not None or self._input.columns is None else {}
            columns |= self.estimates(outcome.image, pair) if image is not None else {}
        self.table.update(pair.index, columns, image)

    def image_metrics(self, image: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Measure restored images against the clean ones: (B,) each."""
        hole = {"psnr_hole": metrics.psnr(image, pair.clean, mask=1 - pair.mask)} if self.holes else {}
        seen = self.protocol.seen(image, pair.clean)
        return {
            "psnr": metrics.decibels(error := metrics.mse(*seen)),
            "ssim": metrics.ssim(*seen),
            "mse": error,
            **self.protocol.measure(*seen),
            **self.options.recognised(image, pair.label),
            **hole,
        }

    def input_metrics(self, pair: Pair) -> dict[str, Tensor]:
        """Measure the degraded images against the clean ones, the baselines of `image_metrics`: (B,) each.

        The damage of evaluation never changes, so that one validation measures them for all.
        """
        # A smaller image is judged by its enlargement: the baseline of the super-resolution literature.
        degraded = resize(pair.degraded, pair.clean.shape[2:], "bicubic_matlab")
        seen = self.protocol.seen(degraded, pair.clean)
        judged = {
            f"recognised_{name}": found["recognised"]
            for name, image in (("degraded", degraded), ("clean", pair.clean))
            if (found := self.options.recognised(image, pair.label))
        }
        return {"psnr_degraded": metrics.psnr(*seen), "ssim_degraded": metrics.ssim(*seen), **judged}

    def estimates(self, image: Tensor, pair: Pair) -> dict[str, Tensor]:
        """Estimate the PSNR (B,) of a test's images without the clean ones, where noise and weights allow it."""
        if self.kind != "restore" or not self.gaussian or self.dtype != torch.float32:
            return {}
        restore, keys = lambda noisy: self.predict(pair._replace(degraded=noisy)), self.keys(pair, "sure")
        return {"psnr_sure": sure_psnr(restore, pair.degraded, pair.severity, keys, image)}

    def summarise(self, columns: dict[str, Tensor]) -> dict[str, float]:
        """Reduce the columns of an evaluation to its metrics, without those that are defined for no image.

        The monitored one is never left out. `not_finite` counts the images whose result is NaN or infinite.
        """
        rows = self.rows
        means, bad = per_image.means(columns, rows), int(per_image.not_finite(columns, rows).sum())
        means |= self.conclude(columns)
        if bad:
            return {**means, "not_finite": float(bad)}
        undefined = {name for name, mean in means.items() if name in rows and rows[name].partial and math.isnan(mean)}
        return {name: value for name, value in means.items() if name not in undefined - {self._monitored}}

    def worst(self, count: int) -> Tensor:
        """Return the indices (K,) int64 of the at most `count` worst images of the latest evaluation, worst first."""
        if (badness := self.badness(self.results)) is None:
            return torch.empty(0, dtype=torch.int64)
        return per_image.worst_first(self.results, badness, self.rows)[:count]

    @property
    def rows(self) -> dict[str, Measure]:
        """The table of measures, with the protocol's and the module's own rows."""
        return with_own((*self.protocol.rows, *self.measures))

    @property
    def _monitored(self) -> str:
        return (self.monitor or "/").split("/")[1]

    def _conclude(self, split: str) -> None:
        self.results = self.table.compute()
        self.table.reset()
        if split == "val":
            self.results = self._input.joined(self.results, self.rows)
        image = self.results.pop("image", None)
        parts = self.rows_by_set(split)
        self.images = {} if image is None else {name: per_image.digest(image[rows]) for name, rows in parts.items()}
        self.summary, self.intervals = {}, {}
        for part, rows in parts.items():
            columns = {name: column[rows] for name, column in self.results.items()}
            self.summary |= {f"{part}/{name}": value for name, value in self.summarise(columns).items()}
            if split == "test":
                self.intervals |= {f"{part}/{name}": ends for name, ends in self.resampled(columns).items()}
        self.results = {name: column for name, column in self.results.items() if column.ndim == 1}
        self.trainer.callback_metrics.pop("val/not_finite", None)  # Lightning keeps what an earlier epoch logged
        # Every rank holds the whole table: nothing is left to reduce, and saying so keeps Lightning quiet. The best
        # weights, validated once more, are not a point of the learning curve.
        self.log_dict(self.summary, sync_dist=True, logger=False if self.trainer.state.fn == "validate" else None)
        if self.trainer.state.fn == "fit":
            require_a_validation(self.summary, len(self.results["index"]), self.monitor)

    def rows_by_set(self, split: str) -> dict[str, slice]:
        """Return which rows of the latest evaluation are of each test set, by name; all of `split` where it is one."""
        data = getattr(self.trainer, "datamodule", None)
        sets = data.load().test.sets if split == "test" and data is not None else {}
        return per_image.by_set(self.results["index"], sets) or {split: slice(None)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the facts of the images that the net was built for, beside the losses of the steps."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["facts"] = self.facts
