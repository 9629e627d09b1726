"""`action=report runs=<pattern>`: one page that compares runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon import runs
from recon.actions.base import Action
from recon.errors import InputError


class Report(Action):
    """Write the report of the runs that `runs` names, and print where.

    Args:
        runs: run folders, folders above them, globs, joined by commas.
    """

    leaves_a_record = False
    imports_torch = False
    takes = ()

    def __init__(self, runs: str | int | float | list[Any] | dict[str, Any] | None) -> None:
        self.pattern = pattern_of(runs)

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Write it."""
        report(self.pattern)


def report(pattern: str) -> None:
    """Write the report of the runs that a pattern names, and print where."""
    from rich.console import Console

    from recon.report import write

    target = place_for(pattern)
    with Console(stderr=True).status("report: reading the runs"):
        try:
            write(pattern, target)
        except OSError as error:
            raise InputError(
                f"runs: the report cannot be written to {target} ({error.strerror}); make that folder writable, or "
                "copy the runs to one that is"
            ) from error
    print(f"report: {target}", flush=True)


def place_for(pattern: str) -> Path:
    """Return the path of a report: `report.html` in the folder that all its runs lie in, or in the one run's own."""
    parts = runs.named(pattern)
    if len(parts) == 1:
        return parts[0][0] / "report.html"
    return Path(os.path.commonpath([folder.path.absolute() for folder in runs.find(pattern)])) / "report.html"


def pattern_of(value: object) -> str:
    """Read the key `runs`; raises InputError where it is no text."""
    if isinstance(value, list | dict) or value is None:
        raise InputError("runs: give one text of folders or globs joined by commas, as in runs='outputs/a,outputs/b'")
    return str(value)
