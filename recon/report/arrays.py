"""Arrays of run folders, which may be damaged or a stranger's, as far as they make sense."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.runs.reading import Unreadable, read_bytes

_ARRAYS = 256 << 20  # bytes of unpacked arrays
_PICTURE = 16 << 20  # pixels


def images(path: Path) -> dict[str, NDArray[Any]]:
    """Read the images of a .npz, see `recon.runs.tiles`, as far as they make sense. Raises OSError or Unreadable."""
    arrays = _unpacked(path)
    good = {
        name: pixels
        for name, pixels in arrays.items()
        if name != "index" and pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[-1] in (1, 3)
        and len(pixels) == len(arrays["index"]) and min(pixels.shape[1:3]) > 0 and max(pixels.shape[1:3]) <= 4096
    }  # fmt: skip
    about = _about_images(arrays, good, len(arrays["index"]))
    if good.keys() <= {"whole", "mask"}:
        raise Unreadable("it holds no images")
    return {"index": arrays["index"], **good, **about}


def map_of_codes(path: Path) -> dict[str, NDArray[Any]]:
    """Read a map of codes: "image" (N,h,w,C) uint8, "label" (N,), planes (N,2). Raises OSError or Unreadable."""
    arrays = _unpacked(path)
    count, image, label = len(arrays["index"]), arrays.get("image"), arrays.get("label")
    planes = {name: each for name, each in arrays.items() if each.shape == (count, 2) and each.dtype.kind == "f"
              and np.isfinite(each).all()}  # fmt: skip
    if (
        image is None or image.dtype != np.uint8 or image.ndim != 4 or image.shape[-1] not in (1, 3)
        or len(image) != count or not 0 < max(image.shape[1:3]) <= 64 or not planes or not count
        or label is None or label.shape != (count,) or label.dtype.kind != "i"
    ):  # fmt: skip
        raise Unreadable("it is no map of codes")
    return {"index": arrays["index"], "image": image, "label": label, **planes}


def picture(path: Path) -> NDArray[np.uint8]:
    """Read a PNG as (H,W,3) uint8, at most 16 million pixels. Raises OSError or Unreadable."""
    from PIL import Image, UnidentifiedImageError

    data = io.BytesIO(read_bytes(path))
    try:
        with Image.open(data, formats=["PNG"]) as image:
            if image.width * image.height > _PICTURE:
                raise Unreadable(f"it has more than {_PICTURE >> 20} million pixels")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable("it is no picture") from error


def _unpacked(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a .npz, "index" (N,) of whole numbers among them. Raises OSError or Unreadable."""
    try:
        # A small archive may unpack to any size.
        with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _ARRAYS or len(archive.infolist()) > 100:
                raise Unreadable(f"it unpacks to more than {_ARRAYS >> 20} MB")
            arrays = {entry.removesuffix(".npy"): _array(archive.read(entry)) for entry in archive.namelist()}
    except (OSError, Unreadable):
        raise
    except Exception as error:  # a zip file has a dozen ways to be damaged
        raise Unreadable("it is no archive of arrays") from error
    index = arrays.get("index")
    if index is None or index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise Unreadable("it does not tell which images it holds")
    return arrays


def _about_images(
    arrays: dict[str, NDArray[Any]], good: dict[str, NDArray[Any]], count: int
) -> dict[str, NDArray[Any]]:
    """Return what fits of the arrays that are no images, and leave images of other sizes out of `good`."""
    sizes = {name: pixels.shape[:3] for name, pixels in good.items() if name != "whole"}
    size = sizes.get("clean", next(iter(sizes.values()), None))
    for name in [name for name, found in sizes.items() if found != size]:
        del good[name]
    found = {}
    title, window = arrays.get("title"), arrays.get("window")
    if title is not None and title.shape == (count,) and title.dtype.kind == "U":
        found["title"] = title
    if window is not None and window.shape == (count, 6) and np.issubdtype(window.dtype, np.integer):
        start, side, full = window[:, :2], window[:, 2:4], window[:, 4:]
        if (start >= 0).all() and (side > 0).all() and (full < 1 << 20).all() and (start + side <= full).all():
            found["window"] = window.astype(np.int64)
    return found


def _array(data: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return array
