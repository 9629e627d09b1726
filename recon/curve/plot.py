"""Curves as a picture: panels of lines with bands, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recon.report.chart import Axis
from recon.runs.draw import legible

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_SCALE = 3  # drawn larger and made smaller, so that lines are smooth
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 300, 70, 20, 34, 46
_SIZE, _LINE = 14, 20
# Okabe & Ito (2008): told apart by the colour-blind too.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (90, 90, 90))
_GRID, _GREY, _BLACK = (225, 225, 225), (110, 110, 110), (20, 20, 20)


@dataclass(frozen=True)
class Line:
    """A line with its band; `colour` counts in `COLOURS`, and `x` is of a line that has its own positions."""

    y: Sequence[float]
    colour: int
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    x: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """Some lines over the same axis; `zero` draws the line of no difference."""

    heading: str
    lines: list[Line] = field(default_factory=list)
    zero: bool = False


def plot(
    panels: Sequence[Panel], x: Sequence[float], x_label: str, labels: Sequence[str], note: str = "", log: bool = False
) -> Image:
    """Draw panels over one axis, with the names of the lines above them and a note below.

    Args:
        panels: from above to below.
        x: the positions of all points of lines without their own.
        x_label: of the axis.
        labels: of the lines, by their colours.
        note: a sentence.
        log: whether the axis is logarithmic.
    """
    from PIL import Image, ImageDraw

    head, foot = _LINE * len(labels) + 12, _LINE * (len(_broken(note)) + 1) if note else 8
    size = _WIDTH, head + _HEIGHT * len(panels) + foot
    sheet = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), "white")
    pen = ImageDraw.Draw(sheet, "RGBA")
    for number, label in enumerate(labels):
        at = 8 + _LINE * number
        pen.line(_scaled((_LEFT, at + 9, _LEFT + 26, at + 9)), fill=_colour(number), width=2 * _SCALE)
        _text(pen, _LEFT + 34, at, label, _BLACK)
    across = Axis([*x, *(value for panel in panels for line in panel.lines for value in line.x)],
                  _LEFT, _WIDTH - _RIGHT, log)  # fmt: skip
    for number, panel in enumerate(panels):
        _draw(pen, panel, x, across, head + number * _HEIGHT, x_label if number == len(panels) - 1 else "")
    for number, line in enumerate(_broken(note)):
        _text(pen, 12, head + _HEIGHT * len(panels) + _LINE * number, line, _GREY)
    return sheet.resize(size, Image.Resampling.LANCZOS)


def _draw(pen: ImageDraw, panel: Panel, x: Sequence[float], across: Axis, top: int, x_label: str) -> None:
    values = [
        value for line in panel.lines for each in (line.y, line.low, line.high) if each is not None for value in each
    ]
    up = Axis([*values, *([0.0] if panel.zero else [])], top + _HEIGHT - _BOTTOM, top + _TOP)
    _text(pen, _LEFT, top + 8, panel.heading, _BLACK)
    for tick in up.ticks():
        pen.line(_scaled((_LEFT, up.at(tick), _WIDTH - _RIGHT, up.at(tick))), fill=_GRID, width=_SCALE)
        _text(pen, _LEFT - 8, up.at(tick), f"{tick:.6g}", _GREY, "rm")
    for tick in across.ticks():
        _text(pen, across.at(tick), top + _HEIGHT - _BOTTOM + 5, f"{tick:.6g}", _GREY, "ma")
    if panel.zero:
        pen.line(_scaled((_LEFT, up.at(0), _WIDTH - _RIGHT, up.at(0))), fill=_BLACK, width=_SCALE)
    if x_label:
        _text(pen, (_LEFT + _WIDTH - _RIGHT) / 2, top + _HEIGHT - _BOTTOM + 24, x_label, _BLACK, "ma")
    for line in panel.lines:
        if line.low is not None and line.high is not None:
            at = line.x or x
            edge = [*zip(at, line.high, strict=True), *reversed([*zip(at, line.low, strict=True)])]
            pen.polygon(
                _scaled([end for a, b in edge for end in (across.at(a), up.at(b))]), fill=(*_colour(line.colour), 60)
            )
    for line in panel.lines:
        points = [end for a, b in zip(line.x or x, line.y, strict=True) for end in (across.at(a), up.at(b))]
        pen.line(_scaled(points), fill=_colour(line.colour), width=2 * _SCALE, joint="curve")
        for a, b in zip(points[::2], points[1::2], strict=True):
            pen.ellipse(_scaled((a - 2.5, b - 2.5, a + 2.5, b + 2.5)), fill=_colour(line.colour))


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[number % len(COLOURS)]


def _scaled(values: Sequence[float]) -> list[float]:
    return [value * _SCALE for value in values]


def _text(pen: ImageDraw, left: float, top: float, text: str, colour: tuple[int, int, int], anchor: str = "la") -> None:
    from PIL import ImageFont

    pen.text(
        (left * _SCALE, top * _SCALE),
        legible(text),
        fill=colour,
        font=ImageFont.load_default(_SIZE * _SCALE),
        anchor=anchor,
    )


def _broken(text: str) -> list[str]:
    """Break a text into lines of a hundred letters."""
    from textwrap import wrap

    return wrap(text, 104)
