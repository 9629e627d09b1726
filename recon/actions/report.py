"""`action=report runs=<pattern>`: one page about finished runs; `action=list`: the runs on the terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon import runs


def report(config: Mapping[str, Any]) -> None:
    """Write the report of the runs that `runs` names, and print where."""
    from rich.console import Console

    from recon.report import write

    target = place_for(str(config["runs"]))
    with Console(stderr=True).status(f"report: reading {config['runs']}"):
        write(str(config["runs"]), target)
    print(f"report: {target}", flush=True)


def place_for(pattern: str) -> Path:
    """Choose where a report lies: `report.html` in the folder that all its runs lie in, or in the one run's own."""
    fixed = re.split(r"[*?\[]", pattern)[0]
    if "," not in pattern and fixed != pattern:  # a glob such as "outputs/**"
        folder = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
    else:
        folder = Path(os.path.commonpath([found.path for found in runs.find(pattern)]))
        if "," not in pattern:
            folder = Path(pattern)
    return folder / "report.html"


def show(config: Mapping[str, Any]) -> None:
    """Print the runs that `runs` names as a table, filtered and sorted as `list` says."""
    from recon.report.listing import print_runs

    print_runs(str(config["runs"]), **config["list"])
