"""Reading the small files of run folders, which may be damaged or a stranger's.

Only regular files of a bounded size are opened, always as UTF-8; YAML is plain (no tags, no aliases, no interpolation).
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

LIMIT = 64 << 20  # bytes, more than any record that recon writes of a million images


class Unreadable(ValueError):
    """A file that is no record: of another kind, too large, or not what its format says; the reason as a clause."""


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a regular file of at most `limit` bytes; a FIFO or device is refused without waiting for it.

    Raises:
        OSError: the file is missing or may not be read.
        Unreadable: it is no regular file, or a larger one.
    """
    # Without O_NONBLOCK, opening a FIFO waits for somebody to write to it.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL, or half a character
        raise Unreadable("no file can have such a name") from error
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable("it is no regular file")
        # Not the limit, for which Python would take memory at once.
        data = file.read(min(limit, status.st_size) + 1)
    if len(data) > limit:
        raise Unreadable(f"it is larger than {limit >> 20} MB")
    return data


def read_text(path: Path, limit: int = LIMIT) -> str:
    """Read a regular UTF-8 file; raises as `read_bytes`."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("it is no UTF-8 text") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read an object of JSON. Integers beyond 64 bits become floats.

    Raises:
        OSError: the file is missing or may not be read.
        Unreadable: it is damaged or holds something else.
    """
    try:
        read = json.loads(read_text(path), parse_int=_integer)
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable("it is no JSON") from error
    if not isinstance(read, dict):
        raise Unreadable("it is no JSON object")
    return read


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of JSON; empty where the file is missing or damaged."""
    try:
        return read_object(path)
    except (OSError, Unreadable):
        return {}


def read_yaml(path: Path, limit: int = 1 << 20) -> dict[str, Any]:
    """Read a mapping of plain YAML.

    Raises:
        OSError: the file is missing or may not be read.
        Unreadable: it is damaged, larger than `limit`, or holds what recon never writes: tags, or aliases, which may
            unpack to fill the memory.
    """
    import yaml

    text = read_text(path, limit)
    # The loader in C takes a tenth of the time, where there is one.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise Unreadable("it holds YAML aliases")
        read = yaml.load(text, Loader=loader)
    except Unreadable:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise Unreadable("it is no plain YAML") from error
    if not isinstance(read, dict) or not all(isinstance(key, str) for key in read):
        raise Unreadable("it is no mapping of keys")
    return read


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)
