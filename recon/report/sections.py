"""The sections of one problem: leaderboard, paired comparison, parameters, learning curves, cost, severity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from recon.report import chart, labels
from recon.report.gather import Configuration, Problem, Run, convention_of, paired_table
from recon.report.html import Child, Html, join, tag
from recon.report.measures import DASH, Measure, in_order, measure
from recon.report.statistics import Comparison, Estimate, compare, estimate, pareto, welch

SHOWN = 8  # configurations in charts and pictures: as many as there are colours
_PAIRED_AMONG = 6  # of these every pair is compared, of the rest the best with each
_BEFORE = {"psnr": "psnr_degraded", "psnr_hole": "psnr_hole_mean", "ssim": "ssim_degraded"}
_NOT_SHOWN = {"psnr_degraded", "ssim_degraded", "psnr_hole_mean"}
_COSTS = ("train/seconds", "cost/parameters", "cost/latency_ms", "cost/megapixels_per_second")


@dataclass(frozen=True)
class Column:
    """A column of a leaderboard: one metric, made in one way.

    Attributes:
        key: the metric with its split.
        measure: how it is written.
        made: in words, or "".
        mark: the number of its footnote.
    """

    key: str
    measure: Measure
    made: str
    mark: int

    def of(self, found: Configuration) -> Estimate:
        """Estimate it for a configuration, from the runs that made it so."""
        name = self.measure.name
        return estimate([run.metrics[self.key] for run in found.runs if self.key in run.metrics
                         and run.convention(name) == self.made])  # fmt: skip


def columns(problem: Problem) -> list[Column]:
    """The columns of a problem's leaderboard, the main measure first; a metric made in two ways has two."""
    names = {name for run in problem.runs for name in run.tested} - _NOT_SHOWN
    ordered = in_order(names)
    if problem.main in ordered:
        ordered.remove(problem.main)
        ordered.insert(0, problem.main)
    found: list[Column] = []
    for key in [f"test/{name}" for name in ordered] + list(_COSTS):
        name = key.split("/", 1)[1]
        for made in sorted(convention_of([run for run in problem.runs if key in run.metrics], name)):
            found.append(Column(key, measure(name), made, len(found) + 1))
    return found


def is_timed(key: str) -> bool:
    """Does a metric depend on how fast something ran?"""
    return key.split("/")[-1] in ("seconds", "latency_ms", "megapixels_per_second", "images_per_second")


def leaderboard(problem: Problem) -> Html:
    """All configurations, the best first, each measure with its interval over seeds."""
    found = columns(problem)
    main = found[0] if problem.main else None
    estimates = [[column.of(each) for column in found] for each in problem.configurations]
    known = [value for row in estimates if main for value in row[0].values]
    axis = chart.Axis(known, 14, 126)
    head: list[Child] = [tag("th", "rank", scope="col"), tag("th", "configuration", scope="col")]
    if main:
        head.append(tag("th", f"{main.measure.label} over seeds", scope="col", class_="picture"))
    head += [_head(column, found) for column in found]
    rows = []
    for rank, (each, row) in enumerate(zip(problem.configurations, estimates, strict=True), 1):
        badge = chart.badge(rank)
        cells: list[Child] = [
            tag("td", badge if problem.main else DASH, data_value=rank), tag("th", each.label, scope="row")
        ]  # fmt: skip
        if main:
            shown = math.isfinite(row[0].mean)
            picture = chart.forest(axis, row[0].mean, row[0].low, row[0].high, row[0].values, rank) if shown else None
            cells.append(tag("td", picture, class_="picture", data_value=row[0].mean))
        cells += [_cell(column, value, column is main) for column, value in zip(found, row, strict=True)]
        rows.append(tag("tr", cells))
    foot = _before(problem, found, main is not None)
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), foot, class_="sortable")
    region = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=f"Leaderboard: {problem.title}")
    made = [tag("li", f"{c.measure.label}: {c.made or 'its run does not say how it is made'}.") for c in found]
    how = tag("details", tag("summary", "How these numbers are made"), tag("ol", made))
    return tag("section", tag("h3", "Leaderboard"), tag("p", _seeds_sentence(problem), class_="note"), region, how)


