"""What a search found: its measure against each parameter that it varied, and how much each explains."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recon.measures import Measure
from recon.report import chart, ledger
from recon.report.elements import Child, Html, cut, note, tag
from recon.report.gains import verdict_of
from recon.report.inference import Array
from recon.report.run import Run
from recon.runs.reading import read_json

_FEW = 20  # finished trials below which an importance is hardly more than a guess
_CHANCE = 0.05


@dataclass(frozen=True)
class Trial:
    """One trial: what was chosen for it, and the run that it became, if any."""

    number: str
    chosen: dict[str, str]
    status: str
    run: Run | None

    def value(self, objective: str) -> float:
        """Return an objective: where it was ended early the last value of its validation; NaN where there is none."""
        if self.run is None:
            return math.nan
        if self.status == "ok":
            return self.run.metrics.get(objective, math.nan)
        column = self.run.epochs.get(objective, np.empty(0))
        finite = column[np.isfinite(column)]
        return float(finite[-1]) if self.status == "pruned" and len(finite) else math.nan


@dataclass(frozen=True)
class Search:
    """A search as `sweep.json` records it.

    Attributes:
        folder: the sweep's.
        space: of each key its choices, or its range as "low", "high" and "log".
        objectives: its measures, each with 1 where more is better and -1 where less is.
        trials: in their order.
    """

    folder: Path
    space: dict[str, list[str] | dict[str, Any]]
    objectives: dict[str, int]
    trials: list[Trial]

    def best(self, objective: str) -> Trial | None:
        """Return the best finished trial whose images are better than before the model."""
        done = [trial for trial in self.finished(objective) if trial.run and verdict_of(trial.run.folder) is None]
        return max(done, key=lambda trial: self.objectives[objective] * trial.value(objective), default=None)

    def finished(self, objective: str) -> list[Trial]:
        """Return the trials that ended well with a finite objective."""
        return [trial for trial in self.trials if trial.status == "ok" and math.isfinite(trial.value(objective))]


def read(sweep: Path, runs: Sequence[Run]) -> Search | None:
    """Read the search that a sweep was; None where it was none, or its record is damaged."""
    record = read_json(sweep / "sweep.json").get("search")
    if not isinstance(record, dict) or not isinstance(record.get("space"), dict):
        return None
    space = {str(key): entry for key, entry in record["space"].items() if _is_entry(entry)}
    names, ways = record.get("objectives"), record.get("directions")
    if not isinstance(names, list) or not isinstance(ways, list) or not all(isinstance(name, str) for name in names):
        return None
    by_folder = {os.path.abspath(run.folder.path): run for run in runs}
    trials = []
    for job in ledger.jobs(sweep):
        words = [str(word).partition("=") for word in job.get("varied") or [] if isinstance(word, str)]
        run = by_folder.get(str(ledger.folder_of(sweep, job)))
        status = run.folder.status if run else cut(str(job.get("status", "none")))
        if run and status == "ok" and not run.is_sound:
            status = "failed"
        trials.append(Trial(cut(str(job.get("number"))), {key: value for key, _, value in words}, status, run))
    objectives = {name: 1 if way == "max" else -1 for name, way in zip(names, ways, strict=False)}
    return Search(sweep, space, objectives, trials) if trials and space and objectives else None


def _is_entry(entry: Any) -> bool:
    if isinstance(entry, list):
        return all(isinstance(choice, str) for choice in entry)
    return isinstance(entry, dict) and all(type(entry.get(end)) in (int, float) for end in ("low", "high"))


def importance(values: Sequence[float], chosen: Sequence[str], choices: bool) -> tuple[float, float] | None:
    """Return how much of the ranks of an objective one parameter explains by itself.

    Of a parameter with choices by the means of their ranks, of a number by a parabola in its own ranks, as a good
    learning rate lies between bad ones; in both cases the R² is adjusted for its coefficients, so that a parameter
    without effect has 0 on average.

    Returns:
        The share, 0 to 1, and the p of the F-test that it is chance; None with too few trials to tell.
    """
    from scipy.stats import f, rankdata

    ranks: Array = rankdata(values)
    if choices:
        kinds = sorted(set(chosen))
        design = np.array([[value == kind for kind in kinds] for value in chosen], dtype=np.float64)
    else:
        x = rankdata([float(value) for value in chosen]) / len(chosen)
        design = np.stack([np.ones(len(x)), x, x**2], axis=1)[:, : min(3, len(set(x.tolist())))]
    count, used = len(ranks), design.shape[1] - 1 if len(design) else 0
    left = count - 1 - used
    total = float(((ranks - ranks.mean()) ** 2).sum()) if count else 0.0
    if used < 1 or left < 3 or total == 0:
        return None
    rest = float(((ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]) ** 2).sum())
    share = 1 - rest / total * (count - 1) / left
    statistic = (total - rest) / used / max(rest / left, 1e-12)
    return min(max(share, 0.0), 1.0), float(f.sf(statistic, used, left))


def search_section(search: Search, number: int, several: bool) -> Html:
    """The section of a search."""
    parts: list[Child] = [_summary(search)]
    for objective in search.objectives:
        done = search.finished(objective)
        shown = [trial for trial in search.trials if math.isfinite(trial.value(objective))]
        row = next((trial.run.folder.measure(objective) for trial in done if trial.run), None)
        if row is None or len(shown) < 2:
            continue
        split = {"val": "validation", "test": "test"}.get(objective.split("/")[0])
        label = f"{row.heading}, {split}" if split else row.heading
        charts = [_chart(search, key, objective, row, label, shown) for key in search.space if _varies(key, shown)]
        parts.append(tag("h3", label) if len(search.objectives) > 1 else None)
        parts.append(tag("div", charts, _importances(search, objective, row, done), class_="charts"))
    title = f"The search {search.folder.name}" if several else "The search"
    return tag("section", tag("h2", title), parts, id=f"search-{number}")


def _varies(key: str, trials: Sequence[Trial]) -> bool:
    return len({trial.chosen[key] for trial in trials if key in trial.chosen}) > 1


def _summary(search: Search) -> list[Html]:
    counts = Counter(trial.status for trial in search.trials)
    kinds = {"ok": "finished", "pruned": "pruned: ended early, as worse than the median of those before"}
    said = [f"{count} {kinds.get(status, status)}" for status, count in sorted(counts.items())]
    ways = [f"the {'highest' if way > 0 else 'lowest'} {name}" for name, way in search.objectives.items()]
    lines = [f"{len(search.trials)} trials for {' and '.join(ways)}; {', '.join(said)}."]
    for objective in search.objectives:
        if not search.finished(objective):
            continue
        trial = search.best(objective)
        if trial is None or trial.run is None:
            lines.append("No trial is best, as none makes its images better than they were.")
            continue
        value = trial.run.folder.measure(objective).text(trial.value(objective), unit=True)
        chosen = ", ".join(f"{key} {cut(value_)}" for key, value_ in trial.chosen.items() if _is_searched(search, key))
        lines.append(f"Best is trial {trial.number} with {objective} {value}: {chosen}.")
    leads = [tag("p", line, class_="lead") for line in lines]
    hollow = "A hollow mark is a pruned trial at its last validation, which more training may have improved."
    return [*leads, note(hollow)] if counts["pruned"] else leads


def _is_searched(search: Search, key: str) -> bool:
    entry = search.space.get(key)
    return isinstance(entry, dict) or (entry is not None and len(entry) > 1)


def _chart(search: Search, key: str, objective: str, row: Measure, label: str, shown: Sequence[Trial]) -> Html:
    """Draw an objective against one parameter: a number on its axis, choices side by side."""
    entry, best = search.space[key], search.best(objective)
    names = entry if isinstance(entry, list) else []
    worst = _worst_drawn([trial.value(objective) for trial in shown], search.objectives[objective])
    marks, rows, beyond = [], [], 0
    for trial in shown:
        value, chosen = trial.value(objective), trial.chosen.get(key)
        x = _place(chosen, names)
        if chosen is None or x is None:
            continue
        drawn_at = (max if search.objectives[objective] > 0 else min)(value, worst)
        beyond += drawn_at != value
        status = "best" if trial is best else "pruned" if trial.status == "pruned" else "finished"
        said = f"trial {trial.number}, {status}: {row.text(value, unit=True)} at {cut(chosen)}"
        marks.append(chart.Mark(x, drawn_at * row.factor, said, status == "pruned", trial is best))
        rows.append([trial.number, cut(chosen), row.text(value), status])
    log = isinstance(entry, dict) and entry.get("log") is True and entry["low"] > 0
    title = f"{row.label} by {key}"
    drawn = chart.trials(title, marks, f"{key}{' (logarithmic)' * log}", label, log, list(map(cut, names)))
    far = f"{beyond} far worse than the others, drawn at the edge; the numbers tell." if beyond else None
    return chart.figure(
        title, drawn, chart.table(["trial", key, row.label, "status"], rows), note(far) if far else None
    )


def _worst_drawn(values: Sequence[float], way: int) -> float:
    """Return the worst value that is not far out, as a trial that diverged would flatten all others."""
    scores = way * np.array(values)
    low, high = np.quantile(scores, (0.25, 0.75))
    return way * float(scores[scores >= low - 3 * (high - low)].min())


def _place(chosen: str | None, names: Sequence[str]) -> float | None:
    """Where a choice stands on the axis of its chart; None where it is none."""
    if names:
        return float(names.index(chosen)) if chosen in names else None
    try:
        value = float(chosen or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _importances(search: Search, objective: str, row: Measure, done: Sequence[Trial]) -> Html:
    found: dict[str, tuple[float, float]] = {}
    for key, entry in search.space.items():
        names = entry if isinstance(entry, list) else []
        having = [trial for trial in done if _place(trial.chosen.get(key), names) is not None]
        values = [trial.value(objective) for trial in having]
        if share := importance(values, [trial.chosen[key] for trial in having], bool(names)):
            found[key] = share
    if not found:
        return note(f"With {len(done)} finished trials nothing tells what explains the {row.label}.")
    ordered = sorted(found.items(), key=lambda item: -item[1][0])
    bars = [(key, share, f"{100 * share:.0f} %{' (may be chance)' * (p >= _CHANCE)}") for key, (share, p) in ordered]
    title = f"What explains the {row.label}"
    few = f" {len(done)} finished trials are few: take it as a hint." if len(done) < _FEW else ""
    text = (
        "How much of the ranks of the finished trials each parameter explains by itself (adjusted R²: of means for "
        "choices, of a parabola for numbers). Effects that depend on each other are not seen, and a search that "
        f"looks where it is good tells less of the rest.{few}"
    )
    rows = [[key, f"{100 * share:.0f} %", f"{p:.2g}"] for key, (share, p) in ordered]
    return chart.figure(
        title, chart.bars(title, bars), chart.table(["parameter", "explains", "p (F-test)"], rows), note(text)
    )


def searched(searches: Sequence[Search], runs: Sequence[Run]) -> frozenset[str]:
    """Return the keys that the searches varied which some of these runs are trials of."""
    known = set(map(id, runs))
    own = (search for search in searches if any(id(trial.run) in known for trial in search.trials))
    return frozenset(key for search in own for key in search.space)
