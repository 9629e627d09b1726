"""Which differences are real: the same images through each model, compared image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recon.measures import Measure
from recon.report import chart
from recon.report.elements import Html, join, note, scrolled, section, table, tag
from recon.report.gather import Compared, Problem
from recon.report.inference import Comparison, compare, estimate, welch

_AMONG = 6  # entries of which every pair is compared; the best is compared with the others too
_IN_WORDS = 8  # comparisons written as sentences
_COLUMNS = ("better", "worse", "by", "95 % interval over images", "p (Holm)", "verdict")
_FLIPS = "test by flipping signs, exact where up to 20 images differ and Student's t-test above."
_METHODS = {
    False: f"The interval is the wider of Student's and Hall's, which allows for skewness; p is of the {_FLIPS}",
    True: f"The interval is Agresti and Min's; p is McNemar's, exact, where each has one seed, else of the {_FLIPS}",
}


def comparisons(problem: Problem, measure: Measure | None = None) -> list[Comparison]:
    """Compare the first entries by a measure (the main one) with each other and the best with all; once."""
    measure = measure or problem.main
    return _compared(problem, measure).pairs if measure and len(problem.entries) > 1 else []


def _compared(problem: Problem, measure: Measure) -> Compared:
    if measure.name not in problem.compared:
        indices, values, shares = _table_of(problem, measure)
        count = len(indices)
        pairs = [(a, b) for a in range(min(count, _AMONG)) for b in range(a + 1, min(count, _AMONG))]
        pairs += [(0, b) for b in range(_AMONG, count)]
        found = [
            replace(comparison, first=indices[comparison.first], second=indices[comparison.second])
            for comparison in compare(values, pairs, shares=shares)
        ]
        problem.compared[measure.name] = Compared(found, shares)
    return problem.compared[measure.name]


@dataclass(frozen=True)
class Mark:
    """How an entry stands by one measure, as the paired comparisons on the same images tell.

    Attributes:
        rank: 1 where it is the best, 2 where it is the second, in each case better than the next for certain; else 0.
        p: that it is as good as the best, where it is worse for certain, else None.
        remark: how it stands to its input where it is no better than that, else None.
    """

    rank: int = 0
    p: float | None = None
    remark: str | None = None


def marks(problem: Problem, measure: Measure) -> list[Mark]:
    """Mark each entry by a measure; none is best that is not useful, or on images not known to be the same."""
    gains = [entry.gain(measure) for entry in problem.entries]
    found = [Mark(remark=gained.remark()) if gained else Mark() for gained in gains]
    if not measure.better or not problem.same_images:
        return found
    order = [index for index in _ranked(problem, measure) if problem.entries[index].of(f"test/{measure.name}")]
    compared = (c for c in comparisons(problem, measure) if c.certain and c.mean * measure.better > 0)
    p = {(c.first, c.second): c.p for c in compared}  # of each that is better than the other for certain
    useful = [index for index in order if not ((gained := gains[index]) and gained.useless)]
    for rank, (index, following) in enumerate(pairwise(order[:3]), 1):
        if index not in useful or (index, following) not in p:
            break
        found[index] = replace(found[index], rank=rank)
    for index in order[1:] if useful else ():
        found[index] = replace(found[index], p=p.get((order[0], index)))
    return found


def _table_of(problem: Problem, measure: Measure) -> tuple[list[int], NDArray[np.float64], bool]:
    """Collect each image's value of a measure under each entry, averaged over its runs.

    Returns:
        The indices of the entries that have such values, the best first; (images, these entries), NaN where an image
        has no value; and whether every value of a run is 0 or 1.
    """
    name, means = measure.name, dict[int, NDArray[np.float64]]()
    columns = [[run.images[name] for run in entry.runs if name in run.images] for entry in problem.entries]
    for index, values in enumerate(columns):
        if values and len({len(column) for column in values}) == 1:
            means[index] = np.mean(values, axis=0)
    if not means or len({len(mean) for mean in means.values()}) > 1:
        return [], np.empty((0, 0)), False
    every = np.concatenate([column for values in columns for column in values])
    ranks = {index: rank for rank, index in enumerate(_ranked(problem, measure))}
    indices = sorted(means, key=lambda index: ranks[index])
    shares = bool(np.isin(every[~np.isnan(every)], (0.0, 1.0)).all())
    return indices, np.stack([means[index] for index in indices], axis=1), shares


def _ranked(problem: Problem, measure: Measure) -> list[int]:
    """Return the indices of the entries by a measure of the test, the best first."""
    means = [estimate(entry.of(f"test/{measure.name}")).mean for entry in problem.entries]
    return sorted(range(len(means)), key=lambda k: (math.isnan(means[k]), -(measure.better or 1) * means[k], k))


def paired(problem: Problem) -> Html | None:
    """The section with all comparisons."""
    main, compared = problem.main, comparisons(problem)
    if main is None or not compared:
        return None
    of_best = [comparison for comparison in compared if comparison.first == compared[0].first]
    words = [tag("li", sentence(problem, main, comparison)) for comparison in of_best[:_IN_WORDS]]
    head = [tag("th", name, scope="col", class_="number" if 2 <= k <= 4 else None) for k, name in enumerate(_COLUMNS)]
    numbers = table(head, [_row(problem, main, comparison) for comparison in compared])
    several = len(compared) > 1
    method = note(
        f"Each test image is compared with itself, averaged over seeds. {_METHODS[_compared(problem, main).shares]} "
        f"p is corrected by Holm's method for {len(compared)} comparison{'s' if several else ''}. "
        "An interval over seeds is Welch's."
    )
    summary = tag("summary", f"All {len(compared)} comparisons")
    more = tag("details", summary, scrolled(numbers, "All pairs of configurations")) if several else None
    verdicts = tag("ul", words, class_="verdicts")
    return section("Is the difference real?", verdicts, method, more)


def sentence(problem: Problem, main: Measure, comparison: Comparison) -> Html:
    """Write a comparison in words."""
    better, worse, size, low, high = _ordered(main, comparison)
    first, second = (join([chart.badge(index + 1), " ", problem.entries[index].label]) for index in (better, worse))
    images = _images(problem, comparison)
    within = f"95 % interval {main.text(low, like=size)} to {main.text(high, like=size)}, {_p(comparison.p)}"
    by = f"{main.text(size)} {main.points}"
    if comparison.certain is False:
        end = f" cannot be told apart {images}: {by} may be an accident of the images ({within})."
        return join([first, " and ", second, end])
    head = [first, " is better than ", second, f" by {by} {images} ({within})"]
    if comparison.opposed > 0.5:
        head.append(f", although the other is the better one of {100 * comparison.opposed:.0f} % of them")
    if comparison.certain is None:
        return join([*head, ", but only one of interval and test says so: undecided."])
    if not problem.same_images:
        return join([*head, ": if they are the same, this is no accident of the images."])
    return join([*head, f": this is no accident of the images{_of_seeds(problem, main, better, worse)}."])


def _images(problem: Problem, comparison: Comparison) -> str:
    """Say on which images two entries are compared."""
    unit = "labels" if problem.kind == "generate" else "images"
    count = f"{comparison.images:,}"
    if comparison.images < problem.images:  # the others have no value, as one without a hole
        count += f" of {problem.images:,}"
    return f"on the same {count} {unit}" if problem.same_images else f"on {count} {unit}, not known to be the same,"


def _over_seeds(problem: Problem, main: Measure, better: int, worse: int) -> tuple[float, float] | None:
    """The interval of how much better over seeds; None where one of the two has one seed alone."""
    interval = welch(*(problem.entries[index].of(f"test/{main.name}") for index in (better, worse)))
    return interval if interval is None or main.better > 0 else (-interval[1], -interval[0])


def _verdict(problem: Problem, main: Measure, better: int, worse: int) -> str:
    if not problem.same_images:
        return "real if the images are the same"
    if interval := _over_seeds(problem, main, better, worse):
        return "real" if interval[0] > 0 else "real for these seeds"
    return "real for these weights" if _seeds(problem, better, worse) > 1 else "real for these weights; one seed"


def _seeds(problem: Problem, *indices: int) -> int:
    """The number of seeds of the entry with the fewest."""
    return min(len(problem.entries[index].runs) for index in indices)


def _of_seeds(problem: Problem, main: Measure, better: int, worse: int) -> str:
    interval = _over_seeds(problem, main, better, worse)
    if interval is None:
        seeds = "one seed" if _seeds(problem, better, worse) == 1 else "seeds that agree in all digits"
        return f"; with {seeds} nothing tells whether another training would agree"
    written = f"over seeds {main.text(interval[0])} to {main.text(interval[1])}"
    return f", nor of the seeds ({written})" if interval[0] > 0 else f", but it may be one of the seeds ({written})"


def _ordered(main: Measure, comparison: Comparison) -> tuple[int, int, float, float, float]:
    """The better and the worse index, and by how much, with the interval, counted so that more is better."""
    low, high = sorted((main.better * comparison.low, main.better * comparison.high))
    if main.better * comparison.mean >= 0:
        return comparison.first, comparison.second, abs(comparison.mean), low, high
    return comparison.second, comparison.first, abs(comparison.mean), -high, -low


def _row(problem: Problem, main: Measure, comparison: Comparison) -> Html:
    better, worse, size, low, high = _ordered(main, comparison)
    verdict = {False: "cannot be told apart", None: "undecided"}.get(comparison.certain)
    cells: list[tuple[str, float | None]] = [
        (f"{better + 1} {problem.entries[better].label}", better),
        (f"{worse + 1} {problem.entries[worse].label}", worse),
        (main.text(size, unit=True), size),
        (f"{main.text(low)} to {main.text(high)}", low),
        (_p(comparison.p), comparison.p),
        (verdict or _verdict(problem, main, better, worse), None),
    ]
    classes = [None, None, "number", "number", "number", None]
    return tag("tr", [
        tag("td", text, data_value=value, data_label=name, class_=class_)
        for name, (text, value), class_ in zip(_COLUMNS, cells, classes, strict=True)
    ])  # fmt: skip


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"
