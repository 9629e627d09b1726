"""Everything by which recon reaches into Lightning, in one file: a change of Lightning is a change here.

Written for Lightning 2.6.6. Each entry says what it mends, or that it saves time, and which test guards it.
The times are CPU time of a step of 2×1×8×8 through LeNet, 1.6 ms in all, in two runs of
`tests/benchmarks/test_patches.py` on a quiet machine.
"""

import inspect
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import GradClipAlgorithmType

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
