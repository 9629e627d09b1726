"""The only place that instantiates classes from the configuration.

A configuration may come from a stranger's run folder. So each key takes one kind of class, from the packages that hold
this kind, plus modules that the user trusts by the environment variable RECON_TRUST; the class is looked up and its
kind is checked before anything is constructed, for nested nodes too.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, NamedTuple, get_args

from recon.config.check import check_node, hints_of
from recon.config.conf import choices, read_choice
from recon.errors import InputError
from recon.ranges import fraction
from recon.trust import trusted


class Kind(NamedTuple):
    """What a key may name.

    Attributes:
        base: the class that all classes of the kind are derived from.
        packages: the modules and packages that hold them.
        names: the only classes that may be named, or () for all.
        is_partial: the configuration holds arguments only; the class is called later, with parameters to train.
        group: the group of choices whose names a text stands for, such as "model/loss", or "".
    """

    base: str
    packages: tuple[str, ...]
    names: tuple[str, ...] = ()
    is_partial: bool = False
    group: str = ""


@dataclass(frozen=True)
class Trained:
    """Marks a parameter that takes a trained model, as in `Annotated[Module, Trained()] | None`: its value is a run.

    Attributes:
        model: the choice of `model=` that the run must be of, or "" for any.
    """

    model: str = ""


# Loads the model of a run folder: the folder, the key that names it, the class that it must be, and what is due.
Load = Callable[[str, str, type, Trained], Any]

# By the key of the configuration, or for nested nodes by the class that the parameter's annotation names.
KINDS = {
    "task": Kind("recon.data.task.Task", ("recon.data",)),
    "degradation": Kind("recon.degradations.base.Degradation", ("recon.degradations",)),
    "protocol": Kind("recon.metrics.protocol.Protocol", ("recon.metrics.protocol",)),
    "augment": Kind("recon.data.augment.Augment", ("recon.data.augment",)),
    "model": Kind("recon.modules.base.Module", ("recon.modules",)),
    "model.net": Kind("torch.nn.Module", ("recon.nets",)),
    "model.quantiser": Kind("recon.nets.quantisers.Quantiser", ("recon.nets",), group="model/quantiser"),
    "model.loss": Kind("recon.losses.pixel.PixelLoss", ("recon.losses",), group="model/loss"),
    "model.adversarial_loss": Kind("recon.losses.adversarial.AdversarialLoss", ("recon.losses",), group="model/loss"),
    "model.health": Kind("recon.modules.health.Health", ("recon.modules.health",)),
    "action": Kind("recon.actions.base.Action", ("recon.actions",)),
    "logger": Kind("recon.dashboards.base.Dashboard", ("recon.dashboards",)),
    "optimizer": Kind("torch.optim.Optimizer", ("torch.optim", "recon.training.muon"), is_partial=True),
    "scheduler": Kind("torch.optim.lr_scheduler.LRScheduler", ("torch.optim.lr_scheduler",), is_partial=True),
    # Callbacks that neither write files nor call anything by name.
    "trainer.callbacks": Kind(
        "lightning.pytorch.callbacks.Callback",
        ("lightning.pytorch.callbacks",),
        ("DeviceStatsMonitor", "EarlyStopping", "GradientAccumulationScheduler", "LearningRateMonitor", "ModelSummary",
         "RichModelSummary", "StochasticWeightAveraging", "Timer"),
    ),
}  # fmt: skip
_SPECIAL = ("_target_", "_partial_")


def construct(node: Any, key: str, facts: Mapping[str, Any] | None = None, load: Load | None = None) -> Any:
    """Make what a node of the configuration describes.

    Args:
        node: plain values; a dictionary with `_target_` becomes an instance of the kind that `key` takes, or a
            `functools.partial` of it where the kind is called later; nested nodes are of the kind that the annotation
            of their parameter names.
        key: the node's key in the configuration, one of `KINDS`.
        facts: values derived from task and degradation, passed to every target that has a parameter of that name.
        load: loads the run folders that parameters marked `Trained` name.

    Raises:
        InputError: a target that is not allowed or of another kind, a key that the target does not take or lacks, or
            whatever the target itself finds wrong.
    """
    return _construct(node, key, KINDS[key], facts or {}, load)


def _construct(node: Any, key: str, kind: Kind | None, facts: Mapping[str, Any], load: Load | None) -> Any:
    if isinstance(node, list):
        return [_construct(item, f"{key}[{index}]", kind, facts, load) for index, item in enumerate(node)]
    if isinstance(node, str) and kind is not None and kind.group:
        node = _chosen(node, key, kind)
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {name: _construct(value, f"{key}.{name}", kind, facts, load) for name, value in node.items()}
    if kind is None:
        raise InputError(f"{key}: it takes no class; leave out its _target_ and give a plain value")
    target = find_class(node["_target_"], key, kind)
    if bool(node.get("_partial_", False)) != kind.is_partial:
        raise InputError(f"{key}._partial_: it must be {str(kind.is_partial).lower()} here; correct it")
    arguments = arguments_of(node, target, key, facts, load)
    if kind.is_partial:
        return functools.partial(target, **arguments)
    return called(target, arguments, key, node["_target_"])


def arguments_of(
    node: Mapping[str, Any], target: type, key: str, facts: Mapping[str, Any], load: Load | None
) -> dict[str, Any]:
    """Make the arguments of a class: those of the node, nested classes and trained models, and the facts."""
    hints = hints_of(target)
    arguments: dict[str, Any] = {}
    for name, value in node.items():
        if name in _SPECIAL:
            continue
        place, hint = f"{key}.{name}", hints.get(name)
        marked = _marked(hint)
        if marked is not None and value is not None:
            arguments[name] = load(value, place, *marked) if load is not None else None
            continue
        kind = _nested(hint)
        if kind is not None and isinstance(value, dict) and "_target_" not in value and _takes_one(hint, kind):
            raise InputError(f"{place}: its keys belong to no class; {_remedy(place, kind, kind.packages)}")
        arguments[name] = _as_numbers(_construct(value, place, kind, facts, load), hint)
    check_node(arguments, hints, key)
    return {name: fact for name, fact in facts.items() if name in hints} | arguments


def called(target: type, arguments: Mapping[str, Any], key: str, name: str) -> Any:
    """Call a class; raises InputError, with the key, for arguments that it lacks or finds wrong."""
    parameters = inspect.signature(target).parameters
    lacking = [
        n for n, p in parameters.items()
        if p.default is p.empty and n not in arguments and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]  # fmt: skip
    if lacking:
        raise InputError(f"{key}.{lacking[0]}: {name} needs it; add {key}.{lacking[0]}=<value>")
    try:
        return target(**arguments)
    except Exception as error:  # what a class raises for wrong values is its own: Lightning's is a bare Exception
        message = str(error) or type(error).__name__
        if isinstance(error, InputError) and re.split("[.:]", message)[0] in parameters and ": " in message:
            raise InputError(f"{key}.{message}") from error
        raise InputError(message if message.startswith(key.split(".")[0]) else f"{key}: {message}") from error


def _chosen(name: str, key: str, kind: Kind) -> dict[str, Any]:
    """Read the choice of the kind's group that a text stands for."""
    node = read_choice(kind.group, name)
    if node is None:
        raise InputError(f"{key}: {name!r} is no choice of {kind.group}; choose {kind.group}={_fitting(kind)}")
    return node


