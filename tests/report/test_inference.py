"""The statistics of the report against scipy, against what was worked out by hand, and against simulation."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from recon.report.inference import (
    compare,
    estimate,
    holm,
    mcnemar,
    mean_interval,
    pareto,
    share_interval,
    sign_flip,
    welch,
)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_over_seeds_is_that_of_scipy(count: int) -> None:
    values = np.random.default_rng(count).normal(20, 2, count)
    low, high = scipy.stats.t.interval(0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    found = estimate(values)
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.half == pytest.approx((high - low) / 2)


def test_one_run_has_no_interval_and_what_is_no_number_does_not_count() -> None:
    assert estimate([3.0, float("nan"), float("inf")]) == estimate([3.0])
    assert (estimate([3.0]).low, estimate([3.0]).half) == (None, None)
    assert np.isnan(estimate([]).mean)
    assert (estimate([0.3] * 4).mean, estimate([0.3] * 4).low) == (pytest.approx(0.3), None)


def test_the_interval_over_seeds_holds_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(1)
    inside = [(e := estimate(draws.normal(5, 3, 3))).low < 5 < e.high for _ in range(4000)]
    # The standard error of the share is 0.0034.
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_welch_is_that_of_scipy() -> None:
    draws = np.random.default_rng(2)
    first, second = draws.normal(20, 1, 3), draws.normal(19, 3, 5)
    interval = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert welch(first, second) == pytest.approx((interval.low, interval.high))
    assert welch([1.0], [2.0, 3.0]) is None
    assert welch([2.0, 2.0], [1.0, 1.0]) is None, "no width, no claim"
    assert welch([0.1] * 3, [0.3] * 3) is None
    low, high = welch([2.0, 2.0], [1.0, 1.1])  # type: ignore[misc]
    assert low < 0.95 < high


# What differences of paired values may look like, with their true mean: Hall's bound is for the skewed, Student's for
# the others.
SHAPES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], Any], float]] = {
    "normal": (lambda draws, size: draws.normal(size=size), 0.0),
    "gamma, shape 2": (lambda draws, size: draws.gamma(2, size=size), 2.0),
    "gamma, shape 1": (lambda draws, size: draws.gamma(1, size=size), 1.0),
    "lognormal, sigma 0.5": (lambda draws, size: -draws.lognormal(0, 0.5, size), -math.exp(0.125)),
    "t, 3 degrees": (lambda draws, size: draws.standard_t(3, size), 0.0),
}


@pytest.mark.parametrize("count", [5, 7, 12, 30, 360])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_interval_over_images_holds_the_truth_as_often_as_it_says(shape: str, count: int) -> None:
    draw, truth = SHAPES[shape]
    low, high = mean_interval(draw(np.random.default_rng(count), (count, 6000)))
    # The standard error of the share is 0.003.
    assert 0.93 <= ((low <= truth) & (truth <= high)).mean() < 0.985


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("count", [5, 12, 40, 360])
@pytest.mark.parametrize(("gained", "lost"), [(0.1, 0.1), (0.05, 0.01), (0.2, 0.05), (0.01, 0.0005), (0.3, 0.1)])
def test_the_interval_of_shares_holds_the_truth_as_often_as_it_says(
    gained: float, lost: float, count: int, seeds: int
) -> None:
    chance = np.random.default_rng(count).random((seeds, count, 5000))
    differences = ((chance < gained) * 1.0 - ((chance >= gained) & (chance < gained + lost))).mean(0)
    low, high = share_interval(differences)
    assert ((low <= gained - lost) & (gained - lost <= high)).mean() >= 0.93
    assert (low >= -1).all()
    assert (high <= 1).all()


def test_values_that_do_not_vary_have_an_interval_without_width() -> None:
    low, high = mean_interval(np.full(30, 0.1))
    assert (low, high) == pytest.approx((0.1, 0.1))
    assert mean_interval(np.zeros(7)) == (0, 0)
    expected = scipy.stats.t.interval(0.95, 1, loc=1.5, scale=0.5)
    assert mean_interval(np.array([1.0, 2.0])) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [2, 5, 9, 15])
def test_every_flip_of_the_signs_of_few_images_counts(count: int) -> None:
    values = np.random.default_rng(count).normal(0.5, 1, count)
    expected = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values) == pytest.approx(expected.pvalue)
    assert sign_flip(np.append(-values, np.zeros(50))) == sign_flip(values), "what does not differ has no sign"


@pytest.mark.parametrize("count", [21, 30, 360])
def test_the_flips_of_many_images_are_counted_by_the_t_test(count: int) -> None:
    values = np.random.default_rng(count).normal(0.15, 1, count)
    assert sign_flip(values) == pytest.approx(scipy.stats.ttest_1samp(values, 0).pvalue)
    drawn = scipy.stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0)
    assert sign_flip(values) == pytest.approx(drawn.pvalue, abs=0.015)


@pytest.mark.parametrize(("gained", "lost"), [(12, 3), (15, 5), (14, 5), (20, 8), (40, 20), (300, 250)])
def test_flips_of_equal_steps_are_those_of_mcnemar(gained: int, lost: int) -> None:
    differences = np.repeat([0.5, -0.5, 0.0], [gained, lost, 500])
    assert sign_flip(differences) == pytest.approx(mcnemar(2 * differences), abs=0.002)


def test_the_test_of_equal_values_is_not_surer_than_their_number() -> None:
    assert sign_flip(np.zeros(5)) == sign_flip(np.zeros(50)) == 1.0
    assert sign_flip(np.full(5, 0.1)) == 2 / 2**5, "five images alone can never be certain"
    assert sign_flip(np.full(20, 0.1)) == 2 / 2**20


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(15, 5, 0.0414), (12, 3, 0.0352), (20, 8, 0.0357), (40, 20, 0.0135), (14, 5, 0.0636), (5, 0, 0.0625), (0, 0, 1.0)],
)
def test_right_and_wrong_are_compared_by_mcnemars_exact_test(gained: int, lost: int, p: float) -> None:
    second = np.zeros(360)
    first = second.copy()
    first[:gained], second[gained : gained + lost] = 1, 1
    assert mcnemar(first - second) == pytest.approx(p, abs=5e-5)
    (found,) = compare(np.stack([first, second], axis=1), [(0, 1)], shares=True)
    assert found.p == mcnemar(first - second)
    assert found.certain in ((True, None) if p < 0.05 else (False, None))
    assert found.low <= found.mean <= found.high


def test_the_test_is_of_the_mean_and_not_of_most_images() -> None:
    draws = np.random.default_rng(7)
    first = np.concatenate([np.full(900, 0.1), np.full(100, -2.0)]) + draws.normal(0, 0.01, 1000)
    (found,) = compare(np.stack([first, np.zeros(1000)], axis=1), [(0, 1)])
    assert found.mean == pytest.approx(-0.11, abs=0.01)
    assert found.high < 0
    assert found.opposed == pytest.approx(0.9)
    # Skewed differences around zero: Wilcoxon's test finds them in nearly every trial.
    alarms = [
        compare(np.stack([draws.gamma(2, size=360) - 2, np.zeros(360)], axis=1), [(0, 1)])[0].certain
        for _ in range(400)
    ]
    assert np.mean([alarm is True for alarm in alarms]) < 0.075


def test_images_without_a_value_do_not_count() -> None:
    table = np.random.default_rng(8).normal(size=(40, 3))
    table[:7, 0] = np.nan
    table[30:, 1] = np.inf
    found = compare(table, [(0, 1), (0, 2), (1, 2)])
    assert [each.images for each in found] == [23, 33, 30]
    known = table[7:, 0] - table[7:, 2]
    assert found[1].mean == pytest.approx(known.mean())
    table[:, 2] = np.nan
    assert [(each.first, each.second) for each in compare(table, [(0, 1), (0, 2)])] == [(0, 1)]


def test_equal_models_are_rarely_told_apart() -> None:
    draws = np.random.default_rng(5)
    alarms = 0
    for _ in range(120):
        table = draws.normal(size=(40, 4))
        alarms += any(each.certain for each in compare(table, list(itertools.combinations(range(4), 2))))
    assert alarms / 120 < 0.05 + 3 * (0.05 * 0.95 / 120) ** 0.5


def test_a_real_difference_is_seen() -> None:
    table = np.random.default_rng(6).normal(size=(360, 2))
    table[:, 0] += 0.5
    (found,) = compare(table, [(0, 1)])
    assert found.certain
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx((table[:, 0] - table[:, 1]).mean())


def test_holm_as_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    assert {points[place] for place in pareto(points)} == {point for point in points if not beaten(point)}
