"""What a sweep shows: a live table on a terminal, a line for each job elsewhere, and what failed at the end."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from recon.config.conf import command
from recon.runs import RunFolder
from recon.streams import duration, printable
from recon.sweep.job import Job
from recon.sweep.pool import progress

_PROBLEMS = 6  # of which the best job is said
_ROWS = 12  # of the table; more only where more jobs run at a time
# The statuses with their colours.
_COLOURS = {"running": "cyan", "failed": "red", "killed": "red", "interrupted": "yellow", "ok": "green",
            "pruned": "yellow", "waiting": "dim"}  # fmt: skip


class Display:
    """Shows the jobs of a sweep while they run.

    Args:
        jobs: all jobs, to which others may be added.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self._shown = {job.number: (job.status, job.attempts) for job in jobs}
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
            before, now = self._shown.get(job.number), (job.status, job.attempts)
            self._shown[job.number] = now
            if now != before and job.status != "running" and (before or job.status != "waiting"):
                print(_line(job, self.jobs), flush=True)


def _line(job: Job, jobs: Sequence[Job]) -> str:
    if job.status == "waiting":
        return f"job {job.number} ({job.label}): will be tried again: {job.error}"
    ended = sum(other.status not in ("waiting", "running") for other in jobs)
    line = f"job {job.number} ({job.label}): {job.status} in {duration(job.seconds)}, {ended} of {len(jobs)} ended"
    return f"{line}: {job.error}" if job.error else line


def table(jobs: Sequence[Job]) -> Table:
    """Make a row for each job that runs or went wrong, the best and the next: progress, time left, metric.

    The others are one line together, so that the table stays small enough for what runs to be seen.
    """
    records = {job.number: progress(job.folder) for job in jobs if job.status != "waiting"}
    best = best_value([record for record in records.values() if record])
    columns = (Column(name, no_wrap=True) for name in ("status", "progress", "time left", "metric", "best"))
    shown = Table("job", *columns, box=None, pad_edge=False, caption_justify="left")
    chosen = _worth_showing(jobs, records, best)
    for job in chosen:
        record = records.get(job.number, {})
        value, values = record.get("best"), record.get("values") or [None]
        shown.add_row(
            escape(job.label), f"[{_COLOURS[job.status]}]{job.status}[/]", *_time(job, record),
            f"{record.get('monitor')} {values[-1]:.4g}" if isinstance(values[-1], int | float) else "",
            f"{value:.4g}" if isinstance(value, int | float) else "",
            style="bold" if best is not None and value == best else None,
        )  # fmt: skip
    folded = Counter(job.status for job in jobs) - Counter(job.status for job in chosen)
    if folded:
        counts = [f"{folded[status]} {status}" for status in _COLOURS if folded[status]]
        shown.caption = f"and {folded.total()} more: {', '.join(counts)}"
    return shown


def _worth_showing(jobs: Sequence[Job], records: Mapping[int, dict[str, Any]], best: float | None) -> list[Job]:
    """Choose the jobs that have a row of their own, in order: few enough for a screen, those that run among them."""
    if len(jobs) <= _ROWS:
        return list(jobs)
    running = [job for job in jobs if job.status == "running"]
    wrong = [job for job in jobs if job.status in ("failed", "killed", "interrupted")][-_ROWS:]
    leading = [job for job in jobs if best is not None and records.get(job.number, {}).get("best") == best][:1]
    waiting = [job for job in jobs if job.status == "waiting"][:2]
    chosen = {job.number for job in [*running, *([*leading, *waiting, *wrong][: max(0, _ROWS - len(running))])]}
    return [job for job in jobs if job.number in chosen]


def best_value(records: Sequence[dict[str, Any]]) -> float | None:
    """Return the best value of the monitored metric in records of progress; None where they do not monitor the same."""
    values: list[float] = [record["best"] for record in records if isinstance(record.get("best"), int | float)]
    monitored = {(record.get("monitor"), record.get("mode")) for record in records}
    if not values or len(monitored) != 1:
        return None
    return max(values) if next(iter(monitored))[1] == "max" else min(values)


def best_lines(jobs: Sequence[Job]) -> list[str]:
    """Say which job has the best validation among those with the same images and damage, and its command line.

    None is best whose images are no better than before the model.
    """
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(json.dumps(_problem(job), sort_keys=True, default=str), []).append(job)
    lines: list[str] = []
    for group in [*alike.values()][:_PROBLEMS]:
        varied = [word for word in group[0].varied if word.lstrip("+").startswith(("task", "degradation"))]
        lines += _best_of([job for job in group if job.status == "ok"], f" of {' '.join(varied)}" if varied else "")
    return lines


def _best_of(done: Sequence[Job], which: str) -> list[str]:
    from recon.report.gains import verdict_of  # it imports numpy, for which help and completion need not wait

    verdicts = {job.number: verdict_of(RunFolder(job.folder)) for job in done}
    chosen = [job for job in done if verdicts[job.number] is None] or done
    records = {job.number: progress(job.folder) for job in chosen}
    best = best_value(list(records.values()))
    if len(done) < 2 or best is None:
        return []
    job = next(job for job in chosen if records[job.number].get("best") == best)
    found = f"job {job.number} ({job.label}), {records[job.number]['monitor']} {best:.4g}"
    verdict = verdicts[job.number]
    said = f"none; the closest is {found}, but in its test {verdict}" if verdict else found
    return [printable(f"best{which}: {said}"), f"again: {command()} {shlex.join(job.overrides)}"]


def _problem(job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a job restores: its images and their damage, without how they are batched."""
    task = {key: value for key, value in job.config.get("task", {}).items() if key not in ("batch_size", "epochs")}
    return task, job.config.get("degradation", {})


def _time(job: Job, record: dict[str, Any]) -> tuple[str, str]:
    """Return the share that is done and the time left, or the time that a job took."""
    if job.status != "running":
        return "", f"took {duration(job.seconds)}" if job.seconds and job.status != "waiting" else ""
    total, step = record.get("total_steps") or 0, record.get("step") or 0
    if total <= 0:
        return "", ""
    left = max(0.0, (total - step) * record.get("seconds", 0.0) / step) if step > 0 else None
    return f"{min(1.0, step / total):.0%}", "" if left is None else duration(left)


def show_failed(jobs: Sequence[Job]) -> None:
    """List the jobs that failed or were interrupted, with their reasons and where their output is."""
    failed = [job for job in jobs if job.status in ("failed", "killed", "interrupted")]
    if not failed:
        return
    stopped = sum(job.status == "interrupted" for job in failed)
    counts = [(len(failed) - stopped, "failed"), (stopped, "interrupted")]
    title = ", ".join(f"{count} of {len(jobs)} jobs {status}" for count, status in counts if count)
    shown = Table("job", "status", "reason", "tried", title=title, title_justify="left")
    for job in failed:
        shown.add_row(f"{job.number} {escape(job.label)}", job.status, escape(job.error or ""), f"{job.attempts}×")
    Console(stderr=True, width=None if sys.stderr.isatty() else 160).print(shown)
    for job in failed:
        print(f"output: {job.log}", file=sys.stderr)
