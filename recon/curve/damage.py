"""The damage of a curve: one degradation at several levels, or every corruption of a set at every severity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from recon.config.construct import construct
from recon.data.curriculum import level_of
from recon.degradations import Corruption, Degradation, Identity
from recon.degradations.corruptions import KINDS, severities
from recon.errors import InputError
from recon.report.naming import as_text

_MOST = 200  # points of a curve


@dataclass(frozen=True)
class Point:
    """A damage at one level.

    Attributes:
        severity: the level.
        operator: makes it.
        kind: of a corruption, or "".
    """

    severity: float
    operator: Degradation
    kind: str = ""


@dataclass(frozen=True)
class Damage:
    """All points of a curve.

    Attributes:
        label: of the axis of severities, such as "sigma of noise".
        name: for a file, such as "noise".
        points: in the order of their severities; of a set of corruptions the clean images, then each kind in turn.
    """

    label: str
    name: str
    points: list[Point]

    @property
    def severities(self) -> list[float]:
        """Return the distinct severities in order."""
        return sorted({point.severity for point in self.points})

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of corruptions; none for a single degradation."""
        return [kind for kind in dict.fromkeys(point.kind for point in self.points) if kind]


def numbers(given: str | Sequence[float]) -> list[float]:
    """Read severities, typed as 0:0.5:11 (from, to, how many) or as a list.

    >>> numbers("0:0.5:3")
    [0.0, 0.25, 0.5]

    Raises:
        InputError: it is neither, or they are not two or more in rising order.
    """
    if isinstance(given, str):
        ends = re.fullmatch(r"\s*([-+.\de]+):([-+.\de]+):(\d+)\s*", given)
        try:
            low, high, count = (float(part) for part in ends.groups()) if ends else (0.0, 0.0, 0.0)
        except ValueError:
            count = 0.0
        if not 2 <= count <= _MOST:
            raise InputError(
                f"severities: {given!r} is no range; give it as severities=0:0.5:11 (from, to, how many of 2 to "
                f"{_MOST}) or as a list, severities=[0,0.1,0.5]"
            )
        # Rounded, as 0.15000000000000002 would be written everywhere.
        found = [float(f"{value:.6g}") for value in np.linspace(low, high, int(count))]
    else:
        try:
            found = list(map(float, given))
        except (TypeError, ValueError) as error:
            raise InputError(f"severities: {given} are no numbers; give them as severities=[0,0.1,0.5]") from error
    if not 2 <= len(found) <= _MOST or any(b <= a for a, b in pairwise(found)):
        raise InputError(
            f"severities: {as_text(found, False)} do not rise; give 2 to {_MOST} numbers, the mildest first"
        )
    return found


def of_levels(node: dict[str, Any], name: str, level: str | None, given: str | Sequence[float]) -> Damage:
    """Return a degradation at several levels.

    Args:
        node: the node `degradation` of a configuration.
        name: of its choice.
        level: the key of the node that the severities are of, or None for the one that says how strong it is.
        given: see `numbers`.

    Raises:
        InputError: there is no such key, or a severity is out of its range.
    """
    key = level or level_of(node)
    if key is None or key not in node or key == "_target_":
        keys = ", ".join(key for key, value in node.items() if isinstance(value, int | float | list))
        what = f"{level!r} is no key of it" if level else "it has no single level"
        raise InputError(
            f"level: degradation={name}: {what}; choose another degradation, or level=<one of {keys or 'none'}>"
        )
    is_whole = isinstance(node[key], int) and not isinstance(node[key], bool)
    points = []
    for severity in numbers(given):
        value = int(severity) if is_whole and severity.is_integer() else severity
        try:
            points.append(Point(severity, construct({**node, key: value}, "degradation")))
        except InputError as error:
            raise InputError(f"severities: at {severity:g}, {error}") from error
    return Damage(f"{key} of {name}", name, points)


def of_corruptions(set_: str) -> Damage:
    """Return every corruption of a set at every severity; raises InputError for a set that there is not."""
    if set_ not in KINDS:
        raise InputError(f"corruption: {set_!r} does not exist; choose {'|'.join(KINDS)}")
    points = [Point(severity, Corruption(set_, kind, severity), kind)
              for kind in KINDS[set_] for severity in range(1, severities(set_) + 1)]  # fmt: skip
    return Damage(
        f"severity, mean over {len(KINDS[set_])} corruptions of {set_}", set_, [Point(0, Identity()), *points]
    )
