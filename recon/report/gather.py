"""From run folders to what is compared: problems, the entries of each, and their runs, one for each seed."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.measures import ROWS, Measure, headline
from recon.report import naming
from recon.report.gains import Gain, damaged, gain
from recon.report.inference import Comparison
from recon.report.run import Run, part
from recon.runs import RunFolder

# Keys of a task that say how one trains on it, not what it is tested on.
_OF_TRAINING = ("batch_size", "epochs", "crop", "crop_share", "crops_per_image", "validation")
_BASELINES = [name for name, row in ROWS.items() if row.role == "baseline"]
_OF_INPUT = [name for name, row in ROWS.items() if row.input]
_OF_CONTENT = [name for name, row in ROWS.items() if row.input == "content"]


@dataclass
class Entry:
    """Runs that are equal but for the seed, one line of a leaderboard.

    Attributes:
        runs: those that count, one for each seed: the newest.
        repeats: the others.
        failed: the seeds without a result.
        label: its name, once it has one.
        values: of the parameters that vary within the problem.
    """

    runs: list[Run]
    repeats: list[Run] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    label: str = ""
    values: dict[str, str] = field(default_factory=dict)

    def of(self, key: str) -> list[float]:
        """Return the values of a metric with its split, one for each run that has it."""
        return [run.metrics[key] for run in self.runs if key in run.metrics]

    def best(self, measure: Measure | None) -> Run:
        """Return its best run by a measure of the test, else by the loss."""
        measure = measure or ROWS["loss"]
        ranked = [run for run in self.runs if math.isfinite(run.tested.get(measure.name, math.nan))]
        sign = measure.better or 1
        return max(ranked, key=lambda run: sign * run.tested[measure.name], default=self.runs[0])

    def gain(self, row: Measure | None) -> Gain | None:
        """Return what a measure gained over the degraded images; None where there is no such baseline, or no damage.

        The means are those of the tests, the interval is over the images, averaged over the runs.
        """
        if row is None or row.before is None:
            return None
        runs = [run for run in self.runs if {row.name, row.before} <= run.tested.keys()]
        if not runs or not damaged(min(run.tested.get("psnr_degraded", 0.0) for run in runs)):
            return None
        tables = [run.images for run in runs if {row.name, row.before} <= set(run.images)]
        pairs = [[table[row.before], table[row.name]] for table in tables]
        alike = len(pairs) == len(runs) and len({len(before) for before, _ in pairs}) == 1
        found = gain(row, *np.mean(pairs, axis=0)) if alike else None
        before, after = (float(np.mean([run.tested[name] for run in runs])) for name in (row.before, row.name))
        return Gain(row, before, after, found.interval if found else None, found.images if found else 0)

    @property
    def flawed(self) -> list[Run]:
        """Its runs, repeats left out, with results that are not finite."""
        return [run for run in self.runs if run.flaw]


@dataclass(frozen=True)
class Compared:
    """The comparisons of the entries of a problem by one measure.

    Attributes:
        pairs: each comparison.
        shares: whether each image has the value 0 or 1, which they take into account.
    """

    pairs: list[Comparison]
    shares: bool


@dataclass
class Problem:
    """The runs tested on the same images under the same damage: models are compared only within a problem.

    Attributes:
        first: one of its runs, the first.
        main: the measure that ranks its entries, or None where there is none.
        entries: those that are ranked, the best first.
        unranked: those with a run whose results are not finite.
        same_images: whether all its runs are known to be tested on the same images; older runs may not record it.
        elsewhere: how many runs of the same task and damage were tested on other images.
        compared: the comparisons by measure, once they are made.
        searched: the parameters that a search varied, which its own section tells of.
        mark: added to its title where another problem has the same.
    """

    first: Run
    main: Measure | None
    entries: list[Entry]
    unranked: list[Entry]
    same_images: bool = True
    elsewhere: int = 0
    compared: dict[str, Compared] = field(default_factory=dict)
    searched: frozenset[str] = frozenset()
    mark: str = ""

    @property
    def kind(self) -> str:
        """What its models are for."""
        return str(self.first.kind)

    @property
    def damage(self) -> str:
        """The degradation with its levels, or "none"."""
        return naming.degradation(self.first.folder)

    @property
    def data(self) -> str:
        """The test images by their name, and by their content where it is recorded."""
        name = naming.data(self.first.folder) or "unknown images"
        return f"{name} ({self.digest[:8]})" if self.digest else name

    @property
    def digest(self) -> str:
        """The digest of the test images and labels; "" where no run records it."""
        return next((run.folder.images[0] for run in (self.first, *self.runs) if run.folder.images), "")

    @property
    def runs(self) -> list[Run]:
        """All its runs, repeats included."""
        return [run for entry in self.entries for run in (*entry.runs, *entry.repeats)]

    @property
    def title(self) -> str:
        """Describe it in a few words."""
        return self.described(self.damage)

    def described(self, damage: str) -> str:
        """Describe it with its damage in other words."""
        whole = self.damage == "none"
        verb = {"recognise": "Recognising", "restore": "Rebuilding" if whole else "Restoring", "generate": "Generating"}
        under = "" if whole or self.kind == "generate" else f" under {damage}"
        protocol = naming.protocol(self.first.folder)
        return f"{verb[self.kind]} {self.data}{under}{f', protocol {protocol}' if protocol else ''}{self.mark}"

    @property
    def input(self) -> float | None:
        """The main measure of the degraded images; None where it is not recorded, or nothing is damaged."""
        tested = self.first.tested
        value = tested.get((self.main and self.main.before) or "", math.nan)
        return value if math.isfinite(value) and damaged(tested.get("psnr_degraded", 0.0)) else None

    @property
    def useful(self) -> bool:
        """Whether its first entry is better than the degraded images, or nothing tells that it is not."""
        gained = self.entries[0].gain(self.main) if self.entries else None
        return gained is None or not gained.useless

    @property
    def left_out(self) -> str:
        """Say which entries are not ranked, and why; "" where all are."""
        reasons = [f"{entry.label}, seed {run.seed}: {run.flaw}" for entry in self.unranked for run in entry.flawed]
        return f"Not ranked, as results are not finite: {'; '.join(reasons)}." if reasons else ""

    @property
    def images(self) -> int:
        """The number of test images; 0 where no run records it."""
        counts = (len(run.images["index"]) if run.images else (run.folder.images or ("", 0))[1] for run in self.runs)
        return next(filter(None, counts), 0)


def problems(runs: Iterable[Run]) -> list[Problem]:
    """Sort runs with results into problems, and each problem's into entries, the best first.

    A run whose results are not finite takes its entry out of the ranking; it makes no problem by itself.
    """
    runs = list(runs)
    order = {id(run): number for number, run in enumerate(runs)}
    keys = {id(run): _keys(run) for run in runs}
    groups: list[list[Run]] = []
    # Runs that record their test images come first, so that the others are compared with them.
    for run in sorted(filter(lambda run: run.is_sound, runs), key=lambda run: run.folder.images is None):
        alike = (group for group in groups if keys[id(group[0])][1:] == keys[id(run)][1:])
        same = next((group for group in alike if _one_set(run, group[0], keys)), None)
        if same is None:
            groups.append(same := [])
        same.append(run)
    flawed = [run for run in runs if run.kind and run.flaw]
    failed = [run for run in runs if not run.flaw and run.folder.status in ("failed", "killed", "lost")]
    numbered = []
    for group in groups:
        group.sort(key=lambda run: order[id(run)])
        first = group[0]
        unfit = [r for r in flawed if keys[id(r)][1] == keys[id(first)][1] and _one_set(r, first, keys)]
        problem = _problem(group, unfit, failed)
        problem.elsewhere = sum(len(g) for g in groups if keys[id(g[0])] == keys[id(first)]) - len(group)
        numbered.append((order[id(first)], problem))
    in_order = [problem for _, problem in sorted(numbered, key=lambda pair: pair[0])]
    _mark(in_order)
    return in_order


def _problem(sound: list[Run], flawed: list[Run], failed: list[Run]) -> Problem:
    first = sound[0]
    main = _main(sound)
    sign = main.better if main else 1

    def rank(entry: Entry) -> tuple[float, str]:
        values = [value for value in entry.of(f"test/{main.name}") if math.isfinite(value)] if main else []
        return (-sign * sum(values) / len(values) if values else math.inf, entry.label)

    entries = _entries([*sound, *flawed], failed)
    return Problem(
        first, main,
        entries=sorted((entry for entry in entries if not entry.flawed), key=rank),
        unranked=[entry for entry in entries if entry.flawed],
        same_images=all(_same_images(run, first) for run in sound[1:]),
    )  # fmt: skip


def _qualities(run: Run) -> list[Measure]:
    """The measures of quality that a run was tested by, the most telling first."""
    return [row for row in headline(run.folder.measures) if row.role == "quality" and row.name in run.tested]


def _main(runs: Sequence[Run]) -> Measure | None:
    """The first measure of quality that all runs have a value of, computed in one way."""
    for row in _qualities(runs[0]):
        values = [run.tested.get(row.name, math.nan) for run in runs]
        if np.isfinite(values).all() and len({run.convention(row.name) for run in runs}) == 1:
            return row
    return None


def _mark(ordered: Sequence[Problem]) -> None:
    """Tell problems of one title apart: by how many images they have, else by a number."""
    for by_number in (False, True):
        titles = [problem.title for problem in ordered]
        numbers: Counter[str] = Counter()
        for problem, title in zip(ordered, titles, strict=True):
            if titles.count(title) > 1:
                numbers[title] += 1
                problem.mark += f", set {numbers[title]}" if by_number else f", {problem.images:,} images"


def _same_images(run: Run, other: Run) -> bool | None:
    """Whether two runs were tested on the same images under the same damage; None where that is unknown.

    The digest of the images and labels decides; where a run has none, as before recon recorded it, the quality of each
    degraded image does, if it varies. Neither order nor labels nor severity depend on what the images show.
    """
    digests = run.folder.images, other.folder.images
    if None not in digests and digests[0] != digests[1]:
        return False
    first, second = run.images, other.images
    shared = [name for name in _OF_INPUT if name in first and name in second]
    for name in shared:
        a, b = first[name], second[name]
        if len(a) != len(b) or not np.allclose(a, b, rtol=1e-4, atol=1e-3, equal_nan=True):
            return False
    if not shared and any(abs(run.tested.get(n, 0) - other.tested.get(n, 0)) > 1e-3 for n in _BASELINES):
        return False
    varies = any(_varies(first[name]) for name in _OF_CONTENT if name in shared)
    return True if None not in digests or varies else None


def _varies(column: NDArray[np.float64]) -> bool:
    finite = column[np.isfinite(column)]
    return len(finite) > 0 and bool(np.ptp(finite) > 1e-3)


def _keys(run: Run) -> tuple[str, str, str]:
    """What tells the problem of a run: its task, its kind and damage, and how it is measured."""
    config = run.folder.config
    task = {key: value for key, value in part(config, "task").items() if key not in _OF_TRAINING}
    if run.folder.test_set:
        task = {"test": run.folder.test_set}
    damage = part(config, "degradation") if run.kind != "generate" else {}
    measured = [(row.name, row.better, run.convention(row.name)) for row in _qualities(run)[:1]]

    def text(value: Any) -> str:
        return json.dumps(value, sort_keys=True, default=str)

    return text(task), text([run.kind, damage]), text(measured)


def _one_set(run: Run, other: Run, keys: Mapping[int, tuple[str, str, str]]) -> bool:
    """Whether the test images of two runs are the same: by their content, or if that is unknown by their task."""
    same = _same_images(run, other)
    if run.folder.images and other.folder.images:
        return bool(same)
    return same is not False and keys[id(run)][0] == keys[id(other)][0]


def _entries(runs: list[Run], failed: list[Run]) -> list[Entry]:
    by_key: dict[str, list[Run]] = {}
    for run in runs:
        by_key.setdefault(run.key, []).append(run)
    entries = []
    for key, equal in by_key.items():
        # A training comes before an evaluation of it, which may have seen fewer numbers.
        newest = sorted(equal, key=lambda r: (not r.evaluates, str(r.environment("started") or "")), reverse=True)
        chosen = {run.seed: run for run in reversed(newest)}
        counted = set(map(id, chosen.values()))
        entries.append(
            Entry(
                sorted(chosen.values(), key=lambda run: (len(run.seed), run.seed)),
                [run for run in equal if id(run) not in counted],
                {run.seed for run in failed if run.key == key} - set(chosen),
            )
        )
    for entry, (label, values) in zip(entries, naming.names([entry.runs[0] for entry in entries]), strict=True):
        entry.label, entry.values = label, values
    return entries


def common_names(folders: list[RunFolder]) -> dict[Path, str]:
    """Name each run folder by its path below the folder that all lie in."""
    paths = [folder.path.absolute() for folder in folders]
    top = os.path.commonpath([path.parent for path in paths]) if paths else "."
    return {folder.path: os.path.relpath(path, top) for folder, path in zip(folders, paths, strict=True)}
