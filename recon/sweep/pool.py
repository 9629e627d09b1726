"""Running the jobs of a sweep, some at a time, until each has ended well or failed often enough."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from recon import runs
from recon.config.recorded import quoted
from recon.runs.reading import read_json
from recon.sweep.job import Job
from recon.sweep.process import Launcher, Process
from recon.sweep.state import State, mark

# The exit statuses of a run that a signal made save and end.
SAVED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))


class Source(Protocol):
    """Where the jobs come from."""

    def next(self) -> Job | None:
        """The next job, placed; None while there is none."""

    def ended(self, job: Job) -> None:
        """Take note of a job that will not run again."""


@dataclass
class Started:
    """A job at work."""

    job: Job
    process: Process
    since: float
    log_start: int
    pruned: bool = False
    told: int = 0  # how many signals to end it was sent


@dataclass
class Pool:
    """Runs jobs, some at a time.

    Args:
        launcher: starts them.
        state: keeps `sweep.json`.
        retry: how often a job that failed is tried again.
        on_change: called when a job began or ended, and about once a second.
        prune: tells of a job at work whether to end it early.
        flags: where Hydra finds its configuration, as typed.
    """

    launcher: Launcher
    state: State
    retry: int
    on_change: Callable[[], None]
    prune: Callable[[Job], bool] | None = None
    flags: Sequence[str] = ()
    stopped: int | None = None
    _asked: int = 0  # how many signals to end there were
    _running: list[Started] = field(default_factory=list)
    _tries: dict[int, int] = field(default_factory=dict)

    def run(self, source: Source) -> int | None:
        """Run all jobs of a source; returns the exit status that a signal asked for, or None."""
        waiting: list[Job] = []
        shown = 0.0
        with self._signals():
            while True:
                self._pass_on()
                if not self.stopped:
                    waiting = [job for job in waiting if not self._begin(job, source)]
                    while self._room() > len(waiting) and (job := source.next()) is not None:
                        if not self._begin(job, source):
                            waiting.append(job)
                if not self._running and (self.stopped or not waiting):
                    return self.stopped
                for started in [*self._running]:
                    if (status := started.process.status()) is not None:
                        self._end(started, status)
                        if started.job.status == "waiting":
                            waiting.append(started.job)
                        else:
                            source.ended(started.job)
                if time.monotonic() - shown > 1:
                    shown = time.monotonic()
                    self._prune()
                    self.on_change()
                time.sleep(0.03)

    def _room(self) -> int:
        return self.launcher.room - len(self._running)

    def _begin(self, job: Job, source: Source) -> bool:
        """Start a job, or find that another sweep has done it; False while it must wait."""
        if not self._room():
            return False
        if (process := self.launcher.attach(job)) is not None:
            self._follow(Started(job, process, time.time(), 0))
            return True
        if runs.is_alive(job.folder):
            return False
        run = runs.RunFolder(job.folder)
        if run.status == "ok":  # another process was at work in it
            job.status = "ok"
            source.ended(job)
            return True
        job.folder.mkdir(parents=True, exist_ok=True)
        log = job.folder / "output.log"
        record = job.folder / "environment.json"
        if runs.action_of(job.config) != "train":  # what only reads is done again from its start
            record.unlink(missing_ok=True)
        resumed = [f"resume={quoted(str(job.folder))}"] if record.exists() else None
        arguments = [*self.flags, *(resumed or fresh(job, self.state.folder.name))]
        log_start = log.stat().st_size if log.exists() else 0
        if (process := self.launcher.start(job, arguments, log)) is None:
            return False
        job.attempts += 1
        self._tries[job.number] = self._tries.get(job.number, 0) + 1
        self._follow(Started(job, process, time.time(), log_start))
        return True

    def _follow(self, started: Started) -> None:
        started.job.status, started.job.error = "running", None
        self._running.append(started)
        self._note()

    def _end(self, started: Started, status: int) -> None:
        """Take note of how a job ended; one that is tried again waits."""
        job = started.job
        self._running.remove(started)
        self.launcher.ended(started.process)
        job.seconds, job.batch = time.time() - started.since, None
        job.status = self._name_of(status, started)
        job.error = None if job.status in ("ok", "pruned") else reason(started, status)
        if job.status in ("killed", "pruned"):
            mark(job.folder, job.status, job.error or "its metric was worse than that of the others")
        # Status 2 is a mistake in what was asked for, which would be the same again.
        again = job.status in ("failed", "killed", "interrupted") and status != 2 and not self.stopped
        if again and self.launcher.goes_on_for_free and job.status == "interrupted" and has_advanced(started):
            self._tries[job.number] = 0
        if again and self._tries.get(job.number, 0) <= self.retry:
            job.status = "waiting"
        self._note()

    def _name_of(self, status: int, started: Started) -> str:
        if status == 0:
            return "ok"
        if started.pruned:
            return "pruned"
        if self.stopped or status in (*SAVED, -signal.SIGINT, -signal.SIGTERM):
            return "interrupted"
        return "killed" if status < 0 else "failed"

    def _prune(self) -> None:
        for started in self._running if self.prune else []:
            assert self.prune is not None
            if not started.pruned and self.prune(started.job):
                started.pruned = True
                started.process.send(signal.SIGTERM)

    def _note(self) -> None:
        self.state.write()
        self.on_change()

    def _pass_on(self) -> None:
        """Send the jobs the signals that have come since: first to save and end, then to end at once."""
        for started in self._running:
            if started.told < min(self._asked, 2):
                started.told += 1
                started.process.send(signal.SIGTERM if started.told == 1 else signal.SIGKILL)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let a signal end the jobs, which save; a second one kills them."""

        def stop(signal_number: int, _: Any) -> None:
            self.stopped, self._asked = 128 + signal_number, self._asked + 1

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def fresh(job: Job, group: str) -> list[str]:
    """What would be typed behind run.py to run a job from its start."""
    given = {override.split("=", 1)[0].lstrip("+") for override in job.overrides}
    named = {"logger.name": job.name}
    if not os.environ.get("WANDB_RUN_GROUP"):
        named["logger.group"] = group
    names = [f"{key}={quoted(value)}" for key, value in named.items() if key not in given]
    return [*job.overrides, *names, f"hydra.run.dir={quoted(str(job.folder))}", "hydra.mode=RUN"]


def has_advanced(started: Started) -> bool:
    """Did a job write a checkpoint?"""
    paths = (started.job.folder / "checkpoints").glob("*.ckpt")
    return any(path.stat().st_mtime >= started.since for path in paths)


def progress(folder: Path) -> dict[str, Any]:
    """How far the run in a folder is; empty where it does not tell."""
    return read_json(folder / "progress.json")


def reason(started: Started, status: int) -> str:
    """Say in a sentence why a job ended."""
    if status < 0:
        name = signal.Signals(-status).name
        cause = "; running out of memory is the usual cause" if status == -signal.SIGKILL else ""
        return f"ended by {name}{cause}"
    record = started.job.folder / "environment.json"
    if record.exists() and record.stat().st_mtime >= started.since:
        error = runs.RunFolder(started.job.folder).environment.get("error")
        if error:
            return " ".join(str(error).split())
    with open(started.job.folder / "output.log", encoding="utf-8", errors="replace") as log:
        log.seek(started.log_start)
        lines = [line.strip() for line in log if line.strip()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
    return told[-1] if told else f"ended with status {status}"
