"""`budget=60min`: how many steps of a training fit a length of time, by a probe before it begins.

The number is written into the configuration, so that the run itself is deterministic and can be resumed: the clock
decides nothing more.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer

from recon import build
from recon.config.check import Config
from recon.config.construct import find_class
from recon.console import say
from recon.data.datamodule import DataModule, lengths
from recon.data.task import Splits
from recon.errors import InputError
from recon.modules.base import Module
from recon.ranges import seconds_of
from recon.streams import duration
from recon.training.lightning import FastCallback
from recon.training.trial import native_bfloat16

_WARM_UP, _MOST = 3, 60  # steps of the probe
_LONGEST = 8.0  # seconds that the steps of a probe take, beyond the first ones
_SPARE = 0.03  # of the budget, for checkpoints, pictures and a machine that is not always as quick
_GAIN = 1.15  # how many times faster bfloat16 must be to be chosen


class Pace(NamedTuple):
    """What a training takes here, in seconds.

    Attributes:
        step: of one training step.
        validation: of a validation, all images.
        test: of the test, all images.
        steps_between: how many steps there are from one validation to the next.
        splits: the images, once they are read.
    """

    step: float
    validation: float
    test: float
    steps_between: float
    splits: Splits


def within_budget(config: Config, overrides: Sequence[str]) -> Config:
    """Return the configuration of a training with as many steps as fit its `budget`, which stays as it was typed.

    With `accelerator=auto` on a processor that has bfloat16 the steps are probed in both precisions, and the quicker
    one is chosen; a precision that is typed stays.

    Args:
        config: the resolved configuration, with a budget.
        overrides: those of the command line.

    Raises:
        InputError: another key ends the training too, or nothing fits the budget.
    """
    started, budget, settings = time.monotonic(), seconds_of("budget", config["budget"]), config["trainer"]
    if not find_class(config["model"].get("_target_"), "model").trains:  # type: ignore[attr-defined]
        raise InputError("budget: this model is not trained but fitted to each test image, or computed; leave it out")
    for key in ("max_steps", "max_time"):
        if settings[key] not in (-1, None):
            raise InputError(f"budget: it fixes the length of the training, and so does trainer.{key}; leave one out")
    paces = {settings["precision"]: _probe(config, None)}
    free = settings["accelerator"] == "auto" and settings["precision"] == "32-true" and not torch.cuda.is_available()
    if free and native_bfloat16() and not any("precision=" in word for word in overrides):
        paces["bf16-mixed"] = _probe(_with(config, precision="bf16-mixed"), next(iter(paces.values())).splits)
    precision = settings["precision"]
    if "bf16-mixed" in paces and paces[precision].step >= _GAIN * paces["bf16-mixed"].step:
        precision = "bf16-mixed"
    pace = paces[precision]
    left = budget * (1 - _SPARE) - (time.monotonic() - started) - pace.validation - pace.test
    steps = _agreed(int(left / (pace.step + pace.validation / pace.steps_between)))
    if steps < 1 or steps * pace.step < pace.validation:
        least = duration((pace.validation * 2 + pace.test + pace.step) / (1 - _SPARE) + time.monotonic() - started)
        raise InputError(
            f"budget: {config['budget']} is shorter than one validation of {duration(pace.validation)} and the test of "
            f"{duration(pace.test)} need; give {least} or more"
        )
    say(
        f"budget: {config['budget']} is {steps:,} steps of {1000 * pace.step:.0f} ms with {precision}, and "
        f"{steps / pace.steps_between:.1f} validations of {duration(pace.validation)}"
    )
    return _with(config, precision=precision, max_steps=steps, max_epochs=-1)


def _with(config: Config, **settings: Any) -> Config:
    """Return a copy of a configuration with other settings of the trainer."""
    return {**copy.deepcopy(config), "trainer": {**copy.deepcopy(config["trainer"]), **settings}}


def _agreed(steps: int) -> int:
    """Return the number of the first process in all."""
    if not torch.distributed.is_initialized():
        return steps
    numbers = [steps]
    torch.distributed.broadcast_object_list(numbers, 0)
    return numbers[0]


def _probe(config: Config, splits: Splits | None) -> Pace:
    """Take some steps of the training as it will be, with a model that serves for nothing else, and time them.

    Args:
        config: of the training.
        splits: its images, where they were read before.
    """
    short = _with(config, max_steps=_WARM_UP + _MOST, max_epochs=-1, enable_progress_bar=False)
    short["logger"] = {**config["logger"], "_target_": None}
    with tempfile.TemporaryDirectory() as folder:
        module, data, trainer, _ = build.run(short, Path(folder))
        data.splits = splits
        data.load()
        clock = _Clock()
        trainer.callbacks[:] = [clock]  # type: ignore[attr-defined]
        limit, trainer.limit_val_batches = trainer.limit_val_batches, 0
        trainer.fit(module, datamodule=data)
        trainer.limit_val_batches = limit
    per_epoch, _ = lengths(trainer, len(data.train_dataloader()))
    validation, test = (_evaluation(trainer, module, data, name) for name in ("validation", "test"))
    return Pace(clock.step, validation, test, _between(config["trainer"], per_epoch), data.load())


def _between(settings: Mapping[str, Any], per_epoch: int) -> float:
    """Return how many steps there are from one validation to the next, where an epoch has `per_epoch` batches."""
    interval, epochs = settings["val_check_interval"], settings["check_val_every_n_epoch"]
    batches: float
    if interval is None:
        batches = per_epoch * epochs
    else:
        batches = interval if isinstance(interval, int) else interval * per_epoch
    return max(1.0, batches / int(settings["accumulate_grad_batches"]))


class _Clock(FastCallback):
    """Time the steps of a training, and end it when enough are timed."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._timed = -1  # the last step that was timed

    @property
    def step(self) -> float:
        """The median of the times of its steps, the first ones left out."""
        spans = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        return float(statistics.median(spans[_WARM_UP:] or spans or [0.0]))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time of a step, all batches that it accumulates together."""
        if trainer.global_step == self._timed:
            return
        self._timed = trainer.global_step
        self.times.append(time.perf_counter())
        # Processes that share batches must take the same number of them.
        if (
            trainer.world_size == 1
            and len(self.times) > _WARM_UP + 1
            and self.times[-1] - self.times[_WARM_UP] > _LONGEST
        ):
            trainer.should_stop = True


def _evaluation(trainer: Trainer, module: Module, data: DataModule, name: str) -> float:
    """Estimate the seconds of a whole evaluation from some of its batches."""
    limit = getattr(trainer, f"limit_{'val' if name == 'validation' else name}_batches")
    loader = data.val_dataloader() if name == "validation" else data.test_dataloader()
    wanted = min(len(loader), limit) if isinstance(limit, int) else int(len(loader) * limit)
    module.eval().to(trainer.strategy.root_device)  # a training on a GPU leaves its weights in main memory
    seconds = 0.0
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        for number, pair in enumerate(loader):
            started = time.perf_counter()
            outcome = module.step(pair)
            if outcome.image is not None:
                module.image_metrics(outcome.image, pair)
            seconds += time.perf_counter() - started
            if seconds > _LONGEST / 4 or number + 1 >= wanted:
                break
    module.train()
    return float(seconds * wanted / (number + 1)) if wanted else 0.0
