"""What a sweep keeps on disk: `sweep.json` in its folder; and what of its jobs is there already."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from recon import runs
from recon.errors import InputError
from recon.reading import read_json
from recon.records import write_json
from recon.sweep.job import Job

OUTPUTS = Path("outputs")


def folder_for(arguments: Sequence[str]) -> str:
    """The folder in which the same command was begun under the same code, else a new one."""
    begun = [folder for folder, state in _sweeps(arguments) if state.get("code") == runs.code_version()]
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


def read(folder: Path) -> dict[str, Any]:
    """What `sweep.json` says; empty where there is none or it is damaged."""
    return read_json(folder / "sweep.json")


class State:
    """Keeps `sweep.json` true.

    Args:
        folder: the sweep's folder.
        arguments: the command line as typed.
    """

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.folder = folder
        self.before = read(folder)
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
            "code": runs.code_version(),
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

        The run of an equal configuration under the same code counts, wherever it lies below `outputs`.
        """
        row = self._rows.get(job.fingerprint)
        same = [runs.RunFolder(folder) for folder in self._known.get(job.fingerprint, [])]
        if row:  # an evaluation records the configuration of the run that it tests: found by its folder
            same.append(runs.RunFolder(self.folder / row["folder"]))
            job.attempts, job.seconds, job.batch = row["attempts"], row["seconds"], row.get("batch")
        done = next((run for run in same if run.status == "ok"), None)
        begun = next((run for run in same if run.status == "running" or run.has_checkpoint), None)
        found = done or begun
        job.folder = found.path if found else self.folder / row["folder"] if row else self._own(job)
        job.status = "ok" if done else "waiting"
        self.jobs.append(job)

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
                found.setdefault(run.environment.get("fingerprint", ""), []).append(run.path)
        return found


def mark(folder: Path, status: str, error: str) -> None:
    """Put into a run's record what it could not write itself, as it was killed."""
    environment = runs.RunFolder(folder).environment
    if environment:
        write_json(folder / "environment.json", {**environment, "status": status, "error": error})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
