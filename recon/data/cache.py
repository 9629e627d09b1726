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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError
from recon.runs.files import in_words

# Called for each image, in any order and from any thread, with its index and its pixels.
Write = Callable[[int, np.ndarray], None]
# Decodes all images, passes each to a `Write`, and returns (N,) whether each was good.
Fill = Callable[[Write], Sequence[bool]]

_FULL = (errno.ENOSPC, errno.EDQUOT)


def in_memory(lengths: np.ndarray, fill: Fill) -> tuple[Tensor, np.ndarray]:
    """Read images of `lengths` (N,) bytes into one buffer in memory.

    Returns:
        The pixels (bytes,) uint8, and (N,) bool whether each image was good; a bad one leaves a gap.

    Raises:
        InputError: they do not fit.
    """
    try:
        pixels = np.empty(int(lengths.sum()), np.uint8)
    except MemoryError as error:
        raise InputError(
            f"data.store=memory cannot hold the images ({in_words(int(lengths.sum()))}): set data.store=mmap."
        ) from error
    start = lengths.cumsum() - lengths

    def write(index: int, image: np.ndarray) -> None:
        pixels[start[index] : start[index] + lengths[index]] = image.reshape(-1)

    good = np.array(fill(write), bool)
    return torch.from_numpy(pixels), good


@dataclass(eq=False)
class Check:
    """Compare each image of a mapped file with its checksum before it is first read.

    So changed bytes on the disk are noticed without reading the whole file at every start: an image of 1 MB costs a
    process 0.3 ms, once.

    Attributes:
        path: the file, which is removed when it is damaged.
        pixels: its pixels.
        start: (N,) the offset of each image.
        end: (N,) the end of each image.
        sums: (N,) the CRC-32 of each image.
    """

    path: Path
    pixels: memoryview
    start: np.ndarray
    end: np.ndarray
    sums: np.ndarray

    def __post_init__(self) -> None:
        self._unread = np.ones(len(self.start), bool)
        self._left = len(self.start)

    def __call__(self, start: Tensor) -> None:
        """Check the images at the offsets `start` (n,) int64; raises InputError for one that has changed."""
        if not self._left:
            return
        images = np.searchsorted(self.start, start.numpy())
        for image in np.unique(images[self._unread[images]]):
            if zlib.crc32(self.pixels[self.start[image] : self.end[image]]) != self.sums[image]:
                with suppress(OSError):
                    self.path.unlink()
                raise InputError(
                    f"data.cache: {self.path} has been damaged on the disk and is removed: run again to build it anew."
                )
            self._unread[image] = False
            self._left -= 1


# The pixels (bytes,) uint8 of a file, which must not be written to, and (N,) bool whether each image is good.
Mapped = tuple[Tensor, np.ndarray, Check]


def mapped(cache: Path, name: str, content: bytes, lengths: np.ndarray, fill: Fill) -> Mapped:
    """Map images from their file in `cache`, which is built first if it does not exist; see `in_memory`.

    A file holds the pixels, a byte for each image (whether it was good), the CRC-32 of each image, `content`, and the
    CRC-32 of these three; it is written to a temporary name and renamed, so that one of that name and length is whole.
    Only the latest file of each name is kept; a run that still maps an older one keeps it until it ends.

    Args:
        cache: the folder of all these files; made if it does not exist.
        name: identifies the set of images.
        content: 32 bytes, the hash of everything that the content of the file depends on.
        lengths: (N,) the bytes of each image.
        fill: decodes the images.

    Raises:
        InputError: the folder cannot be written, the disk is full, or what `fill` raises.
    """
    path = cache / f"{name}-{content.hex()[:16]}.pixels"
    try:
        result = _open(path, content, lengths)
        if result is None:
            cache.mkdir(parents=True, exist_ok=True)
            with _locked(cache / f"{name}.lock", path):
                # Another run may have built it meanwhile.
                result = _open(path, content, lengths) or _build(path, f"{glob.escape(name)}-*", content, lengths, fill)
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"data.cache={cache} has too little space: {path.name} needs {in_words(int(lengths.sum()))}, so free "
                "some, or set data.cache to a folder on another disk."
            ) from error
        raise InputError(
            f"data.cache={cache} cannot be used ({error.strerror}): set data.cache to a folder that can be written."
        ) from error
    if result is None:
        raise InputError(f"data.cache={cache} was changed while {path.name} was built: run again.")
    return result


def _open(path: Path, content: bytes, lengths: np.ndarray) -> Mapped | None:
    """Map a file; `None` if it does not exist or is not whole."""
    count, total = len(lengths), int(lengths.sum())
    try:
        with open(path, "rb") as file:
            # A wrong length or checksum: it was cut off or written over.
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
        # Nobody writes to it: https://pytorch.org/docs/stable/generated/torch.frombuffer.html
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        buffer = torch.frombuffer(pixels, dtype=torch.uint8, count=total)
    end_of = lengths.cumsum()
    check = Check(path, memoryview(pixels), end_of - lengths, end_of, np.frombuffer(sums, "<u4"))
    return buffer, np.frombuffer(good, np.uint8).astype(bool), check


def _sum_of(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


@contextmanager
def _locked(lock: Path, wanted: Path) -> Iterator[None]:
    """Let one process at a time build; the system frees the lock of one that ends, however it ends."""
    import fcntl  # not available on Windows, where everything else runs

    with open(lock, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            from recon.console import say  # needs Lightning

            say(f"data: waiting for another run that builds {wanted}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(path: Path, old: str, content: bytes, lengths: np.ndarray, fill: Fill) -> Mapped | None:
    """Write a file and map it; first remove the old ones, outdated or of killed builds, to free their space."""
    for outdated in path.parent.glob(old):
        outdated.unlink(missing_ok=True)
    start, total = lengths.cumsum() - lengths, int(lengths.sum())
    if shutil.disk_usage(path.parent).free < total:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sums = np.zeros(len(lengths), "<u4")
    part = path.with_suffix(".part")
    try:
        with open(part, "wb") as file:

            def write(index: int, image: np.ndarray) -> None:
                data = np.ascontiguousarray(image).data.cast("B")
                sums[index] = zlib.crc32(data)
                _write_at(file.fileno(), data, int(start[index]))

            about = bytes(fill(write)) + sums.tobytes() + content
            file.seek(total)
            file.write(about + _sum_of(about))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return _open(path, content, lengths)


def _write_at(descriptor: int, rest: memoryview, start: int) -> None:
    """Write all of an image, which may take several calls."""
    while rest:
        written = os.pwrite(descriptor, rest, start)
        rest, start = rest[written:], start + written
