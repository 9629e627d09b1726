"""The run folders on disk: finding them, reading them, telling which is alive and which two are the same run.

Nothing here imports torch, so that sweeps and `action=list` answer at once.
"""

from __future__ import annotations

import csv
import fnmatch
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from recon.errors import InputError
from recon.measures import KINDS, Measure, from_record, measure, with_own
from recon.runs.lock import is_alive
from recon.runs.names import called
from recon.runs.older import read_recorded
from recon.runs.reading import Unreadable, read_bytes, read_json, read_text

T = TypeVar("T")


class RunFolder:
    """A run folder, read when asked; a file that is missing or damaged reads as empty."""

    def __init__(self, path: Path, test_set: str = "") -> None:
        self.path = path
        self.test_set = test_set

    @cached_property
    def environment(self) -> dict[str, Any]:
        """What `environment.json` says; an entry of another type than recon writes reads as missing."""
        read = read_json(self.path / "environment.json")
        choices = read.get("choices")
        if isinstance(choices, dict):
            read["choices"] = {group: choice for group, choice in choices.items() if isinstance(choice, str)}
        return {key: value for key, value in read.items() if _is_of_kind(key, value)}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; interpolations left in an untrusted file stay text."""
        try:
            return read_recorded(self.path / "config.yaml")
        except (OSError, Unreadable):
            return {}

    @cached_property
    def _results(self) -> dict[str, Any]:
        return read_json(self.path / "metrics.json")

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final numbers, such as "test/psnr"; NaN and infinities among them, and NaN for null."""
        found = {
            name: math.nan if value is None else float(value)
            for name, value in self._results.items()
            if "/" in name and (value is None or (isinstance(value, int | float) and not isinstance(value, bool)))
        }
        return self._as_test(found)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals over the test images of some of them, as they recorded it."""
        read = self._results.get("intervals")
        ends = {name: pair for name, pair in read.items() if isinstance(pair, list)} if isinstance(read, dict) else {}
        numbers = {name: [end for end in pair if type(end) in (int, float)] for name, pair in ends.items()}
        return self._as_test({name: (pair[0], pair[1]) for name, pair in numbers.items() if len(pair) == 2})

    def _as_test(self, found: dict[str, T]) -> dict[str, T]:
        """Name what was found of its test set, where it has several, as that of the test too."""
        own = f"{self.test_set}/"
        of_set = {name: value for name, value in found.items() if self.test_set and name.startswith(own)}
        return found | {f"test/{name.removeprefix(own)}": value for name, value in of_set.items()}

    @cached_property
    def sets(self) -> dict[str, tuple[str, int]]:
        """Of each of its test sets, by name, the digest of the images and their number; empty where it is one."""
        read = self._results.get("sets")
        sets = {name: _digest(found) for name, found in read.items()} if isinstance(read, dict) else {}
        return {name: found for name, found in sets.items() if found and re.fullmatch(r"\w{1,80}", name)}

    def by_set(self) -> list[RunFolder]:
        """Return the run as it was tested on each of its sets, with its numbers there as those of the test."""
        return [RunFolder(self.path, name) for name in self.sets] or [self]

    @cached_property
    def convention(self) -> dict[str, str]:
        """How each metric is computed, by its name without the split."""
        read = self._results.get("convention")
        return {str(name): str(phrase) for name, phrase in read.items()} if isinstance(read, dict) else {}

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """The table of measures with the rows that the run recorded, by name."""
        return with_own(row for row in self._rows.values() if row)

    def measure(self, name: str) -> Measure:
        """How to read and write a metric, with or without its split."""
        return measure(name, self.measures)

    @property
    def damaged_measures(self) -> list[str]:
        """The names of recorded measures whose rows are damaged."""
        return [name for name, row in self._rows.items() if row is None]

    @cached_property
    def _rows(self) -> dict[str, Measure | None]:
        read = self._results.get("measures", {})
        return {name: from_record(name, row) for name, row in read.items()} if isinstance(read, dict) else {"": None}

    @property
    def kind(self) -> str | None:
        """What its model is for, one of `measures.KINDS`; None where it is not recorded."""
        kind = self._results.get("kind")
        return kind if kind in KINDS else None

    @cached_property
    def classes(self) -> list[str]:
        """The names of the classes in the order of their numbers; none where they are not recorded."""
        read = self._results.get("classes")
        return read if isinstance(read, list) and all(isinstance(name, str) for name in read) else []

    @cached_property
    def progress(self) -> dict[str, Any]:
        """What `progress.json` says of a job of a sweep; empty where there is none."""
        return read_json(self.path / "progress.json")

    @cached_property
    def images(self) -> tuple[str, int] | None:
        """The digest of the test images with their labels, and how many they are; None where it is not recorded."""
        return self.sets.get(self.test_set) if self.test_set else _digest(self._results.get("images"))

    @property
    def status(self) -> str:
        """One of "running", "ok", "failed", "interrupted", "pruned", "lost" (killed), or "none" (nothing begun)."""
        status = str(self.environment.get("status", "none"))
        return "lost" if status == "running" and not is_alive(self.path) else status

    @property
    def epochs(self) -> int:
        """How many epochs have ended."""
        try:
            return max(0, len(read_bytes(self.path / "metrics.csv").splitlines()) - 1)
        except (OSError, Unreadable):
            return 0

    @property
    def steps(self) -> int:
        """After how many training steps the latest epoch ended; 0 where that is not recorded."""
        try:
            rows = csv.DictReader(read_text(self.path / "metrics.csv").splitlines())
            return max((int(row["step"]) for row in rows), default=0)
        except (OSError, Unreadable, KeyError, TypeError, ValueError):
            return 0

    @property
    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return self._has("last.ckpt", "previous.ckpt")

    @property
    def has_weights(self) -> bool:
        """Return whether there is a checkpoint to take weights from."""
        return self.has_checkpoint or self._has("best.ckpt")

    def _has(self, *names: str) -> bool:
        return any((self.path / "checkpoints" / name).exists() for name in names)


def _digest(read: Any) -> tuple[str, int] | None:
    digest, count = (read.get("digest"), read.get("count")) if isinstance(read, dict) else (None, None)
    return (digest, count) if isinstance(digest, str) and digest and isinstance(count, int) else None


def action_of(config: Mapping[str, Any]) -> str:
    """Return the action of a configuration by name, such as "train"; "" where it has none."""
    node = config.get("action")
    target = node.get("_target_") if isinstance(node, Mapping) else node
    return target.rpartition(".")[2].lower() if isinstance(target, str) else ""


# The types of the entries of `environment.json` that anything reads.
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(
        ("status", "started", "fingerprint", "code", "data", "error", "processor", "platform", "python"), str
    ),
    **dict.fromkeys(("overrides", "command", "resumed", "gpus"), list),
    **dict.fromkeys(("choices", "packages"), dict),
    "seconds": (int, float),
    **dict.fromkeys(("cores", "threads", "memory"), int),
}


def _is_of_kind(key: str, value: Any) -> bool:
    if key == "threads" and not (isinstance(value, int) and 1 <= value <= 4096):
        return False
    if key == "seconds" and not (isinstance(value, int | float) and 0 <= value < 1e12):
        return False
    return isinstance(value, _KINDS.get(key, object)) and not isinstance(value, bool)


def find(pattern: str) -> list[RunFolder]:
    """Find the run folders that a pattern names.

    Args:
        pattern: a run folder, a folder above some, a glob such as "outputs/**", or a short name of run folders below
            outputs/; several joined by commas. What is there by that very name comes before any other meaning.

    Returns:
        In order of their paths, each once, whatever links lead to it.

    Raises:
        InputError: a part of the pattern names no run folder.
    """
    found: set[Path] = set()
    for base, rest in named(pattern):
        inside = {place for place, names in _walk(_globbed(base, rest)) if "environment.json" in names}
        if not inside and not os.path.lexists(path := Path(base, *rest)):
            everywhere = (place for place, names in _walk([Path("outputs")]) if "environment.json" in names)
            inside = set(called(str(path), everywhere))
        if not inside:
            raise InputError(
                f"runs: {Path(base, *rest)} holds no run folder; give a run folder, a folder above some, a glob, or "
                "the ending of run folders below outputs/"
            )
        found |= inside
    # Different parts may lead to one folder by different links.
    once = {os.path.realpath(path): path for path in sorted(found, reverse=True)}
    return [RunFolder(path) for path in sorted(once.values())]


def trained() -> list[Path]:
    """Return the run folders below outputs/ that hold weights, in order: what a short name can mean."""
    folders = (record.parent for record in Path("outputs").rglob("environment.json"))
    return sorted(folder for folder in folders if RunFolder(folder).has_weights)


def named(pattern: str) -> list[tuple[Path, tuple[str, ...]]]:
    """Split a pattern of `find` into its parts: of each the path that is there, and what follows it as a glob.

    Raises:
        InputError: the pattern is empty.
    """
    words = pattern.split(",")
    parts = []
    while words:
        # A name may hold commas: the most words that name something together are one part.
        joined = ((count, _located(",".join(words[:count]))) for count in range(len(words), 0, -1))
        count, part = next((each for each in joined if each[1]), (1, (Path(words[0].strip()), ())))
        if part and (count > 1 or words[0].strip()):
            parts.append(part)
        words = words[count:]
    if not parts:
        raise InputError("runs: it names no folder; give a run folder, a folder above some, or a glob")
    return parts


def _located(text: str) -> tuple[Path, tuple[str, ...]] | None:
    """Find the longest path that is there at the start of a text; None where the rest is there by no glob either."""
    for each in dict.fromkeys((text, text.strip())):
        path = Path(os.path.expanduser(each))
        base = next((base for base in (path, *path.parents) if os.path.lexists(base)), Path("."))
        rest = path.parts[len(base.parts) :]
        if each and (not rest or _globbed(base, rest)):
            return base, rest
    return None


def _globbed(base: Path, components: Sequence[str]) -> list[Path]:
    """Follow the components of a glob from a folder; "**" is any folders below, each once even where links loop."""
    places = [base]
    for component in components:
        if component == "**":
            places = [place for place, _ in _walk(places)]
        elif set("*?[") & set(component):
            wanted = re.compile(fnmatch.translate(component))
            hidden = component.startswith(".")
            names = ((place, name) for place in places for name in sorted(entry.name for entry in _entries(place)))
            places = [place / name for place, name in names if wanted.match(name) and name.startswith(".") <= hidden]
        else:
            places = [place / component for place in places if os.path.lexists(place / component)]
    return places


def _walk(roots: Iterable[Path]) -> Iterator[tuple[Path, set[str]]]:
    """Yield each folder at and below the roots once, with the names in it; by a link only if there is no other way.

    A link to a folder above is not followed, as it would leave what was asked for.
    """
    seen: set[tuple[int, int]] = set()
    waiting, links = [root for root in roots if os.path.lexists(root)], list[Path]()
    above = {parent for root in waiting for parent in Path(os.path.realpath(root)).parents}
    while waiting or links:
        place = waiting.pop() if waiting else links.pop()
        try:
            status = os.stat(place)
        except (OSError, ValueError):
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        entries = _entries(place)
        yield place, {entry.name for entry in entries}
        for entry in entries:
            if entry.is_symlink() and Path(os.path.realpath(entry.path)) not in above:
                links.append(place / entry.name)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(place / entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder; nothing where it is none or may not be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError):
        return []
