"""Charts as inline SVG, each with a title, and the table of its numbers behind it.

Colours repeat what a number says: the rank of an entry, which is the same all over a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from recon.report import elements
from recon.report.elements import Child, Html, cut, scrolled, tag

# The width of a phone, so that text is not shrunk there.
WIDTH, HEIGHT = 440, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 26, 28, 44
_LARGEST = 1e100  # values beyond are not drawn


class Axis:
    """Maps values to coordinates.

    Args:
        values: what the axis must cover; those that are not finite do not count.
        start, end: its coordinates.
        log: whether it is logarithmic.
    """

    def __init__(self, values: Sequence[float], start: float, end: float, log: bool = False) -> None:
        drawn = [value for value in values if abs(value) < _LARGEST and (value > 0 or not log)] or [1.0]
        self.log, self.start, self.end = log, start, end
        low, high = (math.log10(min(drawn)), math.log10(max(drawn))) if log else (min(drawn), max(drawn))
        room = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
        self.low, self.high = low - room, high + room

    def at(self, value: float) -> float:
        """Return the coordinate of a value, clipped to a little beyond the axis."""
        value = math.log10(max(value, 1e-300)) if self.log else value
        share = (value - self.low) / (self.high - self.low)
        return self.start + (min(max(share, -0.1), 1.1) if share == share else 0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return about five round values."""
        if self.log:
            whole = [
                m * 10.0**power
                for power in range(math.floor(self.low), math.ceil(self.high) + 1)
                for m in ((1, 2, 5) if self.high - self.low < 2 else (1,))
            ]
            return [value for value in whole if self.low <= math.log10(value) <= self.high]
        rough = (self.high - self.low) / 5
        unit = 10 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough)
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Line:
    """A line of a chart: its rank (0 where it is of no entry), its points and their range."""

    rank: int
    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Point:
    """A point of a scatter chart; `front` where no other beats it; its rank stands in it, or its `mark`."""

    rank: int
    label: str
    x: float
    y: float
    front: bool
    mark: str = ""


def colour(rank: int) -> str:
    """Return the CSS class of a rank's colour; ranks above eight are grey."""
    return f"c{rank if 1 <= rank <= 8 else 0}"


def lines(
    title: str, curves: Sequence[Line], x_label: str, y_label: str, whole: bool = False, log: bool = False
) -> Html:
    """Draw lines, each ending in its rank; `whole` keeps the ticks below to whole numbers, `log` is of that axis."""
    x = Axis([value for line in curves for value in line.x], _LEFT, WIDTH - _RIGHT, log)
    y = Axis([v for line in curves for vs in (line.y, line.low, line.high) for v in vs], HEIGHT - _BOTTOM, _TOP)
    parts: list[Child] = [_frame(x, y, x_label, y_label, whole)]
    ends: list[tuple[float, int]] = []
    for line in sorted(curves, key=lambda line: -line.rank):
        finite = [index for index, value in enumerate(line.y) if math.isfinite(value)]
        if not finite:
            continue
        if line.low and len(finite) > 1:
            upper = [f"{x.at(line.x[k]):.1f},{y.at(line.high[k]):.1f}" for k in finite if math.isfinite(line.high[k])]
            lower = [f"{x.at(line.x[k]):.1f},{y.at(line.low[k]):.1f}" for k in finite if math.isfinite(line.low[k])]
            parts.append(tag("path", d=f"M{'L'.join([*upper, *reversed(lower)])}Z", class_=f"band {colour(line.rank)}"))
        path = "L".join(f"{x.at(line.x[k]):.1f},{y.at(line.y[k]):.1f}" for k in finite)
        if len(finite) > 1:
            parts.append(tag("path", d=f"M{path}", class_=f"line {colour(line.rank)}"))
        else:
            parts.append(_dot(x.at(line.x[finite[0]]), y.at(line.y[finite[0]]), line.rank, 3))
        if line.rank:
            ends.append((y.at(line.y[finite[-1]]), line.rank))
    parts += [
        tag("text", str(rank), x=WIDTH - _RIGHT + 6, y=f"{at + 4:.1f}", class_=f"mark {colour(rank)}")
        for at, rank in _apart(ends, 12, _TOP + 2, HEIGHT - _BOTTOM)
    ]
    return _svg(title, parts)


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str, front_falls: bool = False) -> Html:
    """Draw numbered points and, as steps, the Pareto front; `front_falls` where more of x is better."""
    xs = [point.x for point in points]
    x = Axis(xs, _LEFT, WIDTH - _RIGHT, log=min(xs) > 0 and max(xs) / min(xs) > 8)
    y = Axis([point.y for point in points], HEIGHT - _BOTTOM, _TOP)
    parts: list[Child] = [_frame(x, y, x_label, y_label, False)]
    best = sorted((point for point in points if point.front), key=lambda point: point.x, reverse=front_falls)
    if len(best) > 1:
        steps = f"M{x.at(best[0].x):.1f},{y.at(best[0].y):.1f}"
        steps += "".join(f"H{x.at(point.x):.1f}V{y.at(point.y):.1f}" for point in best[1:])
        parts.append(tag("path", d=steps, class_="front"))
    for point in sorted(points, key=lambda point: -point.rank):
        at = x.at(point.x), y.at(point.y)
        parts.append(
            tag("g", tag("title", f"{point.mark or point.rank} {point.label}"),
                _dot(*at, point.rank, 9, hollow=not point.front),
                tag("text", point.mark or str(point.rank), x=f"{at[0]:.1f}", y=f"{at[1] + 3.6:.1f}",
                    class_=f"inside{'' if point.front else ' hollow ' + colour(point.rank)}"))
        )  # fmt: skip
    return _svg(title, parts)


