"""What became of every run and job: those that failed or are missing, and each run's command and environment."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.measures import measure
from recon.report.elements import Child, Html, cut, scrolled, table, tag, timed
from recon.report.faults import sentences, why_unreadable
from recon.report.gather import Entry, Problem
from recon.report.run import Run
from recon.runs.reading import read_json

_LONGEST = 600  # letters of an error; the rest lies in its run folder
_LONGEST_COMMAND = 6000
_STAMP = re.compile(r"\d{4}-\d\d-\d\d|\d\d-\d\d-\d\d-\d{3,}")
_MEANING = {
    "failed": "it ended with an error",
    "killed": "it was killed: out of memory, most often",
    "lost": "it was killed, or its machine went down: no process is running in its folder",
    "interrupted": "it was stopped; `python run.py resume=<folder>` continues it",
    "pruned": "the search ended it early, as it was worse than the median of the trials before it",
    "running": "it is still running",
    "waiting": "it has not begun",
    "missing": "its folder is gone",
    "not finite": "it ended, but its results are not finite",
    "none": "its record cannot be read, or holds no numbers of a test",
}
KINDS = {"failed": "Failed and missing", "pruned": "Pruned"}


@dataclass(frozen=True)
class Loss:
    """A run or job without numbers.

    Attributes:
        name: its name.
        status: how it ended.
        reason: its error, or what the status means.
        overrides: what it was asked for.
    """

    name: str
    status: str
    reason: str
    overrides: str

    @property
    def kind(self) -> str:
        """The section that lists it, one of `KINDS`."""
        return "pruned" if self.status == "pruned" else "failed"


def losses(runs: Sequence[Run], sweeps: Sequence[Path]) -> list[Loss]:
    """List what has no numbers: runs that did not end well, and jobs of sweeps without a finished run."""
    by_folder: dict[str, Loss] = {}
    for run in runs:
        if not run.is_sound:
            status, error = run.folder.status, run.environment("error")
            if run.flaw and status in ("ok", "failed"):
                status, error = "not finite", run.flaw
            loss = _loss(run.name, "none" if status == "ok" else status, error, _overrides(run))
            by_folder[os.path.abspath(run.folder.path)] = loss
    done = {os.path.abspath(run.folder.path) for run in runs} - set(by_folder)
    for sweep in sweeps:
        for job in jobs(sweep):
            path, status = folder_of(sweep, job), str(job.get("status", "none"))
            if status == "ok" and not os.path.isfile(path / "environment.json"):
                status = "missing"
            if status != "ok" and str(path) not in done:  # the run's own record decides, not the sweep's
                overrides = _joined(_list(job.get("overrides")))
                by_folder[str(path)] = _loss(str(job.get("name", "?")), status, job.get("error"), overrides)
    return list(by_folder.values())


def _loss(name: str, status: str, error: Any, overrides: str) -> Loss:
    return Loss(name, status, cut(str(error), _LONGEST) if error else _MEANING.get(status, ""), overrides)


def jobs(sweep: Path) -> list[dict[str, Any]]:
    """Return the jobs in a sweep's own record."""
    return [job for job in _list(read_json(sweep / "sweep.json").get("jobs")) if isinstance(job, dict)]


def folder_of(sweep: Path, job: Mapping[str, Any]) -> Path:
    """Return the folder of a sweep's job, which lies elsewhere where an earlier sweep did it."""
    return Path(os.path.abspath(sweep / str(job.get("folder") or job.get("name") or "")))


def losses_section(every: Sequence[Loss], kind: str) -> Html | None:
    """The section of one of `KINDS`; None where there are none."""
    rows = [
        tag("tr", tag("th", named(loss.name), scope="row"),
            tag("td", tag("span", loss.status, class_=f"status {_class(loss.status)}"), data_label="status"),
            tag("td", loss.reason, class_="reason", data_label="reason"),
            tag("td", tag("code", loss.overrides), data_label="asked for"))
        for loss in every if loss.kind == kind
    ]  # fmt: skip
    region = scrolled(table(("run", "status", "reason", "asked for"), rows), KINDS[kind])
    return tag("section", tag("h2", KINDS[kind]), region, id=kind) if rows else None


def damage_section(runs: Sequence[Run], sweeps: Sequence[Path]) -> Html | None:
    """Which records could not be read, a line for each run or sweep."""
    lines = [tag("li", named(run.name), ": ", "; ".join(run.faults), ".") for run in runs if run.faults]
    for sweep in sweeps:
        if why := why_unreadable(sweep / "sweep.json"):
            lines.append(tag("li", named(sweep.name), ": ", *sentences({"sweep.json": why}), "."))
    return tag("section", tag("h2", "Damaged records"), tag("ul", lines), id="damaged") if lines else None


