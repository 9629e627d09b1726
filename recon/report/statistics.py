"""What can be said of a difference: intervals over seeds, and paired comparisons over the same images.

References: Student (1908) for the mean of few runs; Welch (1947) for the difference of two such means; Efron (1979) for
the bootstrap; Wilcoxon (1945) for the signed ranks; Holm (1979) for many comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over runs with its interval; `low` and `high` are None where one run alone gives none."""

    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.mean


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate a mean with its 95 % confidence interval by Student's t; values that are not finite do not count."""
    kept = np.array([value for value in values if np.isfinite(value)], dtype=np.float64)
    if not len(kept):
        return Estimate(float("nan"), None, None, ())
    mean = float(kept.mean())
    if len(kept) == 1:
        return Estimate(mean, None, None, tuple(kept.tolist()))
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(kept) - 1, (1 + LEVEL) / 2))
    half = quantile * float(kept.std(ddof=1)) / len(kept) ** 0.5
    return Estimate(mean, mean - half, mean + half, tuple(kept.tolist()))


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the difference of two means, first minus second; None with fewer than two runs of either."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if min(len(a), len(b)) < 2:
        return None
    from scipy.special import stdtrit

    parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    difference, error = float(a.mean() - b.mean()), float(sum(parts)) ** 0.5
    if not error:
        return difference, difference
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * error
    return difference - half, difference + half


def bootstrap_means(table: Array, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Draw the images anew, with replacement, and take the means: the same draws for every column.

    Args:
        table: (images, models).
        resamples: how many draws R.
        seed: of the draws, so that a page is the same each time.

    Returns:
        (R, models).
    """
    count = len(table)
    draws = np.random.default_rng(seed)
    means = np.empty((resamples, table.shape[1]))
    step = max(1, (1 << 22) // count)
    for first in range(0, resamples, step):
        several = min(step, resamples - first)
        chosen = draws.integers(count, size=(several, count)) + np.arange(several)[:, None] * count
        weights = np.bincount(chosen.ravel(), minlength=several * count).reshape(several, count)
        means[first : first + several] = weights @ table / count
    return means


def wilcoxon(difference: Array) -> float:
    """The two-sided p of the signed-rank test that differences lie evenly around zero; 1 where none differs."""
    changed = difference[difference != 0]
    if not len(changed):
        return 1.0
    from scipy.stats import wilcoxon as signed_rank

    return float(signed_rank(changed, zero_method="wilcox").pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Correct p values for how many there are: the chance of even one false alarm among them stays at the level."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    corrected, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return corrected


@dataclass(frozen=True)
class Comparison:
    """One model against another on the same images, by the mean difference of their values (first minus second).

    Attributes:
        first, second: places of the models.
        mean: the mean difference over the images.
        low, high: its 95 % bootstrap interval over the images.
        p: of Wilcoxon's test, corrected by Holm's method.
        images: how many.
    """

    first: int
    second: int
    mean: float
    low: float
    high: float
    p: float
    images: int

    @property
    def certain(self) -> bool | None:
        """True where both the interval and the test tell the models apart, False where neither does, None between."""
        by_interval, by_test = self.low > 0 or self.high < 0, self.p < 1 - LEVEL
        return by_interval if by_interval == by_test else None


def compare(table: Array, pairs: Sequence[tuple[int, int]]) -> list[Comparison]:
    """Compare pairs of models on the same images.

    Args:
        table: (images, models), finite.
        pairs: places of the models to compare.
    """
    if not pairs or len(table) < 2:
        return []
    means = bootstrap_means(table)
    differences = [table[:, first] - table[:, second] for first, second in pairs]
    corrected = holm([wilcoxon(difference) for difference in differences])
    tail = 100 * (1 - LEVEL) / 2
    found = []
    for (first, second), difference, p in zip(pairs, differences, corrected, strict=True):
        low, high = np.percentile(means[:, first] - means[:, second], [tail, 100 - tail])
        found.append(Comparison(first, second, float(difference.mean()), float(low), float(high), p, len(difference)))
    return found


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points that no other beats in both: less of the first, more of the second; by the first."""
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    front: list[int] = []
    for place in order:
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front
