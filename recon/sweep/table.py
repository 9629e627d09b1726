"""What a sweep shows: a live table on a terminal, a line for each job elsewhere, and what failed at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from recon.sweep.job import Job
from recon.sweep.pool import progress


class Display:
    """Shows the jobs of a sweep while they run.

    Args:
        jobs: all jobs, to which others may be added.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self._said = {job.number: (job.status, job.attempts) for job in jobs}
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self.show()
            self._live.stop()

    def show(self) -> None:
        """Draw the table anew, or print a line for each job that has ended since."""
        if self._live:
            self._live.update(table(self.jobs), refresh=True)
            return
        for job in self.jobs:
            state = (job.status, job.attempts)
            if self._said.get(job.number) != state:
                before, self._said[job.number] = self._said.get(job.number), state
                if job.status != "running" and (before or job.status != "waiting"):
                    print(_line(job, self.jobs), flush=True)


def _line(job: Job, jobs: Sequence[Job]) -> str:
    if job.status == "waiting":
        return f"job {job.number} ({job.label}): will be tried again: {job.error}"
    ended = sum(other.status not in ("waiting", "running") for other in jobs)
    words = f"job {job.number} ({job.label}): {job.status} in {_duration(job.seconds)}, {ended} of {len(jobs)} ended"
    return f"{words}: {job.error}" if job.error else words


def table(jobs: Sequence[Job]) -> Table:
    """A row for each job: what it is, how far, how long it will take, and its metric; the best is bold."""
    told = {job.number: progress(job.folder) for job in jobs if job.status not in ("waiting",)}
    best = _best(told)
    shown = Table("job", "status", "progress", "time left", "metric", "best")
    for job in _worth_showing(jobs):
        now = told.get(job.number, {})
        value = now.get("best")
        style = "bold" if best is not None and value == best else None
        shown.add_row(
            escape(job.label), _status(job), _share(now) if job.status == "running" else "", _left(job, now),
            _latest(now), f"{value:.4g}" if isinstance(value, int | float) else "", style=style,
        )  # fmt: skip
    return shown


_SHOWN = 30


def _worth_showing(jobs: Sequence[Job]) -> list[Job]:
    """All jobs where they fit, else those that run and the latest others."""
    if len(jobs) <= _SHOWN:
        return list(jobs)
    order = ("running", "failed", "killed", "interrupted", "ok", "pruned", "waiting")
    chosen = sorted(jobs, key=lambda job: order.index(job.status))[:_SHOWN]
    return sorted(chosen, key=lambda job: job.number)


def _best(told: dict[int, dict[str, Any]]) -> float | None:
    values: list[float] = [now["best"] for now in told.values() if isinstance(now.get("best"), int | float)]
    modes = {now.get("mode") for now in told.values() if now}
    if not values or len(modes) != 1:  # numbers that go different ways have no best
        return None
    return max(values) if modes == {"max"} else min(values)


def _status(job: Job) -> str:
    colour = {"ok": "green", "running": "cyan", "waiting": "dim", "pruned": "yellow", "interrupted": "yellow"}
    return f"[{colour.get(job.status, 'red')}]{job.status}[/]"


def _share(now: dict[str, Any]) -> str:
    total = now.get("total_steps")
    return f"{min(1.0, now['step'] / total):.0%}" if total and total > 0 else ""


def _left(job: Job, now: dict[str, Any]) -> str:
    if job.status != "running":
        return f"took {_duration(job.seconds)}" if job.seconds and job.status != "waiting" else ""
    total, step = now.get("total_steps") or 0, now.get("step") or 0
    if total <= 0 or step <= 0:
        return ""
    return _duration(max(0.0, (total - step) * now.get("seconds", 0.0) / step))


def _latest(now: dict[str, Any]) -> str:
    values = now.get("values") or []
    return f"{now.get('monitor')} {values[-1]:.4g}" if values and isinstance(values[-1], int | float) else ""


def _duration(seconds: float) -> str:
    """A time to read, such as "12.3 s" or "1 h 02 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def show_failed(jobs: Sequence[Job]) -> None:
    """List the jobs that failed, with their reasons and where their output is."""
    failed = [job for job in jobs if job.status in ("failed", "killed", "interrupted")]
    if not failed:
        return
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    shown = Table(
        "job", "status", "reason", "tried", title=f"{len(failed)} of {len(jobs)} jobs failed", title_justify="left"
    )
    for job in failed:
        shown.add_row(f"{job.number} {escape(job.label)}", job.status, escape(job.error or ""), f"{job.attempts}×")
    console.print(shown)
    for job in failed:
        print(f"output: {job.folder / 'output.log'}", file=sys.stderr)
