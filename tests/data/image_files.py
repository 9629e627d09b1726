"""Image files made byte by byte, of known stored values: what Pillow cannot write, or writes in its own way."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image

EXIF, XMP = "exif", "xmp"


def packed(values: np.ndarray, bits: int, byte_order: str = ">") -> list[bytes]:
    """The rows of values (H,W) or (H,W,S), the highest bit first; 16-bit ones in a byte order."""
    rows = values.reshape(len(values), -1)
    if bits == 16:
        return [row.astype(f"{byte_order}u2").tobytes() for row in rows]
    each = (rows[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)
    return [np.packbits(row).tobytes() for row in each]


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def xmp_of(orientation: int, form: str = 'tiff:Orientation="{}"') -> bytes:
    return f"<x:xmpmeta><rdf:Description {form.format(orientation)}/></x:xmpmeta>".encode()


def png(
    values: np.ndarray,
    bits: int = 8,
    colour: int = 0,
    palette: Sequence[Sequence[int]] | None = None,
    transparent: bytes | None = None,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG; `colour` is its colour type, `before` and `after` are chunks around the pixels."""
    data = zlib.compress(b"".join(b"\0" + row for row in packed(values, bits)))
    half = len(data) // 2
    parts = [(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0))]
    if palette is not None:
        parts.append((b"PLTE", bytes(np.ravel(palette).tolist())))
    if transparent is not None:
        parts.append((b"tRNS", transparent))
    parts += [*before, (b"IDAT", data[:half]), (b"IDAT", data[half:]), *after, (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_metadata(kind: str, orientation: int) -> tuple[bytes, bytes]:
    """The chunk of a PNG that tells an orientation."""
    if kind == EXIF:
        return b"eXIf", exif_of(orientation).removeprefix(b"Exif\0\0")
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_of(orientation)


def tiff(
    values: np.ndarray,
    bits: int = 8,
    photometric: int = 1,
    byte_order: str = "<",
    zipped: bool = False,
    rows_per_strip: int = 1 << 16,
    tags: Sequence[tuple[int, int, Sequence[int]]] = (),
) -> bytes:
    """A TIFF; `tags` are further ones: number, type (1 byte, 3 short) and values."""
    height, width, samples = *values.shape[:2], values.shape[2] if values.ndim == 3 else 1
    rows = packed(values, bits, byte_order)
    if any(number == 266 and order == [2] for number, _, order in tags):
        rows = [bytes(int(f"{byte:08b}"[::-1], 2) for byte in row) for row in rows]
    rows_per_strip = min(rows_per_strip, height)
    strips = [b"".join(rows[start : start + rows_per_strip]) for start in range(0, height, rows_per_strip)]
    if zipped:
        strips = [zlib.compress(strip) for strip in strips]
    body = b"".join(strips)
    starts = 8 + np.cumsum([0, *map(len, strips)])[:-1]
    entries = [
        (256, 3, [width]), (257, 3, [height]), (258, 3, [bits] * samples), (259, 3, [8 if zipped else 1]),
        (262, 3, [photometric]), (273, 4, starts.tolist()), (277, 3, [samples]), (278, 3, [rows_per_strip]),
        (279, 4, [len(strip) for strip in strips]), *tags,
    ]  # fmt: skip
    directory, beside = b"", b""
    place = 8 + len(body) + 2 + 12 * len(entries) + 4
    for number, kind, content in sorted(entries, key=lambda entry: entry[0]):
        data = struct.pack(f"{byte_order}{len(content)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *content)
        if len(data) > 4:
            beside, data = beside + data, struct.pack(f"{byte_order}I", place + len(beside))
        directory += struct.pack(f"{byte_order}HHI", number, kind, len(content)) + data.ljust(4, b"\0")
    head = {"<": b"II", ">": b"MM"}[byte_order] + struct.pack(f"{byte_order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{byte_order}H", len(entries)) + directory + bytes(4) + beside
