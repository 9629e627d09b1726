"""The runs as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recon import runs
from recon.errors import InputError
from recon.measures import headline
from recon.report.elements import cut
from recon.report.faults import faults, sentences
from recon.runs import RunFolder
from recon.streams import printable

_CHOICES = {"model": "model", "net": "model/net", "task": "task", "degradation": "degradation"}
_COLUMNS = ("folder", "status", *_CHOICES, "metric", "value", "epochs", "seconds", "started")
_LONGEST = 300  # letters of a cell
_BAD = ("failed", "lost", "killed")


def print_runs(pattern: str, sort: str, filter: str | list[str] | None) -> None:
    """Print the runs that a pattern names.

    Args:
        pattern: as `runs.find` takes it.
        sort: a column, a metric such as "test/psnr" or a key of the configuration such as "optimizer.lr"; "-" before
            it reverses the order. Metrics begin with the highest.
        filter: one or more conditions that every shown run meets: "model:gan", "status:failed", "optimizer.lr:0.001";
            of the folder a part is enough.

    Raises:
        InputError: no run folder there, or a condition without ":".
    """
    from rich.console import Console
    from rich.table import Table

    if not isinstance(sort, str) or not sort.strip("-"):
        raise InputError("list.sort: give a column, a metric or a key, such as list.sort=test/psnr")
    conditions = [filter] if isinstance(filter, str) else filter or []
    if not isinstance(conditions, list) or not all(isinstance(condition, str) for condition in conditions):
        raise InputError("list.filter: give conditions as text, such as list.filter=model:gan")
    if wrong := [condition for condition in conditions if ":" not in condition and "=" not in condition]:
        raise InputError(f"list.filter: {wrong[0]} is no condition; give one such as list.filter=model:gan")
    folders = runs.find(pattern)
    rows = [row for folder in folders if _holds(row := Row(folder), conditions)]
    key = sort.lstrip("-")
    rows.sort(key=lambda row: row.order(key), reverse=sort.startswith("-") != ("/" in sort))
    names = [*_COLUMNS, *([key] if key not in _COLUMNS else [])]
    table = Table(*(_heading(name) for name in names), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(_text(row[name]) for name in names), style="red" if row["status"] in _BAD else None)
    # To a file or a pipe every row stays one line, whole.
    console = Console()
    Console(width=None if console.is_terminal else 400, markup=False, highlight=False).print(table)
    for row in rows:
        for fault in sentences(faults(row.folder)):
            print(_text(f"{row['folder']}: {fault}"))
    print(f"{len(rows)} of {len(folders)} runs", flush=True)


class Row:
    """One run's line of the table, from the small files of its folder; the configuration is read only for its keys."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> str:
        """Return a column, a metric or a key of the configuration as text."""
        environment, metrics = self.folder.environment, self.folder.metrics
        choices: dict[str, str] = environment.get("choices", {})
        columns: dict[str, Callable[[], str]] = {
            "folder": lambda: _below_here(self.folder.path),
            "status": lambda: self.folder.status,
            "metric": lambda: self._headline()[0],
            "value": lambda: _number(self._headline()[1]),
            "epochs": self._epochs,
            "seconds": lambda: _number(environment.get("seconds"), 1),
            "started": lambda: str(environment.get("started", ""))[:16].replace("T", " "),
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
        return _as_number(self._headline()[1] if name == "value" else self[name])

    def _headline(self) -> tuple[str, Any]:
        """The number that stands for the run; one that is not finite only where there is no other of use."""
        metrics = self.folder.metrics
        names = [name for row in headline(self.folder.measures) if (name := f"test/{row.name}") in metrics]
        of_use = (name for name in names if math.isfinite(metrics[name]) or not self.folder.measure(name).partial)
        name = next(of_use, next(iter(names), ""))
        return name, metrics.get(name)

    def _epochs(self) -> str:
        """How far it is: from the progress of a running job, else the rows of its table."""
        progress = self.folder.progress if self.folder.status == "running" else {}
        if isinstance(progress.get("epoch"), int):
            return f"{progress['epoch']}/{progress.get('max_epochs')}"
        return str(self.folder.epochs or "")


def _holds(row: Row, conditions: Sequence[str]) -> bool:
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


def _below_here(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _heading(name: str) -> Any:
    from rich.table import Column

    right = name in ("value", "epochs", "seconds") or "/" in name
    return Column(name, justify="right" if right else "left", overflow="fold", no_wrap=name in ("status", "value"))


def _text(value: str) -> Any:
    from rich.text import Text

    # A run's own words are untrusted: no markup, and no control codes.
    return Text(printable(cut(value, _LONGEST)))
