"""The tiles that pictures are composed of: holes as a checkerboard, signed errors in colour, a window on its whole.

A picture's images are arrays by name, as `images/*.npz` of a run folder holds them: "index" (N,) int64 and "title" (N,)
text; images (N,H,W,C) uint8, C = 1 or 3, such as "degraded", "restored" and "clean"; "mask" (N,H,W,1) uint8, 0 in a
hole, where there are holes; and, where the images are windows of larger ones, "whole" (N,h,w,C) uint8, these made
small, and "window" (N,6) int64: top, left, height, width, and the height and width of the whole, in pixels of the
clean image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Pixels: TypeAlias = NDArray[np.uint8]

WHOLE = 256  # the longest side of a whole image that is shown small
_ORDER = ("whole", "degraded", "restored", "clean", "error")  # of columns; others follow
_UNDAMAGED = ("whole", "clean", "restored", "error")
# Of a checkerboard: bluish, so that grey images, white ones too, stand out from it.
_LIGHT, _DARK = np.array([205, 214, 228]), np.array([160, 172, 192])
_FRAME = (255, 200, 0)  # around the window, with black beside it
# From too dark to too bright: ColorBrewer's RdBu, which colour-blind readers can tell apart.
_SIGNED = np.array([(33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43)], np.float64)


def columns(arrays: Arrays, zoom: int = 1, limit: float | None = None) -> dict[str, list[Pixels]]:
    """Compose all columns of a picture, each a list of N tiles (H,W,3) uint8, in the order in which they are shown.

    Args:
        arrays: see above.
        zoom: how many times larger each pixel is drawn, but of the wholes.
        limit: the error that has the darkest colour, or None for that of these images.
    """
    images = {name: pixels for name, pixels in arrays.items() if pixels.ndim == 4 and name not in ("mask", "whole")}
    shown = {name: [enlarged(tile, zoom) for tile in pixels] for name, pixels in images.items()}
    if "mask" in arrays and "degraded" in shown:
        # Two squares a side of an enlarged pixel.
        cell = zoom // 2 if zoom >= 8 else 5
        known = [enlarged(mask, zoom)[..., :1] / 255 for mask in arrays["mask"]]
        shown["degraded"] = [checkered(*each, cell) for each in zip(shown["degraded"], known, strict=True)]
    if "restored" in images and "clean" in images:
        limit = error_limit(arrays) if limit is None else limit
        pairs = zip(images["restored"], images["clean"], strict=True)
        shown["error"] = [enlarged(coloured(error(*pair) / limit), zoom) for pair in pairs]
    if "whole" in arrays and "window" in arrays:
        shown["whole"] = [marked(*each) for each in zip(arrays["whole"], arrays["window"], strict=True)]
    order = _ORDER if "degraded" in shown else _UNDAMAGED
    return {name: shown[name] for name in (*order, *shown) if name in shown}


def enlarged(tile: NDArray[Any], zoom: int) -> NDArray[Any]:
    """Enlarge pixels (H,W,C), C = 1 or 3, by a whole number; the result has three channels."""
    return np.broadcast_to(tile, (*tile.shape[:2], 3)).repeat(zoom, 0).repeat(zoom, 1)


def checkered(tile: Pixels, known: NDArray[np.floating[Any]], cell: int = 5) -> Pixels:
    """Mix an image (H,W,C) with a checkerboard of `cell` pixels a square, by what share is known, (H,W,1) in [0,1]."""
    row, column = np.ogrid[: tile.shape[0], : tile.shape[1]]
    board = np.where((row // cell + column // cell)[..., None] % 2, _DARK, _LIGHT)
    mixed: Pixels = (tile * known + board * (1 - known)).round().astype(np.uint8)
    return mixed


def error(restored: Pixels, clean: Pixels) -> NDArray[np.float64]:
    """Return restored - clean, averaged over the channels: (…,H,W,C) uint8 to (…,H,W) in [-1,1]."""
    difference: NDArray[np.float64] = (restored.astype(np.float64) - clean).mean(-1) / 255
    return difference


def error_limit(*pictures: Arrays) -> float:
    """Return the error at the ends of the scale of some pictures: their 99th percentile, rounded up to one digit."""
    errors = [np.abs(error(p["restored"], p["clean"])).ravel() for p in pictures if "restored" in p and "clean" in p]
    wanted = max(0.01, float(np.quantile(np.concatenate(errors), 0.99)) if errors else 1.0)
    unit = 10.0 ** math.floor(math.log10(wanted))
    return min(1.0, round(math.ceil(wanted / unit - 1e-9) * unit, 3))


def coloured(share: NDArray[np.float64]) -> Pixels:
    """Colour signed numbers (H,W): from blue at -1 and below over white to red at 1 and above, (H,W,3)."""
    places = np.linspace(-1, 1, len(_SIGNED))
    return np.stack([np.interp(share, places, channel) for channel in _SIGNED.T], -1).round().astype(np.uint8)


def colour_bar(width: int, height: int) -> Pixels:
    """Draw the colours from -1 to 1: (height,width,3)."""
    return coloured(np.broadcast_to(np.linspace(-1, 1, width), (height, width)))


def marked(whole: Pixels, window: NDArray[np.int64]) -> Pixels:
    """Frame the window's place on its whole image (h,w,C), of which what fills up other sizes is cut: (h,w,3)."""
    top, left, height, width, *full = window.tolist()
    small = enlarged(whole, 1)[: whole_size(*full)[0], : whole_size(*full)[1]].copy()
    scale = small.shape[0] / full[0], small.shape[1] / full[1]
    for out, colour in ((1, (0, 0, 0)), (0, _FRAME), (-1, _FRAME)):
        rows, columns = (
            np.clip([round(start * by) - out, round((start + side) * by) - 1 + out], 0, most - 1)
            for start, side, by, most in zip((top, left), (height, width), scale, small.shape, strict=False)
        )
        small[rows, columns[0] : columns[1] + 1] = colour
        small[rows[0] : rows[1] + 1, columns] = colour
    return small


def whole_size(height: int, width: int) -> tuple[int, int]:
    """Return the size at which a whole image is shown: at most `WHOLE` pixels on its longer side."""
    scale = min(1.0, WHOLE / max(height, width, 1))
    return max(1, round(height * scale)), max(1, round(width * scale))