def _head(column: Column, found: Sequence[Column]) -> Html:
    twins = [other for other in found if other.key == column.key]
    mark = tag("sup", str(column.mark)) if len(twins) > 1 else None
    arrow = {1: " ↑", -1: " ↓", 0: ""}[column.measure.better]
    way = {1: "higher is better", -1: "lower is better", 0: None}[column.measure.better]
    return tag("th", f"{_labelled(column.measure)}{arrow}", mark, scope="col", title=way, class_="number")


def _cell(column: Column, value: Estimate, strong: bool) -> Html:
    written: list[Child] = [column.measure.text(value.mean)]
    if value.half is not None and value.half > 0:
        written.append(tag("small", f" ± {column.measure.text(value.half, like=value.mean)}"))
    kind = "number main" if strong else "number"
    if is_timed(column.key):
        return tag("td", written, class_=f"{kind} time", data_value=value.mean)
    return tag("td", written, class_=kind, data_value=value.mean)


def _before(problem: Problem, found: Sequence[Column], pictured: bool) -> Html | None:
    """The foot of a leaderboard: the same measures of the degraded images, as they came."""
    run = problem.configurations[0].runs[0]
    told = [run.tested.get(_BEFORE.get(column.key[5:], "")) for column in found]
    if not any(value is not None for value in told):
        return None
    cells = [
        tag("td", DASH if value is None else column.measure.text(value), class_="number")
        for column, value in zip(found, told, strict=True)
    ]
    name = "before: the image as it came"
    empty = [tag("td", class_="picture")] if pictured else []
    return tag("tfoot", tag("tr", tag("td"), tag("th", name, scope="row"), empty, cells))


def _seeds_sentence(problem: Problem) -> str:
    counts = sorted({len(found.runs) for found in problem.configurations})
    if counts == [1]:
        return "One seed each: there is no interval over seeds, and nothing tells how much another seed would change."
    several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lone = " Where there is one seed alone there is no interval." if counts[0] == 1 else ""
    return f"Mean over {several} seeds ± half of the 95 % confidence interval (Student's t).{lone}"


# Paired comparison -------------------------------------------------------------------------------------------------


def comparisons(problem: Problem) -> list[Comparison]:
    """Compare the first configurations with each other and the best with all, on the same images; once."""
    if problem.comparisons is None:
        places, table = paired_table(problem) if problem.main else ([], np.empty((0, 0)))
        count = len(places)
        pairs = [(a, b) for a in range(min(count, _PAIRED_AMONG)) for b in range(a + 1, min(count, _PAIRED_AMONG))]
        pairs += [(0, b) for b in range(_PAIRED_AMONG, count)]
        problem.comparisons = [
            replace(each, first=places[each.first], second=places[each.second]) for each in compare(table, pairs)
        ]
    return problem.comparisons


def paired(problem: Problem) -> Html | None:
    """Tell which differences are real: the same images through each model, compared image by image."""
    if problem.main is None or len(problem.configurations) < 2:
        return None
    found = comparisons(problem)
    if not found:
        return None
    words = [tag("li", sentence(problem, each)) for each in found if each.first == found[0].first]
    rows = [_comparison_row(problem, each) for each in found]
    names = ("better", "worse", "by", "95 % interval over images", "p (Holm)", "verdict")
    header = [tag("th", name, scope="col", class_="number" if 2 <= k <= 4 else None) for k, name in enumerate(names)]
    numbers = tag("table", tag("thead", tag("tr", header)), tag("tbody", rows), class_="sortable")
    region = tag("div", numbers, class_="scroll", tabindex=0, role="group", aria_label="All pairs of configurations")
    note = (
        f"Each test image is compared with itself, averaged over seeds. The interval is a bootstrap over the images; p "
        f"is of Wilcoxon's signed-rank test, corrected by Holm's method for {len(found)} comparison"
        f"{'s' if len(found) > 1 else ''}. An interval over seeds is Welch's."
    )
    more = tag("details", tag("summary", f"All {len(found)} comparisons"), region) if len(found) > 1 else None
    return tag("section", tag("h3", "Is the difference real?"), tag("ul", words[:SHOWN], class_="verdicts"),
               tag("p", note, class_="note"), more)  # fmt: skip