def _fitting(kind: Kind) -> str:
    """List the choices of a group whose classes are of a kind."""
    base, names = _imported(kind.base), []
    for name in choices(kind.group):
        target = (read_choice(kind.group, name) or {}).get("_target_")
        if isinstance(target, str) and issubclass(_imported(target), base):
            names.append(name)
    return "|".join(sorted(names))


def _as_numbers(value: Any, hint: Any) -> Any:
    """Read fractions such as "25/255" where a parameter takes numbers."""
    if isinstance(value, list):
        return [_as_numbers(item, hint) for item in value]
    takes_numbers = "float" in str(hint) and "str" not in str(hint)
    number = fraction(value) if takes_numbers and isinstance(value, str) else None
    return value if number is None else number


def find_class(path: Any, key: str, kind: Kind | None = None) -> type:
    """Import the class that a `_target_` names.

    Args:
        path: the value of `_target_`.
        key: the node's key, for messages, and for the kind where none is given.
        kind: what the key may name.

    Raises:
        InputError: the class is not allowed, does not exist or is of another kind.
    """
    kind = kind or KINDS[key]
    base = _imported(kind.base)
    own = trusted()
    packages = (*kind.packages, *own)
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")):
        raise InputError(
            f"{key}._target_: {str(path)[:80]!r} is no dotted name of a class; {_remedy(key, kind, packages)}"
        )
    if any(part.startswith("_") for part in path.split(".")) or not _is_within(path, packages):
        module = path.split(".")[0]
        # Nobody should be told to trust all of Python.
        named = "<module>" if module in {*sys.stdlib_module_names, "torch", "recon"} else module[:80]
        raise InputError(
            f"{key}._target_: {path[:80]} is refused, as only classes of {', '.join(packages)} may be named here; "
            f"{_remedy(key, kind, packages)}, or set the environment variable RECON_TRUST={named} for a module that "
            "you wrote or trust"
        )
    try:
        found = _imported(path)
    except (ImportError, AttributeError, ValueError) as error:
        module = path.split(".")[0]
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == module
        remedy = (
            f"run the command in the folder of {module}, or add that to PYTHONPATH" if is_absent else "correct the name"
        )
        raise InputError(f"{key}._target_: there is no {path} ({error}); {remedy}") from error
    # What a module merely imported, such as torch.nn.modules.module.torch.load, is not its own.
    if not isinstance(found, type) or not _is_within(f"{found.__module__}.{found.__name__}", packages):
        raise InputError(
            f"{key}._target_: {path} is no class that {' or '.join(packages)} defines; {_remedy(key, kind, packages)}"
        )
    if not issubclass(found, base):
        derive = f", or derive it from {kind.base}" if _is_within(path, own) else ""
        raise InputError(f"{key}._target_: {path} is no {base.__name__}; {_remedy(key, kind, packages)}{derive}")
    if kind.names and found.__name__ not in kind.names and not _is_within(path, own):
        raise InputError(f"{key}._target_: {path} may not be named; choose {', '.join(kind.names)}")
    return found


