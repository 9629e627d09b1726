"""`action=list`: the runs as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.actions.base import Action
from recon.actions.report import pattern_of
from recon.config.check import check_node


class List(Action):
    """Print the runs that `runs` names, filtered and sorted as `list` says.

    Args:
        runs: run folders, folders above them, globs, joined by commas.
        list: `sort`, `filter` and `columns`, see `recon.report.listing.print_runs`.
    """

    leaves_a_record = False
    imports_torch = False
    takes = ()

    def __init__(self, runs: str | int | float | None, list: dict[str, Any]) -> None:
        check_node(list, {"sort": str, "filter": Any, "columns": Any}, "list")
        self.pattern, self.settings = pattern_of(runs), list

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Print them."""
        from recon.report.listing import print_runs

        print_runs(self.pattern, **self.settings)
