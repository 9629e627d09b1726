"""Pictures of a run folder: grids of images with their captions, and confusion matrices."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recon.measures import DASH, Measure
from recon.runs.tiles import Arrays, Pixels, colour_bar, columns, error_limit
from recon.streams import printable

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from torch import Tensor

TITLE = 60  # letters of a title at most
UNDAMAGED = 100.0  # dB, the PSNR of a degraded image that equals the clean one
_SIZE, _LINE, _GAP = 13, 17, 8  # of the letters, of a line and between cells, in pixels
_SMALL, _SEEN = 64, 112  # tiles up to the first are enlarged to the second at least; those up to twice that twice
_WINDOWS = 4  # rows of windows of larger images, which bounds a picture to some 1400 × 1300 pixels
_WIDEST = 1500  # two blocks of rows stand side by side up to this width
Colour: TypeAlias = tuple[int, int, int]
_BLACK, _GREY, _RED = (0, 0, 0), (90, 90, 90), (190, 20, 20)
_ALIKE = str.maketrans("−–×", "--x")  # letters that the font lacks
_HEADINGS = {"whole": "whole image", "error": "restored - clean"}
# Where nothing is damaged by recon, nobody knows whether an image is clean.
_UNDAMAGED_HEADINGS = {**_HEADINGS, "clean": "image", "error": "restored - image"}


@dataclass
class Words:
    """What is written into a grid of N rows.

    Attributes:
        captions: by column of images, N texts below its tiles.
        cells: further columns of N texts, right of the images.
        wrong: N, whether a row is marked as wrong; none where empty.
        note: below the grid.
    """

    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cells: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wrong: Sequence[bool] = ()
    note: str = ""


def words(
    arrays: Arrays, table: Mapping[str, NDArray[Any]], rows: Mapping[str, Measure], classes: Sequence[str]
) -> Words:
    """Write what an evaluation measured of the images of a picture.

    Args:
        arrays: the picture, see `recon.runs.tiles`.
        table: its columns (N,), of which "index" tells the images; others than all images may be in it.
        rows: the table of measures.
        classes: the names of the classes, or none.
    """
    places = {index: place for place, index in enumerate(table["index"].tolist())}

    def values(name: str) -> list[float]:
        found = [places.get(index) for index in arrays["index"].tolist()]
        return [float(table[name][place]) if name in table and place is not None else math.nan for place in found]

    def texts(name: str, prefix: str = "", below: float = math.inf) -> list[str]:
        written = (rows[name].text(value, unit=True) if value < below else "" for value in values(name))
        return [prefix + text if text else "" for text in written]

    if "prediction" in table:
        label, seen = values("label"), values("prediction")
        cells = {
            "truth": [shortened(class_name(value, classes), TITLE // 2) for value in label],
            "prediction": [shortened(class_name(value, classes), TITLE // 2) for value in seen],
            "confidence": texts("confidence"),
        }
        wrong = [truth >= 0 and truth != guess == guess for truth, guess in zip(label, seen, strict=True)]
        return Words(cells=cells, wrong=wrong)
    restored = zip(texts("psnr"), texts("psnr_hole", "hole "), strict=True)
    captions = {
        "degraded": texts("psnr_degraded", below=UNDAMAGED),
        "restored": ["\n".join(filter(None, each)) for each in restored],
    }
    notes = {"window": "PSNR of the whole images.", "mask": "Holes are drawn as a checkerboard."}
    return Words(captions, note=" ".join(text for name, text in notes.items() if name in arrays))


def class_name(label: float, names: Sequence[str]) -> str:
    """Return the name of a class, else its number; a dash where there is none."""
    if not label >= 0:
        return DASH
    return printable(names[int(label)]) if label < len(names) else f"{label:.0f}"


def grid(arrays: Arrays, words: Words | None = None) -> Image:
    """Draw a grid of images: a titled row for each sample, a headed column for each kind, below it the scale of errors.

    Args:
        arrays: see `recon.runs.tiles`.
        words: what is written beside and below the images.
    """
    from PIL import Image, ImageDraw

    words = words or Words()
    side = max(max(pixels.shape[1:3]) for name, pixels in arrays.items() if pixels.ndim == 4 and name != "whole")
    zoom = -(-_SEEN // side) if side <= _SMALL else 2 if side <= 2 * _SMALL else 1
    rows = min(_WINDOWS, len(arrays["index"])) if "window" in arrays else len(arrays["index"])
    limit = error_limit({name: pixels[:rows] for name, pixels in arrays.items()})
    tiles = columns({name: pixels[:rows] for name, pixels in arrays.items()}, zoom, limit)
    layout = _Layout(tiles, arrays.get("title", np.array([""] * rows))[:rows].tolist(), words)
    foot = _Foot(layout.called.get("error", ""), limit, words.note, layout.width)
    sheet = Image.new("RGB", (layout.width, layout.height + foot.height), "white")
    pen = ImageDraw.Draw(sheet)
    layout.draw(sheet, pen)
    foot.draw(sheet, pen, layout.height)
    return sheet


class _Layout:
    """Where the rows and columns of a grid are."""

    def __init__(self, tiles: Mapping[str, Sequence[Pixels]], titles: Sequence[str], words: Words) -> None:
        self.tiles, self.words = tiles, words
        self.titles = list(map(legible, titles))
        self.captions = {name: [legible(text).split("\n") for text in words.captions.get(name, ())] for name in tiles}
        self.cells = {name: list(map(legible, texts)) for name, texts in words.cells.items()}
        known = _UNDAMAGED_HEADINGS if "restored" in tiles and "degraded" not in tiles else _HEADINGS
        known = {"degraded": "image"} if list(tiles) == ["degraded"] else known
        self.called = {name: known.get(name, name) for name in (*tiles, *self.cells)}
        self.widths = {name: self._width(name) for name in self.called}
        self.headings = {name: _wrapped(self.called[name], width) for name, width in self.widths.items()}
        self.head = _LINE * max(map(len, self.headings.values())) + _GAP // 2
        self.tile = max(tile.shape[0] for each in tiles.values() for tile in each)
        lines = max((len(text) for texts in self.captions.values() for text in texts), default=0)
        self.above = (_LINE + 1) * any(self.titles)
        self.row = self.above + self.tile + _LINE * lines + _GAP
        longest = max(map(_length, self.titles), default=0)
        self.block = max(sum(self.widths.values()) + _GAP * len(self.widths), longest + _GAP) + 2 * _GAP
        count = len(self.titles)
        self.per_block = -(-count // 2) if count >= 4 and 2 * self.block <= _WIDEST else count
        self.width = self.block * -(-count // self.per_block)
        self.height = self.head + self.row * self.per_block + _GAP

    def _width(self, name: str) -> int:
        tiles = max((tile.shape[1] for tile in self.tiles.get(name, ())), default=0)
        texts = [*self.cells.get(name, ()), *(line for text in self.captions.get(name, ()) for line in text)]
        return max(tiles, *map(_length, [*self.called[name].split(), *texts]))

    def draw(self, sheet: Image, pen: ImageDraw) -> None:
        for number, title in enumerate(self.titles):
            block, row = divmod(number, self.per_block)
            left, top = _GAP + block * self.block, self.head + row * self.row
            if row == 0:
                self._draw_head(pen, left)
            _write(pen, left, top, title, _GREY)
            self._draw_row(sheet, pen, number, left, top + self.above)

    def _draw_head(self, pen: ImageDraw, left: int) -> None:
        for name, width in self.widths.items():
            for number, line in enumerate(self.headings[name]):
                _write(pen, left, number * _LINE + 2, line, _BLACK)
            left += width + _GAP

    def _draw_row(self, sheet: Image, pen: ImageDraw, number: int, left: int, top: int) -> None:
        from PIL import Image

        wrong = bool(self.words.wrong) and self.words.wrong[number]
        for name, width in self.widths.items():
            if name in self.tiles:
                tile = Image.fromarray(self.tiles[name][number])
                sheet.paste(tile, (left, top))
                if wrong:
                    pen.rectangle((left - 3, top - 1, left + tile.width + 2, top + tile.height), outline=_RED, width=3)
                for line, text in enumerate(self.captions[name][number] if self.captions[name] else ()):
                    _write(pen, left, top + tile.height + 1 + line * _LINE, text, _BLACK)
            else:
                text = self.cells[name][number]
                _write(pen, left, top + self.tile // 2 - _SIZE, text, _RED if wrong else _BLACK)
            left += width + _GAP


class _Foot:
    """What stands below a grid: the scale of the errors and a note."""

    BAR = 160, 12

    def __init__(self, error: str, limit: float, note: str, width: int) -> None:
        self.error, self.limit = error, limit
        self.lines = _wrapped(legible(note), width - 2 * _GAP) if note else []
        self.scale = self.BAR[1] + 2 * _LINE if error else 0
        self.height = self.scale + _LINE * len(self.lines) + (_GAP if self.scale or self.lines else 0)

    def draw(self, sheet: Image, pen: ImageDraw, top: int) -> None:
        from PIL import Image

        if self.error:
            _write(pen, _GAP, top, f"{self.error}, of image values from 0 to 1", _GREY)
            width, height = self.BAR
            sheet.paste(Image.fromarray(colour_bar(width, height)), (_GAP, top + _LINE))
            pen.rectangle((_GAP, top + _LINE, _GAP + width - 1, top + _LINE + height - 1), outline=_GREY)
            ends = ((f"-{self.limit:g}", 0, "la"), ("0", width // 2, "ma"), (f"+{self.limit:g}", width, "ra"))
            for text, place, anchor in ends:
                pen.text((_GAP + place, top + _LINE + height + 1), text, fill=_BLACK, font=_font(), anchor=anchor)
        for number, line in enumerate(self.lines):
            _write(pen, _GAP, top + self.scale + number * _LINE, line, _GREY)


def pixels(images: Tensor) -> Pixels:
    """Turn images (B,C,H,W) in [0,1] into (B,H,W,C) uint8; C = 1 or 3, of others the first channel is shown."""
    import torch

    shown = images if images.shape[1] == 3 else images[:, :1]
    levels = shown.detach().float().cpu().nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8)
    made: Pixels = levels.permute(0, 2, 3, 1).contiguous().numpy()
    return made


def heatmap(table: Tensor, names: Sequence[str] = ()) -> Image:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one, darker for more.

    Args:
        table: (K,K) int64 counts; each row is shaded by its own share.
        names: of the K classes, or none for their numbers.
    """
    from PIL import Image, ImageDraw

    labels = [legible(shortened(name, 24)) for name in names] or list(map(str, range(len(table))))
    cell = max(4, min(44, 1600 // len(table)))
    written = cell >= 30  # counts and, in smaller cells, names would overlap
    margin = max(*map(_length, labels if written else ["truth"]), _length("truth")) + 2 * _GAP + _LINE
    sheet = Image.new("RGB", (margin + cell * len(table) + _GAP,) * 2, "white")
    pen = ImageDraw.Draw(sheet)
    _write(pen, margin, 3, "prediction", _GREY)
    _upright(sheet, "truth", 3, margin, _GREY, from_top=True)
    share = (table.double() / table.sum(1, keepdim=True).clamp(min=1)).sqrt()
    light = share.mul(-255).add(255).round().byte().numpy()
    squares = np.stack([light, light, np.full_like(light, 255)], -1).repeat(cell, 0).repeat(cell, 1)
    if written:
        squares[cell - 2 :: cell] = squares[cell - 1 :: cell] = 255
        squares[:, cell - 2 :: cell] = squares[:, cell - 1 :: cell] = 255
    sheet.paste(Image.fromarray(squares), (margin, margin))
    for row, counts in enumerate(table.tolist() if written else ()):
        top = margin + cell * row
        pen.text((margin - 6, top + cell / 2), labels[row], fill=_BLACK, font=_font(), anchor="rm")
        _upright(sheet, labels[row], top + (cell - _LINE) // 2, margin - 4, _BLACK)
        for column, count in enumerate(counts):
            colour = _BLACK if light[row, column] > 110 else (255, 255, 255)
            place = margin + cell * column + cell / 2 - 1, top + cell / 2
            pen.text(place, str(count or ""), fill=colour, font=_font(), anchor="mm")
    return sheet


def _upright(sheet: Image, text: str, left: int, edge: int, colour: Colour, from_top: bool = False) -> None:
    """Write a text from below to above that ends above `edge` or, `from_top`, begins below it."""
    from PIL import Image, ImageDraw

    line = Image.new("RGB", (max(1, _length(text)), _LINE), "white")
    _write(ImageDraw.Draw(line), 0, 0, text, colour)
    sheet.paste(line.transpose(Image.Transpose.ROTATE_90), (left, edge if from_top else edge - line.width))


def legible(text: str) -> str:
    """Write a text in the letters that Pillow's built-in font has: others without their accents, or as "?"."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[^ -~\n…·±]", "?", plain.translate(_ALIKE))


def shortened(text: str, longest: int) -> str:
    """Shorten a text in its middle, so that the ending of a file's name is kept."""
    return text if len(text) <= longest else f"{text[: longest - longest // 2 - 1]}…{text[-(longest // 2) :]}"


@lru_cache(maxsize=1)
def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(_SIZE)


def _length(text: str) -> int:
    return int(_font().getlength(text)) + 1


def _write(pen: ImageDraw, left: int, top: int, text: str, colour: Colour) -> None:
    pen.text((left, top), text, fill=colour, font=_font())


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines that are no wider than `width` pixels; no word is longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and _length(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
