"""What a JPEG was, is found in its pixels."""

import io

import numpy as np
import pytest
from conftest import data_root
from PIL import Image
from skimage.data import astronaut, cat, coffee

from recon.restore.compression import hidden_quality

PHOTOS = sorted((data_root() / "open-photos" / "test").glob("*.webp"))
SHIPPED = [np.asarray(Image.fromarray(photo()).convert("L")) for photo in (astronaut, cat, coffee)]


def compressed(image: Image.Image, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("L"))


@pytest.mark.parametrize("quality", [10, 13, 30, 50, 75, 90])
@pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
@pytest.mark.parametrize("colour", [False, True])
def test_the_quality_is_found_wherever_the_grid_lies(quality: int, corner: tuple[int, int], colour: bool) -> None:
    image = Image.fromarray(astronaut()[:300, :420])
    luma = compressed(image if colour else image.convert("L"), quality)[corner[0] :, corner[1] :]
    found = hidden_quality(luma)
    assert found is not None
    assert abs(found - quality) <= 1


@pytest.mark.skipif(not PHOTOS, reason="the open photographs are not below data.root")
def test_photographs_that_were_never_compressed_are_told_from_those_that_were() -> None:
    for path in PHOTOS:
        with Image.open(path) as image:
            plain = image.convert("L")
        assert hidden_quality(np.asarray(plain)) is None
        assert hidden_quality(compressed(plain, 60)[2:, 1:]) == 60


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (15, 400), (64, 64)])
def test_small_and_flat_pictures_tell_nothing(shape: tuple[int, int]) -> None:
    assert hidden_quality(np.full(shape, 128, np.uint8)) is None
