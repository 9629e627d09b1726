"""Build what a run needs from its configuration, and refuse what cannot go together."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger
from torch import channels_last, nn

from recon import loggers
from recon.callbacks import Checkpoints, EpochTable, NoProfiler, Pictures, Progress, ProgressBar
from recon.checkpoint import AtomicCheckpointIO
from recon.config.check import Config, check_config
from recon.config.construct import construct, find_class
from recon.cost import Cost
from recon.data.augment import Augment
from recon.data.datamodule import DataModule
from recon.data.sources import Task
from recon.degradations.base import Degradation
from recon.degradations.file import FromFiles
from recon.errors import InputError
from recon.modules.adversarial import AdversarialModule
from recon.modules.base import Module
from recon.modules.classification import ClassificationModule
from recon.modules.inpainting import InpaintingModule
from recon.trial import require_batch, require_net, require_precision, try_out

T = TypeVar("T")


class Run(NamedTuple):
    """All that a run needs; its images are not loaded yet."""

    module: Module
    data: DataModule
    trainer: Trainer
    logger: Logger | None


def run(config: Config, folder: Path) -> Run:
    """Check a configuration and make what it describes, before anything is downloaded or begun.

    Args:
        config: the resolved configuration.
        folder: the run folder.

    Raises:
        InputError: anything that cannot be right.
    """
    check_config(config)
    seed_everything(config["seed"], verbose=False)
    made_task = task(config)
    made_degradation = degradation(config, made_task)
    made_module = module(config, made_task, made_degradation)
    made_data = data(config, made_task, made_degradation, made_module)
    logger = loggers.make(folder=folder, config=config, **config["logger"])
    made_trainer = trainer(config, made_module, folder, logger)
    if config["action"] == "train":
        require_precision(made_module, made_trainer)
        require_batch(made_module, config["task"]["batch_size"], None, made_trainer.world_size)
    return Run(made_module, made_data, made_trainer, logger)


def task(config: Config) -> Task:
    """Make the task; nothing is downloaded yet."""
    return _group(config, "task", Task)  # type: ignore[type-abstract]


def degradation(config: Config, task: Task) -> Degradation:
    """Make the degradation, and try it on a blank image; raises InputError when it cannot work on the task's images."""
    made = _group(config, "degradation", Degradation)  # type: ignore[type-abstract]
    shape = task.shape
    try:
        made.check_shape(shape)
        if not isinstance(made, FromFiles):
            made(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))
    except InputError as error:
        raise InputError(f"degradation: {error}") from error
    return made


def _group(config: Config, key: str, kind: type[T]) -> T:
    """Make the one object of a group; raises InputError when it is of another kind."""
    made = construct(config[key], key)
    if not isinstance(made, kind):
        raise InputError(f"{key}._target_: {config[key]['_target_']} is no {kind.__name__}; choose one of {key}=…")
    return made


