"""Everything by which recon reaches into Lightning, in one file: a change of Lightning is a change here.

Written for Lightning 2.6.6. Each entry says what it mends, or that it saves time, and which test guards it.
The times are CPU time of a step of 2×1×8×8 through LeNet, 1.6 ms in all, in two runs of
`tests/benchmarks/test_patches.py` on a quiet machine.
"""

import inspect
import logging
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loops.optimization.automatic import ClosureResult, _AutomaticOptimization
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor
from torch.optim import Optimizer

from recon.streams import printable


class FastModule(LightningModule):
    """A LightningModule whose steps cost less."""

    # Lightning skips a hook that is not callable; to call the empty ones takes 29 µs, that of clipping included.
    # Guard: tests/training/test_lightning.py::test_hooks_that_are_none_are_skipped.
    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Store `training_step`'s signature, which Lightning inspects at every step: 27-37 µs."""
        super().__init_subclass__(**kwargs)
        cls.training_step.__signature__ = inspect.signature(cls.training_step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, without torch's checks for what Lightning sets 44 times a step: 67-88 µs."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def _apply_batch_transfer_handler(self, batch: Any, *_: Any, **__: Any) -> Any:
        """Return the batch unchanged, as the loaders build it on the device: 36-59 µs."""
        return batch

    def setup(self, stage: str) -> None:
        """Leave batches as they are at any precision: results are measured on the images, not on rounded ones.

        Guard: tests/modules/test_precision.py.
        """
        self.trainer.precision_plugin.convert_input = lambda data: data  # type: ignore[method-assign]

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the gradients; under bfloat16 too, where Lightning refuses fused optimisers though nothing is scaled.

        Guard: tests/modules/test_precision.py.
        """
        plugin = self.trainer.precision_plugin
        clip = plugin.clip_gradients if getattr(plugin, "scaler", None) else partial(Precision.clip_gradients, plugin)
        clip(optimizer, gradient_clip_val or 0.0, gradient_clip_algorithm or GradClipAlgorithmType.NORM)

    def leave_gradients(self) -> None:
        """Disable the clipping hook where nothing is clipped."""
        self.configure_gradient_clipping = None  # type: ignore[method-assign,assignment]


class FastCallback(Callback):
    """Base of callbacks without work at training steps: Lightning skips a hook that is not callable, 28-49 µs.

    Guard: tests/training/test_lightning.py.
    """

    on_train_batch_start: Any = None
    on_before_zero_grad: Any = None
    on_before_backward: Any = None
    on_after_backward: Any = None
    on_before_optimizer_step: Any = None
    on_train_batch_end: Any = None


class NoProfiler(PassThroughProfiler):
    """No profiling at all, where Lightning's own empty profiler makes 40 generators a step: 26-55 µs."""

    _nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return self._nothing


class FastOptimization(_AutomaticOptimization):
    """Lightning's step of the one optimiser, by the shortest way where nobody else takes part in it."""

    is_alone = False

    def run(self, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict[str, Any]) -> dict[str, Any]:
        """Take a step: loss, gradients, weights; returns what `training_step` did."""
        if not self.is_alone or self.trainer.accumulate_grad_batches != 1:
            return super().run(optimizer, batch_idx, kwargs)
        module, result = self.trainer.lightning_module, ClosureResult(None)

        def loss() -> Tensor | None:
            nonlocal result
            module._current_fx_name = "training_step"
            with self.trainer.precision_plugin.train_step_context():
                result = ClosureResult.from_training_step_output(module.training_step(*kwargs.values()))
            module._current_fx_name = None
            optimizer.zero_grad()
            if result.closure_loss is not None:
                module.backward(result.closure_loss)
            return result.loss

        self.optim_progress.optimizer.step.increment_ready()
        optimizer.step(loss)  # type: ignore[arg-type]
        self.optim_progress.optimizer.step.increment_completed()
        return result.asdict() if result.loss is not None else {}


class FastEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, which asks once an epoch what it would ask at every step."""

    _validates = False

    def on_run_start(self, data_fetcher: Any) -> None:
        """Find out whether this epoch validates, and whether others take part in its steps."""
        super().on_run_start(data_fetcher)
        self._validates = super()._should_check_val_epoch()
        self.automatic_optimization.is_alone = _is_alone(self.trainer)  # type: ignore[attr-defined]

    def _should_check_val_epoch(self) -> bool:
        return self._validates

    def _build_kwargs(self, kwargs: OrderedDict[str, Any], batch: Any, batch_idx: int) -> OrderedDict[str, Any]:
        kwargs.update(batch=batch, batch_idx=batch_idx)
        return kwargs

    def _update_learning_rates(self, interval: str, update_plateau_schedulers: bool) -> None:
        kind = (interval, update_plateau_schedulers)
        if any((config.interval, config.reduce_on_plateau) == kind for config in self.trainer.lr_scheduler_configs):
            super()._update_learning_rates(interval, update_plateau_schedulers)


class FastTrainer(Trainer):
    """A Trainer whose steps cost less: over a bare loop 0.44 to 0.63 of what a barebones one's do.

    Guard: tests/training/test_lightning.py, which compares weights, learning rates and hooks with Lightning's own.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, profiler=NoProfiler())
        loop = self.fit_loop.epoch_loop
        loop.__class__, loop.automatic_optimization.__class__ = FastEpochLoop, FastOptimization

    @property
    def training(self) -> bool:
        """Whether this is a training now; asked 13 times a step, where Lightning compares lower-case names."""
        return self.state.stage is RunningStage.TRAINING

    @training.setter
    def training(self, value: bool) -> None:
        Trainer.training.fset(self, value)  # type: ignore[attr-defined]


_WITHIN_A_STEP = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")


def _is_alone(trainer: Trainer) -> bool:
    """Ask whether a step is nothing but loss, gradients and weights: no other device, scaling, clipping or hook."""
    module, plugin = trainer.lightning_module, trainer.precision_plugin
    hooks = (getattr(type(each), name) for each in trainer.callbacks for name in _WITHIN_A_STEP)  # type: ignore[attr-defined]
    ignored = [None, *(getattr(Callback, name) for name in _WITHIN_A_STEP)]
    return (
        type(trainer.strategy) is SingleDeviceStrategy
        and type(plugin) in (Precision, MixedPrecision)
        and getattr(plugin, "scaler", None) is None
        and module.configure_gradient_clipping is None
        and all(getattr(module, name) is None for name in _WITHIN_A_STEP)
        and type(module).optimizer_step is LightningModule.optimizer_step
        and type(module).optimizer_zero_grad is LightningModule.optimizer_zero_grad
        and all(hook in ignored for hook in hooks)
    )


def leave_uncounted(optimizer: LightningOptimizer, trainer: Trainer) -> None:
    """Keep the steps of a second optimiser out of `global_step`, else `max_steps=10` takes 5 (Lightning issue 17958).

    Lightning sets these hooks anew for each batch. Guard: tests/modules/test_adversarial.py.
    """
    profiler = trainer.profiler  # type: ignore[attr-defined]
    optimizer._on_before_step = lambda: profiler.start("optimizer_step")
    optimizer._on_after_step = lambda: profiler.stop("optimizer_step")


def end_restart(trainer: Trainer, batches_that_stepped: int | None) -> None:
    """Leave Lightning's restart mode after the first resumed step: it would skip a step of a per-epoch schedule.

    Guard: tests/test_resume.py.

    Args:
        trainer: resumed.
        batches_that_stepped: the loggers' x axis of the checkpoint, as Lightning's own is one too high; or None.
    """
    trainer.fit_loop._restarting = False
    if batches_that_stepped is not None:
        trainer.fit_loop.epoch_loop._batches_that_stepped = batches_that_stepped


def set_between_steps(loop: dict[str, Any]) -> None:
    """Set the counters of Lightning's fit loop, as it saves them, to the state between two steps.

    At the start of a batch it has counted that batch, and at the first also its epoch; after the end of training its
    batch counters stand at the last. Resumed from there Lightning would leave out a batch, an epoch or the validation.
    Guard: tests/test_resume.py, which resumes from every such state.

    Args:
        loop: the state of the fit loop; changed in place.
    """
    epoch, batch = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    ended = epoch["current"]["processed"] == epoch["current"]["started"]
    for counters in (batch["total"], batch["current"]):
        counters["ready"] = counters["started"] = counters["processed"] = counters["completed"]
    batch["is_last_batch"] = False
    if ended or batch["current"]["completed"] == 0:
        batch["current"] = dict.fromkeys(batch["current"], 0)
        for counters in (epoch["total"], epoch["current"]):
            done = counters["processed"]
            counters.update(dict.fromkeys(counters, done))


def batches_that_stepped(checkpoint: dict[str, Any]) -> int:
    """Read the loggers' x axis from a checkpoint."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"])


def take_rank() -> None:
    """Tell Lightning the rank of this process, which was forked after Lightning was imported.

    Guard: tests/sweep (a sweep of jobs on two devices).
    """
    from lightning.fabric.utilities import rank_zero as fabric
    from lightning.pytorch.utilities import rank_zero as pytorch

    for module in (fabric, pytorch):
        module.rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))


def quieten() -> None:
    """Silence Lightning's start-up messages, which are neither about the run nor to be acted on."""
    # A warning is for the person who started the run: without the line of code that gave it.
    form: Callable[..., str] = lambda message, *_, **__: f"warning: {printable(message)}\n"  # noqa: E731
    warnings.formatwarning = form
    # Lightning 2.6 calls a pytree class of torch 2.13 in a deprecated way.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # The module logs at the end of every epoch too, however short.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # The loaders start at the batch of the checkpoint (recon/training/checkpoints.py).
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
