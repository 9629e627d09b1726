"""The statistics of the report against scipy, against what was worked out by hand, and against simulation."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from recon.report.statistics import bootstrap_means, compare, estimate, holm, pareto, welch, wilcoxon


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
    assert welch([2.0, 2.0], [1.0, 1.0]) == (1.0, 1.0)


def test_the_bootstrap_draws_whole_images() -> None:
    table = np.random.default_rng(3).normal(size=(50, 2))
    table[:, 1] = table[:, 0] + 1
    means = bootstrap_means(table)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(len(means)))
    # The bootstrap's standard deviation of a mean is known: that of the values over the root of their number.
    assert means[:, 0].std() == pytest.approx(table[:, 0].std() / 50**0.5, rel=0.06)
    assert (bootstrap_means(table) == means).all()


def test_the_paired_interval_holds_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(4)
    inside = 0
    for _ in range(300):
        hard = draws.gamma(2, 5, 120)  # some images are harder, for both
        table = np.stack([hard + 0.4 + draws.normal(0, 1, 120), hard + draws.normal(0, 1, 120)], axis=1)
        (found,) = compare(table, [(0, 1)])
        inside += found.low < 0.4 < found.high
    # The standard error of the share is 0.013; a percentile bootstrap of 120 images is a little narrow.
    assert 0.90 < inside / 300 < 0.985


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


@pytest.mark.parametrize("difference", [[1.0, 2, 3, -4, 5, 6], [1.5, -0.5, 2.5, 3.5, 0.25, 7, -8]])
def test_wilcoxon_counts_every_way_the_signs_may_fall(difference: list[float]) -> None:
    ranks = scipy.stats.rankdata(np.abs(difference))
    all_sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s)
                for signs in itertools.product([0, 1], repeat=len(ranks))]  # fmt: skip
    seen = sum(r for r, d in zip(ranks, difference, strict=True) if d > 0)
    middle = sum(ranks) / 2
    expected = np.mean([abs(total - middle) >= abs(seen - middle) for total in all_sums])
    assert wilcoxon(np.array(difference)) == pytest.approx(expected)


def test_wilcoxon_of_no_difference_is_certain_of_nothing() -> None:
    assert wilcoxon(np.zeros(5)) == 1.0


def test_holm_as_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int]]) -> None:
    def beaten(point: tuple[int, int]) -> bool:
        return any(x <= point[0] and y >= point[1] and (x, y) != point for x, y in points)

    assert {points[place] for place in pareto(points)} == {point for point in points if not beaten(point)}