@dataclass(frozen=True)
class Mark:
    """A trial of a search in a chart: hollow where it was ended early; the best has a ring."""

    x: float
    y: float
    label: str
    hollow: bool = False
    best: bool = False


def trials(
    title: str, marks: Sequence[Mark], x_label: str, y_label: str, log: bool = False, names: Sequence[str] = ()
) -> Html:
    """Draw trials; with `names`, x is the index of a name, and equal ones stand side by side."""
    xs = [*range(len(names))] if names else [mark.x for mark in marks]
    x, y = Axis(xs, _LEFT, WIDTH - _RIGHT, log), Axis([mark.y for mark in marks], HEIGHT - _BOTTOM, _TOP)
    if names:
        x.low, x.high = -0.5, len(names) - 0.5
    parts: list[Child] = [_frame(x, y, x_label, y_label, bool(names), names)]
    for number, mark in enumerate(sorted(marks, key=lambda mark: mark.best)):
        aside = ((number * 0.618) % 1 - 0.5) * 0.4 if names else 0.0
        at = x.at(mark.x + aside), y.at(mark.y)
        ring = tag("circle", cx=f"{at[0]:.1f}", cy=f"{at[1]:.1f}", r=9, class_="ring") if mark.best else None
        side, anchor = (13, "axis") if at[0] < WIDTH / 2 else (-13, "axis end")
        said = tag("text", "best", x=f"{at[0] + side:.1f}", y=f"{at[1] + 4:.1f}", class_=anchor) if mark.best else None
        parts.append(tag("g", tag("title", mark.label), _dot(*at, 1, 4.5, hollow=mark.hollow), ring, said))
    return _svg(title, parts)


def plane(title: str, places: Sequence[Sequence[float]], labels: Sequence[int]) -> Html:
    """Draw images as the numbers of their classes, "•" where there is none, at their places (x,y) in a plane."""
    across, up = Axis([x for x, _ in places], 4, WIDTH - 4), Axis([y for _, y in places], WIDTH - 4, 4)
    parts = [
        tag("text", str(label) if label >= 0 else "•", x=f"{across.at(x):.0f}", y=f"{up.at(y) + 3:.0f}",
            class_=colour(label + 1), data_image=number)
        for number, ((x, y), label) in enumerate(zip(places, labels, strict=True))
    ]  # fmt: skip
    return _svg(title, parts, WIDTH)


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> Html:
    """Draw named shares of 0 to 1 as bars with what is written beside each."""
    left, parts = min(170, 14 + 7 * max(len(name) for name, *_ in rows)), list[Child]()
    for index, (name, share, words) in enumerate(rows):
        y, width = 10 + 28 * index, share * (WIDTH - left - 150)
        parts.append(tag("text", cut(name, 24), x=left - 8, y=y + 13, class_="tick end"))
        parts.append(tag("rect", x=left, y=y, width=f"{max(width, 1):.1f}", height=17, class_="bar"))
        parts.append(tag("text", words, x=f"{left + width + 8:.1f}", y=y + 13, class_="tick"))
    return _svg(title, parts, 14 + 28 * len(rows))


def intervals(title: str, rows: Sequence[tuple[str, float, float | None, float | None]], label: str) -> Html:
    """Draw named means with their intervals, one below the other."""
    height = 40 + 26 * len(rows) + 10
    left = min(170, 14 + 7 * max(len(name) for name, *_ in rows))
    x = Axis([v for _, *values in rows for v in values if v is not None], left, WIDTH - 14)
    parts: list[Child] = []
    for value in x.ticks():
        parts.append(tag("line", x1=f"{x.at(value):.1f}", x2=f"{x.at(value):.1f}", y1=8, y2=height - 40, class_="grid"))
        parts.append(tag("text", _number(value), x=f"{x.at(value):.1f}", y=height - 24, class_="tick middle"))
    for index, (name, mean, low, high) in enumerate(rows):
        y = 22 + 26 * index
        parts.append(tag("text", name[:24], x=left - 8, y=y + 4, class_="tick end"))
        if low is not None and high is not None:
            parts.append(tag("line", x1=f"{x.at(low):.1f}", x2=f"{x.at(high):.1f}", y1=y, y2=y, class_="whisker"))
        parts.append(tag("circle", cx=f"{x.at(mean):.1f}", cy=y, r=4, class_="mean"))
    parts.append(tag("text", label, x=(left + WIDTH - 14) / 2, y=height - 6, class_="axis middle"))
    return _svg(title, parts, height)


