"""Running the jobs of a sweep, several at a time, until each has ended well or failed too often."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recon import runs
from recon.config.words import quoted
from recon.runs.reading import read_json
from recon.sweep.job import Job
from recon.sweep.process import Launcher, Process
from recon.sweep.state import State, mark

# The exit statuses of a run that a signal made save and end.
SAVED = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2))


class Source:
    """Base of what the jobs come from."""

    def summary(self) -> str:
        """Return what there is to do, for the first line of a sweep."""
        raise NotImplementedError

    def next(self) -> Job | None:
        """Return the next job, which has its folder; None while there is none."""
        raise NotImplementedError

    def has_succeeded(self) -> bool:
        """Return whether the sweep as a whole did what it should."""
        raise NotImplementedError

    def ended(self, job: Job) -> None:
        """Record a job that will not run again."""

    def hopeless(self, job: Job) -> bool:
        """Return whether to end a running job early."""
        return False

    def show_best(self) -> None:
        """Print the best jobs, where the source compares them."""


@dataclass
class Started:
    """A running job."""

    job: Job
    process: Process
    since: float
    log_start: int
    pruned: bool = False
    signals: int = 0  # how many it was sent to end it


@dataclass
class Pool:
    """Runs jobs, several at a time.

    Args:
        launcher: starts them.
        state: keeps `sweep.json`.
        retry: how often a job that failed is tried again.
        on_change: called when a job began or ended, and about once a second.
    """

    launcher: Launcher
    state: State
    retry: int
    on_change: Callable[[], None]
    stopped: int | None = None
    _signals: int = 0  # how many came to end the sweep
    _running: list[Started] = field(default_factory=list)
    _tries: dict[int, int] = field(default_factory=dict)

    def run(self, source: Source) -> int | None:
        """Run all jobs of a source; returns the exit status that a signal asked for, or None."""
        waiting: list[Job] = []
        shown = 0.0
        with self._handled_signals():
            while True:
                self._pass_on_signals()
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
                    self._prune(source)
                    self.on_change()
                time.sleep(0.03)

    def _room(self) -> int:
        return self.launcher.room - len(self._running)

    def _begin(self, job: Job, source: Source) -> bool:
        """Start a job, or find that another sweep has done it; returns False while it must wait."""
        if not self._room():
            return False
        if (process := self.launcher.attach(job)) is not None:
            self._follow(Started(job, process, time.time(), 0))
            return True
        if runs.is_alive(job.folder):
            return False
        if runs.RunFolder(job.folder).status == "ok":  # another process ran it
            job.status = "ok"
            source.ended(job)
            return True
        job.folder.mkdir(parents=True, exist_ok=True)
        record = job.folder / "environment.json"
        if runs.action_of(job.config) != "train":  # an evaluation cannot be resumed
            record.unlink(missing_ok=True)
        resume = [f"resume={quoted(str(job.folder))}"]
        log_start = job.log.stat().st_size if job.log.exists() else 0
        process = self.launcher.start(job, resume if record.exists() else fresh_arguments(job, self.state.folder.name))
        if process is None:
            return False
        job.attempts += 1
        self._tries[job.number] = self._tries.get(job.number, 0) + 1
        self._follow(Started(job, process, time.time(), log_start))
        return True

    def _follow(self, started: Started) -> None:
        started.job.status, started.job.error = "running", None
        self._running.append(started)
        self._save()

    def _end(self, started: Started, status: int) -> None:
        """Record how a job ended; one that is tried again waits."""
        job = started.job
        self._running.remove(started)
        self.launcher.ended(started.process)
        job.seconds, job.batch = time.time() - started.since, None
        job.status = self._status_of(started, status)
        job.error = None if job.status in ("ok", "pruned") else reason(started, status)
        if job.status in ("killed", "pruned"):
            mark(job.folder, job.status, job.error or "its metric was worse than that of the others")
        # Status 2 is a mistake in the command, which another try would repeat.
        again = job.status in ("failed", "killed", "interrupted") and status != 2 and not self.stopped
        if again and self.launcher.interruptions_are_free and job.status == "interrupted" and has_advanced(started):
            self._tries[job.number] = 0
        if again and self._tries.get(job.number, 0) <= self.retry:
            job.status = "waiting"
        self._save()

    def _status_of(self, started: Started, status: int) -> str:
        if status == 0:
            return "ok"
        if started.pruned:
            return "pruned"
        if self.stopped or status in (*SAVED, -signal.SIGINT, -signal.SIGTERM):
            return "interrupted"
        return "killed" if status < 0 else "failed"

    def _prune(self, source: Source) -> None:
        for started in self._running:
            if not started.pruned and source.hopeless(started.job):
                started.pruned = True
                started.process.send(signal.SIGTERM)

    def _save(self) -> None:
        self.state.write()
        self.on_change()

    def _pass_on_signals(self) -> None:
        """Send the jobs the signals that have come since: first to save and end, then to end at once."""
        for started in self._running:
            if started.signals < min(self._signals, 2):
                started.signals += 1
                started.process.send(signal.SIGTERM if started.signals == 1 else signal.SIGKILL)

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        """Let a signal end the jobs, which save; a second one kills them."""

        def stop(signal_number: int, _: Any) -> None:
            self.stopped, self._signals = 128 + signal_number, self._signals + 1

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def fresh_arguments(job: Job, group: str) -> list[str]:
    """Return the command line behind run.py that runs a job from its start."""
    given = {override.split("=", 1)[0].lstrip("+") for override in job.overrides}
    names = {"logger.name": job.name} | ({} if os.environ.get("WANDB_RUN_GROUP") else {"logger.group": group})
    added = [f"{key}={quoted(value)}" for key, value in names.items() if key not in given]
    return [*job.overrides, *added, f"hydra.run.dir={quoted(str(job.folder))}", "hydra.mode=RUN"]


def has_advanced(started: Started) -> bool:
    """Return whether a job wrote a checkpoint since its start."""
    paths = (started.job.folder / "checkpoints").glob("*.ckpt")
    return any(path.stat().st_mtime >= started.since for path in paths)


def progress(folder: Path) -> dict[str, Any]:
    """Return what a run in a folder records of its progress; empty where it records nothing."""
    return read_json(folder / "progress.json")


def reason(started: Started, status: int) -> str:
    """Return in a sentence why a job ended."""
    if status < 0:
        cause = "; running out of memory is the usual cause" if status == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-status).name}{cause}"
    record = started.job.folder / "environment.json"
    is_new = record.exists() and record.stat().st_mtime >= started.since
    if is_new and (error := runs.RunFolder(started.job.folder).environment.get("error")):
        return " ".join(str(error).split())
    lines = []
    if started.job.log.exists():  # a cluster may end a job before its first line
        with open(started.job.log, encoding="utf-8", errors="replace") as log:
            log.seek(started.log_start)
            lines = [line.strip() for line in log if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or [f"ended with status {status} before it wrote anything"])[-1]
