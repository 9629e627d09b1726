import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut, camera

from recon.data.images import read_image

RGB = np.ascontiguousarray(astronaut()[40:88, 180:240])  # 48 rows, 60 columns
GREY = np.ascontiguousarray(camera()[100:148, 200:260])


def save(folder, name, array=RGB, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def png16(array):
    """A 16-bit PNG (H,W) or (H,W,3), which Pillow cannot write in colour."""
    height, width, *channels = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if channels else 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.TIFF", {"format": "tiff"}), ("a.webp", {"lossless": True})],
)
@pytest.mark.parametrize("array", [RGB, GREY], ids=["rgb", "grey"])
def test_lossless_formats_are_read_exactly(tmp_path, name, options, array):
    path = save(tmp_path, name, array, **options)
    want = array.transpose(2, 0, 1) if array.ndim == 3 else array[None]
    np.testing.assert_array_equal(read_image(path, len(want)), want)


def test_jpeg_is_read_as_pillow_decodes_it(tmp_path):
    path = save(tmp_path, "a.jpg", RGB, quality=95)
    got = read_image(path, 3)
    np.testing.assert_array_equal(got, np.asarray(Image.open(path)).transpose(2, 0, 1))
    assert np.abs(got.astype(int) - RGB.transpose(2, 0, 1)).mean() < 4


def test_alpha_is_dropped_and_a_palette_looked_up(tmp_path):
    alpha = np.full((*RGB.shape[:2], 1), 128, np.uint8)
    np.testing.assert_array_equal(
        read_image(save(tmp_path, "a.png", np.concatenate([RGB, alpha], 2)), 3), RGB.transpose(2, 0, 1)
    )
    palette = Image.fromarray(RGB).quantize(32)
    palette.save(tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    np.testing.assert_array_equal(
        read_image(tmp_path / "p.png", 3), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )
    Image.fromarray(GREY).convert("LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", 1), GREY[None])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path, suffix):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(png16(values)) if suffix == "png" else Image.fromarray(values).save(path)
    want = np.rint(values / 257).astype(np.uint8)[None]
    np.testing.assert_array_equal(read_image(path, 1), want)
    np.testing.assert_array_equal(read_image(path, 3), np.repeat(want, 3, 0))


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
    values = RGB.astype(np.uint16) * 256 + 77
    (tmp_path / "a.png").write_bytes(png16(values))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), RGB.transpose(2, 0, 1))
