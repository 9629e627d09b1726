"""The page: a summary in sentences, each problem's sections, what failed, runs run."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from recon.report import export, gather, ledger, pictures
from recon.report.afterwards import anomalies, generated
from recon.report.codes import codes
from recon.report.curves import cost, curves, severity
from recon.report.damage import damage
from recon.report.effects import effects
from recon.report.elements import Child, Html, join, note, section, tag, timed
from recon.report.explained import explained
from recon.report.gains import input_of
from recon.report.gather import Problem, common_names
from recon.report.health import health
from recon.report.inference import estimate
from recon.report.leaderboard import leaderboard
from recon.report.levels import Family, Topic, topics
from recon.report.paired import comparisons, paired, sentence
from recon.report.rates import rates
from recon.report.run import Run
from recon.report.search import read, search_section, searched
from recon.report.sheet import drawn, sheet
from recon.report.shrunk import shrunk
from recon.runs import RunFolder, files, find


def write(what: str | Sequence[Path], target: Path, sweep: Path | None = None) -> Path:
    """Write a report, and beside it its leaderboards as Markdown and LaTeX.

    Args:
        what: a pattern as `runs.find` takes it, or run folders.
        target: the page to write; `.md` and `.tex` are written beside it.
        sweep: a sweep's folder, whose jobs without a finished run are listed too.

    Returns:
        The page.

    Raises:
        InputError: a pattern that names no run folder.
    """
    folders = find(what) if isinstance(what, str) else [RunFolder(path) for path in what]
    if sweep is not None:  # jobs that an earlier sweep did lie elsewhere
        listed = {os.path.abspath(folder.path) for folder in folders}
        done = [ledger.folder_of(sweep, job) for job in ledger.jobs(sweep) if job.get("status") == "ok"]
        folders += [RunFolder(path) for path in dict.fromkeys(done)
                    if str(path) not in listed and os.path.isfile(path / "environment.json")]  # fmt: skip
    folders.sort(key=lambda folder: _naturally(str(folder.path)))
    names = common_names(folders)
    runs = [Run(folder.by_set()[0], names[folder.path]) for folder in folders]
    sweeps = sorted({run.folder.path.parent for run in runs} | ({sweep} if sweep else set()))
    sweeps = [path for path in sweeps if os.path.lexists(path / "sweep.json")]
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged record may hold any number
        page, topics_ = build(runs, sweeps, target.stem)
        sheets = [sheet(topic) for topic in topics_]
        texts = {".md": export.markdown(sheets), ".tex": export.latex(sheets), target.suffix: page}
    for suffix, text in texts.items():
        # Text of a run may hold a lone surrogate, which UTF-8 cannot encode.
        files.write_bytes(target.with_suffix(suffix), text.encode(errors="replace"))
    return target


def build(runs: Sequence[Run], sweeps: Sequence[Path], stem: str) -> tuple[str, list[Topic]]:
    """Make the page of some runs; returns it with what it compares."""
    further = [Run(folder, run.name) for run in runs if run.folder.test_set for folder in run.folder.by_set()[1:]]
    problems = gather.problems([*runs, *further])
    found = topics(problems)
    losses = ledger.losses(runs, sweeps)
    searches = [search for sweep in sweeps if (search := read(sweep, runs))]
    for problem in problems:
        problem.searched = searched(searches, problem.runs)
    album = pictures.Album()
    several = len(found) > 1
    sections = [_topic(topic, number, album, several) for number, topic in enumerate(found, 1)]
    body = [
        _header(runs, found, losses, stem),
        _contents(found, losses, len(searches)) if several or losses or searches else None,
        # Damage is known only when everything else has been read.
        tag("main", [search_section(search, number, len(searches) > 1) for number, search in enumerate(searches, 1)],
            sections, [ledger.losses_section(losses, kind) for kind in ledger.KINDS],
            ledger.damage_section(runs, sweeps), ledger.runs_section(runs, problems)),
        _footer(runs, album),
    ]  # fmt: skip
    return _document(_title(found), body), found


def _topic(topic: Topic, number: int, album: pictures.Album, several: bool) -> Html:
    head = [tag("h2", topic.title), *_leads(topic)] if several else tag("h2", "Results", class_="unseen")
    parts = _levels(topic, album) if isinstance(topic, Family) else _sections(topic, album)
    return tag("section", head, parts, id=f"problem-{number}", class_="problem")


def _sections(problem: Problem, album: pictures.Album) -> list[Child]:
    if not problem.entries:
        return []
    charts = (leaderboard, paired, effects, curves, health, cost, shrunk, rates, severity, damage)
    shown = (pictures.samples, pictures.worst, explained, codes, anomalies, generated)
    return [*(make(problem) for make in charts), *(make(problem, album) for make in shown)]


def _levels(family: Family, album: pictures.Album) -> list[Child]:
    """The table of all levels, and folded up what else there is of each."""
    curve = family.curve()
    charts = tag("div", curve, class_="charts") if curve else None
    parts: list[Child] = [section("All levels", drawn(sheet(family)), charts)]
    for level, problem in enumerate(family.problems):
        summary = tag("summary", tag("b", family.at(level)), ": leaderboard, comparisons, charts and pictures")
        middle = level == len(family.problems) // 2  # whose pictures tell most
        parts.append(tag("details", summary, _sections(problem, album), class_="level", open=middle))
    return parts


def _leads(topic: Topic) -> list[Html]:
    """What is best, and whether it really beats the next."""
    if isinstance(topic, Family):
        levels = [[tag("b", topic.at(level)), ": ", join(_sentences(problem, " "))]
                  for level, problem in enumerate(topic.problems)]  # fmt: skip
        return [tag("ul", [tag("li", words) for words in levels], class_="verdicts")]
    return [tag("p", lead, class_="lead") for lead in _sentences(topic)]


def _sentences(problem: Problem, between: str = "") -> list[Child]:
    leads: list[Child] = [best_sentence(problem)]
    if problem.main and problem.entries and (compared := comparisons(problem)):
        leads.append(sentence(problem, problem.main, compared[0]))
    if problem.elsewhere:
        others = _count(problem.elsewhere, "run")
        leads.append(f"Compared apart from these: {others} of the same task and damage, tested on other images.")
    return [join([lead, between]) for lead in [*leads, problem.left_out] if lead]


def best_sentence(problem: Problem) -> str:
    """Say what is best in a problem, and how sure that is."""
    if not problem.entries:
        return "No configuration can be ranked."
    main, first = problem.main, problem.entries[0]
    if main is None:
        return (
            "There is no measure of quality here that models can be told apart by, as each loss is a model's own; "
            "generators are judged with model.judge=<the run of a classifier>."
        )
    best = estimate(first.of(f"test/{main.name}"))
    if best.mean != best.mean:
        return f"No run has a finite {main.label}."
    seeds = "one seed" if len(best.values) == 1 else f"{len(best.values)} seeds"
    if best.low is None or best.high is None:
        alike = " that agree in all digits" if len(best.values) > 1 else ""
        within = f"{seeds}{alike}, so without an interval"
    else:
        within = f"95 % interval {main.interval(best.low, best.high)} over {seeds}"
    tested = f" on {_tested(problem, main.name)} test images" if problem.images else ""
    words = f"{first.label} with {main.label} {main.text(best.mean, unit=True)} ({within}){tested}"
    gained = first.gain(main)
    if gained and (remark := gained.remark()):
        words += f", {remark}"
    elif problem.input is not None:
        baseline = first.runs[0].folder.measure(main.before or "")
        words += f"; {baseline.label} {main.text(problem.input, unit=True)}"
    if len(problem.entries) == 1:
        return f"{words}."
    if not problem.useful:
        return f"None of {len(problem.entries)} configurations is better than {input_of(main)}. The closest is {words}."
    return f"Best of {len(problem.entries)} configurations: {words}."


def _tested(problem: Problem, main: str) -> str:
    """On how many test images the best entry has a value of the main measure."""
    columns = [run.images[main] for run in problem.entries[0].runs if main in run.images]
    measured = min((int(np.isfinite(column).sum()) for column in columns), default=problem.images)
    return f"{problem.images:,}" if measured == problem.images else f"{measured:,} of {problem.images:,}"


def _header(runs: Sequence[Run], found: Sequence[Topic], losses: Sequence[ledger.Loss], stem: str) -> Html:
    entries = sum(map(_configurations, found))
    counts = f"{_count(sum(run.is_sound for run in runs), 'finished run')} of {_count(entries, 'configuration')}"
    if len(found) > 1:
        counts += f" in {len(found)} problems, each of which is compared by itself"
    wrong = sum(loss.status == "not finite" for loss in losses)
    pruned = sum(loss.kind == "pruned" for loss in losses)
    others: list[Child] = []
    for count, outcome, anchor in (
        (len(losses) - wrong - pruned, "did not finish", "failed"),
        (wrong, "gave results that are not finite", "failed"),
        (pruned, "pruned by the search", "pruned"),
    ):
        others += [" ", tag("a", f"{count} {outcome}", href=f"#{anchor}"), "."] if count else []
    leads = _leads(found[0]) if len(found) == 1 else []
    links = note("The tables as ", tag("a", "Markdown", href=f"{stem}.md"), " and ",
                 tag("a", "LaTeX", href=f"{stem}.tex"), ".")  # fmt: skip
    head = tag("p", "recon · report", class_="eyebrow"), tag("h1", _title(found))
    return tag("header", head, tag("p", f"{counts}.", others, class_="lead"), leads, links)


def _naturally(path: str) -> list[tuple[int, str]]:
    """Sort names with numbers by these: job 2 before job 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _configurations(topic: Topic) -> int:
    """Count what is compared; what was tested on several sets counts with the first."""
    folder = (topic.problems[0] if isinstance(topic, Family) else topic).first.folder
    if folder.test_set != next(iter(folder.sets), ""):
        return 0
    return len(topic.methods) if isinstance(topic, Family) else len(topic.entries) + len(topic.unranked)