def sentence(problem: Problem, found: Comparison) -> Html:
    """Say a comparison in words."""
    how = measure(str(problem.main))
    better, worse, size, low, high = _ordered(how, found)
    names = [join([chart.badge(place + 1), " ", problem.configurations[place].label]) for place in (better, worse)]
    images = f"on the same {found.images:,} {'labels' if problem.kind == 'generate' else 'images'}"
    within = f"95 % interval {how.text(low, like=size)} to {how.text(high, like=size)}, {_p(found.p)}"
    points = _points(how)
    if found.certain is False:
        end = f" cannot be told apart {images}: {how.text(size)} {points} may be an accident of the images ({within})."
        return join([names[0], " and ", names[1], end])
    head = [names[0], " is better than ", names[1], f" by {how.text(size)} {points} {images} ({within})"]
    if found.certain is None:
        return join([*head, ", but only one of the two tests says so: undecided."])
    return join([*head, f": this is no accident of the images{_of_seeds(problem, better, worse)}."])


def _points(how: Measure) -> str:
    """What a difference of a measure is counted in."""
    return "percentage points" if how.unit == "%" else how.unit or how.label


def _over_seeds(problem: Problem, better: int, worse: int) -> tuple[float, float] | None:
    """The interval of how much better over seeds; None where one of the two has one seed alone."""
    how = measure(str(problem.main))
    values = [problem.configurations[place].of(f"test/{how.name}") for place in (better, worse)]
    interval = welch(*values)
    return None if interval is None else (min(how.better * v for v in interval), max(how.better * v for v in interval))


def _verdict(problem: Problem, better: int, worse: int) -> str:
    interval = _over_seeds(problem, better, worse)
    if interval is None:
        return "real for these weights; one seed"
    return "real" if interval[0] > 0 else "real for these seeds"


def _of_seeds(problem: Problem, better: int, worse: int) -> str:
    how, interval = measure(str(problem.main)), _over_seeds(problem, better, worse)
    if interval is None:
        return "; with one seed nothing tells whether another training would agree"
    low, high = interval
    written = f"over seeds {how.text(low)} to {how.text(high)}"
    return f", nor of the seeds ({written})" if low > 0 else f", but it may be one of the seeds ({written})"


def _ordered(how: Measure, found: Comparison) -> tuple[int, int, float, float, float]:
    """The better and the worse place, and by how much, with the interval, counted so that more is better."""
    low, high = sorted((how.better * found.low, how.better * found.high))
    if how.better * found.mean >= 0:
        return found.first, found.second, abs(found.mean), low, high
    return found.second, found.first, abs(found.mean), -high, -low


def _comparison_row(problem: Problem, found: Comparison) -> Html:
    how = measure(str(problem.main))
    better, worse, size, low, high = _ordered(how, found)
    verdict = {False: "cannot be told apart", None: "undecided"}.get(found.certain) or _verdict(problem, better, worse)
    cells: list[Child] = [
        tag("td", f"{better + 1} {problem.configurations[better].label}", data_value=better),
        tag("td", f"{worse + 1} {problem.configurations[worse].label}", data_value=worse),
        tag("td", how.text(size, unit=True), class_="number", data_value=size),
        tag("td", f"{how.text(low)} to {how.text(high)}", class_="number", data_value=low),
        tag("td", _p(found.p), class_="number", data_value=found.p),
        tag("td", verdict),
    ]
    return tag("tr", cells)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


# Parameters --------------------------------------------------------------------------------------------------------


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
        drawn = chart.intervals(title, scaled, _labelled(how))  # type: ignore[arg-type]
        charts.append(chart.figure(title, drawn, numbers, tag("p", _spread(how, name, rows, groups), class_="note")))
    lost = f"No runs differ in {' or '.join(unfair)} alone, so its own effect cannot be told." if unfair else ""
    drawn_all = tag("div", charts, class_="charts") if charts else None
    return tag("section", tag("h3", "What each parameter does"), drawn_all, tag("p", lost or None, class_="note"))


