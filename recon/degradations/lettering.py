"""Words in Pillow's built-in font (Aileron), ready to be set on images of any batch."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_LETTER_HEIGHTS = 8  # rendered heights of a range
_CAPITAL = 0.69  # height of a capital, as a share of the font size in Pillow
# In heights of a capital: from line to line, from a line's top to the baseline, and between words.
_PITCH = 1.75
_BASELINE = 1.2
_SPACE = 0.4
_TEXT = (
    "a about after all and are as at back be book but by can city come could day each early every far few for form "
    "garden give good great green had have he her high home how if image in is it just know large light line little "
    "long made many more my never new night no now of old on one open other our over paint people picture quiet read "
    "right river said see she small so some street that the their then they this time to tree under until up very was "
    "water way we well were what when where white who will wind with word work world yes you Above After Every For How "
    "In Keep Look Open She The What You 1 2 10 24 1984 365"
)
WORDS = _TEXT.split()


class Font(NamedTuple):
    """The words at one or more letter heights, one pixel column after another.

    >>> font(6, 8, torch.device("cpu")).rows
    14

    Attributes:
        blank: (columns·rows,) uint8, 0 where ink is.
        rows: pixels in a column, those of the tallest line.
        column: (heights,words) int64, the first column of each word.
        width: (heights,words) int64, columns of each word with the space after it.
        pitch: (heights,) int64, pixels from line to line.
        extents: for each height its pitch, its narrowest and its widest word, as plain numbers.
    """

    blank: Tensor
    rows: int
    column: Tensor
    width: Tensor
    pitch: Tensor
    extents: list[tuple[int, int, int]]


@lru_cache(maxsize=4)
def font(low: int, high: int, device: torch.device) -> Font:
    """Render the words with capitals of `low` to `high` pixels.

    >>> font(6, 6, torch.device("cpu")).pitch
    tensor([10])
    """
    steps = _LETTER_HEIGHTS - 1
    heights = sorted({low + (high - low) * step // steps for step in range(_LETTER_HEIGHTS)})
    rows = round(_PITCH * high)
    columns: list[np.ndarray] = []
    for height in heights:
        letters = ImageFont.load_default(height / _CAPITAL)
        for word in WORDS:
            # The pixel at the left is for letters that extend to the left of their origin.
            width = 1 + math.ceil(letters.getlength(word, mode="1")) + round(_SPACE * height)
            canvas = Image.new("1", (width, rows), 1)
            ImageDraw.Draw(canvas).text((1, round(_BASELINE * height)), word, fill=0, font=letters, anchor="ls")
            columns.append(np.asarray(canvas, np.uint8).T)
    widths = torch.tensor([len(word) for word in columns])
    table = widths.view(len(heights), -1)
    pitch = [round(_PITCH * height) for height in heights]
    return Font(
        torch.from_numpy(np.concatenate(columns).ravel()).to(device),
        rows,
        (widths.cumsum(0) - widths).view_as(table).to(device),
        table.to(device),
        torch.tensor(pitch, device=device),
        list(zip(pitch, table.amin(1).tolist(), table.amax(1).tolist(), strict=True)),
    )


def font_bytes(low: int, high: int) -> float:
    """Estimate the memory of `font`, a byte per pixel; right within a tenth.

    >>> round(font_bytes(6, 8))
    129007
    """
    heights = min(_LETTER_HEIGHTS, high - low + 1)
    letters = sum(map(len, WORDS)) * 0.8 + len(WORDS) * _SPACE
    return heights * letters * (low + high) / 2 * _PITCH * high
