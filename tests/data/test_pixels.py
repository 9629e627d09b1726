"""Every pixel as stored: kinds of values × depths × files × orientations, with right values known beforehand."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_files import EXIF, XMP, exif_of, png, png_metadata, tiff, xmp_of
from PIL import Image

from recon.data.images import BadImage, read_header, read_image

H, W = 5, 7
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (H, W))
COLOURS = RNG.integers(0, 256, (H, W, 3))
ALPHA = RNG.integers(1, 255, (H, W, 1))
# How a viewer turns stored pixels (EXIF 2.32, table 6), written with NumPy.
TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def check(path: Path, want: np.ndarray, channels: int) -> None:
    """Header and pixels of a file are those of (H,W) grey or (H,W,3) colour values, which may be real numbers."""
    header = read_header(path, "")
    assert (header.channels, header.height, header.width) == (channels, *want.shape[:2])
    right = np.rint(want).astype(np.uint8)
    colour = right if right.ndim == 3 else np.repeat(right[..., None], 3, 2)
    np.testing.assert_array_equal(read_image(path, 3), colour.transpose(2, 0, 1))
    if right.ndim == 2:
        np.testing.assert_array_equal(read_image(path, 1), right[None])


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("bits", range(1, 17))
def test_grey_tiffs_of_every_depth(tmp_path: Path, bits: int) -> None:
    """The value v of b bits is 255·v/(2^b-1), or what is missing from 255 where 0 is white."""
    values = RNG.integers(0, 2**bits, (H, W))
    values[0, :2] = 0, 2**bits - 1
    grey = values * 255 / (2**bits - 1)
    for byte_order in "<>":
        for zipped in (False, True):
            for photometric in (0, 1):
                how = (bits, photometric, byte_order, zipped, 2)
                check(written(tmp_path, "a.tif", tiff(values, *how)), grey if photometric else 255 - grey, 1)
    if bits not in (8, 16):
        check(written(tmp_path, "a.tif", tiff(values, bits, tags=[(266, 3, [2])])), grey, 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_pngs_of_every_depth(tmp_path: Path, bits: int) -> None:
    values = RNG.integers(0, 2**bits, (H, W))
    check(written(tmp_path, "a.png", png(values, bits)), values * 255 / (2**bits - 1), 1)
    # One value is transparent, which is dropped like alpha.
    data = png(values, bits, transparent=int(values[0, 0]).to_bytes(2, "big"))
    check(written(tmp_path, "a.png", data), values * 255 / (2**bits - 1), 1)


def palette_tiff(values: np.ndarray, bits: int, colours: np.ndarray, factor: int) -> bytes:
    return tiff(values, bits, 3, tags=[(320, 3, (colours.T * factor).ravel().tolist())])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("grey", [True, False], ids=["grey", "colour"])
def test_palettes_are_looked_up_and_a_grey_one_is_grey(tmp_path: Path, bits: int, grey: bool) -> None:
    colours = RNG.integers(0, 256, (2**bits, 1 if grey else 3)) * np.ones((1, 3), int)
    index = RNG.integers(0, 2**bits, (H, W))
    want = colours[index][..., 0] if grey else colours[index]
    channels = 1 if grey else 3
    check(written(tmp_path, "a.png", png(index, bits, 3, colours)), want, channels)
    opacity = bytes(RNG.integers(0, 256, 2**bits).tolist())
    check(written(tmp_path, "a.png", png(index, bits, 3, colours, opacity)), want, channels)
    # The map of a TIFF has 16-bit values, of which some programs write only the lower 8 bits.
    for factor in (1, 256, 257):
        check(written(tmp_path, "a.tif", palette_tiff(index, bits, colours, factor)), want, channels)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    with_alpha, grey_alpha = np.concatenate([COLOURS, ALPHA], 2), np.concatenate([BYTES[..., None], ALPHA], 2)
    for name in ("a.png", "a.webp", "a.tif"):
        Image.fromarray(with_alpha.astype(np.uint8)).save(tmp_path / name, lossless=True, exact=True)
        check(tmp_path / name, COLOURS, 3)
    check(written(tmp_path, "la.png", png(grey_alpha, 8, 4)), BYTES, 1)
    check(written(tmp_path, "la.tif", tiff(grey_alpha, tags=[(338, 3, [2])])), BYTES, 1)
    check(written(tmp_path, "white.tif", tiff(grey_alpha, 8, 0, tags=[(338, 3, [2])])), 255 - BYTES, 1)
    palette = RNG.integers(0, 256, (256, 3))
    index_alpha = np.concatenate([BYTES[..., None], ALPHA], 2)
    tags = [(320, 3, (palette.T * 257).ravel().tolist()), (338, 3, [2])]
    check(written(tmp_path, "pa.tif", tiff(index_alpha, 8, 3, tags=tags)), palette[BYTES], 3)


def test_of_16_bit_colour_and_of_grey_with_alpha_the_high_byte_is_taken(tmp_path: Path) -> None:
    low = RNG.integers(0, 256, (H, W, 4))
    colour = np.concatenate([COLOURS, ALPHA], 2) * 256 + low
    check(written(tmp_path, "a.png", png(colour[..., :3], 16, 2)), COLOURS, 3)
    check(written(tmp_path, "a.png", png(colour, 16, 6)), COLOURS, 3)
    check(written(tmp_path, "a.png", png(colour[..., 2:], 16, 4)), COLOURS[..., 2], 1)
    for byte_order in "<>":
        check(written(tmp_path, "a.tif", tiff(colour[..., :3], 16, 2, byte_order)), COLOURS, 3)


def test_grey_values_times_alpha_are_divided_by_it(tmp_path: Path) -> None:
    opaque = np.concatenate([BYTES[..., None], np.full((H, W, 1), 255)], 2)
    check(written(tmp_path, "a.tif", tiff(opaque, tags=[(338, 3, [1])])), BYTES, 1)


def test_bmps_of_every_depth(tmp_path: Path) -> None:
    for mode, want in (("1", (BYTES > 127) * 255), ("L", BYTES)):
        Image.fromarray(want.astype(np.uint8)).convert(mode).save(tmp_path / "a.bmp")
        check(tmp_path / "a.bmp", want, 1)
    Image.fromarray(COLOURS.astype(np.uint8)).save(tmp_path / "a.bmp")
    check(tmp_path / "a.bmp", COLOURS, 3)
    image = Image.fromarray(BYTES.astype(np.uint8), "P")
    for channels, colours in (
        (1, np.arange(256)[::-1, None] * np.ones((1, 3), int)),
        (3, RNG.integers(0, 256, (256, 3))),
    ):
        image.putpalette(colours.ravel().tolist())
        image.save(tmp_path / "a.bmp")
        check(tmp_path / "a.bmp", colours[BYTES] if channels == 3 else 255 - BYTES, channels)


def test_inks_become_light(tmp_path: Path) -> None:
    inks = RNG.integers(0, 256, (H, W, 4))
    light = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    path = written(tmp_path, "a.tif", tiff(inks, 8, 5))
    assert read_header(path, "").channels == 3
    np.testing.assert_allclose(read_image(path, 3).transpose(1, 2, 0), light, atol=1)


def stored(name: str, orientation: int, kind: str, late: bool = False) -> tuple[bytes, np.ndarray]:
    """A file that tells an orientation, and its stored pixels."""
    suffix, _, form = name.partition(" ")
    about = {kind: {EXIF: exif_of, XMP: xmp_of}[kind](orientation)} if suffix != "png" else {}
    image, data = Image.fromarray(COLOURS.astype(np.uint8)), BytesIO()
    if suffix == "png":
        where = {"after" if late else "before": [png_metadata(kind, orientation)]}
        return png(COLOURS, 8, 2, **where), COLOURS
    if suffix == "tif":
        tag = (274, 3, [orientation]) if kind == EXIF else (700, 1, list(xmp_of(orientation)))
        if form == "grey":
            return tiff(BYTES, tags=[tag]), BYTES
        if form == "packed":
            return tiff(BYTES >> 3, 5, 0, tags=[tag]), np.rint(255 - (BYTES >> 3) * 255 / 31)
        if form == "16":
            return tiff(BYTES * 257, 16, tags=[tag]), BYTES
        if form == "zip":
            return tiff(COLOURS, 8, 2, zipped=True, tags=[tag]), COLOURS
        return tiff(COLOURS, 8, 2, tags=[tag]), COLOURS
    image.save(data, {"jpg": "JPEG", "webp": "WEBP"}[suffix], quality=90, **about)
    plain = BytesIO()
    image.save(plain, {"jpg": "JPEG", "webp": "WEBP"}[suffix], quality=90)
    return data.getvalue(), np.asarray(Image.open(plain).convert("RGB"))


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9, 255])
@pytest.mark.parametrize("kind", [EXIF, XMP])
def test_images_are_turned_as_their_file_says(tmp_path: Path, orientation: int, kind: str) -> None:
    """A number out of range is none: these are read as stored."""
    turn = TURNED.get(orientation, TURNED[1])
    for name in ("png", "png late", "tif", "tif grey", "tif 16", "tif zip", "tif packed", "jpg", "webp"):
        data, pixels = stored(name.removesuffix(" late"), orientation, kind, name.endswith("late"))
        check(written(tmp_path, f"a.{name.split()[0]}", data), turn(pixels), 1 if pixels.ndim == 2 else 3)


def test_xmp_in_every_spelling_and_after_exif(tmp_path: Path) -> None:
    for form in ('tiff:Orientation="{}"', "tiff:Orientation = '{}'", "><tiff:Orientation> {} </tiff:Orientation><a"):
        chunk = (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_of(6, form))
        check(written(tmp_path, "a.png", png(BYTES, after=[chunk])), np.rot90(BYTES, -1), 1)
    both = png(BYTES, before=[png_metadata(XMP, 6)], after=[png_metadata(EXIF, 3)])
    check(written(tmp_path, "a.png", both), np.rot90(BYTES, 2), 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_spoil_an_image(tmp_path: Path) -> None:
    check(written(tmp_path, "a.png", png(BYTES, after=[(b"eXIf", b"II*\0garbage")])), BYTES, 1)
    Image.fromarray(COLOURS.astype(np.uint8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0no exif at all")
    assert read_header(tmp_path / "a.jpg", "")[2:] == (3, H, W)
    assert read_image(tmp_path / "a.jpg", 3).shape == (3, H, W)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(BYTES, tags=[(339, 3, [2])]), "values below 0"),
        (tiff(BYTES * 100, 16, tags=[(339, 3, [2])]), "values below 0"),
        (tiff(COLOURS, 16, 2, tags=[(284, 3, [2])]), "separate planes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not in a format"),
        (b"GIF89a" + bytes(40), "not in a format"),
    ],
)
def test_what_cannot_be_read_as_stored_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        read_image(written(tmp_path, "a.png", data), 1)


def test_the_limit_on_pixels_is_that_of_the_image_for_every_depth(tmp_path: Path, monkeypatch) -> None:
    for bits in (8, 12):
        path = written(tmp_path, "a.tif", tiff(BYTES, bits))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", H * W)
        assert read_image(path, 1).shape == (1, H, W)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", H * W - 1)
        with pytest.raises(BadImage, match=f"more pixels than task.max_pixels={H * W - 1}"):
            read_header(path, "")
