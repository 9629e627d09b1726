"""The leaderboard of a problem: each measure with its interval over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recon.measures import DASH, Measure, in_order
from recon.report import chart
from recon.report.elements import Child, Html, note, scrolled, section, table, tag
from recon.report.gains import BEFORE
from recon.report.gather import Entry, Problem
from recon.report.inference import Estimate, estimate

_MOST = 8  # entries of which intervals over the images are shown
ARROWS = {1: " ↑", -1: " ↓", 0: ""}


@dataclass(frozen=True)
class Column:
    """A column of a leaderboard: one metric, computed in one way.

    Attributes:
        key: the metric with its split.
        measure: how it is written.
        convention: how it is computed, or "".
        mark: the number of its footnote.
    """

    key: str
    measure: Measure
    convention: str
    mark: int

    def of(self, entry: Entry) -> Estimate:
        """Estimate it for an entry, from the runs that computed it so."""
        name = self.measure.name
        return estimate([run.metrics[self.key] for run in entry.runs if self.key in run.metrics
                         and run.convention(name) == self.convention])  # fmt: skip


def costs(problem: Problem) -> dict[str, Measure]:
    """Return the metrics of cost that its runs have, by their keys with the split."""
    rows = {key: run.folder.measure(key) for run in problem.runs for key in run.metrics}
    metrics = {key: row for key, row in rows.items() if row.role == "cost"}
    order = in_order({row.name for row in metrics.values()})
    return {key: metrics[key] for key in sorted(metrics, key=lambda key: (order.index(metrics[key].name), key))}


def columns(problem: Problem) -> list[Column]:
    """Return the columns of a leaderboard, the main measure first; a metric computed in two ways has two."""
    rows = [run.folder.measure(f"test/{name}") for run in problem.runs for name in run.tested]
    names = {row.name for row in rows if row.role not in ("baseline", "about", "cost")} - {row.before for row in rows}
    main = [problem.main.name] if problem.main else []
    keys = [f"test/{name}" for name in [*main, *in_order(names - set(main))]] + list(costs(problem))
    shown: list[Column] = []
    for key in keys:
        runs = [run for run in problem.runs if key in run.metrics]
        name = key.split("/", 1)[1]
        for convention in sorted({run.convention(name) for run in runs}):
            row = next(run.folder.measure(name) for run in runs if run.convention(name) == convention)
            shown.append(Column(key, row, convention, len(shown) + 1))
    return shown


def leaderboard(problem: Problem) -> Html:
    """All entries, the best first, each measure with its interval over seeds."""
    shown = columns(problem)
    main = shown[0] if problem.main else None
    estimates = [[column.of(entry) for column in shown] for entry in problem.entries]
    axis = chart.Axis([value for row in estimates if main for value in row[0].values], 14, 126)
    over_seeds = tag("th", f"{main.measure.label} over seeds", scope="col", class_="picture") if main else None
    rows = []
    for rank, (entry, row) in enumerate(zip(problem.entries, estimates, strict=True), 1):
        badge = chart.badge(rank) if main else DASH
        gained = entry.gain(problem.main)
        kind = "remark bad" if gained and gained.useless else "remark"
        remark = tag("small", gained.remark(), class_=kind) if gained and gained.remark() else None
        cells: list[Child] = [
            tag("td", badge, data_label="rank", data_value=rank),
            tag("th", entry.label, " ", remark, scope="row"),
        ]
        if main:
            first = row[0]
            finite = math.isfinite(first.mean)
            picture = chart.forest(axis, first.mean, first.low, first.high, first.values, rank) if finite else None
            cells.append(tag("td", picture, class_="picture", data_label="over seeds", data_value=first.mean))
        cells += [_cell(column, value, column is main) for column, value in zip(shown, row, strict=True)]
        rows.append(tag("tr", cells))
    head = ["rank", "configuration", *filter(None, [over_seeds]), *(_head(column, shown) for column in shown)]
    region = scrolled(table(head, rows, _before(problem, shown)), f"Leaderboard: {problem.title}")
    made = [tag("li", f"{c.measure.label}: {c.convention or 'its run does not say how it is made'}.") for c in shown]
    how = tag("details", tag("summary", "How these numbers are made"), tag("ol", made))
    return section("Leaderboard", note(_seeds_sentence(problem)), region, _notes(problem), _over_images(problem), how)


def _notes(problem: Problem) -> Html | None:
    """What else must be known of the runs behind a leaderboard."""
    notes = [
        f"{entry.label}: seed{'s' if len(entry.failed) > 1 else ''} {', '.join(sorted(entry.failed))} failed, and so "
        "the mean is of the others alone."
        for entry in problem.entries
        if entry.failed
    ]
    if not problem.same_images:
        notes.append("Not all of these runs record which images they were tested on: not known to be the same images.")
    return tag("ul", [tag("li", sentence) for sentence in notes], class_="note") if notes else None


def _over_images(problem: Problem) -> Html | None:
    """The intervals over the test images that the best seeds of the entries recorded, folded up."""
    best = [(rank, entry.label, entry.best(problem.main)) for rank, entry in enumerate(problem.entries[:_MOST], 1)]
    shown = [(rank, label, run) for rank, label, run in best if run.folder.intervals]
    rows: list[list[Child]] = []
    for column in columns(problem):
        row, cells = column.measure, list[Child]()
        for *_, run in shown:
            ends = run.folder.intervals.get(column.key)
            known = ends is not None and run.convention(row.name) == column.convention
            value = row.text(run.metrics.get(column.key, math.nan))
            cells.append(f"{value} ({row.interval(*ends)})" if ends and known else DASH)
        rows += [[row.heading, *cells]] if set(cells) - {DASH} else []
    if not rows:
        return None
    table_ = chart.table(["measure", *(f"{rank} {label}" for rank, label, _ in shown)], rows)
    text = "Of the best seed, 95 %: what as many other test images would change. They say nothing of other seeds."
    title = "Intervals over the test images"
    return tag("details", tag("summary", title), note(text), scrolled(table_, title))


def _head(column: Column, shown: Sequence[Column]) -> Html:
    twins = [other for other in shown if other.key == column.key]
    mark = tag("sup", str(column.mark)) if len(twins) > 1 else None
    way = {1: "higher is better", -1: "lower is better", 0: None}[column.measure.better]
    heading = f"{column.measure.heading}{ARROWS[column.measure.better]}"
    return tag("th", heading, mark, scope="col", title=way, class_="number")


def _cell(column: Column, value: Estimate, strong: bool) -> Html:
    half = value.half or 0.0
    more = tag("small", f" ± {column.measure.text(half, like=value.mean)}") if half > 0 else None
    class_ = f"number{' main' if strong else ''}{' time' if column.measure.timed else ''}"
    shown = tag("span", column.measure.text(value.mean), more)
    return tag("td", shown, class_=class_, data_label=column.measure.heading, data_value=value.mean)


def _before(problem: Problem, shown: Sequence[Column]) -> Html | None:
    """The foot of a leaderboard: the same measures of the degraded images."""
    run = problem.entries[0].runs[0]
    values = [run.tested.get(column.measure.before or "") for column in shown]
    if all(value is None for value in values):
        return None
    cells = [
        tag("td", DASH if value is None else column.measure.text(value), class_="number",
            data_label=column.measure.heading)
        for column, value in zip(shown, values, strict=True)
    ]  # fmt: skip
    empty = tag("td", class_="picture") if problem.main else None
    return tag(
        "tfoot",
        tag(
            "tr",
            tag("td"),
            tag("th", BEFORE, scope="row"),
            empty,
            cells,
        ),
    )


def _seeds_sentence(problem: Problem) -> str:
    counts = sorted({len(entry.runs) for entry in problem.entries})
    if counts == [1]:
        return "One seed each: there is no interval over seeds, and how much another seed would change is unknown."
    several = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lone = " Where there is one seed alone there is no interval." if counts[0] == 1 else ""
    return f"Mean over {several} seeds ± half of the 95 % confidence interval (Student's t).{lone}"
