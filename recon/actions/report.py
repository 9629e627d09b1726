"""`action=report runs=<pattern>`: one page about finished runs; `action=list`: the runs on the terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon import runs
from recon.errors import InputError


def report(config: Mapping[str, Any]) -> None:
    """Write the report of the runs that `runs` names, and print its path."""
    from rich.console import Console

    from recon.report import write

    pattern = _pattern(config)
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


def show(config: Mapping[str, Any]) -> None:
    """Print the runs that `runs` names as a table, filtered and sorted as `list` says."""
    from recon.report.listing import print_runs

    print_runs(_pattern(config), **config["list"])


def _pattern(config: Mapping[str, Any]) -> str:
    if isinstance(config["runs"], list | dict) or config["runs"] is None:
        raise InputError("runs: give one text of folders or globs joined by commas, as in runs='outputs/a,outputs/b'")
    return str(config["runs"])
