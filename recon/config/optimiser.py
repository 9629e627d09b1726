"""Optimiser and schedule, tried on one weight before anything is loaded, so that a wrong value says so at once."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from recon.errors import InputError

_STEPS = 100  # of the training that a schedule is tried on


def require_optimiser(make_optimizer: functools.partial[Any], make_scheduler: functools.partial[Any]) -> None:
    """Take a step with an optimiser and a schedule.

    Args:
        make_optimizer: makes an optimiser of parameters.
        make_scheduler: makes a learning-rate schedule of an optimiser.

    Raises:
        InputError: one of them cannot work; the key that is wrong is named.
    """
    _require_finite("optimizer", make_optimizer)
    _require_finite("scheduler", make_scheduler)
    _try("optimizer", make_optimizer, _step)
    optimizer = _step(make_optimizer)
    _try("scheduler", make_scheduler, lambda make: _schedule(make, optimizer))


def _step(make: Callable[..., Any]) -> Any:
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    optimizer = make([weight])
    optimizer.step()
    return optimizer


def _schedule(make: functools.partial[Any], optimizer: Any) -> None:
    wanted = inspect.signature(make.func).parameters
    filled = {"T_max": _STEPS, "total_steps": _STEPS, "max_lr": 0.1}
    if {"epochs", "steps_per_epoch"} & set(make.keywords):
        filled.pop("total_steps")
    scheduler = make(optimizer, **{k: v for k, v in filled.items() if k in wanted and k not in make.keywords})
    for _ in range(3):
        optimizer.step()
        scheduler.step(*[1.0] if "patience" in wanted else [])
    if any(not math.isfinite(group["lr"]) for group in optimizer.param_groups):
        raise ValueError("it gives a learning rate that is not finite")


def _require_finite(key: str, make: functools.partial[Any]) -> None:
    for name, value in make.keywords.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise InputError(f"{key}.{name}: {value} is not finite; give a number such as 0.001")


def _try(key: str, make: functools.partial[Any], use: Callable[[functools.partial[Any]], Any]) -> None:
    """Use what a node makes; where that fails, the key without which it works is the wrong one."""
    try:
        use(make)
        return
    except Exception as error:  # each class of torch raises its own for wrong values
        said = " ".join(str(error).split()).rstrip(".")
        # That a comparison failed says nothing to who typed the value.
        reason = "it is of another type" if isinstance(error, TypeError) or not said else said
        cause = error
    parameters = inspect.signature(make.func).parameters
    for name in make.keywords:
        if parameters[name].default is inspect.Parameter.empty:
            continue
        others = {n: v for n, v in make.keywords.items() if n != name}
        try:
            use(functools.partial(make.func, **others))
        except Exception:  # this key is not the only wrong one, or not wrong
            continue
        raise InputError(f"{key}.{name}: {make.keywords[name]} does not work ({reason}); correct it") from cause
    required = [n for n in make.keywords if parameters[n].default is inspect.Parameter.empty]
    blamed = required[0] if len(required) == 1 else "_target_" if not required else required[0]
    shown = make.func.__name__ if blamed == "_target_" else make.keywords[blamed]
    raise InputError(
        f"{key}.{blamed}: {shown} does not work ({reason}); correct it, or choose another {key}"
    ) from cause
