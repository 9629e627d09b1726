"""The space of a search: which keys it varies, over what, and what of it a trial can have."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import InputError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Choices = list[str]
Range = dict[str, Any]
_KEYS = ("low", "high", "log", "step")


class Space:
    """A checked search space.

    Args:
        node: `sweep.space`.
        conf: the folder of the configuration: a key that is a folder there, such as `model/net`, chooses a group.

    Raises:
        InputError: it is empty, or a range cannot be one.
    """

    def __init__(self, node: Any, conf: Path) -> None:
        if not isinstance(node, Mapping) or not node:
            raise InputError(
                "sweep.space: a search needs to know what to vary; add for example "
                "'sweep.space={optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}'"
            )
        entries: dict[str, Choices | Range] = {str(key): _entry(str(key), value) for key, value in node.items()}
        self.groups = {key: value for key, value in entries.items() if (conf / key).is_dir()}
        self.keys = {key: value for key, value in entries.items() if key not in self.groups}
        for key, value in self.groups.items():
            if isinstance(value, dict):
                raise InputError(f"sweep.space.{key}: a group is chosen, not counted; give a list of its choices")

    def first(self) -> list[list[str]]:
        """Overrides of a trial for each combination of groups (the first 64), without other keys."""
        choices = ([f"{key}={choice}" for choice in value] for key, value in self.groups.items())
        return [list(words) for words in itertools.islice(itertools.product(*choices), 64)]

    def ends(self, key: str) -> list[str]:
        """Overrides that set a key to the ends of its range, or to each of its choices."""
        entry = self.keys[key]
        values = entry if isinstance(entry, list) else [_text(entry["low"]), _text(entry["high"])]
        return [f"{key}={value}" for value in values]

    def suggest(self, trial: BaseTrial, has: Callable[[Sequence[str], str], bool]) -> list[str]:
        """Let a trial choose: first the groups, then those keys that there are under them.

        Args:
            trial: of Optuna.
            has: does the configuration with these overrides have this key?

        Returns:
            The overrides that make it.
        """
        chosen = [f"{key}={_suggest(trial, key, entry)}" for key, entry in self.groups.items()]
        there = {key: entry for key, entry in self.keys.items() if has(chosen, key)}
        return [*chosen, *(f"{key}={_suggest(trial, key, entry)}" for key, entry in there.items())]


def _suggest(trial: BaseTrial, key: str, entry: Choices | Range) -> str:
    if isinstance(entry, list):
        return str(trial.suggest_categorical(key, entry))
    low, high, log, step = (entry.get(name) for name in _KEYS)
    if all(isinstance(end, int) for end in (low, high)) and isinstance(step, int | None):
        return _text(trial.suggest_int(key, low, high, step=step or 1, log=bool(log)))  # type: ignore[arg-type]
    return _text(trial.suggest_float(key, low, high, step=step, log=bool(log)))  # type: ignore[arg-type]


def _entry(key: str, value: Any) -> Choices | Range:
    """Check one entry of the space; raises InputError."""
    place = f"sweep.space.{key}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise InputError(f"{place}: there is nothing to choose from; give a list of values")
        return [_text(choice) for choice in value]
    if not isinstance(value, Mapping):
        raise InputError(f"{place}: {value!r} is no range; give [a, b, c] or {{low: 1, high: 9}}")
    if unknown := sorted(set(value) - set(_KEYS)):
        raise InputError(f"{place}.{unknown[0]}: there is no such key; choose from {', '.join(_KEYS)}")
    low, high, log, step = (value.get(name) for name in _KEYS)
    if not (_is_number(low) and _is_number(high)) or float(low) >= float(high):  # type: ignore[arg-type]
        raise InputError(f"{place}: low={low} and high={high} span no range; give two numbers, the lower first")
    if log and float(low) <= 0:  # type: ignore[arg-type]
        raise InputError(f"{place}.low: the logarithm of {low} is none; give more than 0 or leave out log")
    if step is not None and (not _is_number(step) or step <= 0):
        raise InputError(f"{place}.step: {step} is no step; give a number above 0")
    if log and step is not None:
        raise InputError(f"{place}.step: it cannot go with log; leave out one of the two")
    return dict(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """A value as it is typed in an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(_text(inner) for inner in value) + "]"
    return repr(float(f"{value:.6g}")) if isinstance(value, float) else str(value)