def _title(found: Sequence[Topic]) -> str:
    if len(found) == 1:
        return found[0].title
    if not found:
        return "No finished run"
    firsts = [topic.problems[0] if isinstance(topic, Family) else topic for topic in found]
    return f"{len(found)} problems on {', '.join(sorted({problem.data for problem in firsts}))}"


def _contents(found: Sequence[Topic], losses: Sequence[ledger.Loss], searches: int) -> Html:
    items = [("The search", f"search-{number}", "") for number in range(1, searches + 1)]
    for number, topic in enumerate(found, 1):
        said = f"{len(topic.levels)} levels" if isinstance(topic, Family) else best_sentence(topic)
        items.append((topic.title, f"problem-{number}", said))
    for kind, title in ledger.KINDS.items():
        if count := sum(loss.kind == kind for loss in losses):
            items.append((title, kind, str(count)))
    links = [tag("li", tag("a", name, href=f"#{id_}"), " ", tag("span", more, class_="note"))
             for name, id_, more in [*items, ("Every run", "runs", "")]]  # fmt: skip
    return tag("nav", tag("ul", links), aria_label="Contents")


def _footer(runs: Sequence[Run], album: pictures.Album) -> Html:
    newest = max((str(run.environment("started") or "") for run in runs), default="")
    left_out = f" {album.left_out} images were left out to keep the page small." if album.left_out else ""
    began = ["; the newest run began ", timed(newest)] if newest else []
    return tag("footer", tag("p", "Made by recon from the run folders alone", began, ".", left_out))


def _document(title: str, body: Sequence[Child]) -> str:
    here = resources.files("recon.report")
    style, script = (Html(here.joinpath(name).read_text("utf-8")) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", join(body), tag("script", script)), lang="en") + "\n"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
