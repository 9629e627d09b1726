"""What became of every run and job: those that failed or are missing, and each run's command and environment."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.measures import measure
from recon.report.faults import sentences, why_unreadable
from recon.report.gather import Configuration, Problem
from recon.report.html import Child, Html, tag, timed
from recon.report.labels import cut
from recon.report.run import Run
from recon.runs.reading import read_json

_LONGEST = 600  # letters of an error; the rest lies in its run folder
_LONGEST_COMMAND = 6000
_STAMP = re.compile(r"\d{4}-\d\d-\d\d|\d\d-\d\d-\d\d-\d{3,}")
_MEANING = {
    "failed": "it ended with an error",
    "killed": "it was killed: out of memory, most often",
    "lost": "it was killed, or its machine went down: no process is at work in its folder",
    "interrupted": "it was stopped; `python run.py resume=<folder>` goes on",
    "pruned": "it was worse than the median of the trials before it",
    "running": "it is still at work",
    "waiting": "it has not begun",
    "missing": "its folder is gone",
    "not finite": "it ended, but its results are not finite",
    "none": "its record cannot be read, or holds no numbers of a test",
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
        if not run.is_sound:
            status = "not finite" if run.flaw and status in ("ok", "failed") else "none" if status == "ok" else status
            reason = _reason(status, run.flaw if status == "not finite" else run.environment("error"))
            found[os.path.abspath(run.folder.path)] = Loss(run.name, status, reason, _words(run))
    done = {os.path.abspath(run.folder.path) for run in runs} - set(found)
    for sweep in sweeps:
        for job in jobs(sweep):
            if str(folder_of(sweep, job)) in done:  # whatever the sweep saw, the run's own record is the truth
                continue
            place, status = folder_of(sweep, job), str(job.get("status", "none"))
            if status == "ok" and not os.path.isfile(place / "environment.json"):
                status = "missing"
            if status != "ok":
                words = _joined(_list(job.get("overrides")))
                found[str(place)] = Loss(str(job.get("name", "?")), status, _reason(status, job.get("error")), words)
    return list(found.values())


def jobs(sweep: Path) -> list[dict[str, Any]]:
    """The jobs that a sweep's own record names."""
    return [job for job in _list(read_json(sweep / "sweep.json").get("jobs")) if isinstance(job, dict)]


def folder_of(sweep: Path, job: Mapping[str, Any]) -> Path:
    """The folder of a sweep's job, which lies elsewhere where it had been done before."""
    return Path(os.path.abspath(sweep / str(job.get("folder") or job.get("name") or "")))


def losses_section(found: Sequence[Loss]) -> Html | None:
    """The table of what has no results."""
    return _table(found, "Failed and missing", "failed") if found else None


def pruned_section(found: Sequence[Loss]) -> Html | None:
    """The table of the trials that a search gave up."""
    return _table(found, "Given up early", "pruned") if found else None


def damage_section(runs: Sequence[Run], sweeps: Sequence[Path]) -> Html | None:
    """What of the records could not be read, a line for each run or sweep that has such files."""
    lines = [tag("li", named(run.name), ": ", "; ".join(run.faults), ".") for run in runs if run.faults]
    for sweep in sweeps:
        if why := why_unreadable(sweep / "sweep.json"):
            lines.append(tag("li", named(sweep.name), ": ", *sentences({"sweep.json": why}), "."))
    return tag("section", tag("h2", "Damaged records"), tag("ul", lines), id="damaged") if lines else None


def _table(found: Sequence[Loss], title: str, name: str) -> Html:
    names = ("run", "status", "reason", "asked for")
    header = tag("thead", tag("tr", [tag("th", name, scope="col") for name in names]))
    rows = [
        tag("tr", tag("th", named(loss.name), scope="row"),
            tag("td", tag("span", loss.status, class_=f"status {_class(loss.status)}")),
            tag("td", loss.reason, class_="reason"), tag("td", tag("code", loss.what)))
        for loss in found
    ]  # fmt: skip
    table = tag("table", header, tag("tbody", rows), class_="sortable")
    region = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=title)
    return tag("section", tag("h2", title), region, id=name)


def runs_section(runs: Sequence[Run], problems: Sequence[Problem]) -> Html:
    """Every run with its exact command and environment, folded up."""
    places: dict[int, tuple[Problem, Configuration]] = {}
    for problem in problems:
        for found in (*problem.configurations, *problem.unranked):
            places |= {id(run): (problem, found) for run in (*found.runs, *found.repeats)}
    items = [_run(run, places.get(id(run))) for run in runs]
    return tag("section", tag("h2", "Every run"), tag("div", items, class_="runs filterable"), id="runs")


def _run(run: Run, place: tuple[Problem, Configuration] | None) -> Html:
    status = run.folder.status
    told: list[Child] = []
    if place is not None:
        problem, found = place
        told.append(tag("span", f"{found.label}, seed {run.seed}{', repeated' if run in found.repeats else ''}"))
        if problem.main in run.tested:
            told.append(tag("b", measure(problem.main).text(run.tested[problem.main], unit=True)))
    badge = tag("span", status, class_=f"status {_class(status)}")
    summary = tag("summary", badge, tag("span", named(run.name), class_="name"), told, timed(_seconds(run)))
    environment = run.folder.environment
    words = [shlex.quote(str(word)) for word in _list(environment.get("command"))]
    rows: list[tuple[str, Child]] = [
        ("command", tag("code", timed(_joined(["python", *words]))) if words else None),
        ("overrides", tag("code", _words(run) or "none")),
        ("error", cut(environment["error"], _LONGEST) if environment.get("error") else None),
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


def _words(run: Run) -> str:
    """What was asked for, beside the name that a sweep gives its jobs for dashboards."""
    return _joined([word for word in _list(run.environment("overrides")) if not str(word).startswith("logger.")])


def _joined(words: Iterable[Any]) -> str:
    return cut(" ".join(map(str, words)), _LONGEST_COMMAND)


def _list(what: Any) -> list[Any]:
    return what if isinstance(what, list) else []


def _reason(status: str, error: Any) -> str:
    return cut(str(error), _LONGEST) if error else _MEANING.get(status, "")


def _class(status: str) -> str:
    return status.replace(" ", "-") if status in (*_MEANING, "ok") else "none"


def _git(git: Any) -> str | None:
    if not isinstance(git, Mapping) or not git.get("commit"):
        return None
    return f"{cut(str(git['commit']), 80)}{', with changes that are not committed' if git.get('changed') else ''}"


def _versions(environment: Mapping[str, Any]) -> str | None:
    packages = environment.get("packages")
    told = [f"Python {environment['python']}"] if environment.get("python") else []
    told += [f"{name} {version}" for name, version in packages.items() if version] if isinstance(packages, dict) else []
    return cut(", ".join(told), _LONGEST) or None


def _machine(environment: Mapping[str, Any]) -> str | None:
    told = [str(environment[key]) for key in ("platform", "processor") if environment.get(key)]
    told += [f"{key}: {environment[key]}" for key in ("cores", "threads") if environment.get(key)]
    told += [str(gpu) for gpu in _list(environment.get("gpus"))]
    return cut(", ".join(told), _LONGEST) or None
