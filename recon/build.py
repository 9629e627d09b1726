"""Build what a run needs from its configuration, and refuse what cannot go together."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from torch import channels_last, nn

from recon.config.check import Config, check_config
from recon.config.construct import construct, find_class
from recon.config.optimiser import require_optimiser
from recon.dashboards import threaded
from recon.data.datamodule import DataModule
from recon.data.task import Task
from recon.degradations.base import Degradation, within
from recon.errors import InputError
from recon.modules.adversarial import AdversarialModule
from recon.modules.base import Module
from recon.modules.classification import ClassificationModule
from recon.modules.inpainting import InpaintingModule
from recon.training.trainer import make_trainer
from recon.training.trial import require_batch, require_net, require_precision, try_degradation, try_out

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
    logger = threaded.make(folder=folder, config=config, **config["logger"])
    made_trainer = make_trainer(config, made_module, folder, logger)
    if config["action"] == "train":
        require_precision(made_module, made_trainer)
        require_batch(made_module, config["task"]["batch_size"], None, made_trainer.world_size)
    return Run(made_module, made_data, made_trainer, logger)


def check(config: Config) -> tuple[str, str] | None:
    """Check a configuration as `run` does, without its trainer and its images.

    Returns:
        The metric that the model monitors and "min" or "max", or None where it has none.

    Raises:
        InputError: anything that cannot be right.
    """
    check_config(config)
    if config["action"] == "evaluate":  # what it tests is told by the run's own configuration
        kind: type[Module] = find_class(config["model"].get("_target_"), "model")
        return (kind.monitor, kind.mode) if kind.monitor else None
    made_task = task(config)
    made_degradation = degradation(config, made_task)
    made = module(config, made_task, made_degradation)
    data(config, made_task, made_degradation, made)
    return (made.monitor, made.mode) if made.monitor else None


def task(config: Config) -> Task:
    """Make the task; nothing is downloaded yet."""
    made: Task = construct(config["task"], "task")
    made.tested_only = config["action"] == "evaluate"
    return made


def degradation(config: Config, task: Task) -> Degradation:
    """Make the degradation, and try it on a grey image; raises InputError when it cannot work on the task's images."""
    made: Degradation = construct(config["degradation"], "degradation")
    refused = None
    for shape in task.possible_shapes:
        try:
            try_degradation(made, shape)
            return made
        except InputError as error:
            refused = refused or error
    assert refused is not None
    raise within("degradation", refused) from refused


def module(config: Config, task: Task, degradation: Degradation) -> Module:
    """Make the module with its net for the images of a task under a degradation."""
    model = config["model"]
    kind: type[Module] = find_class(model["_target_"], "model")
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
    require_optimiser(facts["optimizer"], facts["scheduler"])
    if model.get("judge"):
        if not isinstance(model["judge"], str):
            raise InputError("model.judge: it names no run folder; give one of model=classifier, or null")
        model = {**model, "judge": _judge(Path(model["judge"]).expanduser(), config, task)}
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
    augment = construct(config["augment"], "augment")
    fixed_size = bool(getattr(module.net, "fixed_size", False))
    where = config["data"]
    cache = Path(where["cache"]) if where["store"] == "mmap" else None
    return DataModule(task, Path(where["root"]), degradation, augment, config["seed"], fixed_size, cache)


def _judge(folder: Path, config: Config, task: Task) -> nn.Module:
    """Load the net of a finished classifier run on the same kind of images."""
    from recon.config.recorded import read_config
    from recon.runs.checkpoint import best_or_last, load_weights

    recorded = read_config(folder, "model.judge")
    kind = find_class(recorded["model"].get("_target_"), "model")
    if not issubclass(kind, ClassificationModule):
        raise InputError(f"model.judge: {folder} is no run of model=classifier; choose one that is")
    config = {**config, "model": recorded["model"], "degradation": recorded["degradation"]}
    try:
        judge = module(config, task, degradation(config, task))
    except InputError as error:
        raise InputError(f"model.judge: {folder} cannot be used here ({error}); choose another run") from error
    load_weights(judge, best_or_last(folder), "model.judge")
    assert isinstance(judge, ClassificationModule)
    return judge.net
