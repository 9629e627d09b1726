"""The bytes of an image file, with all their bits and what the picture's own file said."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from recon.errors import InputError
from recon.restore.blocks import chunk, metadata_chunks, with_jpeg_blocks, with_png_blocks
from recon.restore.picture import Picture

# The formats that a picture can be written in, by the ending of the file.
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".tif": "TIFF", ".tiff": "TIFF",
            ".webp": "WEBP", ".bmp": "BMP"}  # fmt: skip
_LEAST_QUALITY = 95  # below it the codec would show beside the restored picture
_TIFF_PHOTOMETRIC = {1: 1, 3: 2, 4: 5}


def encode(picture: Picture, quality: int | None = None) -> bytes:
    """Return a file of the picture's format with its metadata; see `unsuited` for what a format cannot hold.

    Args:
        picture: its `format` is that of the file, its `blocks` are of that format.
        quality: of JPEG and of WebP that is not lossless; None for that of the picture, at least 95.

    Raises:
        InputError: the format cannot hold the picture.
    """
    if reason := unsuited(picture):
        raise InputError(f"format: {reason}; choose format=png or format=tiff")
    return _ENCODERS[picture.format](picture, quality or max(_LEAST_QUALITY, picture.quality or 0))


def unsuited(picture: Picture) -> str | None:
    """Return why a picture cannot be written in its format without loss, as a clause; None where it can."""
    form, height, width = picture.format, *picture.values.shape[:2]
    limit = {"JPEG": 65500, "WEBP": 16383}.get(form)
    if form in ("JPEG", "WEBP", "BMP") and picture.values.dtype == np.uint16:
        return f"{form} cannot hold 16 bits"
    if form in ("JPEG", "BMP") and picture.alpha is not None:
        return f"{form} cannot hold transparency"
    if form in ("PNG", "WEBP", "BMP") and picture.values.shape[2] == 4:
        return f"{form} cannot hold CMYK"
    return f"{form} holds at most {limit} pixels a side" if limit and max(height, width) > limit else None


def _png(picture: Picture, quality: int) -> bytes:
    blocks = picture.blocks or tuple(metadata_chunks(picture.exif, picture.xmp, picture.icc, picture.dpi))
    if picture.values.dtype == np.uint16:
        return with_png_blocks(_png_of_16_bits(_joined(picture)), blocks)
    return with_png_blocks(_by_pillow(picture, "PNG"), blocks)


def _png_of_16_bits(values: np.ndarray) -> bytes:
    """Return a PNG of values (H,W,C) uint16; Pillow writes grey ones alone."""
    height, width, channels = values.shape
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    # Each row less the one above: a third smaller than the values themselves.
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def _jpeg(picture: Picture, quality: int) -> bytes:
    options: dict[str, object] = {} if picture.dpi is None else {"dpi": picture.dpi}
    if not picture.blocks:
        options |= _metadata(picture)
    # Full colour resolution: restored colours are not halved again.
    encoded = _by_pillow(picture, "JPEG", quality=quality, subsampling=0, **options)
    return with_jpeg_blocks(encoded, picture.blocks)


def _webp(picture: Picture, quality: int) -> bytes:
    options = {"lossless": True} if picture.lossless else {"quality": quality}
    return _by_pillow(picture, "WEBP", exact=True, **options, **_metadata(picture))


def _bmp(picture: Picture, quality: int) -> bytes:
    return _by_pillow(picture, "BMP", **({} if picture.dpi is None else {"dpi": picture.dpi}))


def _metadata(picture: Picture) -> dict[str, object]:
    exif = b"Exif\0\0" + picture.exif if picture.exif else b""
    found = {"exif": exif, "icc_profile": picture.icc, "xmp": picture.xmp}
    return {name: block for name, block in found.items() if block}


def _by_pillow(picture: Picture, form: str, **options: object) -> bytes:
    values = _joined(picture)
    mode = "CMYK" if picture.values.shape[2] == 4 else None
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    if mode:
        image = Image.frombytes(mode, (values.shape[1], values.shape[0]), values.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _tiff(picture: Picture, quality: int) -> bytes:
    """Return a TIFF of one zip-compressed strip; Pillow writes no 16-bit colours."""
    values = _joined(picture)
    height, width, channels = values.shape
    colours = picture.values.shape[2]
    strip = zlib.compress(values.astype(f"<u{values.itemsize}").tobytes(), 6)
    tags = ImageFileDirectory_v2(ifh=b"II*\0\0\0\0\0")
    exif = Image.Exif()
    exif.load(picture.exif)
    for tag in exif:
        tags[tag] = exif.get_ifd(tag) if tag in (0x8769, 0x8825) else exif[tag]
    tags[256], tags[257], tags[258] = width, height, (8 * values.itemsize,) * channels
    tags[259], tags[262], tags[277], tags[278], tags[284] = 8, _TIFF_PHOTOMETRIC[colours], channels, height, 1
    if channels > colours:
        tags[338] = 2  # alpha that the colours are not multiplied by
    if picture.dpi is not None:
        tags[282], tags[283], tags[296] = *picture.dpi, 2
    if picture.xmp:
        tags.tagtype[700] = 1
        tags[700] = picture.xmp
    if picture.icc:
        tags.tagtype[34675] = 7
        tags[34675] = picture.icc
    tags[273], tags[279] = 0, len(strip)  # Pillow adds where its tags end
    return b"II*\0" + struct.pack("<I", 8) + tags.tobytes(8) + strip


def _joined(picture: Picture) -> np.ndarray:
    """Return values and alpha together, (H,W,C) or (H,W,C+1)."""
    if picture.alpha is None:
        return picture.values
    return np.concatenate([picture.values, picture.alpha[..., None]], 2)


_ENCODERS: dict[str, Callable[[Picture, int], bytes]] = {
    "PNG": _png, "JPEG": _jpeg, "TIFF": _tiff, "WEBP": _webp, "BMP": _bmp,
}  # fmt: skip
