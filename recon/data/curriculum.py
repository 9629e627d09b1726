"""The operators of a curriculum: a degradation at levels that follow one another over a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recon.config.construct import construct, find_class
from recon.degradations.base import Degradation
from recon.errors import InputError


def operators(node: dict[str, Any], levels: Sequence[Any] | None) -> tuple[Degradation, ...]:
    """Return a degradation at several levels; none where there are no levels.

    Args:
        node: the node `degradation` of a configuration.
        levels: numbers, or ranges [low,high] between which each image draws, of the key that says how strong it is.

    Raises:
        InputError: the degradation has no such key, or a level is out of its range.
    """
    if not levels:
        return ()
    if (key := level_of(node)) is None:
        raise InputError("curriculum: this degradation has no single level; choose another, or leave it out")
    whole, made = construct(node, "degradation"), []
    for level in levels:
        try:
            made.append(construct({**node, key: level}, "degradation"))
        except InputError as error:
            raise InputError(f"curriculum: at {level}, {error}") from error
        if made[-1].scale != whole.scale:
            raise InputError(f"curriculum: at {level} images are made {made[-1].scale} times smaller, and else "
                             f"{whole.scale}; leave it out")  # fmt: skip
    return tuple(made)


def level_of(node: Mapping[str, Any]) -> str | None:
    """Return the key of a node `degradation` that says how strong it is; None where there is no such one."""
    kind: type[Degradation] = find_class(node["_target_"], "degradation")
    if kind.examples:
        return kind.examples[0]
    return next((key for key, value in node.items() if isinstance(value, int | float) and value is not True), None)
