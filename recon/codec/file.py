"""Files of compressed images, `.rcn`: what stands in one, and the sentences for those that cannot be read.

A file is: "RCN", the version of the format; four bytes each of the sha256 of the weights and of the frequencies; major
and minor version of the entropy coder; the sizes of the images; four bytes each of a checksum of the symbols and of the
pixels; the symbols; four bytes of a checksum of all before.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from recon.codec.entropy import Symbols, coder_version
from recon.codec.transform import Pixels, Size, Transform
from recon.errors import InputError

_MAGIC, _VERSION = b"RCN", 1
_MOST_PIXELS = 1 << 30  # of all images of a file, which may be a stranger's
_DIGEST = 4  # bytes


@dataclass(frozen=True)
class Compressed:
    """A file and what it took.

    Attributes:
        data: its bytes.
        header: how many of them are not symbols.
        pixels: height x width, over all images.
        rebuilt: the images that it will be decompressed to, (C,H,W) each.
    """

    data: bytes
    header: int
    pixels: int
    rebuilt: list[Pixels]

    @property
    def bits_per_pixel(self) -> float:
        """Of all its bytes."""
        return 8 * len(self.data) / self.pixels


def compress(transform: Transform, images: Sequence[Pixels], names: Sequence[str]) -> Compressed:
    """Compress images (C,H,W); raises InputError, with the name of the image, where one cannot be, or there is none."""
    if not images:
        raise InputError("input: there is no image to compress")
    sizes: list[Size] = [(image.shape[1], image.shape[2]) for image in images]
    for name, size in zip(names, sizes, strict=True):
        transform.require_size(f"input: {name}", size)
    pixels = sum(height * width for height, width in sizes)
    if pixels > _MOST_PIXELS:
        raise InputError(f"input: {pixels:,} pixels are too many for one file; give at most {_MOST_PIXELS:,}")
    symbols = transform.symbols(images)
    return written(transform, sizes, symbols, transform.images(symbols, sizes))


def written(
    transform: Transform, sizes: Sequence[Size], symbols: Sequence[Symbols], rebuilt: list[Pixels]
) -> Compressed:
    """Make the file of images of sizes (H,W), given their symbols and what they will be decompressed to."""
    head = _MAGIC + bytes([_VERSION]) + _identity(transform) + _written(sizes)
    head += _checksum(symbols) + _checksum(rebuilt)
    data = head + transform.coder.pack(symbols)
    pixels = sum(height * width for height, width in sizes)
    return Compressed(data + _crc(data), len(head) + _DIGEST, pixels, rebuilt)


def decompress(transform: Transform, data: bytes, name: str) -> list[Pixels]:
    """Return the images (C,H,W) of a file, bit for bit those that `compress` gave.

    Args:
        transform: of the run that compressed it.
        data: the file.
        name: of the file, for messages.

    Raises:
        InputError: it is no such file, damaged, of another run, or this machine makes other symbols or pixels.
    """
    if not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + 1:
        raise InputError(f"input: {name} is no file of action=compress")
    if data[len(_MAGIC)] != _VERSION:
        raise InputError(f"input: {name} has version {data[len(_MAGIC)]} of the format, and this recon reads "
                         f"{_VERSION}; use the recon that wrote it")  # fmt: skip
    if _crc(data[:-_DIGEST]) != data[-_DIGEST:]:
        raise InputError(f"input: {name} is damaged or cut off; get it again")
    start = len(_MAGIC) + 1
    _require_identity(transform, data[start : start + len(_identity(transform))], name)
    sizes, start = _read(data, start + len(_identity(transform)), name)
    for size in sizes:
        transform.require_size(f"input: {name}: an image", size)
    shapes = {size: transform.shape(size) for size in set(sizes)}
    body = data[start + 2 * _DIGEST : -_DIGEST]
    if len(body) % 4:
        raise InputError(f"input: {name} is damaged or cut off; get it again")
    symbols = transform.coder.unpack([shapes[size] for size in sizes], body)
    if _checksum(symbols) != data[start : start + _DIGEST]:
        raise InputError(f"input: {name} gives other symbols here than where it was written; use that machine's "
                         "version of constriction")  # fmt: skip
    images = transform.images(symbols, sizes)
    if _checksum(images) != data[start + _DIGEST : start + 2 * _DIGEST]:
        raise InputError(f"input: {name} has the right symbols, but torch on this machine makes other pixels of them "
                         "than where it was written; use that machine's version of torch")  # fmt: skip
    return images


def read(path: Path) -> bytes:
    """Read a file; raises InputError where that is not possible."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"input: {path} cannot be read ({error.strerror}); give a file of action=compress") from error


def _identity(transform: Transform) -> bytes:
    parts = (bytes.fromhex(text)[:_DIGEST] for text in (transform.weights, transform.frequencies))
    return b"".join(parts) + bytes(coder_version())


def _require_identity(transform: Transform, found: bytes, name: str) -> None:
    """Raise InputError, which says what differs, unless a file was written by this run with this entropy coder."""
    here = _identity(transform)
    weights, tables, coder = slice(0, _DIGEST), slice(_DIGEST, 2 * _DIGEST), slice(2 * _DIGEST, None)
    if found[weights] != here[weights]:
        raise InputError(f"input: {name} was written with other weights ({found[weights].hex()}) than this run has "
                         f"({here[weights].hex()}); give the run that compressed it")  # fmt: skip
    if found[tables] != here[tables]:
        raise InputError(f"input: {name} was written with other frequencies ({found[tables].hex()}) than this run has "
                         f"({here[tables].hex()}); give the run that compressed it")  # fmt: skip
    if found[coder] != here[coder]:
        there, now = (".".join(map(str, each[coder])) for each in (found, here))
        raise InputError(f"input: {name} was written with constriction {there}, and here is {now}; "
                         f"pip install 'constriction~={there}.0'")  # fmt: skip


def _written(sizes: Sequence[Size]) -> bytes:
    """Write the sizes of images: the number of runs of equal ones, and of each its length, height and width."""
    runs = [(len(list(run)), *size) for size, run in groupby(sizes)]
    return b"".join(map(_varint, [len(runs), *(number for run in runs for number in run)]))


def _read(data: bytes, start: int, name: str) -> tuple[list[Size], int]:
    """Read what `_written` has written; return that and where it ends."""
    damaged = InputError(f"input: {name} holds sizes of images that cannot be; get it again")
    numbers: list[int] = []
    while not numbers or len(numbers) < 1 + 3 * numbers[0]:
        number, shift = 0, 0
        while True:
            if start >= len(data) or shift > 28:
                raise damaged
            number |= (data[start] & 127) << shift
            start, shift = start + 1, shift + 7
            if data[start - 1] < 128:
                break
        numbers.append(number)
    runs = [tuple(numbers[place : place + 3]) for place in range(1, len(numbers), 3)]
    pixels = sum(count * height * width for count, height, width in runs)
    if not 0 < pixels <= _MOST_PIXELS or min(map(min, runs)) < 1:
        raise damaged
    return [(height, width) for count, height, width in runs for _ in range(count)], start


def _varint(number: int) -> bytes:
    """Write a number in groups of seven bits, the lowest first."""
    groups = [number & 127]
    while number := number >> 7:
        groups.append(number & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def _checksum(arrays: Sequence[Symbols | Pixels]) -> bytes:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes(), total)
    return total.to_bytes(_DIGEST, "little")


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_DIGEST, "little")
