"""Short names of run folders, for command lines: making them, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path


def called(name: str, folders: Iterable[Path]) -> list[Path]:
    """Return the folders that a short name may stand for: those whose paths end in it, or else those that hold it."""
    paths = list(folders)
    return [path for path in paths if str(path).endswith(name)] or [path for path in paths if name in str(path)]


def short_name(path: str, others: Collection[str], longest: int = 1000) -> str:
    """Return a name that stands for a run folder alone: the ending of its path, or where that is long another part.

    Args:
        path: of the run folder.
        others: the paths that it is to be told from.
        longest: letters of an ending; above them it is the last digits of its time, with the number of a sweep's job.
    """
    name = path.rpartition("/")[2]
    shortest = len(name.partition("_")[2] or name)
    starts = [start for start in range(len(path) - shortest, 0, -1) if path[start - 1] in "/_-"]
    ending = next((path[at:] for at in starts if sum(other.endswith(path[at:]) for other in others) <= 1), path)
    part = re.search(r"-(\d{6}(?=_)(?:_sweep/\d+_)?)", path)
    if len(ending) <= longest or not part or sum(part[1] in other for other in others) > 1:
        return ending
    return part[1]
