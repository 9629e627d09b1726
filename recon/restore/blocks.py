"""What JPEG and PNG files hold besides pixels, copied byte for byte: profiles, EXIF, XMP, IPTC, comments."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
# Chunks that do not depend on how the pixels are stored.
_KEPT = (b"cICP", b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"pHYs", b"tEXt", b"zTXt", b"iTXt")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def jpeg_blocks(data: bytes, exif: bytes, xmp: bytes) -> tuple[bytes, ...]:
    """Return the segments of a JPEG that are copied, with EXIF and XMP replaced.

    Left out are what its encoder writes anew (JFIF, Adobe's colour transform) and the directory of further pictures
    (MPF), whose offsets would point nowhere.
    """
    found = []
    for marker, body in _segments(data):
        is_app, is_comment = 0xE1 <= marker <= 0xEF and marker != 0xEE, marker == 0xFE
        if (is_app or is_comment) and not body.startswith((_EXIF, _XMP, b"MPF\0")):
            found.append(_segment(marker, body))
    first = [_segment(0xE1, mark + block) for mark, block in ((_EXIF, exif), (_XMP, xmp))
             if block and len(mark) + len(block) <= 65533]  # fmt: skip
    return (*first, *found)


def with_jpeg_blocks(encoded: bytes, blocks: tuple[bytes, ...]) -> bytes:
    """Put segments into a JPEG behind its JFIF segment."""
    offset = 2
    if encoded[2:4] == b"\xff\xe0":
        offset = 4 + int.from_bytes(encoded[4:6], "big")
    return b"".join((encoded[:offset], *blocks, encoded[offset:]))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, body) of the segments before the pixels; ends at the first that is broken."""
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker == 0xDA or 0xD0 <= marker <= 0xD9:
            return
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        if length < 2 or offset + 2 + length > len(data):
            return
        yield marker, data[offset + 4 : offset + 2 + length]
        offset += 2 + length


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def png_blocks(data: bytes, exif: bytes, xmp: bytes) -> tuple[bytes, ...]:
    """Return the chunks of a PNG that are copied, with EXIF and XMP replaced."""
    found = [
        chunk(kind, body)
        for kind, body in _chunks(data)
        if kind in _KEPT and not body.startswith((_XMP_KEYWORD, b"Raw profile type exif", b"Raw profile type APP1"))
    ]
    return (*found, *metadata_chunks(exif, xmp))


def metadata_chunks(exif: bytes, xmp: bytes, icc: bytes = b"", dpi: tuple[float, float] | None = None) -> list[bytes]:
    """Make the chunks of a PNG that hold EXIF, XMP, a colour profile and a resolution, of those that are given."""
    made = []
    if icc:
        made.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if dpi is not None:
        made.append(chunk(b"pHYs", struct.pack(">IIB", *(round(number / 0.0254) for number in dpi), 1)))
    if exif:
        made.append(chunk(b"eXIf", exif))
    if xmp:
        made.append(chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0" + xmp))
    return made


def text_chunk(keyword: str, text: str) -> bytes:
    """Make a chunk of a PNG that holds a text under a keyword."""
    return chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode())


def with_png_blocks(encoded: bytes, blocks: tuple[bytes, ...]) -> bytes:
    """Put chunks into a PNG behind its header."""
    offset = len(_SIGNATURE) + 25
    return b"".join((encoded[:offset], *blocks, encoded[offset:]))


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, body) of the chunks; ends at the first that is broken."""
    offset = len(_SIGNATURE)
    while offset + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[offset : offset + 8])
        if offset + 12 + length > len(data):
            return
        yield kind, data[offset + 8 : offset + 8 + length]
        offset += 12 + length


def upright(exif: bytes) -> bytes:
    """Set the orientation in EXIF to 1 and take out its thumbnail, which is as the pixels were stored.

    Nothing else changes, so that makers' notes with offsets of their own stay whole. Broken EXIF stays as it is.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return exif
    changed = bytearray(exif)
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", exif, entry)
            if (tag, kind, number) == (0x0112, 3, 1):
                struct.pack_into(f"{order}H", changed, entry + 8, 1)
        struct.pack_into(f"{order}I", changed, start + 2 + 12 * count, 0)
    except struct.error:
        return exif
    return bytes(changed)