def forest(axis: Axis, mean: float, low: float | None, high: float | None, seeds: Sequence[float], rank: int) -> Html:
    """Draw one line of a leaderboard: the mean, its interval, and a tick for each seed. The row has the numbers."""
    parts: list[Child] = []
    if low is not None and high is not None:
        ends = max(axis.at(low), 1), min(axis.at(high), 139)
        kind = f"whisker {colour(rank)}"
        parts.append(tag("line", x1=f"{ends[0]:.1f}", x2=f"{ends[1]:.1f}", y1=10, y2=10, class_=kind))
    parts += [
        tag("line", x1=f"{axis.at(v):.1f}", x2=f"{axis.at(v):.1f}", y1=5, y2=15, class_=f"seed {colour(rank)}")
        for v in seeds
    ]
    parts.append(_dot(axis.at(mean), 10, rank, 4))
    return tag("svg", parts, viewBox="0 0 140 20", class_="forest", aria_hidden="true", focusable="false")


def badge(rank: int) -> Html:
    """Make the rank of an entry, in its colour."""
    return tag("b", str(rank), class_=f"badge {colour(rank)}")


def legend(entries: Sequence[tuple[int, str]]) -> Html:
    """List which rank and colour is which entry."""
    items = [tag("li", badge(rank), " ", label) for rank, label in entries]
    return tag("ul", items, class_="legend")


def figure(title: str, picture: Html, table: Html, *more: Child, class_: str = "") -> Html:
    """Put a chart under its title, with its numbers folded up below."""
    behind = tag("details", tag("summary", "The numbers"), scrolled(table, f"The numbers of: {title}"))
    return tag("figure", tag("figcaption", title), picture, *more, behind, class_=class_ or None)


def table(header: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """Make a plain table; the first cell of a row heads it."""
    body = [
        tag("tr", tag("th", row[0], scope="row"),
            [tag("td", cell, data_label=name) for name, cell in zip(header[1:], row[1:], strict=True)])
        for row in rows
    ]  # fmt: skip
    return elements.table(header, body, class_="numbers")


def _frame(x: Axis, y: Axis, x_label: str, y_label: str, whole: bool, names: Sequence[str] = ()) -> Html:
    parts: list[Child] = []
    for value in y.ticks():
        at = f"{y.at(value):.1f}"
        parts.append(tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(tag("text", _number(value), x=_LEFT - 6, y=f"{y.at(value) + 4:.1f}", class_="tick end"))
    ticks = [(value, _number(value)) for value in x.ticks() if not whole or value == round(value)]
    for value, text in [*enumerate(names)] if names else ticks:
        parts.append(tag("text", cut(text, 80 // len(names)) if names else text, x=f"{x.at(value):.1f}", y=HEIGHT - 26,
                         class_="tick middle"))  # fmt: skip
    parts.append(tag("text", x_label, x=(_LEFT + WIDTH - _RIGHT) / 2, y=HEIGHT - 6, class_="axis middle"))
    parts.append(tag("text", y_label, x=4, y=10, class_="axis"))
    return Html("".join(map(str, parts)))


def _svg(title: str, parts: Sequence[Child], height: int = HEIGHT) -> Html:
    return tag("svg", tag("title", title), parts, viewBox=f"0 0 {WIDTH} {height}", role="img", aria_label=title)


def _dot(x: float, y: float, rank: int, radius: float, hollow: bool = False) -> Html:
    kind = "hollow" if hollow else "dot"
    return tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=radius, class_=f"{kind} {colour(rank)}")


def _apart(marks: Sequence[tuple[float, int]], gap: float, top: float, bottom: float) -> list[tuple[float, int]]:
    """Move marks that would overlap apart, keeping their order."""
    placed: list[list[float]] = [[at, rank] for at, rank in sorted(marks)]
    for before, after in pairwise(placed):
        after[0] = max(after[0], before[0] + gap)
    over = placed[-1][0] - bottom if placed else 0
    if over > 0:
        placed[-1][0] -= over
        for after, before in zip(placed[::-1], placed[-2::-1], strict=False):
            before[0] = min(before[0], after[0] - gap)
    return [(max(at, top), int(rank)) for at, rank in placed]


def _number(value: float) -> str:
    if value and (abs(value) >= 1e4 or abs(value) < 1e-3):
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{letter}".replace("-", "−")
        return (f"{value:g}" if abs(value) >= 1e-4 else f"{value:.0e}".replace("e-0", "e-")).replace("-", "−")
    return f"{value:.6g}".replace("-", "−")
