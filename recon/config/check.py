"""What the nodes of a configuration may hold: keys, types and values, checked before anything is made of them."""

from __future__ import annotations

import collections.abc
import difflib
import inspect
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from recon.config.training import check_training
from recon.errors import InputError

Config = dict[str, Any]

_NODES = (
    "data", "checkpoint", "trainer", "accelerator", "logger", "sweep", "task", "degradation", "protocol", "augment",
    "recipe", "optimizer", "scheduler", "model",
)  # fmt: skip
# Keys and types of the nodes without a `_target_`; the others are checked against the class's signature.
_TOP_LEVEL: dict[str, Any] = {
    "action": dict[str, Any],
    "resume": str | None,
    "allow_network": bool,
    "seed": int,
    "early_stopping": int | None,
    "curriculum": list[float | list[float]] | None,
    "expected": dict[str, float | str],
    **dict.fromkeys(_NODES, dict[str, Any]),
}
_DATA: dict[str, Any] = {"root": str, "store": Literal["memory", "mmap"], "cache": str}
_ACCELERATOR: dict[str, Any] = {"channels_last": bool, "fused": bool, "compile": bool}
_SWEEP: dict[str, Any] = {
    "jobs": int | None,
    "retry": int,
    "slurm": dict[str, Any],
    "sampler": Literal["tpe", "random"],
    "trials": int,
    "space": dict[str, Any] | None,
    "objective": str | list[str] | None,
    "directions": str | list[str] | None,
    "prune": bool,
    "seed": int,
}
_SLURM: dict[str, Any] = {
    "cluster": Literal["slurm", "local"],
    "dry_run": bool,
    **dict.fromkeys(("partition", "account"), str | None),
    "time": int,
    "mem_gb": float | None,
    "cpus_per_task": int | None,
    "additional_parameters": dict[str, Any] | None,
}
_CHECKPOINT: dict[str, Any] = {"minutes": float | None, "steps": int | None, "keep": Literal["all", "best"]}


def hints_of(target: type[Any]) -> dict[str, Any]:
    """What each key of a class's signature may hold; `Any` where the annotation is only for type checkers."""
    parameters = list(inspect.signature(target).parameters)
    try:
        maker = target.__new__ if "__new__" in vars(target) else target.__init__
        hints = get_type_hints(maker, include_extras=True)
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name, Any) for name in parameters}


def check_node(given: Mapping[str, Any], known: Mapping[str, Any], key: str) -> None:
    """Reject the keys and values of a node that cannot be right.

    Args:
        given: the node.
        known: the type hint of each key that there is.
        key: the node's key in the configuration.

    Raises:
        InputError: a key that is not known, with the nearest that is, or a value plainly not of its type.
    """
    for name, value in given.items():
        place = f"{key}.{name}".lstrip(".")
        if value == "???":
            raise InputError(f"{place}: it has no default; add {place}=<value>")
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {nearest[0]}?" if nearest else f"choose one of {', '.join(sorted(known))}"
            raise InputError(f"{place}: there is no such key; {remedy}")
        if not _fits(value, known[name]):
            raise InputError(f"{place}: {_shown(value)} does not fit; give {in_words(known[name])}")


def in_words(hint: Any) -> str:
    """Say in words what a type hint takes, such as "a whole number or null"."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(in_words(part) for part in parts))
    if origin is Literal:
        return " or ".join("null" if part is None else str(part) for part in parts)
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
    if hint in plain:
        return plain[hint]
    if origin in (list, tuple, Sequence):
        inner = {"a whole number": "whole numbers", "a number": "numbers", "a text": "texts"}
        named = [inner.get(in_words(part), in_words(part)) for part in parts if part is not Ellipsis]
        return f"a list of {' or '.join(dict.fromkeys(named)) or 'values'}"
    if origin in (dict, Mapping):
        return "a mapping of keys"
    return "another value"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value may satisfy a type hint; hints that are not known pass."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is Annotated:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, NoneType):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    if origin in (dict, Mapping, collections.abc.Mapping):
        return isinstance(value, Mapping)
    return True


_REQUIRED = tuple(key for key in _TOP_LEVEL if key not in ("allow_network", "curriculum", "recipe", "expected"))
_TRAINER = (
    "accelerator", "devices", "num_nodes", "strategy", "precision", "max_epochs", "max_steps", "max_time",
    "limit_train_batches", "limit_val_batches", "limit_test_batches", "check_val_every_n_epoch", "val_check_interval",
    "gradient_clip_val", "accumulate_grad_batches", "log_every_n_steps", "deterministic", "enable_progress_bar",
)  # fmt: skip


def _has(config: Config, key: str) -> bool:
    node, _, name = key.rpartition(".")
    return name in (config[node] if node else config)


def check_config(config: Config, own: Mapping[str, Any]) -> None:
    """Reject what Hydra lets through: the keys of `+key=value` and of experiment files, and values of another type.

    Args:
        config: the resolved configuration.
        own: the type hints of the action's own keys.
    """
    from lightning.pytorch import Trainer

    check_node(config, {**_TOP_LEVEL, **own}, "")
    check_plain(config)
    check_node(config["trainer"], hints_of(Trainer), "trainer")


def check_plain(config: Config) -> None:
    """Reject what needs neither torch nor the class of an action to be told wrong."""
    for name in _NODES:
        if not isinstance(value := config.get(name, {}), Mapping):
            raise InputError(f"{name}: {_shown(value)} does not fit; set its keys one by one, as {name}.<key>=<value>")
    check_node({name: config[name] for name in _TOP_LEVEL if name in config}, _TOP_LEVEL, "")
    lacking = [key for key in (*_REQUIRED, *(f"trainer.{name}" for name in _TRAINER)) if not _has(config, key)]
    if lacking:
        raise InputError(f"{lacking[0]}: it is missing, and recon needs it; set {lacking[0]}=<value>")
    if not 0 <= config["seed"] < 1 << 32:
        raise InputError(f"seed: {config['seed']} is out of range; give a whole number from 0 to 4294967295")
    epochs = config["task"].get("epochs")  # which trainer.max_epochs follows
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise InputError(f"task.epochs: {_shown(epochs)} is not possible; give a whole number of at least 1")
    check_training(config)
    check_node(config["data"], _DATA, "data")
    check_node(config["checkpoint"], _CHECKPOINT, "checkpoint")
    check_node(config["sweep"], _SWEEP, "sweep")
    check_node(config["sweep"].get("slurm", {}), _SLURM, "sweep.slurm")
    check_node(config["accelerator"], _ACCELERATOR, "accelerator")
