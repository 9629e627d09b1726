"""What the nodes of a configuration may hold: keys, types and values, checked before anything is made of them."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from recon.config.training import check_training
from recon.errors import InputError

Config = dict[str, Any]

# What the nodes without a `_target_` may hold; those of a class hold what its signature says.
_TOP_LEVEL: dict[str, Any] = {
    "action": str,
    "run": str | None,
    "runs": str,
    "resume": str | None,
    "init_from": str | None,
    "allow_network": bool,
    "seed": int,
    "early_stopping": int | None,
    **dict.fromkeys(
        ("data", "list", "checkpoint", "trainer", "accelerator", "logger", "sweep", "task", "degradation", "augment"),
        dict[str, Any],
    ),
    **dict.fromkeys(("optimizer", "scheduler", "model"), dict[str, Any]),
}
_DATA: dict[str, Any] = {"root": str, "store": Literal["memory", "mmap"], "cache": str}
_LIST: dict[str, Any] = {"sort": str, "filter": str | list[str] | None}
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
_CHECKPOINT: dict[str, Any] = {"minutes": float | None, "steps": int | None}
_LOGGER: dict[str, Any] = {
    "kind": Literal["auto", "wandb", "tensorboard", "csv", "none"],
    **dict.fromkeys(("project", "group", "name"), str | None),
    "tags": list[str],
}


def hints_of(target: type[Any]) -> dict[str, Any]:
    """What each key of a class's signature may hold; `Any` where the annotation is only for type checkers."""
    parameters = list(inspect.signature(target).parameters)
    try:
        hints = get_type_hints(target.__init__)
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name, Any) for name in parameters}


def check_node(given: Mapping[str, Any], known: Mapping[str, Any], key: str) -> None:
    """Reject the keys and values of a node that cannot be right.

    Args:
        given: the node.
        known: the type hint of each key that there is.
        key: the node's place in the configuration.

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
            hint = known[name]
            wanted = hint.__name__ if hint in (str, int, float, bool) else re.sub(r"(\w+\.)+", "", str(hint))
            raise InputError(f"{place}: {value!r} does not fit; give a value of type {wanted}")


def _fits(value: Any, hint: Any) -> bool:
    """Can a plain value of the configuration be what a type hint says? Only what is certain is refused."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, NoneType):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple)
    return True


def check_config(config: Config) -> None:
    """Reject what Hydra lets through: the keys of `+key=value` and of experiment files, and values of another type."""
    from lightning.pytorch import Trainer

    check_node(config, _TOP_LEVEL, "")
    check_training(config)
    check_node(config["trainer"], hints_of(Trainer), "trainer")
    check_node(config["data"], _DATA, "data")
    check_node(config["list"], _LIST, "list")
    check_node(config["checkpoint"], _CHECKPOINT, "checkpoint")
    check_node(config["sweep"], _SWEEP, "sweep")
    check_node(config["sweep"].get("slurm", {}), _SLURM, "sweep.slurm")
    check_node(config["accelerator"], _ACCELERATOR, "accelerator")
    check_node(config["logger"], _LOGGER, "logger")
