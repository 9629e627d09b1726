"""Which files a folder or a glob names: each file once, whatever links lead to it, and what is left out."""

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

# What tells a file from others, whatever it is called: a name is one of many where there are links.
Identity = tuple[int | str, ...]


class Found(NamedTuple):
    """What a folder or a glob names.

    Attributes:
        base: the folder that names are told from: the folder itself, or the part of a glob without wildcards.
        files: the files with the wanted suffixes, sorted; each file once.
        repeats: further names of these files and of their folders.
        ignored: how many other files there are of each kind, such as a suffix.
    """

    base: Path
    files: list[Path]
    repeats: list[str]
    ignored: Counter[str]


def expanded(text: str) -> Path:
    """Replace `~` at the start of a path by the home folder; that of an unknown user stays as it is."""
    return Path(os.path.expanduser(text))


def identity(path: Path) -> Identity:
    """Tell a file from all others by what it is on the disk, so that its links, hard ones too, count as one file.

    Raises:
        OSError: it is not there.
    """
    return _identity_of(path.stat(), str(path))


def find(key: str, pattern: str, suffixes: set[str]) -> Found:
    """Find the files that a folder, a file or a glob names; hidden ones are left out, as the shell does.

    A file that has several names counts as that of its own, without links, and among those as the first.

    Args:
        key: the key of the configuration that `pattern` is the value of, for messages.
        pattern: a folder, a file, or a glob (`**` for any depth).
        suffixes: those of the wanted files, in lower case.

    Raises:
        InputError: a folder cannot be read.
    """
    place = expanded(pattern)
    repeats: list[str] = []
    if os.path.isdir(place):
        base = place
        names: Iterator[str] = _walk(key, str(place), repeats)
    elif os.path.isfile(place):  # before its name is taken for a glob
        base, names = place.parent, iter([str(place)])
    else:
        base = _base(place)
        rest = place.parts[len(base.parts) :]
        if "**" in rest:
            every = _walk(key, str(base), repeats) if os.path.isdir(base) else iter(())
            names = (name for name in every if _matches(Path(name).relative_to(base).parts, rest))
        else:
            matching = glob.iglob(str(Path(glob.escape(str(base)), *rest)))
            names = iter(sorted(matching, key=lambda name: (_has_link(name, base), name)))
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


def _base(place: Path) -> Path:
    """Give the folders at the start of a glob that are there as they are written, brackets and all."""
    base = Path()
    for part in place.parts[:-1]:
        if glob.has_magic(part) and not os.path.isdir(base / part):
            break
        base /= part
    return base


def _identity_of(status: os.stat_result, name: str) -> Identity:
    # Some file systems number nothing. The size and the time guard against those that number by chance.
    number = (status.st_dev, status.st_ino) if status.st_ino else (os.path.realpath(name),)
    return (*number, status.st_size, status.st_mtime_ns)


def _walk(key: str, top: str, repeats: list[str]) -> Iterator[str]:
    """Give the names of all files below a folder: first those without links, then those that links lead to.

    Each folder is read once, so that a link upwards ends; the name of one that is met again is added to `repeats`.
    """
    folders, seen = [top], set()
    links: list[str] = []
    while folders or links:
        name = folders.pop() if folders else heapq.heappop(links)
        if not os.path.isdir(name):
            yield name  # a link to a file
            continue
        status = os.stat(name)
        number = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(name)
        if number in seen:
            repeats.append(name)
            continue
        seen.add(number)
        try:
            with os.scandir(name) as entries:
                visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{key}: {name} cannot be read ({error.strerror}): allow it, or move it away.") from error
        below = []
        for entry in visible:
            if entry.is_symlink():
                heapq.heappush(links, entry.path)
            elif entry.is_dir():
                below.append(entry.path)
            else:
                yield entry.path
        folders += reversed(below)


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Does a path match a glob, of which `**` stands for any number of folders?"""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return pattern == ("**",) or any(_matches(parts[start:], pattern[1:]) for start in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _has_link(name: str, base: Path) -> bool:
    path = Path(name)
    return any(map(os.path.islink, (path, *path.parents[: len(path.parts) - len(base.parts) - 1])))
