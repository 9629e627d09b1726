"""Pixels that need not fit in memory: one file of raw bytes, built once, mapped by every run that wants it."""

import errno
import glob
import mmap
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError

# Called for each image, in any order and from any thread, with its place and its pixels.
Write = Callable[[int, np.ndarray], None]
# Decodes all images, hands each to a `Write`, and gives (N,) whether each was good.
Fill = Callable[[Write], Sequence[bool]]

_FULL = (errno.ENOSPC, errno.EDQUOT)


def in_memory(lengths: np.ndarray, fill: Fill) -> tuple[Tensor, np.ndarray]:
    """Read images into memory, each straight to its place.

    Args:
        lengths: (N,) the bytes of each image.
        fill: decodes them.

    Returns:
        The pixels (bytes,) uint8, and (N,) bool whether each image was good; a bad one leaves a gap.

    Raises:
        InputError: they do not fit.
    """
    try:
        pixels = np.empty(int(lengths.sum()), np.uint8)
    except MemoryError as error:
        raise InputError(
            f"data.store=memory cannot hold the images ({_amount(int(lengths.sum()))}): set data.store=mmap."
        ) from error
    start = lengths.cumsum() - lengths

    def write(place: int, image: np.ndarray) -> None:
        pixels[start[place] : start[place] + lengths[place]] = image.reshape(-1)

    good = np.array(fill(write), bool)
    return torch.from_numpy(pixels), good


class Check:
    """Compare each image of a mapped file with its checksum before it is first read.

    So bytes that have changed on the disk make no number wrong, and the file need not be read as a whole at every
    start: an image of 1 MB costs a process 0.3 ms, once.

    Args:
        path: the file, which is removed when it is damaged.
        pixels: its pixels.
        lengths: (N,) the bytes of each image.
        sums: (N,) the CRC-32 of each image.
    """

    def __init__(self, path: Path, pixels: memoryview, lengths: np.ndarray, sums: np.ndarray) -> None:
        self._path = path
        self._pixels = pixels
        self._end = lengths.cumsum()
        self._start = self._end - lengths
        self._sums = sums
        self._unread = np.ones(len(lengths), bool)
        self._left = len(lengths)

    def __call__(self, start: Tensor) -> None:
        """Look at the images that begin at `start` (n,) int64; raises InputError for one that has changed."""
        if not self._left:
            return
        images = np.searchsorted(self._start, start.numpy())
        for image in np.unique(images[self._unread[images]]):
            if zlib.crc32(self._pixels[self._start[image] : self._end[image]]) != self._sums[image]:
                with suppress(OSError):
                    self._path.unlink()
                raise InputError(
                    f"data.cache: {self._path} has been damaged on the disk and is removed: run again to build it anew."
                )
            self._unread[image] = False
            self._left -= 1


class Mapped(NamedTuple):
    """The pixels (bytes,) uint8 of a file, which must not be written to, (N,) bool whether each image is good."""

    pixels: Tensor
    good: np.ndarray
    check: Check


def mapped(cache: Path, name: str, content: bytes, lengths: np.ndarray, fill: Fill) -> Mapped:
    """Map images from their file in `cache`, which is built first where there is none; see `in_memory`.

    A file holds the pixels, a byte for each image that says whether it was good, the CRC-32 of each image, `content`,
    and the CRC-32 of these three; it is written to a temporary name and renamed, so that one of that name and length is
    whole. Of each name only the latest content is kept: a run that still maps an older file keeps it until it ends.

    Args:
        cache: the folder of all these files; made if it is not there.
        name: what the file is of.
        content: 32 bytes, the hash of all that decides what lies in the file.
        lengths: (N,) the bytes of each image.
        fill: decodes them.

    Raises:
        InputError: the folder cannot be written, the disk is full, or what `fill` raises.
    """
    path = cache / f"{name}-{content.hex()[:16]}.pixels"
    try:
        found = _open(path, content, lengths)
        if found is None:
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / f"{name}.lock", path):
                found = _open(path, content, lengths)  # another run may have built it meanwhile
                if found is None:
                    _remove_others(cache, name)
                    _build(path, content, lengths, fill)
                    found = _open(path, content, lengths)
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"data.cache={cache} has too little space: {path.name} needs {_amount(int(lengths.sum()))}, so free "
                "some, or set data.cache to a folder on another disk."
            ) from error
        raise InputError(
            f"data.cache={cache} cannot be used ({error.strerror}): set data.cache to a folder that can be written."
        ) from error
    if found is None:
        raise InputError(f"data.cache={cache} was changed while {path.name} was built: run again.")
    return found


def _open(path: Path, content: bytes, lengths: np.ndarray) -> Mapped | None:
    """Map a file; `None` if it is not there or not whole."""
    count, total = len(lengths), int(lengths.sum())
    try:
        with open(path, "rb") as file:
            # It ends where it should and says what it is: anything else was cut off or written over.
            if os.fstat(file.fileno()).st_size != total + 5 * count + len(content) + 4:
                return None
            file.seek(total)
            good, sums, end = file.read(count), file.read(4 * count), file.read()
            if end != content + _sum_of(good + sums + content):
                return None
            # Not `torch.from_file`, whose private writable mapping Linux refuses beyond the size of the memory.
            pixels = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return None
    with warnings.catch_warnings():
        # It cannot be written, and nobody does: https://pytorch.org/docs/stable/generated/torch.frombuffer.html
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        buffer = torch.frombuffer(pixels, dtype=torch.uint8, count=total)
    check = Check(path, memoryview(pixels), lengths, np.frombuffer(sums, "<u4"))
    return Mapped(buffer, np.frombuffer(good, np.uint8).astype(bool), check)


def _sum_of(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


@contextmanager
def _locked(lock: Path, wanted: Path) -> Iterator[None]:
    """Let one process at a time build; the system frees the lock of one that ends, however it ends."""
    import fcntl  # not on Windows, where all but this runs

    with open(lock, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            from recon.console import say  # which needs Lightning

            say(f"data: waiting for another run that builds {wanted}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_others(cache: Path, name: str) -> None:
    """Remove what is out of date and what killed builds left, before the new one needs the space."""
    for old in cache.glob(f"{glob.escape(name)}-*"):
        old.unlink(missing_ok=True)


def _build(path: Path, content: bytes, lengths: np.ndarray, fill: Fill) -> None:
    start, total = lengths.cumsum() - lengths, int(lengths.sum())
    if shutil.disk_usage(path.parent).free < total:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sums = np.zeros(len(lengths), "<u4")
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:

            def write(place: int, image: np.ndarray) -> None:
                data = np.ascontiguousarray(image).data.cast("B")
                sums[place] = zlib.crc32(data)
                _write_at(file.fileno(), data, int(start[place]))

            about = bytes(fill(write)) + sums.tobytes() + content
            file.seek(total)
            file.write(about + _sum_of(about))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_at(descriptor: int, rest: memoryview, start: int) -> None:
    """Write all of an image, which one call need not do."""
    while rest:
        written = os.pwrite(descriptor, rest, start)
        rest, start = rest[written:], start + written


def _amount(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
