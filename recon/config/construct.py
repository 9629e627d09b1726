"""The only place that instantiates classes from the configuration.

A configuration may come from a stranger's run folder, so `_target_` names only classes of recon, torch.nn, torch.optim,
torchmetrics and some of lightning, plus modules that the user trusts by the environment variable RECON_TRUST.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any

from recon.config.check import check_node, hints_of
from recon.errors import InputError

_ALLOWED = (
    "recon.",
    "torch.nn.",
    "torch.optim.",
    "torchmetrics.",
    *(f"lightning.pytorch.{part}." for part in ("callbacks", "loggers", "strategies", "plugins")),
)


def construct(node: Any, key: str, facts: Mapping[str, Any] | None = None) -> Any:
    """Make what a node of the configuration describes.

    Args:
        node: plain values; a dictionary with `_target_` becomes an instance, with `_partial_: true` a
            `functools.partial`; whatever lies inside is made first.
        key: the node's place in the configuration, for messages.
        facts: what is known besides, passed by name where the target's signature asks for it.

    Raises:
        InputError: a target that is not allowed, a key that the target does not take or lacks, or whatever the
            target itself finds wrong.
    """
    if isinstance(node, list):
        return [construct(item, f"{key}[{place}]", facts) for place, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    special = {"_target_", "_partial_"}
    arguments = {name: construct(value, f"{key}.{name}", facts) for name, value in node.items() if name not in special}
    if "_target_" not in node:
        return arguments
    target = find_class(node["_target_"], key)
    parameters = inspect.signature(target).parameters
    check_node(arguments, hints_of(target), key)
    arguments = {name: fact for name, fact in (facts or {}).items() if name in parameters} | arguments
    if node.get("_partial_"):
        return functools.partial(target, **arguments)
    lacking = [
        n for n, p in parameters.items()
        if p.default is p.empty and n not in arguments and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    if lacking:
        raise InputError(f"{key}.{lacking[0]}: {node['_target_']} needs it; add {key}.{lacking[0]}=<value>")
    try:
        return target(**arguments)
    except (InputError, TypeError, ValueError) as error:
        message = str(error)
        if isinstance(error, InputError) and message.partition(":")[0] in parameters:
            raise InputError(f"{key}.{message}") from error
        raise InputError(message if message.startswith(key.split(".")[0]) else f"{key}: {message}") from error


def find_class(path: str, key: str) -> type:
    """Import the class that a `_target_` names; raises InputError when it is not allowed or not there."""
    trusted = tuple(f"{name.rstrip('.')}." for name in os.environ.get("RECON_TRUST", "").split(",") if name)
    allowed = (*_ALLOWED, *trusted)
    refusal = InputError(
        f"{key}._target_: {path} is refused, as only classes of {', '.join(name.rstrip('.') for name in allowed)} may "
        f"be named; set the environment variable RECON_TRUST=<module> if you trust it"
    )
    if not path.startswith(allowed):
        raise refusal
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{key}._target_: there is no {path} ({error}); correct the name") from error
    # What a module merely imported, such as torch.nn.modules.module.torch.load, is not its own.
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(allowed):
        raise refusal
    return found
