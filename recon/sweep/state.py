"""What a sweep keeps on disk: `sweep.json` in its folder; and what of its jobs is there already."""

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
from recon.config.recorded import of_run
from recon.errors import InputError
from recon.runs.files import write_json
from recon.runs.fingerprint import code_version, fingerprint_of, identity
from recon.runs.reading import read_json
from recon.sweep.job import Job

OUTPUTS = Path("outputs")


def folder_for(arguments: Sequence[str]) -> str:
    """The folder in which the same command was begun under the same code, else a new one."""
    begun = [folder for folder, state in _sweeps(arguments) if state.get("code") == code_version()]
    return str(begun[-1] if begun else OUTPUTS / datetime.now().strftime("%Y-%m-%d/%H-%M-%S-%f_sweep"))


def _sweeps(arguments: Sequence[str]) -> list[tuple[Path, dict[str, Any]]]:
    """The sweeps of this command line, the latest last."""
    paths = sorted(OUTPUTS.glob("*/*_sweep/sweep.json"))
    states = ((path.parent, read(path.parent)) for path in paths)
    return [(folder, state) for folder, state in states if _essence(state.get("arguments", [])) == _essence(arguments)]


def _essence(arguments: Sequence[str]) -> list[str]:
    """What of a command line tells which sweep it is: not how many jobs run at a time or how long it goes on."""
    free = ("sweep.jobs=", "sweep.retry=", "sweep.trials=")
    return [argument for argument in arguments if not argument.startswith(free)]


# The types of what `sweep.json` says of a sweep and of each job.
_SWEEP = {"arguments": list, "code": str, "started": str, "jobs": list}
_JOB = {"number": int, "name": str, "overrides": list, "varied": list, "fingerprint": str, "folder": str, "status": str,
        "attempts": int, "seconds": (int, float)}  # fmt: skip


def read(folder: Path) -> dict[str, Any]:
    """Return what `sweep.json` says; empty where there is none or it is damaged, and without jobs that are."""
    content = read_json(folder / "sweep.json")
    if not _fits(content, _SWEEP) or not all(isinstance(word, str) for word in content["arguments"]):
        return {}
    return {**content, "jobs": [job for job in content["jobs"] if _fits(job, _JOB)]}


def _fits(content: Any, kinds: dict[str, Any]) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), kind) for key, kind in kinds.items())


class State:
    """Keeps `sweep.json` true.

    Args:
        folder: the sweep's folder.
        arguments: the command line as typed.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.folder = folder
        self.before = read(folder)
        if not self.before and (folder / "sweep.json").exists():
            print(
                f"sweep: {folder}/sweep.json is damaged; what its jobs left is looked for in their folders", flush=True
            )
        self.arguments = list(arguments)
        self.started = self.before.get("started") or _now()
        self.jobs: list[Job] = []
        self.rows: list[dict[str, Any]] = []  # of `sweep.json`, for jobs that have nothing more to do

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from running the same sweep; raises InputError when one is at work."""
        if runs.is_alive(self.folder):
            raise InputError(f"hydra.sweep.dir: the sweep in {self.folder} is running; wait for it or end it")
        with runs.locked(self.folder, "hydra.sweep.dir"):
            yield

    def tidy(self) -> None:
        """Take away what Hydra noted of a sweep that was not begun, and the folders that are empty then."""
        if (self.folder / "sweep.json").exists():
            return
        (self.folder / "multirun.yaml").unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def greeting(self) -> str | None:
        """Say in a line that a sweep is gone on with, or why one that was begun is not."""
        if self.before:
            return f"sweep: going on in {self.folder}, where it was begun"
        others = [other for other, _ in _sweeps(self.arguments) if other.absolute() != self.folder]
        if others:
            return f"sweep: the code has changed since {others[-1]}, so that all jobs run anew"
        return None

    def write(self, ended: bool = False) -> None:
        """Write `sweep.json` whole or not at all."""
        content = {
            "arguments": self.arguments,
            "code": code_version(),
            "started": self.started,
            "ended": _now() if ended else None,
            "jobs": sorted([*self.rows, *map(self._row, self.jobs)], key=lambda row: int(row["number"])),
        }
        write_json(self.folder / "sweep.json", content)

    def _row(self, job: Job) -> dict[str, Any]:
        inside = job.folder.is_relative_to(self.folder)
        row = {
            "number": job.number,
            "name": job.name,
            "overrides": job.overrides,
            "varied": job.varied,
            "fingerprint": job.fingerprint,
            "folder": str(job.folder.relative_to(self.folder) if inside else job.folder),
            "status": job.status,
            "error": job.error,
            "attempts": job.attempts,
            "seconds": round(job.seconds, 1),
        }
        return row | ({"batch": job.batch} if job.batch else {})

    def place(self, job: Job) -> None:
        """Give a job its folder, and take it for done when it ran before.

        No folder counts by its own word: its configuration must equal the job's, under the same code and data, and a
        done one must hold finite numbers. It counts wherever it lies below `outputs`.
        """
        row = self._rows.get(job.fingerprint)
        same = [runs.RunFolder(path) for path in self._known.get(job.fingerprint, [])]
        if row:
            same += [run for run in [runs.RunFolder(self.folder / row["folder"])] if self._is_evaluation_of(run, job)]
            job.attempts, job.seconds, job.batch = row["attempts"], row["seconds"], row.get("batch")
        done = next((run for run in same if _is_done(run)), None)
        begun = next((run for run in same if run.status == "running" or run.has_checkpoint), None)
        found = done or begun
        job.folder = found.path if found else self._own(job)
        job.status = "ok" if done else "waiting"
        self.jobs.append(job)

    def _is_evaluation_of(self, run: runs.RunFolder, job: Job) -> bool:
        """Return whether a folder holds what an evaluation writes, which records the configuration that it tests."""
        if runs.action_of(job.config) != "evaluate" or run.environment.get("code") != code_version():
            return False
        try:
            return identity(of_run(job.config, job.overrides)) == identity(run.config)
        except InputError:
            return False

    def _own(self, job: Job) -> Path:
        """A folder in that of the sweep, which no other job has or had."""
        taken = {other.folder for other in self.jobs}
        names = itertools.chain([job.name], (f"{job.name}_{copy}" for copy in itertools.count(2)))
        folders = (self.folder / f"{job.number}_{name}" for name in names)
        return next(folder for folder in folders if folder not in taken and not (folder / "environment.json").exists())

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        """What `sweep.json` said of each job before, by fingerprint."""
        return {row["fingerprint"]: row for row in self.before.get("jobs", [])}

    @cached_property
    def _known(self) -> dict[str, list[Path]]:
        """The runs below `outputs` and in the sweep's folder, by fingerprint."""
        found: dict[str, list[Path]] = {}
        for place in {OUTPUTS.absolute(), self.folder}:
            for path in place.rglob("environment.json"):
                run = runs.RunFolder(path.parent)
                if runs.action_of(run.config) == "train":
                    found.setdefault(fingerprint_of(run), []).append(run.path)
        return found


def _is_done(run: runs.RunFolder) -> bool:
    return run.status == "ok" and any(math.isfinite(value) for value in run.metrics.values())


def mark(folder: Path, status: str, error: str) -> None:
    """Put into a run's record what it could not write itself, as it was killed."""
    environment = runs.RunFolder(folder).environment
    if environment:
        write_json(folder / "environment.json", {**environment, "status": status, "error": error})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