def module(config: Config, task: Task, degradation: Degradation) -> Module:
    """Make the module with its net for the images of a task under a degradation."""
    model = config["model"]
    kind = find_class(model["_target_"], "model")
    if not issubclass(kind, Module):
        raise InputError(f"model._target_: {model['_target_']} is no module; choose a class of recon.modules")
    if issubclass(kind, ClassificationModule) and not task.num_classes:
        raise InputError(
            "model=classifier needs labels and this task has none; choose task=digits|mnist|fashion_mnist|cifar10, "
            "a folder with a subfolder for each class, or set task.num_classes of task=webdataset"
        )
    channels, *image_size = task.shape
    if degradation.scale > 1:
        # The loader cuts clean images to whole multiples of the degraded ones; a classifier sees only these.
        unit = 1 if issubclass(kind, ClassificationModule) else degradation.scale
        image_size = [side // degradation.scale * unit for side in image_size]
    facts: dict[str, Any] = {
        "channels": channels,
        "in_channels": kind.in_channels(channels),
        "image_size": tuple(image_size),
        "scale": degradation.scale,
        "num_classes": task.num_classes,
        "seed": config["seed"],
        "optimizer": construct(config["optimizer"], "optimizer"),
        "scheduler": construct(config["scheduler"], "scheduler"),
    }
    if model.get("judge"):
        model = {**model, "judge": _judge(Path(model["judge"]), task)}
    require_net(model, kind, facts)
    made: Module = construct(model, "model", facts)
    asked = inspect.signature(type(made.net)).parameters
    made.facts = {name: facts[name] for name in ("channels", "image_size", "num_classes") if name in asked}
    try_out(made, task.shape, degradation.scale, task.num_classes)
    if config["accelerator"]["channels_last"]:
        made.to(memory_format=channels_last)
    if config["accelerator"]["compile"]:
        for net in made.players() if isinstance(made, AdversarialModule) else (made.net,):
            net.compile()
    return made


def data(config: Config, task: Task, degradation: Degradation, module: Module) -> DataModule:
    """Make the data module; raises InputError when the module needs holes that the degradation does not make."""
    if isinstance(module, InpaintingModule) and not degradation.makes_holes:
        raise InputError(
            "model=inpainting fills holes and this degradation makes none; choose degradation=missing|missing_box|"
            "missing_strokes|missing_half, or model=restoration"
        )
    augment = _group(config, "augment", Augment)
    fixed_size = bool(getattr(module.net, "fixed_size", False))
    where = config["data"]
    cache = Path(where["cache"]) if where["store"] == "mmap" else None
    return DataModule(task, Path(where["root"]), degradation, augment, config["seed"], fixed_size, cache)


def trainer(config: Config, module: Module, folder: Path, logger: Logger | None) -> Trainer:
    """Make the trainer; raises InputError for settings that cannot go together."""
    settings = dict(config["trainer"])
    if settings["gradient_clip_val"] is None:
        # Lightning skips a hook that is not callable, and with it what it does to clip nothing.
        module.configure_gradient_clipping = None  # type: ignore[method-assign,assignment]
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
    try:
        made = Trainer(
            **{"profiler": NoProfiler(), **settings},
            callbacks=_callbacks(config, module, folder),
            logger=logger or False,
            plugins=[AtomicCheckpointIO(), *_cluster()],
            default_root_dir=folder,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"trainer: {' '.join(str(error).split()).rstrip('.!')}; correct the trainer.* or accelerator setting"
        ) from error
    batch_size, devices = config["task"]["batch_size"], made.world_size
    if batch_size % devices:
        raise InputError(
            f"task.batch_size: {batch_size} images cannot be shared evenly by {devices} devices; choose a multiple of "
            f"{devices}, such as task.batch_size={batch_size + -batch_size % devices}"
        )
    return made


def _cluster() -> list[ClusterEnvironment]:
    """Leave going on with a job to `resume=`: Lightning would queue it again, with a checkpoint of its own."""
    managed = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return [SLURMEnvironment(auto_requeue=False)] if managed else []


def _callbacks(config: Config, module: Module, folder: Path) -> list[Callback]:
    # Without validation there is nothing to choose by: the latest weights count as the best.
    monitor = None if config["trainer"]["limit_val_batches"] == 0 else module.monitor
    often = config["checkpoint"]
    checkpoints = Checkpoints(folder, monitor, module.mode, often["minutes"], often["steps"])
    if (
        monitor is None
        and module.monitor is not None
        and "patience" in inspect.signature(module.make_scheduler).parameters
    ):
        raise InputError(
            "scheduler: this one follows a metric of the validation, which trainer.limit_val_batches=0 turns off; "
            "choose scheduler=constant|cosine|one_cycle|step"
        )
    callbacks: list[Callback] = [Pictures(folder), EpochTable(folder), checkpoints, Cost()]
    if os.environ.get("RECON_PROGRESS"):
        callbacks.append(Progress(folder, monitor, module.mode))
    if config["trainer"]["enable_progress_bar"]:
        callbacks.append(ProgressBar())
    if config["early_stopping"]:
        if monitor is None:
            raise InputError(
                "early_stopping: there is no metric here that tells which weights are better; leave it at null"
            )
        callbacks.append(EarlyStopping(monitor, patience=config["early_stopping"], mode=module.mode))
    return callbacks


def _judge(folder: Path, task: Task) -> nn.Module:
    """Load the net of a finished classifier run on the same kind of images."""
    from recon.checkpoint import best_or_last, load_weights
    from recon.config.recorded import read_config

    config = read_config(folder, "model.judge")
    try:
        judge = module(config, task, degradation(config, task))
    except InputError as error:
        raise InputError(f"model.judge: {folder} does not fit these images ({error}); choose another run") from error
    if not isinstance(judge, ClassificationModule):
        raise InputError(f"model.judge: {folder} is no run of model=classifier; choose one that is")
    load_weights(judge, best_or_last(folder), "model.judge")
    return judge.net
