"""Files of every mode, depth, container, orientation and profile go in and come out as they were."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import Base
from skimage.data import astronaut

from recon.data.images import BadImage
from recon.restore.encode import encode
from recon.restore.picture import decoded, read_picture

RGB = np.ascontiguousarray(astronaut()[40:81, 180:237])  # 41 rows, 57 columns
WIDE = RGB.astype(np.uint16) * 257 - (np.indices(RGB.shape).sum(0) % 251).astype(np.uint16)
ALPHA = np.ascontiguousarray(astronaut()[140:181, 180:237, 1])
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="a"/></x:xmpmeta>'
MOST = 10**8


def exif(orientation: int = 1) -> Image.Exif:
    made = Image.Exif()
    made[Base.Make], made[Base.Artist], made[Base.Orientation] = "Camera", "Someone", orientation
    made[0x8769], made[0x8825] = {Base.ExposureTime: 0.5}, {1: "N"}
    return made


def png_of_16_bits(values: np.ndarray) -> bytes:
    """Write a PNG (H,W,C) uint16 without filters, apart from recon."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = chunk(b"eXIf", exif().tobytes().removeprefix(b"Exif\0\0")) + chunk(b"iCCP", b"p\0\0" + zlib.compress(ICC))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def saved(array: np.ndarray, form: str, mode: str | None = None, **options: object) -> bytes:
    image = Image.fromarray(array)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, photometric: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric=photometric, iccprofile=ICC, resolution=(72, 72), **options)
    return buffer.getvalue()


def with_alpha(colours: np.ndarray) -> np.ndarray:
    alpha = ALPHA.astype(np.uint16) * 257 if colours.dtype == np.uint16 else ALPHA
    return np.concatenate([colours, alpha[..., None]], 2)


