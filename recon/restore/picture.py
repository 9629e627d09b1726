"""A picture of a person's own: its values with all their bits, and what else its file says."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin

from recon.data.images import BadImage, pixel_limit
from recon.data.pixels import TURNS, Tiff, Unusable, grey_alpha, opened, orientation
from recon.restore.blocks import jpeg_blocks, png_blocks, upright
from recon.restore.quality import quality_of
from recon.runs.reading import Unreadable, read_bytes

_LARGEST_FILE = 2 << 30  # bytes
_LARGEST_BLOCK = 16 << 20  # bytes of a profile, of EXIF or XMP
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)\d+(\s*[\"'<])")
# By the bytes that a file begins with, from some byte on.
_FOREIGN = {(0, b"GIF8"): "GIF", (4, b"ftyphei"): "HEIC", (4, b"ftyphev"): "HEIC", (4, b"ftypmif1"): "HEIF",
            (4, b"ftypavi"): "AVIF", (0, b"8BPS"): "PSD", (0, b"%PDF"): "PDF"}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    Attributes:
        values: (H,W,C) uint8 or uint16; C is 1 for grey, 3 for RGB, 4 for CMYK.
        alpha: (H,W) of the same type, or None.
        format: "PNG", "JPEG", "TIFF", "WEBP" or "BMP".
        exif: EXIF from its TIFF header on, its orientation 1; b"" for none.
        icc: the colour profile; b"" for none.
        xmp: an XMP packet, its orientation 1; b"" for none.
        dpi: pixels per inch, across and down, or None.
        blocks: segments of a JPEG or chunks of a PNG besides pixels, to be copied into a file of the same format.
        quality: what a JPEG was saved with, 1 to 100, by its tables; None for another format.
        lossless: whether the file holds the very values that it was given.
        notes: what cannot come out as it went in, each as a clause.
    """

    values: np.ndarray
    alpha: np.ndarray | None
    format: str
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    blocks: tuple[bytes, ...] = ()
    quality: int | None = None
    lossless: bool = True
    notes: tuple[str, ...] = ()

    @property
    def white(self) -> int:
        """The value of white: 255 or 65535."""
        return int(np.iinfo(self.values.dtype).max)


def read_picture(path: Path, max_pixels: int) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP or BMP file.

    Args:
        path: the file.
        max_pixels: a larger picture is refused.

    Raises:
        BadImage: it is missing, damaged, too large, animated, or of another format.
    """
    return picture_of(read_file(path), path, max_pixels)


def read_file(path: Path) -> bytes:
    """Read the bytes of a picture's file; raises BadImage as `read_picture`."""
    try:
        return read_bytes(path, _LARGEST_FILE)
    except OSError as error:
        raise BadImage(path, error.strerror or str(error)) from error
    except Unreadable as error:
        raise BadImage(path, str(error)) from error


def picture_of(data: bytes, path: Path, max_pixels: int) -> Picture:
    """Decode the bytes of a file; raises BadImage as `read_picture`."""
    try:
        with pixel_limit(max_pixels):
            return decoded(data)
    except Unusable as error:
        raise BadImage(path, str(error).replace("task.max_pixels", "max_pixels")) from error


def decoded(data: bytes) -> Picture:
    """Decode the bytes of a file; raises Unusable where they are no picture."""
    for (start, mark), kind in _FOREIGN.items():
        if data[start : start + len(mark)] == mark:
            raise Unusable(f"{kind} is not read here: convert it to PNG, TIFF or JPEG first")
    with opened(io.BytesIO(data)) as image:
        # Counting the frames of a hostile file may never end.
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise Unusable("several pages: split it first" if image.format == "TIFF" else "animated: take out a frame")
        notes = ["the further pictures inside the file are left out"] if image.format == "MPO" else []
        kind = "JPEG" if isinstance(image, JpegImagePlugin.JpegImageFile) else str(image.format)
        turn, exif, xmp = orientation(image), _exif(image), _xmp(image)
        icc, dpi = image.info.get("icc_profile") or b"", _dpi(image)
        quality = quality_of(image.quantization) if isinstance(image, JpegImagePlugin.JpegImageFile) else None
        values, alpha = _values(image, data, notes)
    for name, block in (("EXIF", exif), ("XMP", xmp), ("the colour profile", icc)):
        if len(block) > _LARGEST_BLOCK:
            raise Unusable(f"{name} has {len(block) >> 20} MB")
    if turn in TURNS:
        values, alpha = _turned(values, turn), None if alpha is None else _turned(alpha, turn)
        exif, xmp = upright(exif), _XMP_ORIENTATION.sub(rb"\g<1>1\g<2>", xmp)
    copied = {"JPEG": jpeg_blocks, "PNG": png_blocks}.get(kind)
    blocks = copied(data, exif, xmp) if copied else ()
    lossless = kind != "JPEG" and (kind != "WEBP" or b"VP8L" in data[12:4096])
    return Picture(values, alpha, kind, exif, icc, xmp, dpi, blocks, quality, lossless, tuple(notes))