def _spread(how: Measure, name: str, rows: Sequence[tuple[str, Estimate]], groups: int) -> str:
    ranked = sorted(rows, key=lambda row: how.better * row[1].mean)
    size = f"{how.text(abs(ranked[-1][1].mean - ranked[0][1].mean))} {_points(how)}"
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


# Curves ------------------------------------------------------------------------------------------------------------


def curves(problem: Problem) -> Html | None:
    """Learning curves: the validation of the main measure after each epoch, and the training loss where comparable."""
    charts = []
    losses = {(f.flat.get("model._target_"), f.flat.get("model.loss")) for f in problem.configurations}
    wanted = [f"val/{problem.main}"] if problem.main else ["val/loss"]
    for column in wanted + (["train/loss"] if len(losses) == 1 else []):
        how = measure(column.split("/")[1])
        found = [
            line for rank, each in enumerate(problem.configurations[:SHOWN], 1)
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
        drawn = chart.lines(title, found, "epoch", _labelled(how), whole=True)
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
    for key in _COSTS:
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
        drawn = chart.scatter(title, points, below, _labelled(how), front_falls=what.better > 0)
        rows = [[f"{rank} {label}", what.text(x, unit=True), how.text(y, unit=True), "yes" if k in front else ""]
                for k, (rank, label, x, y) in enumerate(told)]  # fmt: skip
        numbers = chart.table(["configuration", what.label, how.label, "not beaten in both"], rows)
        charts.append(chart.figure(title, drawn, numbers, class_="time" if is_timed(key) else ""))
    if not charts:
        return None
    note = "Filled marks on the stepped line are the Pareto front: no other is both better and cheaper."
    machines = {tuple(map(str, (run.environment("processor"), run.environment("cores"), run.environment("threads"),
                                run.environment("gpus")))) for run in problem.runs}  # fmt: skip
    if len(machines) > 1:
        note += f" The times were taken on {len(machines)} kinds of machine and compare only roughly."
    return _charted("What quality costs", charts, problem, note)


def severity(problem: Problem) -> Html | None:
    """The main measure against how badly an image was damaged, where that varies."""
    if problem.main is None:
        return None
    how = measure(problem.main)
    first = next((run for run in problem.runs if "severity" in run.images), None)
    if first is None or not np.ptp(np.nan_to_num(first.images["severity"])) > 0:
        return None
    level = first.images["severity"]
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
        for rank, each in enumerate(problem.configurations[:SHOWN], 1)
        if (y := binned(each.runs, problem.main))
    ]
    if not found:
        return None
    if before := binned([first], _BEFORE.get(problem.main, "")):
        found.append(chart.Line(0, "before", x, before))
    title = f"{how.label} against severity"
    drawn = chart.lines(title, found, f"severity: the level of {problem.damage.split(' (')[0]}", _labelled(how))
    header = ["configuration", *(f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges))]
    rows = [[f"{line.rank or ''} {line.label}".strip(), *(how.text(v / how.factor) for v in line.y)] for line in found]
    note = f"The {len(level):,} test images in {len(x)} groups of like severity; the grey line is the image as it came."
    figure = chart.figure(title, drawn, chart.table(header, rows))
    return _charted("How they stand worse damage", [figure], problem, note)


def _labelled(how: Measure) -> str:
    return f"{how.label} ({how.unit})" if how.unit else how.label


def _charted(title: str, charts: Sequence[Html], problem: Problem, note: str) -> Html:
    shown = [(rank, found.label) for rank, found in enumerate(problem.configurations[:SHOWN], 1)]
    left_out = len(problem.configurations) - len(shown)
    if left_out > 0 and "Pareto" not in note:
        note += f" The first {SHOWN} configurations are drawn, {left_out} are not."
    return tag("section", tag("h3", title), tag("div", charts, class_="charts"), chart.legend(shown),
               tag("p", note, class_="note"))  # fmt: skip


SECTIONS: tuple[Callable[[Problem], Html | None], ...] = (leaderboard, paired, effects, curves, cost, severity)