GREY, GREY16 = RGB[..., :1], WIDE[..., :1]
ALL = {"exif": exif(), "icc_profile": ICC, "xmp": XMP}
EXTRA = {"extrasamples": ["unassalpha"]}
CMYK = 255 - with_alpha(RGB)
LOSSLESS = {
    "png grey": (saved(GREY[..., 0], "PNG", exif=exif(), icc_profile=ICC, dpi=(300, 300)), GREY, None),
    "png rgb": (saved(RGB, "PNG", exif=exif(), icc_profile=ICC, dpi=(300, 300)), RGB, None),
    "png rgba": (saved(with_alpha(RGB), "PNG", exif=exif(), icc_profile=ICC), RGB, ALPHA),
    "png la": (saved(with_alpha(GREY), "PNG", exif=exif(), icc_profile=ICC), GREY, ALPHA),
    "png 16 grey": (png_of_16_bits(GREY16), GREY16, None),
    "png 16 rgb": (png_of_16_bits(WIDE), WIDE, None),
    "png 16 rgba": (png_of_16_bits(with_alpha(WIDE)), WIDE, with_alpha(WIDE)[..., 3]),
    "png 16 la": (png_of_16_bits(with_alpha(GREY16)), GREY16, with_alpha(WIDE)[..., 3]),
    "webp rgb": (saved(RGB, "WEBP", lossless=True, **ALL), RGB, None),
    "webp rgba": (saved(with_alpha(RGB), "WEBP", lossless=True, exact=True, **ALL), RGB, ALPHA),
    "bmp grey": (saved(GREY[..., 0], "BMP"), GREY, None),
    "bmp rgb": (saved(RGB, "BMP"), RGB, None),
    "tiff grey": (tiff(GREY[..., 0], "minisblack"), GREY, None),
    "tiff white is 0": (tiff(255 - GREY[..., 0], "miniswhite"), GREY, None),
    "tiff rgb": (tiff(RGB, "rgb"), RGB, None),
    "tiff rgba": (tiff(with_alpha(RGB), "rgb", **EXTRA), RGB, ALPHA),
    "tiff la": (tiff(with_alpha(GREY), "minisblack", planarconfig="contig", **EXTRA), GREY, ALPHA),
    "tiff cmyk": (tiff(CMYK, "separated"), CMYK, None),
    "tiff 16 grey": (tiff(GREY16[..., 0], "minisblack"), GREY16, None),
    "tiff 16 white is 0": (tiff(65535 - GREY16[..., 0], "miniswhite"), GREY16, None),
    "tiff 16 rgb": (tiff(WIDE, "rgb"), WIDE, None),
    "tiff 16 rgb, zip": (tiff(WIDE, "rgb", compression="zlib"), WIDE, None),
    "tiff 16 rgb, Motorola": (tiff(WIDE, "rgb", byteorder=">"), WIDE, None),
    "tiff 16 rgb, Motorola, zip": (tiff(WIDE, "rgb", byteorder=">", compression="zlib"), WIDE, None),
    "tiff 16 rgb, tiles": (tiff(WIDE, "rgb", tile=(16, 32)), WIDE, None),
    "tiff 16 rgba": (tiff(with_alpha(WIDE), "rgb", **EXTRA), WIDE, with_alpha(WIDE)[..., 3]),
    "tiff 16 cmyk": (tiff(65535 - with_alpha(WIDE), "separated"), 65535 - with_alpha(WIDE), None),
    "tiff 16 la": (
        tiff(with_alpha(GREY16), "minisblack", planarconfig="contig", **EXTRA), GREY16, with_alpha(WIDE)[..., 3]
    ),
    "tiff 16 la, zip": (
        tiff(with_alpha(GREY16), "minisblack", planarconfig="contig", compression="zlib", **EXTRA),
        GREY16,
        with_alpha(WIDE)[..., 3],
    ),
    "tiff 16 la, Motorola": (
        tiff(with_alpha(GREY16), "minisblack", planarconfig="contig", byteorder=">", **EXTRA),
        GREY16,
        with_alpha(WIDE)[..., 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_bit_comes_out_as_it_went_in(name: str) -> None:
    data, values, alpha = LOSSLESS[name]
    picture = decoded(data)
    written = encode(picture)
    for read in (picture, decoded(written)):
        np.testing.assert_array_equal(read.values, values)
        assert read.values.dtype == values.dtype
        assert (read.alpha is None) == (alpha is None)
        if alpha is not None:
            np.testing.assert_array_equal(read.alpha, alpha)
    again = decoded(written)
    assert (again.format, again.icc, again.exif) == (picture.format, picture.icc, picture.exif)
    assert picture.format == "BMP" or picture.icc == ICC
    if picture.dpi:
        assert again.dpi == pytest.approx(picture.dpi, abs=0.05)


@pytest.mark.parametrize("name", [name for name in LOSSLESS if name.startswith("tiff 16")])
def test_tifffile_reads_the_same_16_bits(name: str) -> None:
    data, values, alpha = LOSSLESS[name]
    written = encode(decoded(data))
    read = tifffile.imread(io.BytesIO(written))
    joined = values if alpha is None else np.concatenate([values, alpha[..., None]], 2)
    np.testing.assert_array_equal(read.reshape(joined.shape), joined)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_picture_comes_out_upright_with_an_orientation_of_1(form: str, turn: int) -> None:
    options = {"JPEG": {"quality": 95, "xmp": XMP}, "WEBP": {"lossless": True, "xmp": XMP}}.get(form, {})
    data = saved(RGB, form, exif=exif(turn).tobytes(), **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    picture = decoded(data)
    np.testing.assert_array_equal(picture.values, upright)
    with Image.open(io.BytesIO(encode(picture))) as written:
        assert written.size == upright.shape[1::-1]
        kept = written.getexif()
        assert kept.get(Base.Orientation, 1) == 1
        assert (kept[Base.Make], kept[Base.Artist]) == ("Camera", "Someone")
        assert kept.get_ifd(0x8769)[Base.ExposureTime] == 0.5
        assert kept.get_ifd(0x8825)[1] == "N"
    if "xmp" in options and turn > 1:
        assert b'tiff:Orientation="1"' in picture.xmp
        assert decoded(encode(picture)).xmp == picture.xmp


def test_a_jpeg_keeps_iptc_comments_profile_and_resolution_and_its_quality_is_not_lowered() -> None:
    data = saved(RGB, "JPEG", quality=97, comment=b"hello", dpi=(240, 240), **ALL)
    iptc = b"\xff\xed" + struct.pack(">H", 2 + 18) + b"Photoshop 3.0\x008BIM"
    data = data[:2] + iptc + data[2:]
    picture = decoded(data)
    assert picture.quality == 97
    assert not picture.lossless
    written = encode(picture)
    assert iptc in written
    with Image.open(io.BytesIO(written)) as image:
        assert image.info["icc_profile"] == ICC
        assert image.info["comment"] == b"hello"
        assert image.info["dpi"] == (240, 240)
        assert image.info["xmp"] == XMP
    assert decoded(written).quality == 97


@pytest.mark.parametrize("quality", [1, 5, 25, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_exactly(quality: int) -> None:
    assert decoded(saved(RGB, "JPEG", quality=quality)).quality == quality
    assert decoded(saved(GREY[..., 0], "JPEG", quality=quality)).quality == quality


def test_a_cmyk_jpeg_stays_cmyk() -> None:
    data = saved(RGB, "JPEG", "CMYK", quality=95, icc_profile=ICC)
    picture = decoded(data)
    assert picture.values.shape == (41, 57, 4)
    again = decoded(encode(picture))
    assert again.values.shape == (41, 57, 4)
    assert again.icc == ICC
    assert np.abs(again.values.astype(int) - picture.values).mean() < 2


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_colours_and_this_is_said(transparent: bool) -> None:
    image = Image.fromarray(RGB).quantize(16)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **({"transparency": 3} if transparent else {}))
    picture = decoded(buffer.getvalue())
    np.testing.assert_array_equal(picture.values, np.asarray(image.convert("RGB")))
    assert (picture.alpha is not None) == transparent
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha == 0, np.asarray(image) == 3)
    assert picture.notes == ("its palette is written as colours",)


def test_one_colour_that_counts_as_transparent_becomes_alpha() -> None:
    key = tuple(int(value) for value in RGB[3, 4])
    picture = decoded(saved(RGB, "PNG", transparency=key))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, (key == RGB).all(2))


def test_a_thumbnail_that_is_turned_is_dropped() -> None:
    block = bytearray(exif(6).tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block[:2] == b"II" else ">"
    (count,) = struct.unpack_from(f"{order}H", block, 8)
    struct.pack_into(f"{order}I", block, 10 + 12 * count, len(block))  # a second directory, that of a thumbnail
    block += struct.pack(f"{order}HI", 0, 0)
    picture = decoded(saved(RGB, "JPEG", exif=b"Exif\0\0" + bytes(block)))
    assert struct.unpack_from(f"{order}I", picture.exif, 10 + 12 * count) == (0,)


def test_another_format_keeps_what_it_can_hold(tmp_path: Path) -> None:
    picture = decoded(saved(RGB, "JPEG", quality=90, dpi=(200, 200), **ALL))
    for form in ("PNG", "TIFF", "WEBP"):
        again = decoded(encode(replace(picture, format=form, blocks=(), lossless=True)))
        np.testing.assert_array_equal(again.values, picture.values)
        assert (again.icc, again.xmp) == (ICC, XMP)
        kept = Image.Exif()
        kept.load(again.exif)
        assert kept[Base.Make] == "Camera"


def moving(form: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


HOSTILE = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am no picture at all", "not in a format"),
    "truncated": (saved(RGB, "PNG")[:900], ""),
    "truncated jpeg": (saved(RGB, "JPEG")[:700], "truncated"),
    "animated gif": (moving("GIF"), "GIF is not read"),
    "animated png": (moving("PNG"), "animated"),
    "animated webp": (moving("WEBP"), "animated"),
    "tiff of two pages": (moving("TIFF"), "several pages"),
    "bomb": (saved(np.zeros((2000, 2000), np.uint8), "PNG"), "more pixels than max_pixels=1000000"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC is not read"),
    "large profile": (saved(RGB, "PNG", icc_profile=bytes(17 << 20)), ""),
    "float": (saved(np.zeros((9, 9), np.float32), "TIFF"), "32 bits"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_picture_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[name]
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadImage) as caught:
        read_picture(tmp_path / "x", 1_000_000)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_exif_neither_stops_nor_changes_a_picture() -> None:
    garbage = b"II*\0" + bytes(range(200))
    picture = decoded(saved(RGB, "JPEG", exif=b"Exif\0\0" + garbage, quality=95))
    assert picture.exif == garbage
    assert b"Exif\0\0" + garbage in encode(picture)
