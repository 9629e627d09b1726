"""The keyed generator: fair bits, the right laws, and a pure function of its key."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from recon import keyed

KEYS = keyed.keys(0, "test", 0, torch.arange(512))

GOLDEN_KEYS = [-5981908525586684566, -6365269378630757994, -7193788116788491589]
GOLDEN_FOLDED = [5174205148447451479, -875890302465114148, -7104499025779430881]
GOLDEN_BITS = [
    [1933969838, -1579714594, 164405490],
    [1819256498, 1514589693, 1996845906],
    [-818974130, -689766142, -788710100],
]
GOLDEN_UNIFORM = [0.2735852003097534, 0.436137318611145, 0.18533790111541748]
GOLDEN_INTEGERS = [900, 847, 618]
GOLDEN_NORMAL = [
    [-1.77659523, -0.12491861, -0.07969854],
    [0.38846129, -0.19275458, 0.85835499],
    [-0.1344844, 0.87539673, -2.65681958],
]
GOLDEN_PERMUTATION = [1, 0, 5, 6, 4, 7, 3, 2]


def correlation_z(x: Tensor, y: Tensor) -> float:
    """The correlation of two sets of values, in standard errors of independent ones."""
    x, y = x.flatten().double(), y.flatten().double()
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1] * len(x) ** 0.5)


@pytest.mark.parametrize("stream", ["a", "b"])
def test_normal_moments(stream: str) -> None:
    x = keyed.normal(keyed.fold(KEYS, stream), (3, 32, 32)).flatten().double()
    for power, expected in enumerate([0, 1, 0, 3], start=1):
        error = (x**power).std() / len(x) ** 0.5
        # The table stops at 4.3 standard deviations: its fourth moment is 2.9992.
        assert abs((x**power).mean() - expected) < 4 * error + (1e-3 if power == 4 else 0)


@pytest.mark.parametrize("stream", ["a", "b"])
def test_uniform_moments(stream: str) -> None:
    x = keyed.uniform(keyed.fold(KEYS, stream), (3, 32, 32)).flatten().double()
    assert x.min() >= 0
    assert x.max() < 1
    for power in (1, 2, 3, 4):
        assert abs((x**power).mean() - 1 / (power + 1)) < 4 * (x**power).std() / len(x) ** 0.5


@pytest.mark.parametrize(("draw", "law"), [(keyed.normal, "norm"), (keyed.uniform, "uniform")])
def test_kolmogorov_smirnov(draw, law: str) -> None:
    """Over pixels of one image, over images at one pixel, and all together."""
    values = draw(KEYS, (28, 28)).flatten(1)
    p_images = [stats.kstest(row, law).pvalue for row in values[:40].numpy()]
    p_pixels = [stats.kstest(column, law).pvalue for column in values[:, :40].T.numpy()]
    assert min(p_images + p_pixels) > 1e-4
    # The p values of fair draws are themselves uniform.
    assert stats.kstest(p_images, "uniform").pvalue > 1e-3
    assert stats.kstest(p_pixels, "uniform").pvalue > 1e-3
    assert stats.kstest(values.flatten().numpy(), law).pvalue > 1e-3


def test_each_bit_is_fair() -> None:
    words = keyed.bits(KEYS, 2048).flatten()
    for bit in range(32):
        ones = int(((words >> bit) & 1).sum())
        assert abs(ones - len(words) / 2) < 4.5 * (len(words) / 4) ** 0.5, bit


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
@pytest.mark.parametrize("neighbours", ["alone", "places", "indices"])
def test_bytes_chi_square(shift: int, neighbours: str) -> None:
    """Each byte of the words, and how it differs from the same byte of the next place or the next index."""
    words = keyed.bits(KEYS, 2048)
    if neighbours == "places":
        words = words[:, 1:] ^ words[:, :-1]
    elif neighbours == "indices":
        words = words[1:] ^ words[:-1]
    counts = torch.bincount(((words >> shift) & 0xFF).flatten().long(), minlength=256)
    assert 1e-4 < stats.chisquare(counts.numpy()).pvalue < 1 - 1e-4


def test_pairs_of_neighbouring_bytes_chi_square() -> None:
    """All 65,536 pairs of (a place's low byte, the next place's low byte) are equally likely."""
    low = keyed.bits(KEYS, 8192).view(512, -1, 2) & 0xFF
    counts = torch.bincount((low[..., 0] * 256 + low[..., 1]).flatten().long(), minlength=65536)
    assert 1e-4 < stats.chisquare(counts.numpy()).pvalue < 1 - 1e-4


@pytest.mark.parametrize("draw", [keyed.normal, keyed.uniform])
def test_neighbours_are_uncorrelated(draw) -> None:
    size = (32, 32)
    x = draw(KEYS, size)
    assert abs(correlation_z(x[1:], x[:-1])) < 4
    assert abs(correlation_z(x[:, 1:], x[:, :-1])) < 4
    assert abs(correlation_z(x[..., 1:], x[..., :-1])) < 4
    assert abs(correlation_z(x[..., 0::2], x[..., 1::2])) < 4, "the two halves of a word"
    next_epoch = draw(keyed.keys(0, "test", 1, torch.arange(512)), size)
    next_seed = draw(keyed.keys(1, "test", 0, torch.arange(512)), size)
    stream = draw(keyed.keys(0, "other", 0, torch.arange(512)), size)
    folded = draw(keyed.fold(KEYS, "name"), size)
    for other in (next_epoch, next_seed, stream, folded):
        assert abs(correlation_z(x, other)) < 4
        assert abs(correlation_z(x[1:], other[:-1])) < 4
        assert abs(correlation_z(x.square(), other.square())) < 4


@pytest.mark.parametrize("transposed", [False, True], ids=["images", "places"])
def test_all_correlations_have_the_spread_of_chance(transposed: bool) -> None:
    """Between every two images over their pixels, and between every two pixels over the images."""
    x = keyed.normal(keyed.keys(0, "test", 0, torch.arange(784)), (28, 28)).flatten(1)
    z = torch.corrcoef(x.T if transposed else x)[torch.triu(torch.ones(784, 784, dtype=torch.bool), 1)] * 28
    assert z.std() == pytest.approx(1, abs=0.01)
    assert z.abs().max() < 6


def test_keys_do_not_collide() -> None:
    index = torch.arange(100_000)
    every = torch.cat([keyed.keys(s, n, e, index) for s in (0, 1) for n in ("a", "b") for e in (0, 1)])
    every = torch.cat([every, keyed.fold(every, "c"), keyed.fold(every, "d")])
    assert len(every.unique()) == len(every)


@pytest.mark.parametrize("draw", [keyed.normal, keyed.uniform, lambda k, s: keyed.integers(k, 10, s)])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 32, 33)])
def test_bits_do_not_hang_on_batch_or_order(draw, shape: tuple[int, ...]) -> None:
    whole = draw(KEYS, shape)
    assert whole.shape == (512, *shape)
    for size in (1, 3, 100):
        parts = [draw(part, shape) for part in torch.split(KEYS[:100], size)]
        assert torch.equal(torch.cat(parts), whole[:100])
    order = keyed.permutation(0, "order", 0, 512)
    assert torch.equal(draw(KEYS[order], shape), whole[order])


def test_bits_do_not_hang_on_threads() -> None:
    before = torch.get_num_threads()
    try:
        draws = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            draws.append((keyed.normal(KEYS, (3, 32, 32)), keyed.uniform(KEYS, (3, 32, 32))))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])


def test_an_empty_batch_draws_nothing() -> None:
    assert keyed.normal(KEYS[:0], (3, 4)).shape == (0, 3, 4)
    assert keyed.uniform(KEYS[:0]).shape == (0,)


@pytest.mark.parametrize("high", [1, 2, 3, 7, 1000])
def test_integers_are_uniform_below_their_bound(high: int) -> None:
    x = keyed.integers(KEYS, high, (200,))
    assert x.dtype == torch.int64
    assert x.min() >= 0
    assert x.max() == high - 1
    if high > 1:
        assert stats.chisquare(torch.bincount(x.flatten(), minlength=high).numpy()).pvalue > 1e-4


def test_integers_take_a_bound_per_key() -> None:
    high = torch.arange(512) % 9 + 1
    x = keyed.integers(KEYS, high, (50,))
    assert (x >= 0).all()
    assert (x < high.unsqueeze(1)).all()
    assert (x.amax(1) == high - 1).float().mean() > 0.95
    assert keyed.integers(KEYS, high).shape == (512,)
    assert torch.equal(x[8], keyed.integers(KEYS[8:9], int(high[8]), (50,))[0])


def test_integers_reach_the_largest_bound() -> None:
    x = keyed.integers(KEYS, 1 << 31, (100,))
    assert 0 <= x.min() < 1 << 20
    assert (1 << 31) - (1 << 20) < x.max() < 1 << 31


def test_permutation() -> None:
    first = keyed.permutation(0, "order", 0, 1000)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert torch.equal(first, keyed.permutation(0, "order", 0, 1000))
    for seed, stream, epoch in [(1, "order", 0), (0, "split", 0), (0, "order", 1)]:
        other = keyed.permutation(seed, stream, epoch, 1000)
        # Two unrelated permutations agree in one place on average.
        assert (first == other).sum() < 8
        assert abs(correlation_z(first, other)) < 4


def test_every_place_of_a_permutation_is_fair() -> None:
    orders = torch.stack([keyed.permutation(0, "order", epoch, 8) for epoch in range(2000)])
    for place in orders.T:
        assert stats.chisquare(torch.bincount(place, minlength=8).numpy()).pvalue > 1e-4


def test_splitmix64_known_answer() -> None:
    """The first two outputs of the reference implementation from state 0."""
    state = torch.tensor([keyed._GOLDEN, keyed._int64(2 * keyed._GOLDEN)])
    expected = [keyed._int64(0xE220A8397B1DCDAF), keyed._int64(0x6E789E6AA1B965F4)]
    assert keyed._splitmix64(state).tolist() == expected


def test_golden_values() -> None:
    """Results on disk hang on these bits: a change of the generator must be seen and told."""
    keys = keyed.keys(7, "golden", 2, torch.tensor([0, 1, 59_999]))
    assert keys.tolist() == GOLDEN_KEYS
    assert keyed.fold(keys, "noise").tolist() == GOLDEN_FOLDED
    assert keyed.bits(keys, 3).tolist() == GOLDEN_BITS
    assert keyed.uniform(keys).tolist() == GOLDEN_UNIFORM
    assert keyed.integers(keys, 1000).tolist() == GOLDEN_INTEGERS
    # The quantiles pass through a logarithm, whose last bit may differ between processors.
    np.testing.assert_allclose(keyed.normal(keys, (3,)).numpy(), GOLDEN_NORMAL, rtol=1e-6)
    assert keyed.permutation(7, "golden", 2, 8).tolist() == GOLDEN_PERMUTATION
