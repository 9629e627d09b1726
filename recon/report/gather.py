"""From run folders to what is compared: problems, the configurations within each, and their runs, one for each seed."""

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

from recon.measures import BASELINES, MAIN, measure
from recon.report import labels
from recon.report.run import Run
from recon.report.statistics import Comparison
from recon.runs import RunFolder

# Keys of a task that say how one trains on it, not what it is tested on.
_OF_TRAINING = ("batch_size", "epochs", "crop", "validation")
_TELLING = ("ssim_degraded", "psnr_hole_mean")  # these depend on what an image shows, whatever its damage


@dataclass
class Configuration:
    """Runs that are equal but for the seed; of several with one seed the newest counts."""

    flat: dict[str, Any]
    runs: list[Run]
    repeats: list[Run] = field(default_factory=list)
    label: str = ""
    values: dict[str, str] = field(default_factory=dict)  # of the parameters that vary within the problem
    failed: set[str] = field(default_factory=set)  # seeds that gave no result

    def of(self, name: str) -> list[float]:
        """The values of a metric with its split, one for each run that has it."""
        return [run.metrics[name] for run in self.runs if name in run.metrics]

    def best(self, name: str) -> Run:
        """Its best run by a metric of the test."""
        sign = measure(name).better or 1
        ranked = [run for run in self.runs if math.isfinite(run.tested.get(name, math.nan))]
        return max(ranked, key=lambda run: sign * run.tested[name], default=self.runs[0])

    @property
    def flawed(self) -> list[Run]:
        """Its runs, repeats left out, with results that are not finite."""
        return [run for run in self.runs if run.flaw]


@dataclass
class Problem:
    """What is tested on the same images under the same damage: only within it are models compared.

    Attributes:
        kind, task, damage: what it is.
        configurations: those that are ranked, the best first.
        unranked: those with a run whose results are not finite.
        main: the measure that tells models apart, or None where there is none.
        same_images: are all its runs known to be tested on the same images? Runs of an older recon may not tell.
        elsewhere: how many runs of the same task and damage were tested on other images.
        comparisons: once they are made.
        mark: what tells its title from those of other problems.
    """

    kind: str
    task: str
    damage: str
    configurations: list[Configuration]
    unranked: list[Configuration] = field(default_factory=list)
    main: str | None = None
    same_images: bool = True
    elsewhere: int = 0
    comparisons: list[Comparison] | None = None
    mark: str = ""

    @property
    def runs(self) -> list[Run]:
        """All its runs, repeats included."""
        return [run for found in self.configurations for run in (*found.runs, *found.repeats)]

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        whole = self.damage == "none"
        verb = {"recognise": "Recognising", "restore": "Rebuilding" if whole else "Restoring", "generate": "Generating"}
        damage = "" if whole or self.kind == "generate" else f" under {self.damage}"
        return f"{verb[self.kind]} {self.task or 'an unknown task'}{damage}{self.mark}"

    @property
    def left_out(self) -> str:
        """Say which configurations are not ranked, and why; "" where all are."""
        told = [f"{found.label}, seed {run.seed}: {run.flaw}" for found in self.unranked for run in found.flawed]
        return f"Not ranked, as results are not finite: {'; '.join(told)}." if told else ""

    @property
    def images(self) -> int:
        """On how many images it is tested; 0 where no run tells."""
        told = (len(run.images["index"]) if run.images else (run.folder.images or ("", 0))[1] for run in self.runs)
        return next(filter(None, told), 0)


def problems(runs: Iterable[Run]) -> list[Problem]:
    """Sort runs with results into problems, and each problem's into configurations, the best first.

    A run whose results are not finite takes its configuration out of the ranking; it makes no problem by itself.
    """
    runs = list(runs)
    order = {id(run): number for number, run in enumerate(runs)}
    groups: dict[str, list[list[Run]]] = {}
    # Those that tell on which images they were tested come first, so that the others are compared with them.
    for run in sorted(runs, key=lambda run: run.folder.images is None):
        if run.is_sound:
            _place(run, groups.setdefault(_problem_key(run), []))
    flawed = [run for run in runs if run.kind and run.flaw]
    failed = [run for run in runs if not run.flaw and run.folder.status in ("failed", "killed", "lost")]
    found = []
    for group in groups.values():
        for same in group:
            same.sort(key=lambda run: order[id(run)])
            problem = _problem(same, [run for run in flawed if _belongs(run, same[0])], failed)
            problem.elsewhere = sum(map(len, group)) - len(same)
            found.append((order[id(same[0])], problem))
    sorted_problems = [problem for _, problem in sorted(found, key=lambda each: each[0])]
    _mark(sorted_problems)
    return sorted_problems


def _problem(sound: list[Run], flawed: list[Run], failed: list[Run]) -> Problem:
    task, damage = labels.choice(sound[0].folder, "task"), labels.degradation(sound[0].folder)
    configurations = _configurations([*sound, *flawed], failed)
    problem = Problem(str(sound[0].kind), task, damage, [found for found in configurations if not found.flawed])
    problem.unranked = [found for found in configurations if found.flawed]
    problem.main = next((name for name in MAIN if all(np.isfinite(r.tested.get(name, np.nan)) for r in sound)), None)
    problem.same_images = all(_same_images(run, sound[0]) for run in sound[1:])
    _rank(problem)
    return problem


