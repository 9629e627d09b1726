"""What a sweep keeps on disk, `sweep.json` in its folder; and which of its jobs have runs already."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recon import runs
from recon.actions.act import remove_empty
from recon.config.recorded import of_run
from recon.errors import InputError
from recon.runs.files import write_json
from recon.runs.fingerprint import code_version, fingerprint_of, identity
from recon.runs.reading import read_json
from recon.sweep.job import Job

OUTPUTS = Path("outputs")
# The types of the entries of `sweep.json` and of each of its jobs.
_SWEEP = {"arguments": list, "code": str, "started": str, "jobs": list}
_JOB = {"number": int, "name": str, "overrides": list, "varied": list, "fingerprint": str, "folder": str, "status": str,
        "attempts": int, "seconds": (int, float)}  # fmt: skip


def folder_for(arguments: Sequence[str]) -> str:
    """Return the folder in which the same command was begun under the same code, else a new one."""
    begun = [folder for folder, content in _sweeps(arguments) if content["code"] == code_version()]
    return str(begun[-1] if begun else OUTPUTS / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f_sweep"))


def _sweeps(arguments: Sequence[str]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the sweeps of a command line, the latest last."""
    paths = sorted(OUTPUTS.glob("*/*_sweep/sweep.json"))
    contents = ((path.parent, read(path.parent)) for path in paths)
    wanted = _identity(arguments)
    return [(folder, content) for folder, content in contents if content and _identity(content["arguments"]) == wanted]


def _identity(arguments: Sequence[str]) -> list[str]:
    """Return what of a command line identifies a sweep: all but how many jobs run at a time, or in total."""
    free = ("sweep.jobs=", "sweep.retry=", "sweep.trials=")
    return [argument for argument in arguments if not argument.startswith(free)]


def read(folder: Path) -> dict[str, Any]:
    """Read `sweep.json`; empty where it is missing or damaged, without damaged jobs."""
    content = read_json(folder / "sweep.json")
    if not _has_types(content, _SWEEP) or not all(isinstance(word, str) for word in content["arguments"]):
        return {}
    return {**content, "jobs": [job for job in content["jobs"] if _has_types(job, _JOB)]}


def _has_types(content: Any, types: dict[str, Any]) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in types.items())


def tidy(folder: Path) -> None:
    """Remove what Hydra wrote about a sweep that was not begun, and the folders that are empty then."""
    if folder.is_dir() and all(path.is_dir() or path.name == "multirun.yaml" for path in folder.rglob("*")):
        (folder / "multirun.yaml").unlink(missing_ok=True)
        for job in folder.glob("[0-9]*"):
            remove_empty(job)
        remove_empty(folder.absolute())


class State:
    """Keeps `sweep.json` up to date.

    Args:
        folder: the sweep's folder.
        arguments: the command line as typed.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.folder = folder
        self.previous = read(folder)
        if not self.previous and (folder / "sweep.json").exists():
            print(f"sweep: {folder}/sweep.json is damaged; the folders of its jobs are searched instead", flush=True)
        self.arguments = list(arguments)
        self.started = self.previous.get("started") or _now()
        self.jobs: list[Job] = []
        self.search: dict[str, Any] = {}  # what a search varies and for what, for its report
        self.rows: list[dict[str, Any]] = []  # of `sweep.json`, for jobs that have nothing more to do

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from running the same sweep; raises InputError when it is running."""
        if runs.is_alive(self.folder):
            raise InputError(f"hydra.sweep.dir: the sweep in {self.folder} is running; wait for it or end it")
        with runs.locked(self.folder, "hydra.sweep.dir"):
            yield

    def greeting(self) -> str | None:
        """Return a line that says that a sweep is continued, or why one that was begun is not."""
        if self.previous:
            return f"sweep: continuing in {self.folder}"
        others = [other for other, _ in _sweeps(self.arguments) if other.absolute() != self.folder]
        return f"sweep: the code has changed since {others[-1]}, so that all jobs run again" if others else None

    def write(self, ended: bool = False) -> None:
        """Write `sweep.json` whole or not at all."""
        content = {
            "arguments": self.arguments,
            "code": code_version(),
            "started": self.started,
            "ended": _now() if ended else None,
            **({"search": self.search} if self.search else {}),
            "jobs": sorted([*self.rows, *map(self._row, self.jobs)], key=lambda row: int(row["number"])),
        }
        write_json(self.folder / "sweep.json", content)

    def _row(self, job: Job) -> dict[str, Any]:
        inside = job.folder.is_relative_to(self.folder)
        row = {key: getattr(job, key) for key in (*_JOB, *(["batch"] if job.batch else []))}
        folder = job.folder.relative_to(self.folder) if inside else job.folder
        return row | {"folder": str(folder), "error": job.error, "seconds": round(job.seconds, 1)}

    def add(self, job: Job) -> None:
        """Add a job and assign its folder; it is done when it ran before, wherever below `outputs`.

        A folder's own claims do not count: its configuration must equal the job's, under the same code and data, and a
        done one must hold finite numbers.
        """
        row = self._rows.get(job.fingerprint)
        same = [runs.RunFolder(path) for path in self._trained.get(job.fingerprint, [])]
        if row:
            run = runs.RunFolder(self.folder / row["folder"])
            same += [run] if self._is_evaluation_of(run, job) else []
            job.attempts, job.seconds, job.batch = row["attempts"], row["seconds"], row.get("batch")
        done = next((run for run in same if _is_done(run)), None)
        begun = next((run for run in same if run.status == "running" or run.has_checkpoint), None)
        chosen = done or begun
        job.folder = chosen.path if chosen else self._new_folder(job)
        job.status = "ok" if done else "waiting"
        self.jobs.append(job)

    def _is_evaluation_of(self, run: runs.RunFolder, job: Job) -> bool:
        """Return whether a folder holds an evaluation of this job; it records the configuration that it tests."""
        if runs.action_of(job.config) != "evaluate" or run.environment.get("code") != code_version():
            return False
        try:
            return identity(of_run(job.config, job.overrides)) == identity(run.config)
        except InputError:
            return False

    def _new_folder(self, job: Job) -> Path:
        """Return a folder inside the sweep's that no other job has or had."""
        taken = {other.folder for other in self.jobs}
        names = itertools.chain([job.name], (f"{job.name}_{copy}" for copy in itertools.count(2)))
        folders = (self.folder / f"{job.number}_{name}" for name in names)
        return next(folder for folder in folders if folder not in taken and not (folder / "environment.json").exists())

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        """The jobs of the previous `sweep.json`, by fingerprint."""
        return {row["fingerprint"]: row for row in self.previous.get("jobs", [])}

    @cached_property
    def _trained(self) -> dict[str, list[Path]]:
        """The training runs below `outputs` and in the sweep's folder, by fingerprint."""
        paths: dict[str, list[Path]] = {}
        for top in {OUTPUTS.absolute(), self.folder}:
            for path in top.rglob("environment.json"):
                run = runs.RunFolder(path.parent)
                if runs.action_of(run.config) == "train":
                    paths.setdefault(fingerprint_of(run), []).append(run.path)
        return paths


def _is_done(run: runs.RunFolder) -> bool:
    return run.status == "ok" and any(math.isfinite(value) for value in run.metrics.values())


def mark(folder: Path, status: str, error: str) -> None:
    """Complete the record of a run that was killed and could not write it."""
    environment = runs.RunFolder(folder).environment
    if environment:
        write_json(folder / "environment.json", {**environment, "status": status, "error": error})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
