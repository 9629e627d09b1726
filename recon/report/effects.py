"""What each parameter that varies does to the main measure, everything else being equal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from recon.report import chart, labels
from recon.report.gather import Problem
from recon.report.html import Html, tag
from recon.report.measures import Measure, measure
from recon.report.statistics import Estimate, estimate


def marginal(problem: Problem, key: str) -> tuple[list[tuple[str, Estimate]], int]:
    """The main measure for each value of a parameter, everything else being equal.

    Only groups of runs count that differ in nothing but this parameter and hold all its values. They are averaged for
    each seed; the interval is over seeds.

    Returns:
        Each value with its estimate, and how many such groups there are.
    """
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for found in problem.configurations:
        others = tuple(value for name, value in found.values.items() if name != key)
        for run in found.runs:
            value = run.tested.get(str(problem.main), math.nan)
            if math.isfinite(value):
                groups.setdefault((run.seed, *others), {})[found.values[key]] = value
    values = sorted({found.values[key] for found in problem.configurations}, key=_numerically)
    complete = {place: group for place, group in groups.items() if len(group) == len(values)}
    rows = []
    for told in values:
        seeds: dict[str, list[float]] = {}
        for place, group in complete.items():
            seeds.setdefault(place[0], []).append(group[told])
        rows.append((told, estimate([sum(of_seed) / len(of_seed) for of_seed in seeds.values()])))
    return rows, len(complete)


def effects(problem: Problem) -> Html | None:
    """The effect of each parameter that varies."""
    keys = list(problem.configurations[0].values)
    if problem.main is None or not keys or len(problem.configurations) < 2:
        return None
    how, charts, unfair = measure(problem.main), [], []
    for key in keys:
        rows, groups = marginal(problem, key)
        name = labels.short(key, keys) if "." in key else key.replace("model/net", "net")
        if not groups:
            unfair.append(name)
            continue
        scaled = [
            (value or "(default)", *(v if v is None else how.clip(v) * how.factor for v in (e.mean, e.low, e.high)))
            for value, e in rows
        ]
        title = f"{how.label} by {name}"
        numbers = chart.table(
            [name, how.label, "95 % interval"],
            [[value or "(default)", how.text(e.mean, unit=True), _interval(how, e)] for value, e in rows],
        )
        drawn = chart.intervals(title, scaled, how.heading)  # type: ignore[arg-type]
        charts.append(chart.figure(title, drawn, numbers, tag("p", _spread(how, name, rows, groups), class_="note")))
    lost = f"No runs differ in {' or '.join(unfair)} alone, so its own effect cannot be told." if unfair else ""
    drawn_all = tag("div", charts, class_="charts") if charts else None
    return tag("section", tag("h3", "What each parameter does"), drawn_all, tag("p", lost or None, class_="note"))


def _spread(how: Measure, name: str, rows: Sequence[tuple[str, Estimate]], groups: int) -> str:
    ranked = sorted(rows, key=lambda row: how.better * row[1].mean)
    size = f"{how.text(abs(ranked[-1][1].mean - ranked[0][1].mean))} {how.points}"
    return (
        f"From the worst value ({ranked[0][0] or 'default'}) to the best ({ranked[-1][0] or 'default'}): {size}, over "
        f"{groups} group{'s' if groups > 1 else ''} of runs that differ in {name} alone."
    )


def _interval(how: Measure, e: Estimate) -> str:
    return "one seed: none" if e.low is None or e.high is None else how.interval(e.low, e.high)


def _numerically(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