def runs_section(runs: Sequence[Run], problems: Sequence[Problem]) -> Html:
    """Every run with its exact command and environment, folded up."""
    owners: dict[int, tuple[Problem, Entry]] = {}
    for problem in problems:
        for entry in (*problem.entries, *problem.unranked):
            owners |= {id(run): (problem, entry) for run in (*entry.runs, *entry.repeats)}
    items = [_run(run, *owners.get(id(run), (None, None))) for run in runs]
    return tag("section", tag("h2", "Every run"), tag("div", items, class_="runs filterable"), id="runs")


def _run(run: Run, problem: Problem | None, entry: Entry | None) -> Html:
    status = run.folder.status
    about: list[Child] = []
    if problem is not None and entry is not None:
        about.append(tag("span", f"{entry.label}, seed {run.seed}{', repeated' if run in entry.repeats else ''}"))
        if problem.main and problem.main.name in run.tested:
            about.append(tag("b", problem.main.text(run.tested[problem.main.name], unit=True)))
    seconds = "" if run.seconds != run.seconds else measure("seconds").text(run.seconds, unit=True)
    badge = tag("span", status, class_=f"status {_class(status)}")
    summary = tag("summary", badge, tag("span", named(run.name), class_="name"), about, timed(seconds))
    environment = run.folder.environment
    command = [shlex.quote(str(word)) for word in environment.get("command", [])]
    rows: list[tuple[str, Child]] = [
        ("command", tag("code", timed(_joined(["python", *command]))) if command else None),
        ("overrides", tag("code", _overrides(run) or "none")),
        ("error", cut(environment["error"], _LONGEST) if environment.get("error") else None),
        ("folder", tag("code", timed(str(run.folder.path)))),
        ("started", timed(environment["started"]) if environment.get("started") else None),
        ("took", timed(seconds) if seconds else None),
        ("git", _git(environment.get("git"))),
        *((key, tag("code", environment[key]) if environment.get(key) else None) for key in ("code", "fingerprint")),
        ("versions", _versions(environment)),
        ("machine", _machine(environment)),
    ]
    facts = [[tag("dt", name), tag("dd", value)] for name, value in rows if value]
    return tag("details", summary, tag("dl", facts), class_="run")


def named(name: str) -> Html:
    """Write the name of a run; the part that says when it began is marked as such."""
    words = [f"/{part}" if index else part for index, part in enumerate(name.split("/"))]
    return tag("span", [timed(word) if _STAMP.search(word) else word for word in words])


def _overrides(run: Run) -> str:
    """What was asked for, without the name that a sweep gives its jobs for dashboards."""
    return _joined(
        [word for word in run.folder.environment.get("overrides", []) if not str(word).startswith("logger.")]
    )


def _joined(words: Iterable[Any]) -> str:
    return cut(" ".join(map(str, words)), _LONGEST_COMMAND)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _class(status: str) -> str:
    return status.replace(" ", "-") if status in (*_MEANING, "ok") else "none"


def _git(git: Any) -> str | None:
    if not isinstance(git, Mapping) or not git.get("commit"):
        return None
    return f"{cut(str(git['commit']), 80)}{', with changes that are not committed' if git.get('changed') else ''}"


def _versions(environment: Mapping[str, Any]) -> str | None:
    packages = environment.get("packages", {})
    words = [f"Python {environment['python']}"] if environment.get("python") else []
    words += [f"{name} {version}" for name, version in packages.items() if version]
    return cut(", ".join(words), _LONGEST) or None


def _machine(environment: Mapping[str, Any]) -> str | None:
    words = [str(environment["platform"])] if environment.get("platform") else []
    words += [hardware(environment)] if hardware(environment) else []
    words += [f"threads: {environment['threads']}"] if environment.get("threads") else []
    return cut(", ".join(words), _LONGEST) or None


def hardware(environment: Mapping[str, Any], without: Collection[str] = ()) -> str:
    """Describe what a machine has: its processor, cores, memory and GPUs."""
    forms = {"processor": "{}", "cores": "{} cores", "memory": "{} GiB of memory"}
    words = [
        form.format(environment[key]) for key, form in forms.items() if environment.get(key) and key not in without
    ]
    return cut(", ".join([*words, *map(str, environment.get("gpus", []))]), _LONGEST)
