"""Charts of a problem: learning curves, quality against cost, quality against severity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from recon.measures import ROWS
from recon.report import chart
from recon.report.elements import Html, note, section, tag
from recon.report.gather import Entry, Problem
from recon.report.inference import estimate, pareto
from recon.report.leaderboard import costs
from recon.report.ledger import hardware
from recon.report.run import Run

_SHOWN = 8  # entries in a chart: as many as there are colours


def curves(problem: Problem) -> Html | None:
    """Learning curves: the validation of the main measure after each epoch, and the training loss where comparable."""
    charts = []
    losses = {
        str([entry.runs[0].flat.get(f"model.{key}") for key in ("_target_", "loss")]) for entry in problem.entries
    }
    wanted = [("val", problem.main or ROWS["loss"])] + ([("train", ROWS["loss"])] if len(losses) == 1 else [])
    for split, measure in wanted:
        entries = enumerate(problem.entries[:_SHOWN], 1)
        curves = [_curve(rank, entry, f"{split}/{measure.name}", measure.factor) for rank, entry in entries]
        lines = [line for line in curves if line is not None]
        if not any(len(line.x) > 1 for line in lines):
            continue
        title = f"{'Validation' if split == 'val' else 'Training'}: {measure.label}"
        epochs = sorted({value for line in lines for value in line.x})
        shown = epochs if len(epochs) <= 12 else [epochs[round(k * (len(epochs) - 1) / 11)] for k in range(12)]
        rows = [
            [f"{line.rank} {line.label}",
             *(measure.text(dict(zip(line.x, line.y, strict=True)).get(e, math.nan) / measure.factor) for e in shown)]
            for line in lines
        ]  # fmt: skip
        numbers = chart.table(["configuration", *(f"epoch {e:g}" for e in shown)], rows)
        drawn = chart.lines(title, lines, "epoch", measure.heading, whole=True)
        charts.append(chart.figure(title, drawn, numbers))
    if not charts:
        return None
    text = "A line is the mean over seeds, its band reaches from the lowest to the highest seed."
    return _charted("How they learned", charts, problem, text)


def _curve(rank: int, entry: Entry, column: str, factor: float) -> chart.Line | None:
    by_epoch: dict[float, list[float]] = {}
    for run in entry.runs:
        table = run.epochs
        if column in table and "epoch" in table:
            for epoch, value in zip(table["epoch"].tolist(), table[column].tolist(), strict=True):
                if math.isfinite(epoch) and math.isfinite(value):
                    by_epoch.setdefault(epoch + 1, []).append(value * factor)
    if not by_epoch:
        return None
    x = sorted(by_epoch)
    mean, low, high = ([f(by_epoch[e]) for e in x] for f in (lambda v: sum(v) / len(v), min, max))
    several = len(entry.runs) > 1
    return chart.Line(rank, entry.label, x, mean, low if several else (), high if several else ())


def cost(problem: Problem) -> Html | None:
    """Quality against cost, with the entries that no other beats in both."""
    main = problem.main
    if main is None or len(problem.entries) < 2:
        return None
    charts = []
    for key, price in costs(problem).items():
        means = [(rank, entry.label, estimate(entry.of(key)).mean, estimate(entry.of(f"test/{main.name}")).mean)
                 for rank, entry in enumerate(problem.entries, 1)]  # fmt: skip
        measured = [values for values in means if math.isfinite(values[2]) and math.isfinite(values[3])]
        if len({x for _, _, x, _ in measured}) < 2 or not price.better:
            continue
        front = set(pareto([(-price.better * x, main.better * y) for _, _, x, y in measured]))
        points = [
            chart.Point(rank, label, x, y * main.factor, index in front)
            for index, (rank, label, x, y) in enumerate(measured)
        ]
        title = f"{main.label} against {price.label}"
        below = f"{price.heading}, {'less' if price.better < 0 else 'more'} is better"
        drawn = chart.scatter(title, points, below, main.heading, front_falls=price.better > 0)
        rows = [[f"{rank} {label}", price.text(x, unit=True), main.text(y, unit=True), "yes" if k in front else ""]
                for k, (rank, label, x, y) in enumerate(measured)]  # fmt: skip
        numbers = chart.table(["configuration", price.label, main.label, "not beaten in both"], rows)
        charts.append(chart.figure(title, drawn, numbers, class_="time" if price.timed else ""))
    if not charts:
        return None
    text = "Filled marks on the stepped line are the Pareto front: no other is both better and cheaper."
    return _charted("What quality costs", charts, problem, text + _machines(problem))


def _machines(problem: Problem) -> str:
    """Say on which machines the times were taken, where not all are the same: by what they have."""
    environments = [run.folder.environment for run in problem.runs]
    # Older runs do not record the memory, nor the model of the processor.
    older = any("memory" not in each for each in environments)
    machines = sorted({hardware(each, ("memory", "processor") if older else ()) for each in environments})
    threads = sorted({each.get("threads") or 0 for each in environments})
    where = []
    if len(machines) > 1:
        named = "; ".join(machine or "unknown" for machine in machines[:4])
        where.append(f"on {len(machines)} kinds of machine ({named}{'; …' if len(machines) > 4 else ''})")
    if len(threads) > 1:
        where.append(f"with {' or '.join(str(n) if n else 'an unknown number of' for n in threads)} threads")
    return f" The times were taken {' and '.join(where)} and compare only roughly." if where else ""


def severity(problem: Problem) -> Html | None:
    """The main measure against how badly an image was damaged, where that varies."""
    main = problem.main
    first = next((run for run in problem.runs if "severity" in run.images), None)
    if main is None or first is None or not np.ptp(np.nan_to_num(first.images["severity"])) > 0:
        return None
    level = np.nan_to_num(first.images["severity"])
    edges = np.unique(np.quantile(level, np.linspace(0, 1, min(6, max(2, len(level) // 20)) + 1)))
    if len(edges) < 3:
        return None
    groups = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, len(edges) - 2)
    parts = [groups == k for k in range(len(edges) - 1)]
    x = [float(level[part].mean()) for part in parts]

    def grouped(runs: Sequence[Run], name: str) -> list[float]:
        columns = [run.images[name] for run in runs if name in run.images and len(run.images[name]) == len(level)]
        if not columns:
            return []
        values = np.mean(columns, axis=0) * main.factor
        return [float(np.nanmean(values[part])) if np.isfinite(values[part]).any() else math.nan for part in parts]

    lines = [
        chart.Line(rank, entry.label, x, y)
        for rank, entry in enumerate(problem.entries[:_SHOWN], 1)
        if (y := grouped(entry.runs, main.name))
    ]
    if not lines:
        return None
    if before := grouped([first], main.before or ""):
        lines.append(chart.Line(0, "before", x, before))
    title = f"{main.label} against severity"
    drawn = chart.lines(title, lines, f"severity: the level of {problem.damage.split(' (')[0]}", main.heading)
    header = ["configuration", *(f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges))]
    rows = [
        [f"{line.rank or ''} {line.label}".strip(), *(main.text(v / main.factor) for v in line.y)] for line in lines
    ]
    figure = chart.figure(title, drawn, chart.table(header, rows))
    text = (
        f"The {len(level):,} test images in {len(x)} groups of similar severity; the grey line is the degraded image."
    )
    return _charted("How they stand worse damage", [figure], problem, text)


def _charted(title: str, charts: Sequence[Html], problem: Problem, text: str) -> Html:
    shown = [(rank, entry.label) for rank, entry in enumerate(problem.entries[:_SHOWN], 1)]
    left_out = len(problem.entries) - len(shown)
    if left_out > 0 and "Pareto" not in text:
        text += f" The first {_SHOWN} configurations are drawn, {left_out} are not."
    return section(title, tag("div", charts, class_="charts"), chart.legend(shown), note(text))