def _mark(found: Sequence[Problem]) -> None:
    """Tell problems of one title apart: by how many images they have, else by a number."""
    for by_number in (False, True):
        titles = [problem.title for problem in found]
        numbers: Counter[str] = Counter()
        for problem, title in zip(found, titles, strict=True):
            if titles.count(title) > 1:
                numbers[title] += 1
                problem.mark += f", set {numbers[title]}" if by_number else f", {problem.images:,} images"


def _place(run: Run, group: list[list[Run]]) -> None:
    """Put a run to those that were tested on the very same images."""
    for same in group:
        if _same_images(run, same[0]) is not False:
            same.append(run)
            return
    group.append([run])


def _belongs(flawed: Run, sound: Run) -> bool:
    """Was a run whose numbers are no results to solve the problem of another?"""
    return _base_key(flawed) == _base_key(sound) and _same_images(flawed, sound) is not False


def _same_images(run: Run, other: Run) -> bool | None:
    """Were two runs tested on the same images under the same damage? None where nothing tells.

    The digest of the images and labels tells; where a run has none, as before recon recorded it, the quality of each
    degraded image does, if it varies. Neither order nor labels nor severity depend on what the images show.
    """
    digests = run.folder.images, other.folder.images
    if None not in digests and digests[0] != digests[1]:
        return False
    first, second = run.images, other.images
    wanted = (*_TELLING, "index", "severity", "label", "psnr_degraded")
    shared = [name for name in wanted if name in first and name in second]
    for name in shared:
        a, b = first[name], second[name]
        if len(a) != len(b) or not np.allclose(a, b, rtol=1e-4, atol=1e-3, equal_nan=True):
            return False
    if not shared and any(abs(run.tested.get(n, 0) - other.tested.get(n, 0)) > 1e-3 for n in BASELINES):
        return False
    return True if None not in digests or any(_varies(first[name]) for name in _TELLING if name in shared) else None


def _varies(column: NDArray[np.float64]) -> bool:
    known = column[np.isfinite(column)]
    return len(known) > 0 and bool(np.ptp(known) > 1e-3)


def _base_key(run: Run) -> str:
    config = run.folder.config
    task = {key: value for key, value in labels.part(config, "task").items() if key not in _OF_TRAINING}
    damage = labels.part(config, "degradation") if run.kind != "generate" else {}
    return json.dumps([run.kind, task, damage], sort_keys=True, default=str)


def _problem_key(run: Run) -> str:
    made = {name: run.convention(name) for name in MAIN if name in run.tested}
    return json.dumps([_base_key(run), made], sort_keys=True)


def _configurations(runs: list[Run], failed: list[Run]) -> list[Configuration]:
    by_key: dict[str, Configuration] = {}
    for run in runs:
        by_key.setdefault(run.key, Configuration(run.flat, [])).runs.append(run)
    for run in failed:
        found = by_key.get(run.key)
        if found is not None and run.seed not in [other.seed for other in found.runs]:
            found.failed.add(run.seed)
    for found in by_key.values():
        # A training comes before an evaluation of it, which may have seen fewer numbers.
        newest = sorted(found.runs, key=lambda r: (not r.evaluates, str(r.environment("started") or "")), reverse=True)
        chosen = {run.seed: run for run in reversed(newest)}
        kept = set(map(id, chosen.values()))
        found.repeats = [run for run in found.runs if id(run) not in kept]
        found.runs = sorted(chosen.values(), key=lambda run: (len(run.seed), run.seed))
    configurations = list(by_key.values())
    labels.give(configurations)
    return configurations


def _rank(problem: Problem) -> None:
    name = problem.main
    sign = measure(name).better if name else 1

    def key(found: Configuration) -> tuple[float, str]:
        values = [value for value in found.of(f"test/{name}") if math.isfinite(value)] if name else []
        return (-sign * sum(values) / len(values) if values else math.inf, found.label)

    problem.configurations.sort(key=key)


def paired_table(problem: Problem) -> tuple[list[int], NDArray[np.float64]]:
    """Give each image's main value under each configuration, averaged over its runs.

    Returns:
        The indices of the configurations that have such values, and (images, these configurations): NaN where an image
        has no value.
    """
    assert problem.main is not None
    indices, columns = [], []
    for index, found in enumerate(problem.configurations):
        values = [run.images[problem.main] for run in found.runs if problem.main in run.images]
        if values and len({len(column) for column in values}) == 1:
            indices.append(index)
            columns.append(np.mean(values, axis=0))
    if not columns or len({len(column) for column in columns}) > 1:
        return [], np.empty((0, 0))
    return indices, np.stack(columns, axis=1)


def common_names(folders: list[RunFolder]) -> dict[Path, str]:
    """Call each run folder by its path below the folder that all lie in."""
    paths = [folder.path.absolute() for folder in folders]
    top = os.path.commonpath([path.parent for path in paths]) if paths else "."
    return {folder.path: os.path.relpath(path, top) for folder, path in zip(folders, paths, strict=True)}


def convention_of(runs: Iterable[Run], name: str) -> Mapping[str, list[Run]]:
    """Sort runs by how they computed a metric: numbers made differently never share a column."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if any(key.split("/", 1)[-1] == name for key in run.metrics):
            found.setdefault(run.convention(name), []).append(run)
    return found