def _remedy(key: str, kind: Kind, packages: tuple[str, ...]) -> str:
    """Say what to choose instead of a class that is refused."""
    if kind.group:
        return f"choose {kind.group}={_fitting(kind)}"
    return f"choose one of {key}=…" if "." not in key else f"name a class of {' or '.join(packages)}"


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _is_within(path: str, packages: tuple[str, ...]) -> bool:
    return path.startswith(tuple(f"{package}." for package in packages))


def _marked(hint: Any) -> tuple[type, Trained] | None:
    """Return the class and the mark of a parameter that takes a trained model, by its annotation."""
    for part in (hint, *get_args(hint)):
        for mark in getattr(part, "__metadata__", ()):
            if isinstance(mark, Trained):
                return part.__origin__, mark
    return None


def _takes_one(hint: Any, kind: Kind) -> bool:
    """Return whether a parameter takes one instance of a kind, by its annotation, and not several of them."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return any(isinstance(part, type) and issubclass(part, _imported(kind.base)) for part in parts)


def _nested(hint: Any) -> Kind | None:
    """Return the kind of the classes that a parameter takes, by its annotation, such as Mapping[str, Degradation]."""
    for part in (hint, *get_args(hint)):
        for kind in KINDS.values():
            if isinstance(part, type) and not kind.is_partial and f"{part.__module__}.{part.__qualname__}" in (
                kind.base, kind.base.replace("torch.nn.", "torch.nn.modules.module.")
            ):  # fmt: skip
                return kind
        if part is not hint and (nested := _nested(part)) is not None:
            return nested
    return None
