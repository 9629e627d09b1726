"""Charts of a problem: learning curves, quality against cost, quality against severity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from recon.measures import measure
from recon.report import chart
from recon.report.gather import Configuration, Problem
from recon.report.html import Html, tag
from recon.report.leaderboard import COSTS
from recon.report.run import Run
from recon.report.statistics import estimate, pareto

_SHOWN = 8  # configurations in a chart: as many as there are colours


def curves(problem: Problem) -> Html | None:
    """Learning curves: the validation of the main measure after each epoch, and the training loss where comparable."""
    charts = []
    losses = {str([f.flat.get(f"model.{key}") for key in ("_target_", "loss")]) for f in problem.configurations}
    wanted = [f"val/{problem.main}"] if problem.main else ["val/loss"]
    for column in wanted + (["train/loss"] if len(losses) == 1 else []):
        how = measure(column.split("/")[1])
        found = [
            line for rank, each in enumerate(problem.configurations[:_SHOWN], 1)
            if (line := _curve(rank, each, column, how.factor)) is not None
        ]  # fmt: skip
        if not any(len(line.x) > 1 for line in found):
            continue
        title = f"{'Validation' if column.startswith('val') else 'Training'}: {how.label}"
        epochs = sorted({value for line in found for value in line.x})
        kept = epochs if len(epochs) <= 12 else [epochs[round(k * (len(epochs) - 1) / 11)] for k in range(12)]
        rows = [
            [f"{line.rank} {line.label}",
             *(how.text(dict(zip(line.x, line.y, strict=True)).get(e, math.nan) / how.factor) for e in kept)]
            for line in found
        ]  # fmt: skip
        numbers = chart.table(["configuration", *(f"epoch {e:g}" for e in kept)], rows)
        drawn = chart.lines(title, found, "epoch", how.heading, whole=True)
        charts.append(chart.figure(title, drawn, numbers))
    if not charts:
        return None
    note = "A line is the mean over seeds, its band reaches from the lowest to the highest seed."
    return _charted("How they learned", charts, problem, note)


def _curve(rank: int, found: Configuration, column: str, factor: float) -> chart.Line | None:
    by_epoch: dict[float, list[float]] = {}
    for run in found.runs:
        table = run.epochs
        if column in table and "epoch" in table:
            for epoch, value in zip(table["epoch"].tolist(), table[column].tolist(), strict=True):
                if math.isfinite(epoch) and math.isfinite(value):
                    by_epoch.setdefault(epoch + 1, []).append(value * factor)
    if not by_epoch:
        return None
    x = sorted(by_epoch)
    mean, low, high = ([f(by_epoch[e]) for e in x] for f in (lambda v: sum(v) / len(v), min, max))
    several = len(found.runs) > 1
    return chart.Line(rank, found.label, x, mean, low if several else (), high if several else ())


def cost(problem: Problem) -> Html | None:
    """Quality against cost, with those that no other beats in both."""
    if problem.main is None or len(problem.configurations) < 2:
        return None
    how, charts = measure(problem.main), []
    for key in COSTS:
        what = measure(key.split("/")[1])
        told = []
        for rank, each in enumerate(problem.configurations, 1):
            x, y = estimate(each.of(key)).mean, estimate(each.of(f"test/{problem.main}")).mean
            if math.isfinite(x) and math.isfinite(y):
                told.append((rank, each.label, x, y))
        if len({x for _, _, x, _ in told}) < 2:
            continue
        front = set(pareto([(-what.better * x, how.better * y) for _, _, x, y in told]))
        points = [
            chart.Point(rank, label, x, y * how.factor, place in front)
            for place, (rank, label, x, y) in enumerate(told)
        ]
        unit = f" ({what.unit})" if what.unit else ""
        title = f"{how.label} against {what.label}"
        below = f"{what.label}{unit}, {'less' if what.better < 0 else 'more'} is better"
        drawn = chart.scatter(title, points, below, how.heading, front_falls=what.better > 0)
        rows = [[f"{rank} {label}", what.text(x, unit=True), how.text(y, unit=True), "yes" if k in front else ""]
                for k, (rank, label, x, y) in enumerate(told)]  # fmt: skip
        numbers = chart.table(["configuration", what.label, how.label, "not beaten in both"], rows)
        charts.append(chart.figure(title, drawn, numbers, class_="time" if what.timed else ""))
    if not charts:
        return None
    note = "Filled marks on the stepped line are the Pareto front: no other is both better and cheaper."
    note += _machines(problem)
    return _charted("What quality costs", charts, problem, note)


def _machines(problem: Problem) -> str:
    """Say on what the times were taken, where that was not the same for all."""

    def kinds(*keys: str) -> set[tuple[str, ...]]:
        return {tuple(str(run.environment(key) or "") for key in keys) for run in problem.runs}

    several = len(kinds("processor", "cores", "gpus"))
    threads = sorted(kinds("threads"), key=lambda kind: (len(kind[0]), kind))
    where = [f"on {several} kinds of machine"] if several > 1 else []
    numbers = " or ".join(kind[0] or "an unknown number of" for kind in threads)
    where += [f"with {numbers} threads"] if len(threads) > 1 else []
    return f" The times were taken {' and '.join(where)} and compare only roughly." if where else ""


def severity(problem: Problem) -> Html | None:
    """The main measure against how badly an image was damaged, where that varies."""
    if problem.main is None:
        return None
    how = measure(problem.main)
    first = next((run for run in problem.runs if "severity" in run.images), None)
    if first is None or not np.ptp(np.nan_to_num(first.images["severity"])) > 0:
        return None
    level = np.nan_to_num(first.images["severity"])
    edges = np.unique(np.quantile(level, np.linspace(0, 1, min(6, max(2, len(level) // 20)) + 1)))
    bins = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, len(edges) - 2)
    if len(edges) < 3:
        return None
    x = [float(level[bins == k].mean()) for k in range(len(edges) - 1)]

    def binned(runs: Sequence[Run], name: str) -> list[float]:
        of_runs = [run.images[name] for run in runs if name in run.images and len(run.images[name]) == len(level)]
        if not of_runs:
            return []
        values = np.mean(of_runs, axis=0) * how.factor
        return [float(np.nanmean(part)) if np.isfinite(part := values[bins == k]).any() else math.nan
                for k in range(len(edges) - 1)]  # fmt: skip

    found = [
        chart.Line(rank, each.label, x, y)
        for rank, each in enumerate(problem.configurations[:_SHOWN], 1)
        if (y := binned(each.runs, problem.main))
    ]
    if not found:
        return None
    if before := binned([first], how.before or ""):
        found.append(chart.Line(0, "before", x, before))
    title = f"{how.label} against severity"
    drawn = chart.lines(title, found, f"severity: the level of {problem.damage.split(' (')[0]}", how.heading)
    header = ["configuration", *(f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges))]
    rows = [[f"{line.rank or ''} {line.label}".strip(), *(how.text(v / how.factor) for v in line.y)] for line in found]
    note = f"The {len(level):,} test images in {len(x)} groups of like severity; the grey line is the image as it came."
    figure = chart.figure(title, drawn, chart.table(header, rows))
    return _charted("How they stand worse damage", [figure], problem, note)


def _charted(title: str, charts: Sequence[Html], problem: Problem, note: str) -> Html:
    shown = [(rank, found.label) for rank, found in enumerate(problem.configurations[:_SHOWN], 1)]
    left_out = len(problem.configurations) - len(shown)
    if left_out > 0 and "Pareto" not in note:
        note += f" The first {_SHOWN} configurations are drawn, {left_out} are not."
    return tag("section", tag("h3", title), tag("div", charts, class_="charts"), chart.legend(shown),
               tag("p", note, class_="note"))  # fmt: skip
