"""The page: a summary in sentences, each problem's sections, what failed, every run."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from recon import runs
from recon.measures import measure
from recon.report import export, ledger, pictures
from recon.report.curves import cost, curves, severity
from recon.report.effects import effects
from recon.report.gather import Problem, common_names, problems
from recon.report.html import Child, Html, join, tag, timed
from recon.report.leaderboard import leaderboard
from recon.report.paired import comparisons, paired, sentence
from recon.report.run import Run
from recon.report.statistics import estimate
from recon.runs import RunFolder, files


def write(what: str | Sequence[Path], target: Path, sweep: Path | None = None) -> Path:
    """Write a report, and beside it its leaderboards as Markdown and LaTeX.

    Args:
        what: a pattern as `runs.find` takes it, or run folders.
        target: the page to write; `.md` and `.tex` take its place beside it.
        sweep: a sweep's folder, whose jobs without a finished run are listed too.

    Returns:
        The page.

    Raises:
        InputError: a pattern that names no run folder.
    """
    folders = runs.find(what) if isinstance(what, str) else [RunFolder(path) for path in what]
    if sweep is not None:  # what had been done before it began lies elsewhere
        known = {os.path.abspath(folder.path) for folder in folders}
        done = [ledger.folder_of(sweep, job) for job in ledger.jobs(sweep) if job.get("status") == "ok"]
        folders += [RunFolder(place) for place in dict.fromkeys(done)
                    if str(place) not in known and os.path.isfile(place / "environment.json")]  # fmt: skip
    folders.sort(key=lambda folder: _naturally(str(folder.path)))
    names = common_names(folders)
    found = [Run(folder, names[folder.path]) for folder in folders]
    sweeps = sorted({run.folder.path.parent for run in found} | ({sweep} if sweep else set()))
    sweeps = [place for place in sweeps if os.path.lexists(place / "sweep.json")]
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged record may hold any number
        page, sorted_problems = build(found, sweeps, target.stem)
        texts = {".md": export.markdown(sorted_problems), ".tex": export.latex(sorted_problems), target.suffix: page}
    for suffix, text in texts.items():
        # What a run says of itself may hold half a character, which no file can.
        files.write_bytes(target.with_suffix(suffix), text.encode(errors="replace"))
    return target


def build(found: Sequence[Run], sweeps: Sequence[Path], stem: str) -> tuple[str, list[Problem]]:
    """Make the page of some runs; gives it with their problems."""
    sorted_problems = problems(found)
    without = ledger.losses(found, sweeps)
    lost = [loss for loss in without if loss.status != "pruned"]
    pruned = [loss for loss in without if loss.status == "pruned"]
    album = pictures.Album()
    several = len(sorted_problems) > 1
    sections = [_problem(problem, number, album, several) for number, problem in enumerate(sorted_problems, 1)]
    ended = [ledger.losses_section(lost), ledger.pruned_section(pruned)]
    body = [
        _header(found, sorted_problems, lost, pruned, stem),
        _contents(sorted_problems, lost, pruned) if several or lost or pruned else None,
        # What cannot be read is known only when all the rest is.
        tag("main", sections, ended, ledger.damage_section(found, sweeps), ledger.runs_section(found, sorted_problems)),
        _footer(found, album),
    ]
    return _document(_title(sorted_problems), body), sorted_problems


def _problem(problem: Problem, place: int, album: pictures.Album, several: bool) -> Html:
    parts: list[Child] = []
    if problem.configurations:
        parts += [section(problem) for section in (leaderboard, paired, effects, curves, cost, severity)]
        parts += [pictures.samples(problem, album), pictures.worst(problem, album)]
    head = [tag("h2", problem.title), *_leads(problem)] if several else []
    hidden = tag("h2", "Results", class_="unseen") if not several else None
    return tag("section", head, hidden, parts, id=f"problem-{place}", class_="problem")


def _leads(problem: Problem) -> list[Html]:
    """What is best, and whether it really beats the next."""
    found = comparisons(problem) if problem.configurations else []
    said = [best_sentence(problem), sentence(problem, found[0])] if found else [best_sentence(problem)]
    if problem.elsewhere:
        others = _count(problem.elsewhere, "run")
        said.append(f"Compared apart from these: {others} of the same task and damage, tested on other images.")
    return [tag("p", each, class_="lead") for each in [*said, problem.left_out] if each]


def best_sentence(problem: Problem) -> str:
    """Say what is best in a problem, and how sure that is."""
    count = len(problem.configurations)
    if not problem.configurations:
        return "No configuration can be ranked."
    if problem.main is None:
        return (
            "There is no measure of quality here that models can be told apart by, as each loss is a model's own; "
            "generators are judged with model.judge=<the run of a classifier>."
        )
    how, first = measure(problem.main), problem.configurations[0]
    told = estimate(first.of(f"test/{problem.main}"))
    if told.mean != told.mean:
        return f"No run has a finite {how.label}."
    seeds = "one seed" if len(told.values) == 1 else f"{len(told.values)} seeds"
    if told.low is None or told.high is None:
        alike = " that agree in all digits" if len(told.values) > 1 else ""
        within = f"{seeds}{alike}, so without an interval"
    else:
        within = f"95 % interval {how.interval(told.low, told.high)} over {seeds}"
    head = f"Best of {count} configurations: " if count > 1 else ""
    tested = f" on {_tested(problem)} test images" if problem.images else ""
    words = f"{head}{first.label} with {how.label} {how.text(told.mean, unit=True)} ({within}){tested}"
    before = first.runs[0].tested.get(how.before or "")
    if before is not None and problem.damage != "none":
        what = "with the hole filled with the mean" if problem.main == "psnr_hole" else "as the images came"
        words += f"; {how.text(before, unit=True)} {what}"
    return f"{words}."


def _tested(problem: Problem) -> str:
    """Of how many test images the best configuration has a value of the main measure."""
    columns = [run.images[problem.main] for run in problem.configurations[0].runs if problem.main in run.images]
    measured = min((int(np.isfinite(column).sum()) for column in columns), default=problem.images)
    return f"{problem.images:,}" if measured == problem.images else f"{measured:,} of {problem.images:,}"


def _header(
    found: Sequence[Run],
    sorted_problems: Sequence[Problem],
    lost: Sequence[ledger.Loss],
    pruned: Sequence[ledger.Loss],
    stem: str,
) -> Html:
    configurations = sum(len(problem.configurations) + len(problem.unranked) for problem in sorted_problems)
    finished = sum(run.is_sound for run in found)
    parts = [_count(finished, "finished run"), " of ", _count(configurations, "configuration")]
    if len(sorted_problems) > 1:
        parts.append(f" in {len(sorted_problems)} problems, each of which is compared by itself")
    counts = "".join(parts) + "."
    wrong = sum(loss.status == "not finite" for loss in lost)
    others: list[Child] = []
    for count, what, section in (
        (len(lost) - wrong, "did not finish", "failed"),
        (wrong, "gave results that are not finite", "failed"),
        (len(pruned), "given up early by the search", "pruned"),
    ):
        others += [" ", tag("a", f"{count} {what}", href=f"#{section}"), "."] if count else []
    sentences = [tag("p", counts, others, class_="lead")]
    if len(sorted_problems) == 1:
        sentences += _leads(sorted_problems[0])
    links = tag("p", "The leaderboard as ", tag("a", "Markdown", href=f"{stem}.md"), " and ",
                tag("a", "LaTeX", href=f"{stem}.tex"), ".", class_="note")  # fmt: skip
    head = tag("p", "recon · report", class_="eyebrow"), tag("h1", _title(sorted_problems))
    return tag("header", head, sentences, links)


def _naturally(path: str) -> list[tuple[int, str]]:
    """Sort what holds numbers by these: job 2 before job 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _title(sorted_problems: Sequence[Problem]) -> str:
    if len(sorted_problems) == 1:
        return sorted_problems[0].title
    if not sorted_problems:
        return "No finished run"
    tasks = sorted({problem.task for problem in sorted_problems})
    return f"{len(sorted_problems)} problems on {', '.join(tasks)}"


def _contents(sorted_problems: Sequence[Problem], lost: Sequence[ledger.Loss], pruned: Sequence[ledger.Loss]) -> Html:
    items = [(each.title, f"#problem-{place}", best_sentence(each)) for place, each in enumerate(sorted_problems, 1)]
    items += [("Failed and missing", "#failed", f"{len(lost)}")] if lost else []
    items += [("Given up early", "#pruned", f"{len(pruned)}")] if pruned else []
    items += [("Every run", "#runs", "")]
    told = [tag("li", tag("a", name, href=place), " ", tag("span", more, class_="note")) for name, place, more in items]
    return tag("nav", tag("ul", told), aria_label="Contents")


def _footer(found: Sequence[Run], album: pictures.Album) -> Html:
    newest = max((str(run.environment("started") or "") for run in found), default="")
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
