"""What each parameter that varies does to the main measure, everything else being equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from recon.measures import Measure
from recon.report import chart, naming
from recon.report.elements import Html, cut, note, section, tag
from recon.report.gather import Problem
from recon.report.inference import Estimate, estimate


def marginal(problem: Problem, key: str) -> tuple[list[tuple[str, Estimate]], int]:
    """Estimate the main measure for each value of a parameter, everything else being equal.

    Only groups of runs count that differ in this parameter alone. Where a group lacks some values, as in a search, the
    effect of each value is fitted beside that of each group (least squares), so that no value gains by the groups it is
    in. Of values that no chain of groups connects, the largest connected set is taken. The interval is over seeds,
    where each has all values.

    Returns:
        Each value with its estimate, and the number of such groups.
    """
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for entry in problem.entries:
        others = tuple(value for name, value in entry.values.items() if name != key)
        for run in entry.runs:
            result = run.tested.get(problem.main.name, math.nan) if problem.main else math.nan
            if math.isfinite(result):
                groups.setdefault((run.seed, *others), {})[entry.values[key]] = result
    connected = _connected([group for group in groups.values() if len(group) > 1])
    groups = {name: group for name, group in groups.items() if len(group) > 1 and connected.issuperset(group)}
    values = sorted(connected, key=_numerically)
    by_seed: dict[str, list[dict[str, float]]] = {}
    for (seed, *_), group in groups.items():
        by_seed.setdefault(seed, []).append(group)
    whole = all(_connected(of_seed) == connected for of_seed in by_seed.values())
    designs = list(by_seed.values()) if whole else [list(groups.values())]
    fitted = [_fit(design, values) for design in designs if design]
    return [(value, estimate([means[value] for means in fitted])) for value in values], len(groups)


def _connected(groups: Sequence[Mapping[str, float]]) -> set[str]:
    """Return the largest set of values that groups connect by sharing some."""
    unions: list[set[str]] = []
    for group in groups:
        touching = [union for union in unions if not union.isdisjoint(group)]
        unions = [union for union in unions if union.isdisjoint(group)] + [set(group).union(*touching)]
    return max(unions, key=len, default=set())


def _fit(groups: Sequence[Mapping[str, float]], values: Sequence[str]) -> dict[str, float]:
    """Fit a number to each group and one to each value; return each value's number in the mean group."""
    design, differences = [], []  # from the mean of the group, so that only the values are left to fit
    members = [np.array([value in group for value in values]) / len(group) for group in groups]
    means = [sum(group.values()) / len(group) for group in groups]
    for group, of_group, mean in zip(groups, members, means, strict=True):
        design += [(np.array(values) == value) - of_group for value in group]
        differences += [result - mean for result in group.values()]
    fitted = np.linalg.lstsq(np.array(design), np.array(differences), rcond=None)[0]
    level = float(np.mean([mean - of_group @ fitted for of_group, mean in zip(members, means, strict=True)]))
    return {value: level + float(effect) for value, effect in zip(values, fitted, strict=True)}


def effects(problem: Problem) -> Html | None:
    """The section with the effect of each parameter that varies, but for those of a search, which has its own."""
    keys = list(problem.entries[0].values)
    main = problem.main
    shown = [key for key in keys if key not in problem.searched]
    if main is None or not shown or len(problem.entries) < 2:
        return None
    charts, unfair = [], []
    for key in shown:
        rows, groups = marginal(problem, key)
        name = naming.short(key, keys) if "." in key else key.replace("model/net", "net")
        if groups:
            others = len({entry.values[key] for entry in problem.entries}) - len(rows)
            named = [(cut(value) or "(default)", estimated) for value, estimated in rows]
            charts.append(_chart(main, name, named, note(_spread(main, name, named, groups, others))))
        else:
            unfair.append(name)
    own = "its own effect" if len(unfair) == 1 else "the effect of each by itself"
    lost = f"No runs differ in {' or '.join(unfair)} alone, so {own} is unknown." if unfair else None
    drawn = tag("div", charts, class_="charts") if charts else None
    return section("What each parameter does", drawn, note(lost))


def _chart(main: Measure, name: str, rows: Sequence[tuple[str, Estimate]], spread: Html) -> Html:
    def scaled(value: float | None) -> float | None:
        return None if value is None else main.clip(value) * main.factor

    title, drawn, written = f"{main.label} by {name}", [], []
    for value, e in rows:
        interval = "none" if e.low is None or e.high is None else main.interval(e.low, e.high)
        drawn.append((value, main.clip(e.mean) * main.factor, scaled(e.low), scaled(e.high)))
        written.append([value, main.text(e.mean, unit=True), interval])
    numbers = chart.table([name, main.label, "95 % interval"], written)
    return chart.figure(title, chart.intervals(title, drawn, main.heading), numbers, spread)


def _spread(main: Measure, name: str, rows: Sequence[tuple[str, Estimate]], groups: int, others: int) -> str:
    ranked = sorted(rows, key=lambda row: main.better * row[1].mean)
    size = f"{main.text(abs(ranked[-1][1].mean - ranked[0][1].mean))} {main.points}"
    return (
        f"From the worst value ({ranked[0][0]}) to the best ({ranked[-1][0]}): {size}, over "
        f"{groups} group{'s' if groups > 1 else ''} of runs that differ in {name} alone."
        + (f" {others} more value{'s' if others > 1 else ''} cannot be compared so." if others else "")
    )


def _numerically(text: str) -> tuple[int, float, str]:
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
