"""The files that a folder or a glob names: each file once, whatever links lead to it."""

import fnmatch
import glob
import heapq
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from recon.errors import InputError

# Equal for all names of a file, which has several where there are links.
Identity = tuple[int | str, ...]


class Found(NamedTuple):
    """The files that a folder or a glob names.

    Attributes:
        base: the folder that names are relative to: the folder itself, or the part of a glob before its first wildcard.
        files: the files with the wanted suffixes, sorted; each file once.
        repeats: further names of these files and of their folders.
        ignored: the number of other files by kind, such as a suffix.
    """

    base: Path
    files: list[Path]
    repeats: list[str]
    ignored: Counter[str]


def expanded(text: str) -> Path:
    """Replace `~` at the start of a path by the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(text))


def identity(path: Path) -> Identity:
    """Identify a file by its place on the disk, so that its links, hard ones too, count as one file."""
    return _identity_of(path.stat(), str(path))


def find(key: str, pattern: str, suffixes: set[str]) -> Found:
    """Find the files that a folder, a file or a glob names; hidden ones are left out, as the shell does.

    Of the names of a file, one without links comes before the others, and among these the first.

    Args:
        key: the key of the configuration with the value `pattern`, for messages.
        pattern: a folder, a file, or a glob (`**` for any depth).
        suffixes: those of the wanted files, in lower case.

    Raises:
        InputError: a folder cannot be read.
    """
    repeats: list[str] = []
    base, names = _names(key, expanded(pattern), repeats)
    files: dict[Identity, Path] = {}
    ignored: Counter[str] = Counter()
    for name in names:
        path = Path(name)
        try:
            status = path.stat()
        except OSError:
            ignored["broken link"] += 1
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode):
            ignored["pipe or device"] += 1
        elif path.suffix.lower() not in suffixes:
            ignored[path.suffix.lower() or "without suffix"] += 1
        elif files.setdefault(_identity_of(status, name), path) is not path:
            repeats.append(name)
    return Found(base, sorted(files.values()), sorted(repeats), ignored)


def _names(key: str, path: Path, repeats: list[str]) -> tuple[Path, Iterator[str]]:
    """Return the base and the names that a folder, a file or a glob stands for."""
    if os.path.isdir(path):
        return path, _walk(key, str(path), repeats)
    if os.path.isfile(path):  # even if its name looks like a glob
        return path.parent, iter([str(path)])
    base = _base(path)
    rest = path.parts[len(base.parts) :]
    if "**" in rest:
        below = _walk(key, str(base), repeats) if os.path.isdir(base) else iter(())
        return base, (name for name in below if _matches(Path(name).relative_to(base).parts, rest))
    matching = glob.iglob(str(Path(glob.escape(str(base)), *rest)))
    return base, iter(sorted(matching, key=lambda name: (_has_link(name, base), name)))


def _base(path: Path) -> Path:
    """Return the folders at the start of a glob that exist as they are written, brackets and all."""
    base = Path()
    for part in path.parts[:-1]:
        if glob.has_magic(part) and not os.path.isdir(base / part):
            break
        base /= part
    return base


def _identity_of(status: os.stat_result, name: str) -> Identity:
    # Some file systems number nothing; the size and the time guard against those that number by chance.
    number = (status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(name),)
    return (*number, status.st_size, status.st_mtime_ns)


def _walk(key: str, top: str, repeats: list[str]) -> Iterator[str]:
    """Yield the names of all files below a folder: first those without links, then those that links lead to.

    Each folder is read once, so that a link upwards ends; further names of a folder are added to `repeats`.
    """
    folders, links, seen = [top], list[str](), set[Identity]()
    while folders or links:
        name = folders.pop() if folders else heapq.heappop(links)
        if not os.path.isdir(name):
            yield name  # a link to a file
            continue
        if (folder := identity(Path(name))) in seen:
            repeats.append(name)
            continue
        seen.add(folder)
        try:
            with os.scandir(name) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{key}: {name} cannot be read ({error.strerror}): allow it, or move it away.") from error
        for entry in visible:
            if entry.is_symlink():
                heapq.heappush(links, entry.path)
            elif not entry.is_dir():
                yield entry.path
        folders += [entry.path for entry in reversed(visible) if entry.is_dir(follow_symlinks=False)]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Return whether a path matches a glob, in which `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return pattern == ("**",) or any(_matches(parts[start:], pattern[1:]) for start in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _has_link(name: str, base: Path) -> bool:
    path = Path(name)
    return any(map(os.path.islink, (path, *path.parents[: len(path.parts) - len(base.parts) - 1])))
