"""The runs as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon import runs
from recon.errors import InputError
from recon.measures import HEADLINE, measure
from recon.report.faults import faults, sentences
from recon.report.labels import cut
from recon.runs import RunFolder
from recon.runs.reading import read_json
from recon.streams import printable

_COLUMNS = (
    "folder",
    "status",
    "model",
    "net",
    "task",
    "degradation",
    "metric",
    "value",
    "epochs",
    "seconds",
    "started",
)
_LONGEST = 300  # letters of a cell
_STYLES = {"ok": "green", "running": "cyan", "failed": "red", "lost": "red", "killed": "red"}


def print_runs(pattern: str, sort: str, filter: str | list[str] | None) -> None:
    """Print the runs that a pattern names.

    Args:
        pattern: as `runs.find` takes it.
        sort: a column, a metric such as "test/psnr" or a key of the configuration such as "optimizer.lr"; with "-"
            before it the other way round. Metrics begin with the highest.
        filter: one or more conditions, all of which hold for what is shown: "model:gan", "status:failed",
            "optimizer.lr:0.001"; of the folder a part is enough.

    Raises:
        InputError: no run folder there, or a condition without ":".
    """
    from rich.console import Console
    from rich.table import Table

    if not isinstance(sort, str) or not sort.strip("-"):
        raise InputError("list.sort: give a column, a metric or a key, such as list.sort=test/psnr")
    conditions = [filter] if isinstance(filter, str) else filter or []
    if not isinstance(conditions, list) or not all(isinstance(each, str) for each in conditions):
        raise InputError("list.filter: give conditions as text, such as list.filter=model:gan")
    if wrong := [each for each in conditions if ":" not in each and "=" not in each]:
        raise InputError(f"list.filter: {wrong[0]} is no condition; give one such as list.filter=model:gan")
    found = runs.find(pattern)
    rows = [row for folder in found if _holds(row := Row(folder), conditions)]
    rows.sort(key=lambda row: row.order(sort.lstrip("-")), reverse=sort.startswith("-") != ("/" in sort))
    extra = [sort.lstrip("-")] if sort.lstrip("-") not in _COLUMNS else []
    table = Table(*(_heading(name) for name in (*_COLUMNS, *extra)), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        style = _STYLES.get(row["status"])
        table.add_row(*(_text(row[name]) for name in (*_COLUMNS, *extra)), style=style if style == "red" else None)
    # To a file or a pipe every row stays one line, whole.
    console = Console()
    Console(width=None if console.is_terminal else 400, markup=False, highlight=False).print(table)
    for row in rows:
        for told in sentences(faults(row.folder)):
            print(_text(f"{row['folder']}: {told}"))
    print(f"{len(rows)} of {len(found)} runs", flush=True)


class Row:
    """What the table says of a run; nothing but small files are read, and the configuration only for its keys."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> str:
        """A column, a metric or a key of the configuration, as text."""
        environment = self.folder.environment
        choices: dict[str, str] = environment.get("choices", {})
        if name in ("model", "task", "degradation"):
            return choices.get(name, "")
        if name == "net":
            return choices.get("model/net", "")
        if name == "folder":
            return _below_here(self.folder.path)
        if name == "status":
            return self.folder.status
        if name == "metric":
            return self._main()[0]
        if name == "value":
            return _number(self._main()[1])
        if name == "epochs":
            return self._epochs()
        if name == "seconds":
            return _number(environment.get("seconds"), 1)
        if name == "started":
            return str(environment.get("started", ""))[:16].replace("T", " ")
        if "/" in name:
            value = self.folder.metrics.get(name)
            return choices.get(name, "") if value is None else _number(value)
        found: Any = self.folder.config
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return "" if found is None else str(found)

    def order(self, name: str) -> tuple[int, float, str]:
        """What the row is sorted by: numbers before words before nothing."""
        if "/" in name and name in self.folder.metrics:
            return _as_number(self.folder.metrics[name])
        if name == "value":
            return _as_number(self._main()[1])
        return _as_number(self[name])

    def _main(self) -> tuple[str, Any]:
        """The number that sums the run up; one that is not finite where there is no other of use."""
        found = [
            (name, self.folder.metrics[name]) for name in map("test/{}".format, HEADLINE) if name in self.folder.metrics
        ]
        of_use = [(name, value) for name, value in found if math.isfinite(value) or not measure(name).partial]
        return next(iter(of_use or found), ("", None))

    def _epochs(self) -> str:
        """How far it is or went: from the progress of a run at work, else the rows of its table."""
        if self.folder.status == "running":
            progress = read_json(self.folder.path / "progress.json")
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

    # What a run says of itself is text: no markup, and no codes that a terminal would obey.
    return Text(printable(cut(value, _LONGEST)))
