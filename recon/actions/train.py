"""`action=train`: fit a model, test its best weights, record the run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from recon import build
from recon.actions.base import Action
from recon.actions.budget import within_budget
from recon.actions.evaluate import introduce, test
from recon.config.check import Config
from recon.console import say
from recon.data.datamodule import DataModule
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.health import Relapse, change
from recon.ranges import seconds_of
from recon.runs import RunFolder
from recon.runs.checkpoint import (
    BEST,
    HEALTHY,
    LAST,
    AtomicCheckpointIO,
    best_or_last,
    keep_best,
    latest,
    load,
    load_weights,
)
from recon.runs.record import recorded
from recon.training import interrupt
from recon.training.checkpoints import Checkpoints
from recon.training.epochs import EpochTable
from recon.training.trainer import check_lengths, told_by_lightning
from recon.training.trial import require_batch, require_smallest


class Train(Action):
    """Fit a model, test its best weights, record the run.

    Args:
        init_from: a run folder whose best weights the training starts from, or None.
        budget: how long the run may take, such as "20min" or "1h30min": a probe then chooses the number of steps, which
            the run records; None for `trainer.max_epochs` and `trainer.max_steps`.
    """

    def __init__(self, init_from: str | None, budget: str | None) -> None:
        if budget is not None:
            seconds_of("budget", budget)
        if init_from == "":
            raise InputError("init_from: it names no folder; give init_from=outputs/<day>/<run>, or leave it out")

    def __call__(self, config: Config, folder: Path, about: Mapping[str, Any]) -> dict[str, float]:
        """Train."""
        return train(config, folder, about)


def train(
    config: Config, folder: Path, about: Mapping[str, Any], begin: Callable[[Module], None] | None = None
) -> dict[str, float]:
    """Train, validate and test as configured; leaves a whole run folder behind.

    Args:
        config: the resolved configuration.
        folder: the run folder.
        about: what else `environment.json` should say, such as the overrides.
        begin: gives a module the weights that its training starts from; None for `init_from`, or fresh ones.

    Returns:
        The metrics of `metrics.json`.
    """
    if config.get("budget") and not config["resume"]:
        config = within_budget(config, about.get("overrides", ()))
    module, data, trainer, loggers = made = build.run(config, folder)
    if not (config["resume"] and RunFolder(folder).has_checkpoint):
        if config.get("init_from"):
            load_weights(module, best_or_last(Path(config["init_from"])), key="init_from")
        if begin is not None:
            begin(module)
    data.require_images(trainer.world_size)
    require_batch(module, data.task.batch_size, len(data.load().train), trainer.world_size)
    require_smallest(module, data)
    check_lengths(trainer, data, training=True)
    with recorded(folder, config, about, loggers) as results:
        introduce(module, data, trainer, folder)
        if module.trains:
            checkpoint = resumed_from(folder) if config["resume"] else None
            module, data, trainer, _ = fit(made, config, folder, checkpoint)
            load_weights(module, best_or_last(folder))
            results |= validated(trainer, module, data)
        else:
            say("train: this model is not trained on a set; it is tested at once")
        results |= test(trainer, module, data, folder)
        results.describe(module)
        if module.trains:
            results |= throughput(trainer, data)
        else:
            # The facts of its images, by which the run is evaluated and loaded like any other.
            trainer.save_checkpoint(folder / "checkpoints" / BEST, weights_only=True)
    if config["checkpoint"].get("keep") == "best":
        keep_best(folder)
    return results


def fit(made: build.Run, config: Config, folder: Path, checkpoint: Path | None) -> build.Run:
    """Train, from a checkpoint or None; a training that relapses is taken up again where it was healthy.

    Returns:
        What was trained: a return makes module and trainer anew, as resuming in another process would.
    """
    while True:
        try:
            with interrupt.deferred(), told_by_lightning(config["trainer"]):
                made.trainer.fit(made.module, datamodule=made.data, ckpt_path=checkpoint)
            return made
        except Relapse as relapse:
            wanted = relapse.change
        event = wanted["events"][-1]
        say(f"health: back to step {event['back']:,} for {event['state']}, with learning rates times {event['rate']:g}")
        for logger in made.loggers:
            logger.log_metrics({"health/back_to": event["back"], "health/rate": event["rate"]}, step=event["step"])
        checkpoint = go_back(folder, wanted)
        again = build.run(config, folder)
        again.trainer.loggers, again.data.splits = made.trainer.loggers, made.data.splits
        made = again._replace(loggers=made.loggers)


def validated(trainer: Trainer, module: Module, data: DataModule) -> dict[str, float]:
    """Return what the best weights reach in the validation, which is done anew where another process did it."""
    known = next(callback.summary for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
    if known is not None:
        return known
    trainer.validate(module, datamodule=data, verbose=False)
    return module.summary


def go_back(folder: Path, wanted: Mapping[str, Any]) -> Path:
    """Make the last healthy checkpoint, with what a `Relapse` asks for, the last one, and return it."""
    last = folder / "checkpoints" / LAST
    if getattr(rank_zero_only, "rank", 0) == 0:
        healthy = load(last.with_name(HEALTHY), key="resume")
        change(healthy, wanted)
        AtomicCheckpointIO().save_checkpoint(healthy, last)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return last


def resumed_from(folder: Path) -> Path | None:
    """Say which checkpoint the training is resumed from; None where none was written yet."""
    checkpoint = latest(folder)
    if checkpoint is None:
        say("resume: there is no checkpoint yet; starting from the beginning")
    else:
        say(f"resume: continuing from {checkpoint}")
    return checkpoint


def throughput(trainer: Trainer, data: DataModule) -> dict[str, float]:
    """Measure the training as a whole, over all starts of the run, validation and checkpoints included."""
    seconds = next(callback.seconds for callback in trainer.callbacks if isinstance(callback, EpochTable))  # type: ignore[attr-defined]
    images = data.train_dataloader().images(trainer.fit_loop.epoch_loop.total_batch_idx + 1)
    return {"train/seconds": seconds, "train/images_per_second": images / seconds}
