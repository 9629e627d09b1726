"""Lightning's Trainer with recon's callbacks, and what it cannot do, refused before any work."""

from __future__ import annotations

import inspect
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.callbacks import ProgressBar as LightningBar
from lightning.pytorch.loggers import Logger

from recon.config.check import Config
from recon.config.construct import construct
from recon.config.training import devices
from recon.console import is_watched
from recon.data.datamodule import DataModule
from recon.errors import InputError
from recon.modules.base import Module
from recon.runs.checkpoint import AtomicCheckpointIO
from recon.training.checkpoints import Checkpoints
from recon.training.cost import Cost
from recon.training.epochs import EpochTable
from recon.training.lightning import FastTrainer
from recon.training.pictures import Pictures
from recon.training.progress import Progress, ProgressBar


def make_trainer(config: Config, module: Module, folder: Path, loggers: Sequence[Logger]) -> Trainer:
    """Make the trainer; raises InputError for settings that cannot go together, or that this machine cannot do."""
    _check_devices(config["trainer"])
    _check_schedule(config, module)
    settings = {key: value for key, value in config["trainer"].items() if key != "callbacks"}
    callbacks = [*_callbacks(config, module, folder), *_own_callbacks(config["trainer"].get("callbacks"))]
    # Lightning adds a bar of its own where it is asked for one and given none.
    settings["enable_progress_bar"] = any(isinstance(callback, LightningBar) for callback in callbacks)
    if settings["gradient_clip_val"] is None:
        module.leave_gradients()
    if not module.automatic_optimization:
        if settings["accumulate_grad_batches"] != 1:
            raise InputError(
                "trainer.accumulate_grad_batches: a model with a discriminator cannot accumulate; set it to 1 and "
                "raise task.batch_size"
            )
        # Lightning clips only for automatic optimisation.
        module.clip_norm = settings.pop("gradient_clip_val")
    several = str(settings["devices"]) != "1" or settings["num_nodes"] != 1
    if several and settings["strategy"] in ("auto", "ddp") and not module.automatic_optimization:
        # Each player's backward pass leaves the other's weights out, which plain DDP takes for a fault.
        settings["strategy"] = "ddp_find_unused_parameters_true"
    with told_by_lightning(config["trainer"], TypeError, ValueError, RuntimeError, ImportError):
        made = FastTrainer(
            **settings,
            callbacks=callbacks,
            logger=list(loggers) or False,
            plugins=[AtomicCheckpointIO(), *_cluster()],
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    _check_cluster(made)
    batch_size, world_size = config["task"]["batch_size"], made.world_size
    if batch_size % world_size:
        raise InputError(
            f"task.batch_size: {batch_size} images cannot be shared evenly by {world_size} devices; choose a multiple "
            f"of {world_size}, such as task.batch_size={batch_size + -batch_size % world_size}"
        )
    return made


def check_lengths(trainer: Trainer, data: DataModule, training: bool) -> None:
    """Check the limits of batches against the images that there are; raises InputError where nothing would be left.

    Args:
        trainer: with the limits.
        data: loaded.
        training: are the splits for training and validation used, or only that of the test?
    """
    lengths = {"test": len(data.test_dataloader())}
    if training:
        lengths |= {"train": len(data.train_dataloader()), "val": len(data.val_dataloader())}
    used, overfit = {}, getattr(trainer, "overfit_batches", 0)
    for split, length in lengths.items():
        key = f"limit_{split}_batches"
        limit = getattr(trainer, key)
        if overfit and split != "test":
            key, limit = "overfit_batches", overfit
        used[split] = min(length, limit) if isinstance(limit, int) else int(length * limit)
        if length and limit and not used[split]:
            least = math.ceil(10000 / length) / 10000
            raise InputError(
                f"trainer.{key}: {limit} of {length} batches is less than one; give {least} or more, or a number of "
                f"batches such as trainer.{key}=1"
            )
    every = trainer.val_check_interval
    if not training or trainer.check_val_every_n_epoch is None or not used["val"] or not isinstance(every, int):
        return
    if every > used["train"]:
        raise InputError(
            f"trainer.val_check_interval: {every} is more than the {used['train']} training batches of an epoch; give "
            "fewer, null for the end of each epoch, or add trainer.check_val_every_n_epoch=null to count over epochs"
        )


def _check_devices(settings: Mapping[str, Any]) -> None:
    """Raise InputError for devices that this machine does not have."""
    asked, kind = devices(settings["devices"]), settings["accelerator"]
    have = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind in ("auto", "gpu"):
        kind = next((name for name, count in have.items() if count), "cpu" if kind == "auto" else kind)
    if kind == "cpu":
        # Two processes are how several devices are tried on a small machine.
        most, what = max(2, os.cpu_count() or 1), "CPU cores"
        if isinstance(asked, list) or (asked == -1 and settings["devices"] != "auto"):
            raise InputError(
                f"trainer.devices: {settings['devices']} names GPUs, and this run is on the CPU; give a number of "
                "processes, or choose accelerator=gpu"
            )
    else:
        most, what = have.get(kind, 0), "GPUs that torch can use"
        if not most:
            raise InputError(
                f"trainer.accelerator: {settings['accelerator']} is asked for, and torch finds no such device on this "
                "machine; choose accelerator=cpu or accelerator=auto"
            )
    largest = max(asked) + 1 if isinstance(asked, list) else asked or 0
    if largest > most:
        raise InputError(
            f"trainer.devices: {settings['devices']} is asked for, and this machine has {most} {what}; give no more"
        )


def _check_schedule(config: Config, module: Module) -> None:
    """Raise InputError for a schedule that needs what the training does not have: a length, or a validation."""
    settings, parameters = config["trainer"], inspect.signature(module.options.scheduler).parameters
    lacking = {"T_max", "total_steps"} & parameters.keys() - getattr(module.options.scheduler, "keywords", {}).keys()
    if lacking and settings["max_epochs"] == settings["max_steps"] == -1:
        raise InputError(
            "scheduler: this one spans the whole training, whose length trainer.max_epochs=-1 leaves open; set "
            "trainer.max_epochs or trainer.max_steps, or choose scheduler=constant|step|plateau"
        )
    if settings["limit_val_batches"] == 0 and module.monitor is not None and "patience" in parameters:
        raise InputError(
            "scheduler: this one follows a metric of the validation, which trainer.limit_val_batches=0 turns off; "
            "choose scheduler=constant|cosine|one_cycle|step"
        )


@contextmanager
def told_by_lightning(settings: Mapping[str, Any], *more: type[Exception]) -> Iterator[None]:
    """Turn what Lightning says of its settings, in `more` exceptions than its own, into InputError with their key."""
    kinds: tuple[type[Exception], ...] = (MisconfigurationException, *more)
    try:
        yield
    except kinds as error:
        reason = " ".join(str(error).split()).rstrip(".!")
        # Of callbacks it names the class.
        words = {key: "callbacks?" if key == "callbacks" else key for key in settings}
        named = {key: found.start() for key, word in words.items() if (found := re.search(rf"\b{word}\b", reason))}
        key = f"trainer.{min(named, key=named.__getitem__)}" if named else "trainer"
        raise InputError(f"{key}: {reason}; correct it or leave it out") from error


def _check_cluster(trainer: Trainer) -> None:
    """Raise InputError where several nodes are asked for and nothing starts the processes on them."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and "NODE_RANK" not in os.environ:
        raise InputError(
            f"trainer.num_nodes: {trainer.num_nodes} nodes are asked for, and this is none of a cluster's jobs; add -m "
            "hydra/launcher=submitit, start the command by srun or torchrun on each node, or set it to 1"
        )


def _cluster() -> list[ClusterEnvironment]:
    """Leave resuming a job to `resume=`: Lightning would queue it again, with a checkpoint of its own."""
    managed = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if managed else []


def _callbacks(config: Config, module: Module, folder: Path) -> list[Callback]:
    # Without validation there is nothing to choose by: the latest weights count as the best.
    monitor = None if config["trainer"]["limit_val_batches"] == 0 else module.monitor
    often = config["checkpoint"]
    checkpoints = Checkpoints(folder, monitor, module.mode, often["minutes"], often["steps"])
    callbacks: list[Callback] = [Pictures(folder), EpochTable(folder), checkpoints, Cost()]
    shown = config["trainer"]["enable_progress_bar"]
    bar = shown and is_watched()
    file, lines = bool(os.environ.get("RECON_PROGRESS")), shown and not bar
    if file or lines:
        callbacks.append(Progress(folder, monitor, module.mode, file=file, lines=lines))
    if bar:
        callbacks.append(ProgressBar())
    if config["early_stopping"]:
        if monitor is None:
            raise InputError(
                "early_stopping: there is no metric here that tells which weights are better; leave it at null"
            )
        callbacks.append(EarlyStopping(monitor, patience=config["early_stopping"], mode=module.mode))
    return callbacks


def _own_callbacks(nodes: Any) -> list[Callback]:
    """Make the callbacks that the user adds, one or a list; raises InputError for anything else."""
    nodes = nodes if isinstance(nodes, list) else [nodes] if nodes else []
    if any(not isinstance(node, dict) or "_target_" not in node for node in nodes):
        raise InputError(
            "trainer.callbacks: a callback is {_target_: lightning.pytorch.callbacks.<class>}, or a class of your own "
            "derived from lightning.pytorch.Callback; correct it"
        )
    return list(construct(nodes, "trainer.callbacks"))