def _values(image: Image.Image, data: bytes, notes: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode to values (H,W,C) and alpha (H,W), as they are stored, and note what changes."""
    values: np.ndarray
    transparent = image.info.get("transparency")
    if isinstance(image, Tiff) and image.packed:
        notes.append(f"values of {image.bits} bits are written as 16")
        values = (image.unpacked().astype(np.uint64) * 65535 // ((1 << image.bits) - 1)).astype(np.uint16)[..., None]
    elif image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)[..., None]
    elif (pairs := grey_alpha(image)) is not None:
        values = pairs
    elif (wide := _wide(image, data)) is not None:
        values = wide
    elif image.mode in ("P", "PA"):
        notes.append("its palette is written as colours")
        is_opaque = transparent is None and image.mode == "P"
        values = np.asarray(image.convert("RGB" if is_opaque else "RGBA"))
        transparent = None
    else:
        plain = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}.get(image.mode, image.mode)
        if plain not in ("L", "LA", "RGB", "RGBA", "CMYK"):
            notes.append(f"its {plain} colours are written as RGB")
            plain = "RGB"
        image.info.pop("transparency", None)  # Pillow would convert it too
        values = np.asarray(image.convert(plain))
        values = values if values.ndim == 3 else values[..., None]
    if isinstance(image, Tiff) and image.inverted:
        values = np.concatenate([~values[..., :1], values[..., 1:]], 2)
    alpha = None
    if values.shape[2] == 2 or (values.shape[2] == 4 and image.mode != "CMYK"):
        values, alpha = values[..., :-1], values[..., -1]
    elif transparent is not None:  # one colour counts as transparent
        key = np.array(transparent, values.dtype)
        alpha = np.where((values == key).all(2), 0, np.iinfo(values.dtype).max).astype(values.dtype)
    return np.ascontiguousarray(values), None if alpha is None else np.ascontiguousarray(alpha)


def _wide(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Decode 16-bit values in colour or with alpha, (H,W,C) uint16, of which Pillow returns one byte; None for others.

    Pillow takes the high byte by the order of bytes. Given the other order, it returns the low one.
    """
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return None
    rawmode = _rawmode(image.tile[0].args)
    if ";16" not in rawmode or image.mode not in ("RGB", "RGBA", "CMYK"):
        return None
    swapped = rawmode[:-1] + ("L" if rawmode.endswith("B") else "B")
    with opened(io.BytesIO(data)) as other:
        assert isinstance(other, ImageFile.ImageFile)
        other.tile = [
            tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
            for tile in other.tile
        ]
        low = np.asarray(other).astype(np.uint16)
    return np.asarray(image).astype(np.uint16) << 8 | low


def _rawmode(arguments: tuple[Any, ...] | str | None) -> str:
    """Return the order of the bytes in a tile, as Pillow names it."""
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _turned(values: np.ndarray, turn: int) -> np.ndarray:
    """Turn values (H,W,...) by an orientation of EXIF."""
    if turn >= 5:
        values = values.swapaxes(0, 1)
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[turn]
    return np.ascontiguousarray(values[::down, ::across])


def _exif(image: Image.Image) -> bytes:
    """Return EXIF from its TIFF header on; of a TIFF, of the tags that do not describe its pixels."""
    if isinstance(image, Tiff):
        return image.other_tags()
    raw = image.info.get("exif") or b""
    if not raw and "Raw profile type exif" in image.info:  # as ImageMagick writes it into a PNG
        raw = bytes.fromhex("".join(str(image.info["Raw profile type exif"]).split("\n")[3:]))
    return raw.removeprefix(b"Exif\0\0")


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    try:
        across, down = (float(number) for number in dpi)  # type: ignore[union-attr]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if across > 0 and down > 0 else None
