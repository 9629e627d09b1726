"""`action=prune`: free the disk of what runs no longer need."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recon import runs
from recon.actions.base import Action
from recon.actions.report import pattern_of
from recon.config.check import check_node
from recon.errors import InputError
from recon.report.listing import Row, below_here, conditions_of, holds
from recon.runs import RunFolder
from recon.runs.files import disk_use, in_words
from recon.streams import printable

# What to free, with what goes: files in the checkpoints/ of a run, or all of it.
_GOES = {"resume": ("last.ckpt", "previous.ckpt"), "weights": ("*.ckpt",), "runs": ()}


class Prune(Action):
    """Free the disk of the runs that a pattern and a filter name, after asking.

    Args:
        runs: run folders, folders above them, globs, joined by commas.
        prune: `filter`, as that of `action=list`; `what`: "resume" for the checkpoints that only a longer training
            needs, of runs that have ended, "weights" for all checkpoints, "runs" for the whole folders; `ask`, whether
            to ask before.
    """

    leaves_a_record = False
    imports_torch = False
    takes = ()

    def __init__(self, runs: str | int | float | None, prune: dict[str, Any]) -> None:
        check_node(prune, {"filter": Any, "what": str, "ask": bool}, "prune")
        if prune["what"] not in _GOES:
            raise InputError(f"prune.what: {prune['what']} is none of {'|'.join(_GOES)}; choose one")
        if not prune["filter"]:
            raise InputError(
                "prune.filter: say which runs, such as prune.filter=status:failed or prune.filter=task:mnist"
            )
        self.pattern, self.what, self.asks = pattern_of(runs), prune["what"], prune["ask"]
        self.conditions = conditions_of(prune["filter"], "prune.filter")

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """List what would go, ask, and remove it."""
        found = {run: self._paths(run) for run in runs.find(self.pattern) if holds(Row(run), self.conditions)}
        sizes = {run: sum(map(disk_use, paths)) for run, paths in found.items() if paths}
        for run, size in sizes.items():
            print(f"{in_words(size):>9}  {run.status:<11}  {printable(below_here(run.path))}")
        total, what = in_words(sum(sizes.values())), "the whole folders" if self.what == "runs" else "checkpoints"
        print(f"{what} of {len(sizes)} of {len(found)} runs that the filter names, {total}", flush=True)
        if not sizes or not self._agrees("remove them for good? [y/N] "):
            return
        for run in sizes:
            _remove(run, found[run])
        print(f"{total} freed")

    def _paths(self, run: RunFolder) -> list[Path]:
        """Return what goes of a run; nothing of one that is running or, for "resume", could still be resumed."""
        if run.status == "running" or (self.what == "resume" and run.status != "ok"):
            return []
        if self.what != "runs":
            folder = run.path / "checkpoints"
            return sorted({path for pattern in _GOES[self.what] for path in folder.glob(pattern)})
        inside = run.path.resolve().is_relative_to(Path("outputs").resolve())  # wherever links lead
        holds_others = any(record.parent != run.path for record in run.path.rglob("environment.json"))
        # Elsewhere a run may lie among files that are not its own.
        return [run.path] if inside and not holds_others else []

    def _agrees(self, question: str) -> bool:
        if not self.asks:
            return True
        if not sys.stdin.isatty():
            raise InputError("prune.ask: nobody can be asked here; look at the list, then add prune.ask=false")
        try:
            return input(question).strip().lower() in ("y", "yes")
        except EOFError:
            return False


def _remove(run: RunFolder, paths: Sequence[Path]) -> None:
    with runs.locked(run.path, "runs"):
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
