"""Where the restored pictures go, and what is written beside each: what was done, so that it can be done again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.data.find import expanded, find
from recon.errors import InputError
from recon.restore.encode import SUFFIXES
from recon.runs.reading import read_json

_WORDS = ("name", "ext", "folder")  # of a pattern
_MADE = re.compile(r".+_(restored|original|compare|mask)")


@dataclass(frozen=True)
class Job:
    """A picture and where it goes.

    Attributes:
        source: its file.
        target: the file that is written; that of the source where it is replaced.
    """

    source: Path
    target: Path

    @property
    def sidecar(self) -> Path:
        """The file that says what was done."""
        return sidecar_of(self.target)

    def beside(self, word: str, suffix: str) -> Path:
        """Return the name of a further file beside the target."""
        return self.target.with_name(f"{self.target.stem}_{word}{suffix}")


def jobs(inputs: Sequence[str], output: str | None, in_place: bool, form: str | None) -> list[Job]:
    """List the pictures that folders, globs and files name, with their targets.

    In folders, what an earlier restoration wrote beside its pictures is left out.

    Args:
        inputs: folders, globs and files.
        output: a file, a folder (as a name without an ending is), or a pattern with {name}, {ext} and {folder}; None
            for a name beside the picture.
        in_place: the picture itself is replaced.
        form: "PNG" and so on, or None for that of the picture.

    Raises:
        InputError: nothing is found, or two pictures would get one name.
    """
    found = list(_sources(inputs))
    if not found:
        raise InputError(f"input: {', '.join(inputs)} names no picture; give files, folders or globs of "
                         f"{', '.join(sorted(SUFFIXES))}")  # fmt: skip
    is_folder = output is not None and _is_folder(output, len(found))
    made: dict[Path, Path] = {}
    for source, base in found:
        target = source if in_place else _target(source, base, output, is_folder, form)
        if other := made.get(target):
            raise InputError(f"output: {other} and {source} would both be written to {target}; use a pattern such as "
                             "output='mended/{folder}_{name}.{ext}'")  # fmt: skip
        made[target] = source
    if not in_place and (wrong := set(made) & {source for source, _ in found}):
        raise InputError(f"output: {sorted(wrong)[0]} is one of the pictures; choose another name, or in_place=true")
    return [Job(source, target) for target, source in made.items()]


def _is_folder(output: str, pictures: int) -> bool:
    """Return whether an output is a folder, be it there or not."""
    if output.endswith("/") or expanded(output).is_dir():
        return True
    return "{" not in output and (pictures > 1 or not Path(output).suffix)


def _sources(inputs: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Yield the pictures, each once, with the folder that their names are relative to."""
    seen = set()
    for pattern in inputs:
        if (path := expanded(pattern)).is_file():  # whatever its suffix: its content decides
            places = [(path, path.parent)]
        else:
            listing = find("input", pattern, set(SUFFIXES))
            places = [(file, listing.base) for file in listing.files if not _MADE.fullmatch(file.stem)]
        for file, base in places:
            if file not in seen:
                seen.add(file)
                yield file, base


def _target(source: Path, base: Path, output: str | None, is_folder: bool, form: str | None) -> Path:
    ending = _suffix(source, form)
    if output is None:
        return source.with_name(f"{source.stem}_restored{ending}")
    if is_folder:
        return expanded(output) / source.relative_to(base).with_suffix(ending)
    if "{" not in output:
        return expanded(output)
    try:
        return expanded(output.format(name=source.stem, ext=ending[1:], folder=source.parent.name))
    except (KeyError, IndexError, ValueError) as error:
        words = ", ".join(f"{{{word}}}" for word in _WORDS)
        raise InputError(f"output: {output!r} is no pattern; its words are {words}") from error


def _suffix(source: Path, form: str | None) -> str:
    """Return the ending of the target: that of the source, or the first of its format."""
    if form is None:
        return source.suffix or ".png"
    if SUFFIXES.get(source.suffix.lower()) == form:
        return source.suffix
    return next(suffix for suffix, name in SUFFIXES.items() if name == form)


def sidecar_of(target: Path) -> Path:
    """Return the name of the file beside a restored picture that says what was done."""
    return target.with_name(target.name + ".json")


def sha256(data: bytes) -> str:
    """Return the digest of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def is_done(job: Job, source: str, settings: dict[str, Any]) -> bool:
    """Return whether the target was made from these bytes with these settings."""
    if not job.target.is_file():
        return False
    said = read_json(job.sidecar)
    return said.get("source_sha256") == source and said.get("settings") == json.loads(json.dumps(settings))


def was_made(path: Path) -> bool:
    """Return whether a picture is itself what an earlier restoration wrote."""
    said = read_json(sidecar_of(path))
    return "recon" in said and "weights" in said
