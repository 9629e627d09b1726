"""The reliability diagram of a classifier: how often it is right where it says so surely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_BINS = 15
_SCALE, _SIDE, _LEFT, _TOP, _COUNTS = 3, 360, 64, 30, 70  # drawn larger and made smaller; sides in pixels
_BLUE, _GAP, _GREY, _BLACK = (0, 114, 178), (213, 94, 0), (120, 120, 120), (20, 20, 20)


def diagram(confidence: NDArray[Any], right: NDArray[Any]) -> Image:
    """Draw accuracy against confidence in 15 bins of equal width, the gap to equality, and how many images each holds.

    DeGroot & Fienberg (1983); Guo et al. (2017).

    Args:
        confidence: (N,) in [0,1].
        right: (N,) bool.
    """
    from PIL import Image, ImageDraw, ImageFont

    size = _LEFT + _SIDE + 24, _TOP + _SIDE + _COUNTS + 64
    sheet = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), "white")
    pen, font = ImageDraw.Draw(sheet, "RGBA"), ImageFont.load_default(14 * _SCALE)

    def at(x: float, y: float) -> tuple[float, float]:
        return (_LEFT + x * _SIDE) * _SCALE, (_TOP + (1 - y) * _SIDE) * _SCALE

    def text(x: float, y: float, words: str, anchor: str, colour: tuple[int, int, int] = _GREY) -> None:
        pen.text((x * _SCALE, y * _SCALE), words, fill=colour, font=font, anchor=anchor)

    for tick in range(0, 101, 20):
        pen.line((*at(0, tick / 100), *at(1, tick / 100)), fill=(225, 225, 225), width=_SCALE)
        text(_LEFT - 8, _TOP + (1 - tick / 100) * _SIDE, f"{tick}", "rm")
        text(_LEFT + tick / 100 * _SIDE, _TOP + _SIDE + _COUNTS + 12, f"{tick}", "ma")
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    floor = _TOP + _SIDE + _COUNTS + 6
    for number in np.flatnonzero(counts):
        mine = bins == number
        accuracy, mean = float(right[mine].mean()), float(confidence[mine].mean())
        left, end = (number + 0.08) / _BINS, (number + 0.92) / _BINS
        pen.rectangle((*at(left, accuracy), *at(end, 0)), fill=_BLUE)
        low, high = sorted((accuracy, mean))
        pen.rectangle((*at(left, high), *at(end, low)), fill=(*_GAP, 120))
        bar = floor - (_COUNTS - 14) * counts[number] / counts.max()
        pen.rectangle((at(left, 0)[0], bar * _SCALE, at(end, 0)[0], floor * _SCALE), fill=_GREY)
    pen.line((*at(0, 0), *at(1, 1)), fill=_BLACK, width=_SCALE)
    text(_LEFT, 8, "accuracy (%), and the gap to confidence", "la", _BLACK)
    text(_LEFT + _SIDE / 2, _TOP + _SIDE + _COUNTS + 34, "confidence (%); below, how many images", "ma", _BLACK)
    return sheet.resize(size, Image.Resampling.LANCZOS)
