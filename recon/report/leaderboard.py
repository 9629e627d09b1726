"""The leaderboard of a problem: each measure with its interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recon.measures import BASELINES, DASH, Measure, in_order, measure
from recon.report import chart
from recon.report.gather import Configuration, Problem, convention_of
from recon.report.html import Child, Html, tag
from recon.report.statistics import Estimate, estimate

COSTS = ("train/seconds", "cost/parameters", "cost/latency_ms", "cost/megapixels_per_second")


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
    names = {name for run in problem.runs for name in run.tested} - BASELINES - {"not_finite"}
    ordered = in_order(names)
    if problem.main in ordered:
        ordered.remove(problem.main)
        ordered.insert(0, problem.main)
    found: list[Column] = []
    for key in [f"test/{name}" for name in ordered] + list(COSTS):
        name = key.split("/", 1)[1]
        for made in sorted(convention_of([run for run in problem.runs if key in run.metrics], name)):
            found.append(Column(key, measure(name), made, len(found) + 1))
    return found


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
    note = tag("p", _seeds_sentence(problem), class_="note")
    return tag("section", tag("h3", "Leaderboard"), note, region, _notes(problem), how)


def _notes(problem: Problem) -> Html | None:
    """What else must be known of the runs behind a leaderboard."""
    told = [
        f"{found.label}: seed{'s' if len(found.failed) > 1 else ''} {', '.join(sorted(found.failed))} failed, and so "
        "the mean is of the others alone."
        for found in problem.configurations
        if found.failed
    ]
    if not problem.same_images:
        told.append("Not all of these runs record which images they were tested on: not known to be the same images.")
    return tag("ul", [tag("li", each) for each in told], class_="note") if told else None


def _head(column: Column, found: Sequence[Column]) -> Html:
    twins = [other for other in found if other.key == column.key]
    mark = tag("sup", str(column.mark)) if len(twins) > 1 else None
    arrow = {1: " ↑", -1: " ↓", 0: ""}[column.measure.better]
    way = {1: "higher is better", -1: "lower is better", 0: None}[column.measure.better]
    return tag("th", f"{column.measure.heading}{arrow}", mark, scope="col", title=way, class_="number")


def _cell(column: Column, value: Estimate, strong: bool) -> Html:
    written: list[Child] = [column.measure.text(value.mean)]
    if value.half is not None and value.half > 0:
        written.append(tag("small", f" ± {column.measure.text(value.half, like=value.mean)}"))
    kind = "number main" if strong else "number"
    if column.measure.timed:
        return tag("td", written, class_=f"{kind} time", data_value=value.mean)
    return tag("td", written, class_=kind, data_value=value.mean)


def _before(problem: Problem, found: Sequence[Column], pictured: bool) -> Html | None:
    """The foot of a leaderboard: the same measures of the degraded images, as they came."""
    run = problem.configurations[0].runs[0]
    told = [run.tested.get(column.measure.before or "") for column in found]
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
