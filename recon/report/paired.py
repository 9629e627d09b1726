"""Which differences are real: the same images through each model, compared image by image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recon.measures import Measure, measure
from recon.report import chart
from recon.report.gather import Problem, paired_table
from recon.report.html import Child, Html, join, tag
from recon.report.statistics import Comparison, compare, welch

_AMONG = 6  # of these every pair is compared, of the rest the best with each
_IN_WORDS = 8  # so many comparisons are told in sentences
_RIGHT_OR_WRONG = ("accuracy", "recognised")
_FLIPS = "test by flipping signs, exact where up to 20 images differ and Student's t-test above."
_METHODS = {
    False: f"The interval is the wider of Student's and Hall's, which allows for skewness; p is of the {_FLIPS}",
    True: f"The interval is Agresti and Min's; p is McNemar's, exact, where each has one seed, else of the {_FLIPS}",
}


def comparisons(problem: Problem) -> list[Comparison]:
    """Compare the first configurations with each other and the best with all, on the same images; once."""
    if problem.comparisons is None:
        indices, table = paired_table(problem) if problem.main else ([], np.empty((0, 0)))
        count = len(indices)
        pairs = [(a, b) for a in range(min(count, _AMONG)) for b in range(a + 1, min(count, _AMONG))]
        pairs += [(0, b) for b in range(_AMONG, count)]
        compared = compare(table, pairs, shares=problem.main in _RIGHT_OR_WRONG)
        problem.comparisons = [
            replace(each, first=indices[each.first], second=indices[each.second]) for each in compared
        ]
    return problem.comparisons


def paired(problem: Problem) -> Html | None:
    """Tell which differences are real: the same images through each model, compared image by image."""
    if problem.main is None or len(problem.configurations) < 2:
        return None
    found = comparisons(problem)
    if not found:
        return None
    words = [tag("li", sentence(problem, each)) for each in found if each.first == found[0].first]
    rows = [_comparison_row(problem, each) for each in found]
    names = ("better", "worse", "by", "95 % interval over images", "p (Holm)", "verdict")
    header = [tag("th", name, scope="col", class_="number" if 2 <= k <= 4 else None) for k, name in enumerate(names)]
    numbers = tag("table", tag("thead", tag("tr", header)), tag("tbody", rows), class_="sortable")
    region = tag("div", numbers, class_="scroll", tabindex=0, role="group", aria_label="All pairs of configurations")
    note = (
        f"Each test image is compared with itself, averaged over seeds. {_METHODS[problem.main in _RIGHT_OR_WRONG]} "
        f"p is corrected by Holm's method for {len(found)} comparison{'s' if len(found) > 1 else ''}. "
        "An interval over seeds is Welch's."
    )
    more = tag("details", tag("summary", f"All {len(found)} comparisons"), region) if len(found) > 1 else None
    return tag("section", tag("h3", "Is the difference real?"), tag("ul", words[:_IN_WORDS], class_="verdicts"),
               tag("p", note, class_="note"), more)  # fmt: skip


def sentence(problem: Problem, found: Comparison) -> Html:
    """Say a comparison in words."""
    how = measure(str(problem.main))
    better, worse, size, low, high = _ordered(how, found)
    names = [join([chart.badge(place + 1), " ", problem.configurations[place].label]) for place in (better, worse)]
    images = _images(problem, found)
    within = f"95 % interval {how.text(low, like=size)} to {how.text(high, like=size)}, {_p(found.p)}"
    points = how.points
    if found.certain is False:
        end = f" cannot be told apart {images}: {how.text(size)} {points} may be an accident of the images ({within})."
        return join([names[0], " and ", names[1], end])
    head = [names[0], " is better than ", names[1], f" by {how.text(size)} {points} {images} ({within})"]
    if found.opposed > 0.5:
        head.append(f", although the other is the better one of {100 * found.opposed:.0f} % of them")
    if found.certain is None:
        return join([*head, ", but only one of interval and test says so: undecided."])
    if not problem.same_images:
        return join([*head, ": if they are the same, this is no accident of the images."])
    return join([*head, f": this is no accident of the images{_of_seeds(problem, better, worse)}."])


def _images(problem: Problem, found: Comparison) -> str:
    """Say on which images two configurations are compared."""
    what = "labels" if problem.kind == "generate" else "images"
    count = f"{found.images:,}"
    if found.images < problem.images:  # the others have no value, as one without a hole
        count += f" of {problem.images:,}"
    return f"on the same {count} {what}" if problem.same_images else f"on {count} {what}, not known to be the same,"


def _over_seeds(problem: Problem, better: int, worse: int) -> tuple[float, float] | None:
    """The interval of how much better over seeds; None where one of the two has one seed alone."""
    how = measure(str(problem.main))
    values = [problem.configurations[place].of(f"test/{how.name}") for place in (better, worse)]
    interval = welch(*values)
    return None if interval is None else (min(how.better * v for v in interval), max(how.better * v for v in interval))


def _verdict(problem: Problem, better: int, worse: int) -> str:
    interval = _over_seeds(problem, better, worse)
    if not problem.same_images:
        return "real if the images are the same"
    if interval is None:
        return "real for these weights" if _seeds(problem, better, worse) > 1 else "real for these weights; one seed"
    return "real" if interval[0] > 0 else "real for these seeds"


def _seeds(problem: Problem, *indices: int) -> int:
    """How many seeds the one with the fewest has."""
    return min(len(problem.configurations[index].runs) for index in indices)


def _of_seeds(problem: Problem, better: int, worse: int) -> str:
    how, interval = measure(str(problem.main)), _over_seeds(problem, better, worse)
    if interval is None:
        seeds = "one seed" if _seeds(problem, better, worse) == 1 else "seeds that agree in all digits"
        return f"; with {seeds} nothing tells whether another training would agree"
    low, high = interval
    written = f"over seeds {how.text(low)} to {how.text(high)}"
    return f", nor of the seeds ({written})" if low > 0 else f", but it may be one of the seeds ({written})"


def _ordered(how: Measure, found: Comparison) -> tuple[int, int, float, float, float]:
    """The better and the worse place, and by how much, with the interval, counted so that more is better."""
    low, high = sorted((how.better * found.low, how.better * found.high))
    if how.better * found.mean >= 0:
        return found.first, found.second, abs(found.mean), low, high
    return found.second, found.first, abs(found.mean), -high, -low


def _comparison_row(problem: Problem, found: Comparison) -> Html:
    how = measure(str(problem.main))
    better, worse, size, low, high = _ordered(how, found)
    verdict = {False: "cannot be told apart", None: "undecided"}.get(found.certain) or _verdict(problem, better, worse)
    cells: list[Child] = [
        tag("td", f"{better + 1} {problem.configurations[better].label}", data_value=better),
        tag("td", f"{worse + 1} {problem.configurations[worse].label}", data_value=worse),
        tag("td", how.text(size, unit=True), class_="number", data_value=size),
        tag("td", f"{how.text(low)} to {how.text(high)}", class_="number", data_value=low),
        tag("td", _p(found.p), class_="number", data_value=found.p),
        tag("td", verdict),
    ]
    return tag("tr", cells)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"
