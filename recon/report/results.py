"""Tables that actions write into run folders, which may be damaged or a stranger's. All raise OSError or Unreadable."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.runs.reading import Unreadable, read_text

_TABLE = 64 << 20  # bytes
_ROWS = 10_000  # of a table that is shown whole


def texts(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table as texts by their columns; all rows have all columns."""
    try:
        rows = list(csv.DictReader(read_text(path, _TABLE).splitlines()))
    except csv.Error as error:
        raise Unreadable("it is no table") from error
    if not rows:
        raise Unreadable("it holds no rows")
    if len(rows) > _ROWS or any(None in row or None in row.values() for row in rows):
        raise Unreadable("it is no table that recon writes")
    return rows


def named(path: Path, words: Sequence[str], numbers: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some columns of a table, of texts and of numbers."""
    rows = texts(path)
    try:
        found: dict[str, NDArray[Any]] = {name: np.array([row[name] for row in rows]) for name in words}
        found |= {name: np.array([float(row[name]) for row in rows]) for name in numbers}
    except (KeyError, ValueError) as error:
        raise Unreadable("it is no table that recon writes") from error
    return found


def curve(path: Path, measures: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read a curve: "method", "severity", the measures of it that it has, with their ends, and the differences.

    What a method has no value of is NaN. Every method has the same severities, in rising order.
    """
    rows = texts(path)
    known = {end for name in (*measures, "difference") for end in (name, f"{name}_low", f"{name}_high")}
    try:
        found: dict[str, NDArray[Any]] = {"method": np.array([row["method"] for row in rows])}
        for name in ("severity", *rows[0]):
            if name in {"severity", "p", *known}:
                found[name] = np.array([float(row[name] or "nan") for row in rows])
    except (KeyError, ValueError) as error:
        raise Unreadable("it is no table that recon writes") from error
    severities = [found["severity"][found["method"] == method] for method in dict.fromkeys(found["method"].tolist())]
    first = severities[0]
    if not {*measures} & found.keys() or not (np.diff(first) > 0).all() or not np.isfinite(first).all():
        raise Unreadable("it is no curve that recon writes")
    if any(not np.array_equal(each, first) for each in severities):
        raise Unreadable("its methods have other severities")
    return found


def checks(path: Path) -> dict[str, dict[str, float]]:
    """Read what the checks of maps came to, by method; what is not known is left out."""
    try:
        return {row["method"]: {name: float(value) for name, value in row.items() if value and name != "method"}
                for row in texts(path)}  # fmt: skip
    except (KeyError, ValueError) as error:
        raise Unreadable("it is no table that recon writes") from error
