"""From run folders to what is compared: problems, the configurations within each, and their runs, one for each seed.

Everything here was written by runs that may be damaged or a stranger's: whatever is missing, torn or of another kind
reads as nothing.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.report import labels
from recon.report.measures import MAIN, measure
from recon.report.statistics import Comparison
from recon.runs import RunFolder

# Keys that runs of one configuration may differ in, beside those that cannot change a result.
_NOT_COMPARED = ("seed", "action", "run", "runs", "resume", "list", "data", "logger", "sweep", "checkpoint")
# Keys of a task that say how one trains on it, not what it is tested on.
_OF_TRAINING = ("batch_size", "epochs", "crop", "validation")
_ABOUT_AN_IMAGE = ("index", "severity", "prediction", "label")


class Run:
    """One run, read when asked.

    Args:
        folder: where it lies.
        name: how it is called on the page.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self.folder, self.name = folder, name

    @cached_property
    def trained(self) -> RunFolder:
        """The run whose weights these are: an evaluation's own where it can still be read, else this one."""
        source = self.folder.config.get("run")
        if self.evaluates and isinstance(source, str):
            found = RunFolder(Path(source))
            if (found.path / "config.yaml").is_file() and found.config:
                return found
        return self.folder

    @property
    def evaluates(self) -> bool:
        """Is it an evaluation of another run's weights?"""
        return self.folder.config.get("action") == "evaluate"

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final numbers that are numbers."""
        return {
            str(name): float(value)
            for name, value in self.folder.metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    @cached_property
    def tested(self) -> dict[str, float]:
        """The numbers of the test by their names without the split."""
        return {name[5:]: value for name, value in self.metrics.items() if name.startswith("test/")}

    @property
    def kind(self) -> str | None:
        """What it was tested in: "recognise", "restore", "generate", or None where it has no such numbers."""
        if self.folder.status != "ok" or not self.tested:
            return None
        return "recognise" if "accuracy" in self.tested else "restore" if "psnr" in self.tested else "generate"

    @cached_property
    def images(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `per_image.csv` in order of "index"; for classes also "accuracy", 1 where told right."""
        return _columns(self.folder.path / "per_image.csv")

    @cached_property
    def epochs(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `metrics.csv`; what is missing is NaN."""
        return _table(self.folder.path / "metrics.csv")

    def pictures(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of `images/<name>.npz`: "index" (N,), every other (N,H,W,C) uint8."""
        return _arrays(self.folder.path / "images" / f"{name}.npz")

    def convention(self, name: str) -> str:
        """How it computed a metric, in words."""
        told = self.folder.convention
        return str(told.get(name, "")) if isinstance(told, dict) else ""

    def environment(self, key: str) -> Any:
        """What `environment.json` says under a key, or None."""
        return self.folder.environment.get(key)

    @property
    def seconds(self) -> float:
        """How long it took, or NaN."""
        value = self.environment("seconds")
        return float(value) if isinstance(value, int | float) else math.nan

    @property
    def seed(self) -> str:
        """Its seed."""
        return str(self.trained.config.get("seed"))


@dataclass
class Configuration:
    """Runs that are equal but for the seed; of several with one seed the newest counts."""

    flat: dict[str, Any]
    runs: list[Run]
    repeats: list[Run] = field(default_factory=list)
    label: str = ""
    values: dict[str, str] = field(default_factory=dict)  # of the parameters that vary within the problem

    def of(self, name: str) -> list[float]:
        """The values of a metric with its split, one for each run that has it."""
        return [run.metrics[name] for run in self.runs if name in run.metrics]

    def best(self, name: str) -> Run:
        """Its best run by a metric of the test."""
        sign = measure(name).better or 1
        ranked = [run for run in self.runs if math.isfinite(run.tested.get(name, math.nan))]
        return max(ranked, key=lambda run: sign * run.tested[name], default=self.runs[0])


@dataclass
class Problem:
    """What is tested on the same images under the same damage: only within it are models compared."""

    kind: str
    task: str
    damage: str
    configurations: list[Configuration]
    main: str | None = None  # the measure that tells models apart, or None where there is none
    comparisons: list[Comparison] | None = None  # once they are made
    has_twin: bool = False  # is there one like it, but for the images

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
        count = f", {self.images:,} images" if self.has_twin else ""
        return f"{verb[self.kind]} {self.task or 'an unknown task'}{damage}{count}"

    @property
    def images(self) -> int:
        """On how many images it is tested; 0 where no run tells."""
        return next((len(run.images["index"]) for run in self.runs if run.images), 0)


def problems(runs: Iterable[Run]) -> list[Problem]:
    """Sort finished runs into problems, and each problem's into configurations, the best first."""
    groups: dict[str, list[list[Run]]] = {}
    for run in runs:
        if run.kind is not None:
            _place(run, groups.setdefault(_problem_key(run), []))
    found = []
    for group in groups.values():
        for same in group:
            task, damage = labels.choice(same[0].folder, "task"), labels.degradation(same[0].folder)
            problem = Problem(str(same[0].kind), task, damage, _configurations(same))
            problem.main = next((name for name in MAIN if all(name in run.tested for run in same)), None)
            _rank(problem)
            found.append(problem)
    titles = [problem.title for problem in found]
    for problem, title in zip(found, titles, strict=True):
        problem.has_twin = titles.count(title) > 1
    return found


def _place(run: Run, group: list[list[Run]]) -> None:
    """Put a run to those that were tested on the very same images: the same places, damage and damaged quality."""
    for same in group:
        if _same_images(run, same[0]):
            same.append(run)
            return
    group.append([run])


def _same_images(run: Run, other: Run) -> bool:
    if not run.images or not other.images:  # lost: the numbers before restoration must do
        name = "psnr_degraded"
        return math.isclose(run.tested.get(name, 0), other.tested.get(name, 0), abs_tol=1e-3)
    if not np.array_equal(run.images["index"], other.images["index"]):
        return False
    shared = [name for name in ("severity", "psnr_degraded") if name in run.images and name in other.images]
    return all(np.allclose(run.images[n], other.images[n], rtol=1e-4, atol=1e-3, equal_nan=True) for n in shared)


def _problem_key(run: Run) -> str:
    config = run.folder.config
    task = {key: value for key, value in labels.part(config, "task").items() if key not in _OF_TRAINING}
    damage = labels.part(config, "degradation") if run.kind != "generate" else {}
    made = {name: run.convention(name) for name in MAIN if name in run.tested}
    return json.dumps([run.kind, task, damage, made], sort_keys=True, default=str)


def _configurations(runs: list[Run]) -> list[Configuration]:
    by_key: dict[str, Configuration] = {}
    for run in runs:
        flat = labels.flat({k: v for k, v in run.trained.config.items() if k not in _NOT_COMPARED})
        flat.pop("trainer.enable_progress_bar", None)
        key = json.dumps(flat, sort_keys=True, default=str)
        by_key.setdefault(key, Configuration(flat, [])).runs.append(run)
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
    """Give each image's main value under each configuration, averaged over its runs, where all have one.

    Returns:
        The places of the configurations that have such values, and (images, these configurations).
    """
    assert problem.main is not None
    places, columns = [], []
    for place, found in enumerate(problem.configurations):
        values = [run.images[problem.main] for run in found.runs if problem.main in run.images]
        if values and len({len(column) for column in values}) == 1:
            mean = np.mean(values, axis=0)
            if np.isfinite(mean).any():
                places.append(place)
                columns.append(mean)
    if not columns or len({len(column) for column in columns}) > 1:
        return [], np.empty((0, 0))
    table = np.stack(columns, axis=1)
    return places, table[np.isfinite(table).all(axis=1)]


def common_names(folders: list[RunFolder]) -> dict[Path, str]:
    """Call each run folder by its path below the folder that all lie in."""
    paths = [folder.path.absolute() for folder in folders]
    top = os.path.commonpath([path.parent for path in paths]) if paths else "."
    return {folder.path: os.path.relpath(path, top) for folder, path in zip(folders, paths, strict=True)}


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    table = _table(path)
    index = table.get("index")
    if index is None or not len(index) or not np.isfinite(index).all() or len(np.unique(index)) != len(index):
        return {}
    order = np.argsort(index, kind="stable")
    table = {name: column[order] for name, column in table.items()}
    if "prediction" in table and "label" in table:
        table["accuracy"] = (table["prediction"] == table["label"]).astype(np.float64)
    return table


def _table(path: Path) -> dict[str, NDArray[np.float64]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
            lines = file.readlines()
        try:
            rows = np.loadtxt(lines, delimiter=",", ndmin=2)
        except ValueError:  # empty cells; this reads them as NaN, but takes five times as long
            rows = np.genfromtxt(lines, delimiter=",", ndmin=2)
    except (OSError, ValueError, csv.Error, UnicodeDecodeError):
        return {}
    if not header or rows.shape[0] == 0 or rows.shape[1] != len(header):
        return {}
    return {name: rows[:, place] for place, name in enumerate(header)}


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except Exception:  # a zip file has a dozen ways to be damaged
        return {}
    index = found.get("index")
    if index is None or index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        return {}
    good = {
        name: pixels
        for name, pixels in found.items()
        if name != "index" and pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[-1] in (1, 3)
        and len(pixels) == len(index) and 0 < max(pixels.shape[1:3]) <= 4096
    }  # fmt: skip
    return {"index": index, **good} if good else {}


def convention_of(runs: Iterable[Run], name: str) -> Mapping[str, list[Run]]:
    """Sort runs by how they computed a metric: numbers made differently never share a column."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if any(key.split("/", 1)[-1] == name for key in run.metrics):
            found.setdefault(run.convention(name), []).append(run)
    return found
