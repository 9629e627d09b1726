"""The space of a search: which keys it varies, over which values, and which of them a trial has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from recon.errors import InputError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, equally likely as they are or (`log`) by their logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


_RANGE_KEYS = ("low", "high", "log", "step")
Entry = list[str] | Range


class Space:
    """A checked search space.

    Args:
        node: `sweep.space`.
        has_group: returns whether a key, such as `model/net`, chooses a configuration group.

    Raises:
        InputError: it is empty, or an entry is neither a list of choices nor a range.
    """

    def __init__(self, node: Any, has_group: Callable[[str], bool]) -> None:
        if not isinstance(node, Mapping) or not node:
            raise InputError(
                "sweep.space: a search needs to know what to vary; add for example "
                "'sweep.space={optimizer.lr: {low: 1e-4, high: 1e-2, log: true}}'"
            )
        self.groups: dict[str, list[str]] = {}
        self.keys: dict[str, Entry] = {}
        for key, value in node.items():
            entry = _entry(f"sweep.space.{key}", value)
            if not has_group(str(key)):
                self.keys[str(key)] = entry
            elif isinstance(entry, list):
                self.groups[str(key)] = entry
            else:
                raise InputError(f"sweep.space.{key}: a group has no range; give a list of its choices")

    def record(self) -> dict[str, Any]:
        """Return what `sweep.json` keeps of it: for each key its choices, or its range."""
        return {
            key: entry if isinstance(entry, list) else asdict(entry)
            for key, entry in {**self.groups, **self.keys}.items()
        }

    def combinations(self) -> list[list[str]]:
        """Return the overrides of each combination of groups (the first 64)."""
        choices = ([f"{key}={choice}" for choice in value] for key, value in self.groups.items())
        return [list(words) for words in itertools.islice(itertools.product(*choices), 64)]

    def ends(self, key: str) -> list[str]:
        """Return the overrides that set a key to the ends of its range, or to each of its choices."""
        entry = self.keys[key]
        values = entry if isinstance(entry, list) else [_text(entry.low), _text(entry.high)]
        return [f"{key}={value}" for value in values]

    def suggest(self, trial: BaseTrial, has: Callable[[Sequence[str], str], bool]) -> list[str]:
        """Return the overrides of a trial: first its groups, then the keys that its configuration `has` under them."""
        chosen = [f"{key}={_suggest(trial, key, entry)}" for key, entry in self.groups.items()]
        existing = {key: entry for key, entry in self.keys.items() if has(chosen, key)}
        return [*chosen, *(f"{key}={_suggest(trial, key, entry)}" for key, entry in existing.items())]


def _suggest(trial: BaseTrial, key: str, entry: Entry) -> str:
    if isinstance(entry, list):
        return str(trial.suggest_categorical(key, entry))
    low, high, step = entry.low, entry.high, entry.step
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None):
        return _text(trial.suggest_int(key, low, high, step=step or 1, log=entry.log))
    return _text(trial.suggest_float(key, low, high, step=step, log=entry.log))


def _entry(key: str, value: Any) -> Entry:
    """Check one entry of the space; raises InputError."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise InputError(f"{key}: there is nothing to choose from; give a list of values")
        return [_text(choice) for choice in value]
    if not isinstance(value, Mapping):
        raise InputError(f"{key}: {value!r} is no range; give [a, b, c] or {{low: 1, high: 9}}")
    if unknown := sorted(set(value) - set(_RANGE_KEYS)):
        raise InputError(f"{key}.{unknown[0]}: there is no such key; choose from {', '.join(_RANGE_KEYS)}")
    low, high, log, step = map(value.get, _RANGE_KEYS)
    if not (_is_number(low) and _is_number(high) and low < high):
        raise InputError(f"{key}: low={low} and high={high} span no range; give two numbers, the lower first")
    if log and low <= 0:
        raise InputError(f"{key}.low: {low} has no logarithm; give more than 0 or leave out log")
    if step is not None and not (_is_number(step) and step > 0):
        raise InputError(f"{key}.step: {step} is no step; give a number above 0")
    if log and step is not None:
        raise InputError(f"{key}.step: it does not go with log; leave out one of the two")
    return Range(low, high, bool(log), step)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """Return a value as it is typed in an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_text, value)) + "]"
    return repr(float(f"{value:.6g}")) if isinstance(value, float) else str(value)
