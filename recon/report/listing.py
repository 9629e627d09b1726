"""The runs as a table on the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timezone
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from recon import runs
from recon.errors import InputError
from recon.measures import headline
from recon.report.elements import cut
from recon.report.faults import faults, sentences
from recon.report.naming import levels
from recon.runs import RunFolder, short_name
from recon.runs.files import disk_use, in_words
from recon.streams import printable

_CHOICES = {"model": "model", "net": "model/net", "task": "task", "degradation": "degradation"}
_COLUMNS = ("folder", "status", *_CHOICES, "metric", "value", "epochs", "seconds", "started", "run", "damage", "result",
            "age", "size")  # fmt: skip
_GIVE_WAY = ("damage", "task", "degradation", "model", "net")  # the widest first, on a narrow terminal
_NARROW, _LONGEST_NAME = 100, 24  # letters: of a terminal, and of a run's name there
_LONGEST = 300  # letters of a cell
_BAD = ("failed", "lost", "killed")


def print_runs(pattern: str, sort: str, filter: str | list[str] | None, columns: str | list[str]) -> None:
    """Print the runs that a pattern names.

    Args:
        pattern: as `runs.find` takes it.
        sort: a column, a metric such as "test/psnr" or a key of the configuration such as "optimizer.lr"; "-" before
            it reverses the order. Metrics begin with the highest.
        filter: one or more conditions that every shown run meets: "model:gan", "status:failed", "optimizer.lr:0.001";
            of the folder a part is enough.
        columns: what to show of a run: its "run" (a short name that `run=` takes), "folder", "status", "model", "net",
            "task", "degradation", "damage" (with its first level), "metric" and "value", or both as "result", "epochs",
            "seconds", "started", "age", "size" on disk, a metric or a key of the configuration.

    Raises:
        InputError: no run folder there, a condition without ":", or columns that are none.
    """
    from rich.console import Console
    from rich.table import Table

    if not isinstance(sort, str) or not sort.strip("-"):
        raise InputError("list.sort: give a column, a metric or a key, such as list.sort=test/psnr")
    conditions = conditions_of(filter, "list.filter")
    names = [columns] if isinstance(columns, str) else columns
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(
            "list.columns: give names of columns, such as list.columns=[run,status,test/psnr,optimizer.lr]"
        )
    folders = runs.find(pattern)
    # Only where a short name is asked for, as to look for all runs takes another walk.
    others = cache(lambda: {*map(str, runs.trained()), *(below_here(each.path) for each in folders)})
    # To a file or a pipe every row stays one line, whole, unless the width is given.
    is_wide = not Console().is_terminal and "COLUMNS" not in os.environ
    console = Console(width=400 if is_wide else None, markup=False, highlight=False)
    longest = _LONGEST_NAME if console.width < _NARROW else _LONGEST
    rows = [row for folder in folders if holds(row := Row(folder, others, longest), conditions)]
    key = sort.lstrip("-")
    rows.sort(key=lambda row: row.order(key), reverse=sort.startswith("-") != ("/" in sort))
    names = [*names, *([key] if key not in (*names, *_COLUMNS) else [])]
    cells = [[_text(row[name]) for name in names] for row in rows]
    table = Table(*_headings(names, cells, console.width), box=None, header_style="bold", pad_edge=False)
    for row, line in zip(rows, cells, strict=True):
        table.add_row(*line, style="red" if row.folder.status in _BAD else None)
    console.print(table)
    for row in rows:
        for fault in sentences(faults(row.folder)):
            print(_text(f"{row['folder']}: {fault}"))
    total = in_words(sum(row.size for row in rows))
    print(f"{len(rows)} of {len(folders)} runs, {total}", flush=True)


def conditions_of(filter: object, key: str) -> list[str]:
    """Read a filter of runs; raises InputError, which names its key, for what is no condition."""
    conditions = [filter] if isinstance(filter, str) else filter or []
    if not isinstance(conditions, list) or not all(isinstance(condition, str) for condition in conditions):
        raise InputError(f"{key}: give conditions as text, such as {key}=model:gan")
    if wrong := [condition for condition in conditions if ":" not in condition and "=" not in condition]:
        raise InputError(f"{key}: {wrong[0]} is no condition; give one such as {key}=model:gan")
    return conditions


class Row:
    """One run's line of the table, from the small files of its folder; the configuration is read only for its keys."""

    def __init__(
        self, folder: RunFolder, others: Callable[[], Collection[str]] = tuple, longest_name: int = _LONGEST
    ) -> None:
        self.folder = folder
        self.others = others  # returns the paths that a short name must tell it from
        self.longest_name = longest_name  # letters

    @cached_property
    def size(self) -> int:
        """The bytes that its files take on disk."""
        return disk_use(self.folder.path)

    def __getitem__(self, name: str) -> str:
        """Return a column, a metric or a key of the configuration as text."""
        environment, metrics = self.folder.environment, self.folder.metrics
        choices: dict[str, str] = environment.get("choices", {})
        columns: dict[str, Callable[[], str]] = {
            "folder": lambda: below_here(self.folder.path),
            "status": lambda: self.folder.status,
            "metric": lambda: self.headline()[0],
            "value": lambda: _number(self.headline()[1]),
            "epochs": self._epochs,
            "seconds": lambda: _number(environment.get("seconds"), 1),
            "started": lambda: str(environment.get("started", ""))[:16].replace("T", " "),
            "run": lambda: short_name(below_here(self.folder.path), self.others(), self.longest_name),
            "damage": lambda: " ".join([choices.get("degradation", ""), *list(levels(self.folder).values())[:1]]),
            "result": self._result,
            "age": lambda: _age(environment.get("started")),
            "size": lambda: in_words(self.size),
        }
        if name in columns:
            return columns[name]()
        if name in _CHOICES or "/" in name:
            return _number(metrics[name]) if name in metrics else choices.get(_CHOICES.get(name, name), "")
        node: Any = self.folder.config
        for part in name.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return "" if node is None else str(node)

    def order(self, name: str) -> tuple[int, float, str]:
        """Return the key to sort the row by: numbers before words before nothing."""
        if "/" in name and name in self.folder.metrics:
            return _as_number(self.folder.metrics[name])
        if name == "size":
            return _as_number(self.size)
        return _as_number(self.headline()[1] if name == "value" else self[name])

    def headline(self) -> tuple[str, Any]:
        """Return the number that stands for the run, with its name; one not finite only where no other is of use."""
        metrics, split = self.folder.metrics, self.folder.by_set()[0].test_set or "test"
        names = [name for row in headline(self.folder.measures) if (name := f"{split}/{row.name}") in metrics]
        of_use = (name for name in names if math.isfinite(metrics[name]) or not self.folder.measure(name).partial)
        name = next(of_use, next(iter(names), ""))
        return name, metrics.get(name)

    def _result(self) -> str:
        """The headline of a run that is done, or how it stands."""
        status, (name, value) = self.folder.status, self.headline()
        if status != "ok":
            return f"{status} {self._epochs()}" if status == "running" else status
        row = self.folder.measure(name.partition("/")[2]) if name else None
        return f"{row.name} {row.text(value, unit=True)}" if row else status

    def _epochs(self) -> str:
        """How far it is: from the progress of a running job, else the rows of its table."""
        progress = self.folder.progress if self.folder.status == "running" else {}
        if isinstance(progress.get("epoch"), int):
            return f"{progress['epoch']}/{progress.get('max_epochs')}"
        return str(self.folder.epochs or "")


