"""What each parameter that varies does to the main measure, everything else being equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from recon.measures import Measure, measure
from recon.report import chart, labels
from recon.report.gather import Problem
from recon.report.html import Html, tag
from recon.report.statistics import Estimate, estimate


def marginal(problem: Problem, key: str) -> tuple[list[tuple[str, Estimate]], int]:
    """The main measure for each value of a parameter, everything else being equal.

    Only groups of runs count that differ in nothing but this parameter. Where a group lacks some values, as in a
    search, the effect of each value is fitted beside that of each group (least squares), so that no value gains by the
    groups it is in. Of values that no chain of groups connects, the largest connected set is taken. The interval is
    over seeds, where each has all values.

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
    connected = _connected([group for group in groups.values() if len(group) > 1])
    groups = {place: group for place, group in groups.items() if len(group) > 1 and connected.issuperset(group)}
    values = sorted(connected, key=_numerically)
    seeds: dict[str, list[dict[str, float]]] = {}
    for place, group in groups.items():
        seeds.setdefault(place[0], []).append(group)
    whole = all(_connected(of_seed) == connected for of_seed in seeds.values())
    designs = list(seeds.values()) if whole else [list(groups.values())]
    fitted = [_fit(design, values) for design in designs if design]
    return [(told, estimate([means[told] for means in fitted])) for told in values], len(groups)


def _connected(groups: Sequence[Mapping[str, float]]) -> set[str]:
    """The largest set of values that groups connect by sharing some."""
    unions: list[set[str]] = []
    for group in groups:
        touching = [union for union in unions if not union.isdisjoint(group)]
        unions = [union for union in unions if union.isdisjoint(group)] + [set(group).union(*touching)]
    return max(unions, key=len, default=set())


def _fit(groups: Sequence[Mapping[str, float]], values: Sequence[str]) -> dict[str, float]:
    """Fit a number to each group and one to each value; gives what each value comes to in the mean group."""
    design, differences = [], []  # from the mean of the group, so that only the values are left to fit
    members = [np.array([told in group for told in values]) / len(group) for group in groups]
    means = [sum(group.values()) / len(group) for group in groups]
    for group, of_group, mean in zip(groups, members, means, strict=True):
        design += [(np.array(values) == told) - of_group for told in group]
        differences += [result - mean for result in group.values()]
    fitted = np.linalg.lstsq(np.array(design), np.array(differences), rcond=None)[0]
    level = float(np.mean([mean - of_group @ fitted for of_group, mean in zip(members, means, strict=True)]))
    return {told: level + float(effect) for told, effect in zip(values, fitted, strict=True)}


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
        rows = [(labels.cut(value) or "(default)", e) for value, e in rows]
        scaled = [
            (value, *(v if v is None else how.clip(v) * how.factor for v in (e.mean, e.low, e.high)))
            for value, e in rows
        ]
        title = f"{how.label} by {name}"
        others = len({found.values[key] for found in problem.configurations}) - len(rows)
        numbers = chart.table(
            [name, how.label, "95 % interval"],
            [[value, how.text(e.mean, unit=True), _interval(how, e)] for value, e in rows],
        )
        drawn = chart.intervals(title, scaled, how.heading)  # type: ignore[arg-type]
        charts.append(
            chart.figure(title, drawn, numbers, tag("p", _spread(how, name, rows, groups, others), class_="note"))
        )
    lost = f"No runs differ in {' or '.join(unfair)} alone, so its own effect cannot be told." if unfair else ""
    drawn_all = tag("div", charts, class_="charts") if charts else None
    return tag("section", tag("h3", "What each parameter does"), drawn_all, tag("p", lost or None, class_="note"))


def _spread(how: Measure, name: str, rows: Sequence[tuple[str, Estimate]], groups: int, others: int) -> str:
    ranked = sorted(rows, key=lambda row: how.better * row[1].mean)
    size = f"{how.text(abs(ranked[-1][1].mean - ranked[0][1].mean))} {how.points}"
    return (
        f"From the worst value ({ranked[0][0]}) to the best ({ranked[-1][0]}): {size}, over "
        f"{groups} group{'s' if groups > 1 else ''} of runs that differ in {name} alone."
        + (f" {others} more value{'s' if others > 1 else ''} cannot be compared so." if others else "")
    )


def _interval(how: Measure, e: Estimate) -> str:
    return "none" if e.low is None or e.high is None else how.interval(e.low, e.high)


def _numerically(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
