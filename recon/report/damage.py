"""How quality falls as damage grows, as `action=curve` has written it into run folders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from recon.measures import DASH, Measure, measure
from recon.report import chart
from recon.report.elements import Child, Html, cut, note, scrolled, section, tag
from recon.report.gather import Problem
from recon.report.run import Run

_MOST = 6  # curves on the page
_CERTAIN = 0.05
Table = dict[str, NDArray[Any]]


def damage(problem: Problem) -> Html | None:
    """The curves of the runs of a problem, the first damage of each run first, and the tables of corruptions."""
    found = [(rank, run, name, table) for rank, entry in enumerate(problem.entries, 1) for run in entry.runs
             for name, table in run.damage.items()]  # fmt: skip
    if not found:
        return None
    parts = [part for rank, run, name, table in found[:_MOST] for part in _curve(rank, run, name, table)]
    text = (
        "By action=curve: every method sees the same test images under the same draws; bands are 95 % intervals over "
        "the images, and a star is a difference that is certain. The numbers at the lines are those of the list above."
    )
    left = len(found) - _MOST
    more = f" {left} further {'curves lie' if left > 1 else 'curve lies'} in the run folders." if left > 0 else ""
    return section("As damage grows", parts, note(text, more))


def _curve(rank: int, run: Run, name: str, table: Table) -> Iterator[Child]:
    methods = list(dict.fromkeys(table["method"].tolist()))
    yield tag("h4", chart.badge(rank), f" {cut(run.name)}: {name}")
    yield chart.legend(list(enumerate(map(cut, methods), 1)))
    charts = [_chart(methods, name, table, measure(each)) for each in run.damage_measures if each in table]
    yield tag("div", charts, class_="charts")
    main = measure(next(each for each in run.damage_measures if each in table))
    for part, under in _PARTS.items():
        if rows := run.damage_by(part, name):
            yield _by_part(f"{main.label} {under} {name}", rows, main)


def _chart(methods: list[str], name: str, table: Table, row: Measure) -> Html:
    lines, rows = [], []
    for number, method in enumerate(methods, 1):
        mine = table["method"] == method
        at = table["severity"][mine].tolist()
        y, low, high = ((table[each][mine] * row.factor).tolist() if each in table else []
                        for each in (row.name, f"{row.name}_low", f"{row.name}_high"))  # fmt: skip
        lines.append(chart.Line(number, method, at, y, low, high))
        rows.append([f"{number} {cut(method)}", *(row.text(value / row.factor) for value in y)])
        if row.name in _FIRST and not all(map(math.isnan, by := _column(table, "difference", mine))):
            ends = (_column(table, each, mine) for each in ("difference_low", "difference_high", "p"))
            rows.append([f"{number} less 1", *(_difference(row, *each) for each in zip(by, *ends, strict=True))])
    title = f"{row.label} against the severity of {name}"
    severities = [f"{value:g}" for value in dict.fromkeys(table["severity"].tolist())]
    drawn = chart.lines(title, lines, f"severity of {name}", row.heading)
    return chart.figure(title, drawn, chart.table(["method", *severities], rows))


_FIRST = ("accuracy", "psnr")  # of these the table has differences


def _column(table: Table, name: str, mine: NDArray[Any]) -> list[float]:
    return table[name][mine].tolist() if name in table else [math.nan] * int(mine.sum())


def _difference(row: Measure, by: float, low: float, high: float, p: float) -> str:
    """Write a difference with its interval; a star where it is certain."""
    return f"{row.text(by)} ({row.text(low)} to {row.text(high)}){'*' if p < _CERTAIN else ''}"


_PARTS = {"kind": "under each corruption of", "class": "of each class by the severity of"}
_NAMES = ("method", "corruption", "class", "images")


def _by_part(title: str, rows: list[dict[str, str]], row: Measure) -> Html:
    """The table of the kinds of a set of corruptions, or of classes, at each severity, folded up."""
    body = [[cut(each[key]) if key in _NAMES else _number(each[key], row) for key in each] for each in rows]
    return tag("details", tag("summary", title), scrolled(chart.table(list(rows[0]), body), title))


def _number(text: str, row: Measure) -> str:
    try:
        return row.text(float(text or "nan"))
    except ValueError:
        return DASH