def holds(row: Row, conditions: Sequence[str]) -> bool:
    """Return whether a run meets all conditions, such as "model:gan"."""
    for condition in conditions:
        name, _, wanted = condition.replace("=", ":", 1).partition(":")
        value = row[name]
        if (wanted not in value) if name == "folder" else (_as_number(value) != _as_number(wanted)):
            return False
    return True


def _as_number(value: Any) -> tuple[int, float, str]:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return (1 if value else -1, 0.0, str(value or ""))
    return (-1, 0.0, "") if math.isnan(number) else (0, number, "")


def _number(value: Any, decimals: int | None = None) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return ""
    return f"{value:,.{decimals}f}" if decimals is not None else f"{value:.4g}"


def below_here(path: Path) -> str:
    """Write a path without the current folder, where it lies below that."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _age(started: Any) -> str:
    """Write how long ago a time was, such as "5 min", "3 h" or "12 d"; "" for what is no time."""
    try:
        seconds = (datetime.now(timezone.utc) - datetime.fromisoformat(started).astimezone()).total_seconds()
    except (TypeError, ValueError):
        return ""
    minutes = max(0, int(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h" if minutes < 2880 else f"{minutes // 1440} d"


def _headings(names: Sequence[str], cells: Sequence[Sequence[Any]], width: int) -> list[Any]:
    """Make columns that fit a width in letters: runs' names and numbers stay whole, the others are cut to fit."""
    from rich.table import Column

    widths = {name: max([len(name), *(len(line[index]) for line in cells)]) for index, name in enumerate(names)}
    excess = sum(widths.values()) + 2 * (len(names) - 1) - width
    shrinking = [name for name in _GIVE_WAY if name in widths]
    while excess > 0 and (widest := max(shrinking, key=widths.__getitem__, default=None)) and widths[widest] > 4:
        widths[widest] -= 1
        excess -= 1
    right = {name for name in names if name in ("value", "epochs", "seconds", "age", "size") or "/" in name}
    return [
        Column(name, justify="right" if name in right else "left", no_wrap=True, overflow="ellipsis",
               min_width=widths[name], max_width=widths[name])
        for name in names
    ]  # fmt: skip


def _text(value: str) -> Any:
    from rich.text import Text

    # A run's own words are untrusted: no markup, and no control codes.
    return Text(printable(cut(value, _LONGEST)))
