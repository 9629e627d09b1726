"""Build what a run needs from its configuration, and refuse what cannot go together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything

from recon.actions.base import kind_of
from recon.config.check import Config, check_config, hints_of
from recon.config.conf import choices, read_choice
from recon.config.construct import Trained, arguments_of, called, construct, find_class
from recon.config.optimiser import require_optimiser
from recon.config.recorded import read_config
from recon.dashboards import threaded
from recon.dashboards.threaded import ThreadedLogger
from recon.data.curriculum import operators
from recon.data.datamodule import DataModule
from recon.data.find import expanded
from recon.data.task import Task
from recon.degradations.base import Degradation
from recon.degradations.levels import within
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.facts import FACTS, difference, facts_of, plain
from recon.restore.weights import Weights, load_weights, names
from recon.runs import action_of
from recon.runs.checkpoint import best_or_last, put_weights
from recon.runs.checkpoint import load as load_checkpoint
from recon.training.options import Training
from recon.training.trainer import make_trainer
from recon.training.trial import require_batch, require_net, require_precision, try_degradation, try_out

_TRAINS = ("train", "shrink")  # actions
_DATA_SETS = frozenset({"digits", "mnist", "fashion_mnist", "cifar10"})  # tasks whose images are always the same


class Run(NamedTuple):
    """All that a run needs; its images are not loaded yet."""

    module: Module
    data: DataModule
    trainer: Trainer
    loggers: list[ThreadedLogger]


def run(config: Config, folder: Path) -> Run:
    """Check a configuration and make what it describes, before anything is downloaded or begun.

    Args:
        config: the resolved configuration.
        folder: the run folder.

    Raises:
        InputError: anything that cannot be right.
    """
    _check_config(config)
    seed_everything(config["seed"], verbose=False)
    made_task = task(config)
    made_degradation = degradation(config, made_task)
    made_module = module(config, made_task, made_degradation)
    made_data = data(config, made_task, made_degradation, made_module)
    loggers = threaded.make(config["logger"], folder, config)
    made_trainer = make_trainer(config, made_module, folder, loggers)
    if action_of(config) in _TRAINS:
        require_precision(made_module, made_trainer)
        require_batch(made_module, config["task"]["batch_size"], None, made_trainer.world_size)
    return Run(made_module, made_data, made_trainer, loggers)


def check(config: Config) -> tuple[str, str] | None:
    """Check a configuration as `run` does, without its trainer and its images.

    Returns:
        The metric that the model monitors and "min" or "max", or None where it has none.

    Raises:
        InputError: anything that cannot be right.
    """
    _check_config(config)
    if action_of(config) == "evaluate":  # the run's own configuration says what it tests
        kind: type[Module] = find_class(config["model"].get("_target_"), "model")
        return (kind.monitor, kind.mode) if kind.monitor else None
    made_task = task(config)
    made_degradation = degradation(config, made_task)
    made = module(config, made_task, made_degradation)
    data(config, made_task, made_degradation, made)
    return (made.monitor, made.mode) if made.monitor else None


def _check_config(config: Config) -> None:
    check_config(config, hints_of(kind_of(config)))


def task(config: Config) -> Task:
    """Make the task; nothing is downloaded yet."""
    made: Task = construct(config["task"], "task")
    made.root = expanded(str(config["data"]["root"]))
    made.tested_only = action_of(config) == "evaluate"
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
    kind: type[Module] = find_class(config["model"]["_target_"], "model")
    _require_labels(kind, task)
    if config["model"].get("judge") not in (None, "auto") and (kind.kind == "recognise" or not task.num_classes):
        why = (
            "this model recognises by itself" if kind.kind == "recognise" else "the images of this task have no labels"
        )
        raise InputError(f"model.judge: a judge decides whether images are recognised, and {why}; leave it out")
    facts = facts_of(kind, task, degradation, config["model"])
    made = _module(config if action_of(config) in _TRAINS else _untaught(config), kind, facts)
    made.prepare_for(degradation)
    made.protocol = construct(config["protocol"], "protocol")
    made.protocol.check(task.shape[0], degradation.scale)
    made.class_names = task.class_names
    _check_judge(made.options.judge, config)
    _check_teacher(made.options.teacher, made)
    try_out(made, task.shape, degradation.scale, task.num_classes)
    if config["accelerator"]["channels_last"]:
        for each in (made, made.options.judge, made.options.teacher):
            if each is not None:
                each.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config["accelerator"]["compile"]:
        for net in made.nets():
            net.compile()
    return made


def _require_labels(kind: type[Module], task: Task) -> None:
    if "labels" in kind.needs and not task.num_classes:
        raise InputError(
            f"task: {_name(kind)} needs labels and this task has none; choose task=digits|mnist|fashion_mnist|cifar10, "
            "a folder with a subfolder for each class, or set task.num_classes of task=webdataset"
        )


def _own_judge(config: Config, facts: Mapping[str, Any]) -> Module | None:
    """Load the classifier of these images that comes along, or None where there is none."""
    name = f"judge_{_choice('task', config['task']['_target_'])}"
    if name not in names():
        return None
    judge = _of_weights(load_weights(name), find_class((read_choice("model", "classifier") or {})["_target_"], "model"))
    return None if difference(judge.built_for, facts) else judge


def judge(config: Config, name: str, facts: Mapping[str, Any]) -> Module:
    """Load the classifier that a key `judge` names, a run or "auto" for the one that comes along.

    Raises:
        InputError: there is none, or it is for other images.
    """
    found = _own_judge(config, facts) if name == "auto" else None
    if name == "auto" and found is None:
        raise InputError("judge: no classifier of these images comes along; give judge=<a run of model=classifier>")
    found = found or _trained_for(name, "judge", Module, Trained("classifier"), facts)
    _check_judge(found, config)
    return found


def _check_judge(judge: Any, config: Config) -> None:
    """Raise InputError for a judge of another data set, whose images may have the same size and number of classes."""
    here = _choice("task", config["task"]["_target_"])
    if judge is not None and judge.trained_on != here and {judge.trained_on, here} <= _DATA_SETS:
        raise InputError(f"model.judge: it was trained on {judge.trained_on}, and these images are {here}; choose a "
                         f"run of model=classifier task={here}")  # fmt: skip


def _check_teacher(teacher: Any, made: Module) -> None:
    """Raise InputError for a teacher from which a module cannot learn."""
    if teacher is None:
        return
    if not getattr(made, "takes_teacher", False):
        raise InputError(f"model.teacher: {_name(type(made))} learns from none; choose model=classifier|restoration|"
                         "inpainting, or leave it out")  # fmt: skip
    scales = [model.facts.get("scale", 1) for model in (teacher, made)]
    does = {"recognise": "recognises images", "restore": "restores images", "generate": "generates images"}
    reason = None
    if teacher.kind != made.kind:
        reason = f"it {does[teacher.kind]}, and this model {does[made.kind]}"
    elif scales[0] != scales[1]:
        reason = f"it makes images {scales[0]} times larger, and this model {scales[1]} times"
    elif getattr(teacher, "noise_map", False) and not made.gaussian:
        reason = "it is given the level of Gaussian noise, which this degradation does not add"
    if reason:
        raise InputError(f"model.teacher: it cannot teach here ({reason}); choose another run")


def _untaught(config: Config) -> Config:
    """Return a configuration without the teacher, which a trained model does without."""
    return {**config, "model": {**config["model"], "teacher": None}}


def _module(config: Config, kind: type[Module], facts: Mapping[str, Any]) -> Module:
    """Make a module from its configuration and the facts of its images."""
    shared = {field.name for field in fields(Training)} & config["model"].keys()
    model = {key: value for key, value in config["model"].items() if key not in shared}
    optimizer, scheduler = construct(config["optimizer"], "optimizer"), construct(config["scheduler"], "scheduler")
    require_optimiser(optimizer, scheduler)
    options = {"optimizer": optimizer, "scheduler": scheduler, "seed": config["seed"]}
    options |= {key: config["model"][key] for key in shared}
    own = {"judge": _own_judge(config, facts)} if options.get("judge") == "auto" else {}
    options = {key: value for key, value in options.items() if key not in own}

    def load(folder: Any, key: str, wanted: type, mark: Trained) -> Module:
        return _trained_for(folder, key, wanted, mark, facts)

    known = {
        **facts,
        "training": called(Training, arguments_of(options, Training, "model", own, load), "model", "a model"),
    }
    require_net(model, kind, known)
    made: Module = construct(model, "model", known, load)
    made.facts = dict(facts)
    return made


def trained(folder: Path, key: str = "run") -> Module:
    """Rebuild a trained model from its run folder alone, with its best weights, for evaluation.

    The facts that its net was built from lie in the checkpoint. Those of an older run are taken from its task, whose
    images must be there then.

    Args:
        folder: the run folder of a training.
        key: the key of the configuration that names it, for messages.

    Raises:
        InputError: it is no run folder, or a damaged one.
    """
    config = read_config(folder, key)
    path = best_or_last(folder)
    checkpoint = load_checkpoint(path, key=key)
    facts = plain(checkpoint.get("facts"))
    kind: type[Module] = find_class(config["model"].get("_target_"), "model")
    if FACTS - facts.keys():
        facts = facts_of(kind, task(config), construct(config["degradation"], "degradation"), config["model"])
    try:
        made = _module(_untaught(config), kind, facts)
    except InputError as error:
        raise InputError(f"{key}: {folder} cannot be used here ({error}); choose another run") from error
    put_weights(made, checkpoint, path, key)
    made.read_more(folder)
    made.trained_on = _choice("task", config["task"]["_target_"])
    if not made.trains:  # what it does follows from the damage, where others have learned it
        made.prepare_for(construct(config["degradation"], "degradation"))
    return made.eval().requires_grad_(False)


def ready(config: Config) -> Module:
    """Rebuild the trained model that the key `run` names, on the device that the configuration asks for."""
    on_gpu = torch.cuda.is_available() and config["trainer"]["accelerator"] != "cpu"
    return trained(Path(str(config["run"]))).to("cuda" if on_gpu else "cpu")


def _trained_for(folder: Any, key: str, wanted: type, mark: Trained, facts: Mapping[str, Any]) -> Module:
    """Load the model that an argument of another one names; raises InputError where it is not for such images."""
    what = f"model={mark.model}" if mark.model else "a training"
    if not isinstance(folder, str):
        raise InputError(f"{key}: it names no run folder; give one of {what}, or null")
    path = Path(folder).expanduser()
    made = _of_file(path, key, mark) if path.suffix == ".safetensors" else trained(path, key)
    of_choice = (read_choice("model", mark.model) or {}).get("_target_")
    if not isinstance(made, wanted) or (of_choice and not isinstance(made, find_class(of_choice, "model"))):
        raise InputError(f"{key}: {path} is no run of {what}; choose one that is")
    if reason := difference(made.built_for, facts):
        raise InputError(f"{key}: {path} cannot be used here ({reason}); choose another run")
    return made


def _of_file(path: Path, key: str, mark: Trained) -> Module:
    """Load the module of a file of weights that names no run folder; raises InputError where it is of another kind."""
    weights = load_weights(str(path), key)
    kind: type[Module] = find_class((read_choice("model", mark.model or "classifier") or {}).get("_target_"), "model")
    if weights.about.purpose != "recognise" or kind.kind != "recognise":
        raise InputError(f"{key}: {path} holds weights of another kind; choose those of model=classifier")
    return _of_weights(weights, kind)


def _of_weights(weights: Weights, kind: type[Module]) -> Module:
    """Make the module of a classifier's weights, which is never trained."""
    idle = Training(torch.optim.Adam, torch.optim.lr_scheduler.ConstantLR, seed=0, l1=0.0, ema=0.0)
    asked, facts = inspect.signature(kind).parameters, plain(weights.about.facts)
    made = kind(weights.net, training=idle, **{name: fact for name, fact in facts.items() if name in asked})
    made.facts = facts
    task = weights.about.trained.get("task")  # a stranger's file may hold anything there
    made.trained_on = _choice("task", str(task.get("_target_"))) if isinstance(task, dict) else None
    return made.eval().requires_grad_(False)


