"""An open image file: its size and channels before it is decoded, and its pixels as they are stored.

Pillow decodes. This module adds what Pillow leaves to its callers or gets wrong: the orientation in a file, the bits of
grey values, whether 0 is white, and which palettes are grey.
"""

import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageChops, ImagePalette, PngImagePlugin, UnidentifiedImageError
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import TiffImageFile

READING = 2  # the version of the pixels that are read; increase it with every change, so that mapped stores are rebuilt
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")  # and TIFF; not PostScript, for which Pillow runs Ghostscript
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the first bytes of TIFF
# Tags of a TIFF that describe how its pixels are stored, and those of XMP and the colour profile.
_STORAGE = frozenset((254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 274, 277, 278, 279, 280, 281, 282,
                      283, 284, 290, 291, 292, 293, 296, 297, 301, 317, 320, 321, 322, 323, 324, 325, 330, 332, 334,
                      338, 339, 340, 341, 347, 512, 513, 514, 515, 529, 530, 531, 532, 700, 34675))  # fmt: skip
_ZIP = (8, 32946)  # TIFF's numbers of this compression
_OUT_OF_RANGE = "32 bits per value, or values below 0; those of 1 to 16 bits from 0 are read"
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*(\d+)\s*[\"'<]")
TURNS = {  # by the orientation in EXIF and XMP
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unusable(Exception):
    """Why a file cannot be used as an image, as a part of a sentence."""


@contextmanager
def opened(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Open a PNG, JPEG, BMP, TIFF or WebP file; any error until it is closed becomes `Unusable`."""
    try:
        # Opened here, as Pillow would map an uncompressed TIFF by its path, in the size before it is turned.
        with open(source, "rb") if isinstance(source, Path) else nullcontext(source) as file, _open(file) as image:
            if image.mode in ("F", "I"):
                raise Unusable(_OUT_OF_RANGE)
            yield image
    except Unusable:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Unusable(f"more pixels than task.max_pixels={Image.MAX_IMAGE_PIXELS}") from error
    except UnidentifiedImageError as error:
        raise Unusable("not in a format that can be read") from error
    except OSError as error:
        raise Unusable(error.strerror or f"{error}") from error
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: SyntaxError, struct.error
        raise Unusable(f"{error}" or type(error).__name__) from error


def _open(file: IO[bytes]) -> Image.Image:
    start = file.read(4)
    file.seek(0)
    if not start:
        raise Unusable("empty")
    if start not in _TIFF:
        return Image.open(file, formats=_FORMATS)
    image = Tiff(file)
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return image


class Tiff(TiffImageFile):
    """A TIFF as it is stored: not turned, with its own grey values.

    Attributes:
        bits: of a grey value.
        packed: whether `unpacked` reads it: not 1, 2, 4, 8 or 16 bits, in uncompressed or zip-compressed strips. Pillow
            only reads 12 bits, in some files.
        inverted: whether 0 is white.
        paired: whether it holds 16-bit grey values with alpha, whose four bytes stand as RGBA.
        turn: the value of its orientation tag.
    """

    bits = 8
    packed = False
    inverted = False
    paired = False
    turn: Any = None

    def _setup(self) -> None:
        """Read the tags before Pillow does."""
        tags = self.tag_v2
        self.turn = tags.get(Base.Orientation)
        if Base.Orientation in tags:
            del tags[Base.Orientation]
        photometric, bits = tags.get(Base.PhotometricInterpretation, 0), tags.get(Base.BitsPerSample, (1,))
        if 2 in tags.get(Base.SampleFormat, ()):
            raise Unusable(_OUT_OF_RANGE)
        if max(bits) > 8 and len(bits) > 1 and tags.get(Base.PlanarConfiguration) == 2:
            raise Unusable("16-bit values in separate planes, which Pillow takes for others")
        if photometric in (0, 1) and tuple(bits) == (16, 16):
            self.paired, self.inverted = True, photometric == 0
            tags[Base.PhotometricInterpretation], tags[Base.SamplesPerPixel] = 2, 4
            tags[Base.BitsPerSample], tags[Base.ExtraSamples] = (8,) * 4, 2
        elif photometric in (0, 1):
            self.inverted = photometric == 0
            tags[Base.PhotometricInterpretation] = 1
            self.bits = bits[0]
            self.packed = (
                len(bits) == 1
                and 2 < self.bits < 16
                and self.bits not in (4, 8)
                and tags.get(Base.Compression, 1) in (1, *_ZIP)
                and tags.get(Base.Predictor, 1) == 1
                and Base.StripOffsets in tags
            )
            if self.packed:
                tags[Base.BitsPerSample] = (8,)  # so that Pillow computes its size
        super()._setup()
        colours = tags[Base.ColorMap] if self.mode in ("P", "PA") else [256]
        if max(colours) < 256:  # 8 bits instead of 16, as libtiff distinguishes them
            self.palette = ImagePalette.raw("RGB;L", bytes(colours))

    def load_end(self) -> None:
        """Keep Pillow from turning the pixels."""
        self.getexif()[Base.Orientation] = 1
        super().load_end()

    @property
    def byteorder(self) -> str:
        """The order of bytes that Pillow decodes `paired` values in, "little" or "big"."""
        if self.tile and self.tile[0].codec_name == "libtiff":
            return sys.byteorder
        return "little" if self.tag_v2.prefix == b"II" else "big"

    def other_tags(self) -> bytes:
        """Return as EXIF, from its TIFF header on, the tags that do not describe how the pixels are stored."""
        exif, kept = self.getexif(), Image.Exif()
        for tag in sorted(exif.keys() - _STORAGE):
            kept[tag] = exif.get_ifd(tag) if tag in (IFD.Exif, IFD.GPSInfo) else exif[tag]
        return kept.tobytes().removeprefix(b"Exif\0\0") if kept else b""

    def unpacked(self) -> np.ndarray:
        """Read packed values: (H,W) uint32; each row begins with a new byte."""
        tags, bytes_per_row = self.tag_v2, -(-self.width * self.bits // 8)
        rows_per_strip = min(tags.get(Base.RowsPerStrip, self.height), self.height)
        assert self.fp is not None
        strips = []
        for offset, count in zip(tags[Base.StripOffsets], tags[Base.StripByteCounts], strict=True):
            self.fp.seek(offset)
            strip = self.fp.read(count)
            if tags.get(Base.Compression, 1) in _ZIP:
                strip = zlib.decompressobj().decompress(strip, rows_per_strip * bytes_per_row)
            strips.append(strip)
        data = b"".join(strips)
        if len(data) < self.height * bytes_per_row:
            raise Unusable("truncated")
        rows = np.frombuffer(data, np.uint8, self.height * bytes_per_row).reshape(self.height, -1)
        order: Any = "little" if tags.get(Base.FillOrder, 1) == 2 else "big"
        stored = np.unpackbits(rows, axis=1, count=self.width * self.bits, bitorder=order)
        stored = stored.reshape(self.height, self.width, self.bits)
        values = np.zeros(stored.shape[:2], np.uint32)
        for bit in range(self.bits):  # the highest first
            values = values << 1 | stored[..., bit]
        return values


def channels_of(image: Image.Image) -> int:
    """Return 1 for a grey image, 3 for one in colour; call it before decoding."""
    if image.mode in ("P", "PA"):
        table = _palette(image)
        return 1 if (table == table[:, :1]).all() else 3
    return 1 if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16") or _is_grey_alpha(image) else 3


def size_of(image: Image.Image) -> tuple[int, int]:
    """Return (H,W) of the image when turned; call it before decoding."""
    width, height = image.size
    return (width, height) if orientation(image) >= 5 else (height, width)


def orientation(image: Image.Image) -> int:
    """Return the orientation of an image, 1 to 8, from EXIF or else from XMP; call it before decoding."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        _read_late_chunks(image)
    try:
        exif = image.turn if isinstance(image, Tiff) else _exif_orientation(image)
    except Exception:  # broken EXIF raises many kinds, in good images
        exif = None
    if exif is None:
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        match = _XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
        exif = int(match[1]) if match else 1
    return exif if isinstance(exif, int) and 1 <= exif <= 8 else 1


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """Decode an image from `opened`, turned by its orientation and without alpha: (C,H,W) uint8.

    A grey value v of b bits becomes round(255·v/(2^b-1)). Of 16-bit values in colour, and of grey ones with alpha,
    Pillow returns the high byte. `channels` is 1 for grey (ITU-R 601-2 luma of colour), 3 for RGB.
    """
    turn = orientation(image)
    plain = _decoded(image)
    if turn in TURNS:
        plain = plain.transpose(TURNS[turn])
    pixels = np.asarray(plain.convert("L" if channels == 1 else "RGB")).reshape(plain.height, plain.width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _decoded(image: Image.Image) -> Image.Image:
    """Decode an image to one of mode L or RGB, as it is stored."""
    if image.mode in ("P", "PA"):
        table = _palette(image)  # before decoding, which drops it
        index = np.asarray(image)
        return Image.fromarray(table[index[..., 0] if index.ndim == 3 else index])
    if (pairs := grey_alpha(image)) is not None:
        high = (pairs[..., 0] >> 8).astype(np.uint8)
        return Image.fromarray(~high if isinstance(image, Tiff) and image.inverted else high)
    image.info.pop("transparency", None)  # Pillow would convert it too
    tiff = image if isinstance(image, Tiff) else None
    if tiff is not None and tiff.packed:
        grey = _to_8_bits(tiff.unpacked(), tiff.bits)
    elif image.mode.startswith("I;16"):
        grey = _to_8_bits(np.asarray(image, np.uint32), 16 if tiff is None else tiff.bits)
    elif image.mode in ("1", "L", "LA", "La"):
        # Pillow converts grey values that are multiplied by alpha to L only through LA.
        grey = (image.convert("LA") if image.mode == "La" else image).convert("L")
    else:
        return image.convert("RGB")
    return ImageChops.invert(grey) if tiff is not None and tiff.inverted else grey


def _to_8_bits(values: np.ndarray, bits: int) -> Image.Image:
    """Return round(255·v/(2^bits-1)); the divisor is odd, so there are no ties and integers round exactly."""
    largest = (1 << bits) - 1
    return Image.fromarray(((values * 510 + largest) // (2 * largest)).astype(np.uint8))


def _palette(image: Image.Image) -> np.ndarray:
    """Return the colours (256,3) uint8 of an image's palette, black where it has none."""
    assert image.palette is not None
    probe = Image.new("P", (1, 1))
    probe.putpalette(image.palette.palette, image.palette.rawmode or image.palette.mode)
    colours = np.array(probe.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return np.pad(colours, ((0, 256 - len(colours)), (0, 0)))


def _is_grey_alpha(image: Image.Image) -> bool:
    """Return whether it holds 16-bit grey values with alpha, colour to Pillow; call it before decoding."""
    if isinstance(image, Tiff):
        return image.paired
    return isinstance(image, PngImagePlugin.PngImageFile) and bool(image.tile) and image.tile[0][3] == "LA;16B"


def grey_alpha(image: Image.Image) -> np.ndarray | None:
    """Decode 16-bit grey values with alpha: (H,W,2) uint16; None for any other image."""
    if not _is_grey_alpha(image):
        return None
    order = image.byteorder if isinstance(image, Tiff) else "big"
    if isinstance(image, PngImagePlugin.PngImageFile):
        image.tile = [image.tile[0]._replace(args="RGBA")]  # the four bytes of a pixel as they are
    values: np.ndarray = np.asarray(image).view(f"{'<' if order == 'little' else '>'}u2").astype(np.uint16)
    return values


def _exif_orientation(image: Image.Image) -> int | None:
    """Return the orientation in EXIF, without decoding a PNG."""
    exif = Image.Exif()
    if "exif" in image.info:
        exif.load(image.info["exif"])
    elif "Raw profile type exif" in image.info:  # as ImageMagick writes it into a PNG
        exif.load(bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:])))
    value = exif.get(Base.Orientation)
    return value if value is None or isinstance(value, int) else 1


def _read_late_chunks(image: PngImagePlugin.PngImageFile) -> None:
    """Add the metadata after the pixels of a PNG to `image.info`, without reading the pixels."""
    file = image.fp
    if file is None or not image.tile:
        return
    before = file.tell()
    stream = PngImagePlugin.PngStream(file)
    try:
        file.seek(image.tile[0][2] - 8)
        while True:
            kind, start, length = stream.read()
            if kind == b"IEND":
                break
            if kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                stream.call(kind, start, length)
            file.seek(start + length + 4)
    except Exception:  # a broken end; decoding fails if it matters
        pass
    finally:
        file.seek(before)
    image.info.update({key: value for key, value in stream.im_info.items() if key not in image.info})
