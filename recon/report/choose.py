"""Which run a short name stands for: the ending of a folder's path, or the last or the best run of a filter."""

from __future__ import annotations

import math
import re
from pathlib import Path

from recon import runs
from recon.errors import InputError
from recon.report.listing import Row, holds
from recon.report.naming import degradation, protocol
from recon.runs import RunFolder

_WORD = re.compile(r"(last|best)(?::(.+))?", re.DOTALL)


def choose(key: str, name: str) -> Path:
    """Return the run folder with weights below outputs/ that a name stands for.

    Args:
        key: the key of the command line, for messages.
        name: a unique ending or other part of its path; or "last", or "best" by its main metric, of all such runs or
            of those that meet conditions of `action=list`, as in "best:task:mnist+model:gan".

    Raises:
        InputError: it stands for none or for several, or the runs to choose the best of were tested on different
            images.
    """
    folders = [RunFolder(path) for path in runs.trained()]
    if (word := _WORD.fullmatch(name)) is None:
        return _named(key, name, folders)
    rows = [Row(folder) for folder in folders]
    if word[2]:
        conditions = word[2].split("+")
        if wrong := [condition for condition in conditions if ":" not in condition]:
            raise InputError(f"{key}: {wrong[0]} is no condition; give one such as {key}={word[1]}:task:mnist")
        rows = [row for row in rows if holds(row, conditions)]
    if not rows:
        where = f"with {word[2]} " if word[2] else ""
        raise InputError(f"{key}: no run {where}below outputs/ has weights; `action=list` shows the runs")
    if word[1] == "last":
        return max(rows, key=lambda row: (row.folder.path / "environment.json").stat().st_mtime).folder.path
    return _best(key, rows)


def _named(key: str, name: str, folders: list[RunFolder]) -> Path:
    found = runs.called(name, (folder.path for folder in folders))
    if len(found) > 1:
        raise InputError(
            f"{key}: {name} is part of {len(found)} run folders, such as {found[0]} and {found[1]}; give more of it"
        )
    if not found:
        raise InputError(
            f"{key}: {name} is no run folder; give {key}=outputs/<day>/<run>, a unique ending of that, {key}=last or "
            f"{key}=best:task:mnist"
        )
    return found[0]


def _best(key: str, rows: list[Row]) -> Path:
    """Return the run with the best main metric; InputError where they cannot be compared."""
    tested = [(row, *row.headline()) for row in rows if row.folder.status == "ok"]
    finite = [(row, name, value) for row, name, value in tested if name and math.isfinite(value)]
    if not finite:
        raise InputError(f"{key}: no run to choose the best of was tested; `action=list` shows the runs")
    problems = dict.fromkeys(
        (name, row["task"], degradation(row.folder), protocol(row.folder), row.folder.by_set()[0].images)
        for row, name, _ in finite
    )
    if len(problems) > 1:
        first, second = [f"{name} on {task}, {damage}" for name, task, damage, *_ in problems][:2]
        _, task, damage, *_ = next(iter(problems))
        raise InputError(
            f"{key}: the best of which? {first} and {second} were measured on different images and cannot be compared; "
            f"say which runs, as in {key}=best:task:{task}+degradation:{damage.split()[0]}"
        )
    better = finite[0][0].folder.measure(finite[0][1]).better
    return max(finite, key=lambda each: better * each[2])[0].folder.path