def data(config: Config, task: Task, degradation: Degradation, module: Module) -> DataModule:
    """Make the data module; raises InputError where its images have no holes or labels that the module needs.

    So it does where they are of another size, or have other channels or classes, than the module was built for.
    """
    _require_labels(type(module), task)
    if reason := difference(module.built_for, facts_of(type(module), task, degradation, config["model"])):
        raise InputError(f"task: the model cannot be used here ({reason}); choose another task")
    if "holes" in module.needs and not degradation.makes_holes:
        raise InputError(
            f"{_name(type(module))} fills holes and this degradation makes none; choose degradation=missing|"
            "missing_box|missing_strokes|missing_half, or model=restoration"
        )
    where, augment = config["data"], construct(config["augment"], "augment")
    fixed_size = bool(getattr(module.net, "fixed_size", False))
    cache = Path(where["cache"]) if where["store"] == "mmap" else None
    levels = operators(config["degradation"], config.get("curriculum")) if action_of(config) in _TRAINS else ()
    return DataModule(task, Path(where["root"]), degradation, augment, config["seed"], fixed_size, cache, levels)


def _name(kind: type[Module]) -> str:
    """Return a module as it is typed, such as "model=classifier", or its class."""
    path = f"{kind.__module__}.{kind.__qualname__}"
    return f"model={name}" if (name := _choice("model", path)) else path


def _choice(group: str, target: str) -> str | None:
    """Return the first choice of a group that makes a class, by the path of that; None where there is none."""
    names = (name for name in choices(group) if (read_choice(group, name) or {}).get("_target_") == target)
    return next(names, None)
