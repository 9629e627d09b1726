"""What became of every run and job: those that failed or are missing, and each run's command and environment."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.report.gather import Configuration, Problem, Run
from recon.report.html import Child, Html, tag, timed
from recon.report.measures import measure

_LONGEST = 600  # letters of an error; the rest lies in its run folder
_STAMP = re.compile(r"\d{4}-\d\d-\d\d|\d\d-\d\d-\d\d-\d{3,}")
_MEANING = {
    "failed": "it ended with an error",
    "killed": "it was killed: out of memory, most often",
    "lost": "it was killed, or its machine went down: no process is at work in its folder",
    "interrupted": "it was stopped; `python run.py resume=<folder>` goes on",
    "pruned": "the search gave it up early",
    "running": "it is still at work",
    "waiting": "it has not begun",
    "missing": "its folder is gone",
    "none": "its record cannot be read",
}


@dataclass(frozen=True)
class Loss:
    """A run or job without numbers.

    Attributes:
        name: what it is called.
        status: how it ended.
        reason: in its own words, or what the status means.
        what: what it was to do.
    """

    name: str
    status: str
    reason: str
    what: str


def losses(runs: Sequence[Run], sweeps: Sequence[Path]) -> list[Loss]:
    """List what has no numbers: runs that did not end well, and jobs of sweeps without a finished run."""
    found: dict[str, Loss] = {}
    for run in runs:
        status = run.folder.status
        if status != "ok" or not run.metrics:
            status = "none" if status == "ok" else status
            reason = _reason(status, run.environment("error"))
            found[os.path.abspath(run.folder.path)] = Loss(run.name, status, reason, " ".join(_words(run)))
    done = {os.path.abspath(run.folder.path) for run in runs} - set(found)
    for sweep in sweeps:
        for job in jobs(sweep):
            if str(folder_of(sweep, job)) in done:  # whatever the sweep saw, the run's own record is the truth
                continue
            place, status = folder_of(sweep, job), str(job.get("status", "none"))
            if status == "ok" and not (place / "environment.json").is_file():
                status = "missing"
            if status != "ok":
                words = " ".join(map(str, _list(job.get("overrides"))))
                found[str(place)] = Loss(str(job.get("name", "?")), status, _reason(status, job.get("error")), words)
    return list(found.values())


def jobs(sweep: Path) -> list[dict[str, Any]]:
    """The jobs that a sweep's own record names."""
    try:
        read = json.loads((sweep / "sweep.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [job for job in _list(read.get("jobs")) if isinstance(job, dict)] if isinstance(read, dict) else []


def folder_of(sweep: Path, job: Mapping[str, Any]) -> Path:
    """The folder of a sweep's job, which lies elsewhere where it had been done before."""
    return Path(os.path.abspath(sweep / str(job.get("folder") or job.get("name") or "")))


def losses_section(found: Sequence[Loss]) -> Html | None:
    """The table of what has no numbers."""
    if not found:
        return None
    names = ("run", "status", "reason", "asked for")
    header = tag("thead", tag("tr", [tag("th", name, scope="col") for name in names]))
    rows = [
        tag("tr", tag("th", named(loss.name), scope="row"),
            tag("td", tag("span", loss.status, class_=f"status {_class(loss.status)}")),
            tag("td", loss.reason, class_="reason"), tag("td", tag("code", loss.what)))
        for loss in found
    ]  # fmt: skip
    table = tag("table", header, tag("tbody", rows), class_="sortable")
    region = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Failed and missing runs")
    return tag("section", tag("h2", "Failed and missing"), region, id="failed")


def runs_section(runs: Sequence[Run], problems: Sequence[Problem]) -> Html:
    """Every run with its exact command and environment, folded up."""
    places: dict[int, tuple[Problem, int, Configuration]] = {}
    for problem in problems:
        for rank, found in enumerate(problem.configurations, 1):
            places |= {id(run): (problem, rank, found) for run in (*found.runs, *found.repeats)}
    items = [_run(run, places.get(id(run))) for run in runs]
    return tag("section", tag("h2", "Every run"), tag("div", items, class_="runs filterable"), id="runs")


def _run(run: Run, place: tuple[Problem, int, Configuration] | None) -> Html:
    status = run.folder.status
    told: list[Child] = []
    if place is not None:
        problem, _, found = place
        told.append(tag("span", f"{found.label}, seed {run.seed}{', repeated' if run in found.repeats else ''}"))
        if problem.main in run.tested:
            told.append(tag("b", measure(problem.main).text(run.tested[problem.main], unit=True)))
    badge = tag("span", status, class_=f"status {_class(status)}")
    summary = tag("summary", badge, tag("span", named(run.name), class_="name"), told, timed(_seconds(run)))
    environment = run.folder.environment
    command = _list(environment.get("command"))
    rows: list[tuple[str, Child]] = [
        ("command", tag("code", timed(shlex.join(["python", *map(str, command)]))) if command else None),
        ("overrides", tag("code", " ".join(_words(run)) or "none")),
        ("error", str(environment["error"])[:_LONGEST] if environment.get("error") else None),
        ("folder", tag("code", timed(str(run.folder.path)))),
        ("started", timed(str(environment["started"])) if environment.get("started") else None),
        ("took", timed(_seconds(run)) or None),
        ("git", _git(environment.get("git"))),
        ("code", tag("code", str(environment["code"])) if environment.get("code") else None),
        ("fingerprint", tag("code", str(environment["fingerprint"])) if environment.get("fingerprint") else None),
        ("versions", _versions(environment)),
        ("machine", _machine(environment)),
    ]
    facts = [(tag("dt", name), tag("dd", value)) for name, value in rows if value]
    return tag("details", summary, tag("dl", [part for pair in facts for part in pair]), class_="run")


def named(name: str) -> Html:
    """Write the name of a run; the part that says when it began is marked as such."""
    parts: list[Child] = []
    for place, part in enumerate(name.split("/")):
        word = f"/{part}" if place else part
        parts.append(timed(word) if _STAMP.search(part) else word)
    return tag("span", parts)


def _seconds(run: Run) -> str:
    return "" if run.seconds != run.seconds else measure("seconds").text(run.seconds, unit=True)


def _words(run: Run) -> list[str]:
    # A sweep names its jobs for dashboards; a name with the time of the sweep is no choice.
    return [str(word) for word in _list(run.environment("overrides")) if not str(word).startswith("logger.")]


def _list(what: Any) -> list[Any]:
    return what if isinstance(what, list) else []


def _reason(status: str, error: Any) -> str:
    return str(error)[:_LONGEST] if error else _MEANING.get(status, "")


def _class(status: str) -> str:
    return status if status in (*_MEANING, "ok") else "none"


def _git(git: Any) -> str | None:
    if not isinstance(git, Mapping) or not git.get("commit"):
        return None
    return f"{git['commit']}{', with changes that are not committed' if git.get('changed') else ''}"


def _versions(environment: Mapping[str, Any]) -> str | None:
    packages = environment.get("packages")
    told = [f"Python {environment['python']}"] if environment.get("python") else []
    told += [f"{name} {version}" for name, version in packages.items() if version] if isinstance(packages, dict) else []
    return ", ".join(told) or None


def _machine(environment: Mapping[str, Any]) -> str | None:
    told = [str(environment[key]) for key in ("platform", "processor") if environment.get(key)]
    told += [f"{key}: {environment[key]}" for key in ("cores", "threads") if environment.get(key)]
    told += [str(gpu) for gpu in _list(environment.get("gpus"))]
    return ", ".join(told) or None
