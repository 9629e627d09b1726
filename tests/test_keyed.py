"""The keyed generator: fair bits, the right laws, and a pure function of its key."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from recon import keyed
from recon.errors import InputError

KEYS = keyed.keys(0, "test", 0, torch.arange(512))

GOLDEN_KEYS = [-5981908525586684566, -6365269378630757994, -7193788116788491589]
GOLDEN_FOLDED = [5174205148447451479, -875890302465114148, -7104499025779430881]
GOLDEN_BITS = [
    [1933969838, -1579714594, 164405490],
    [1819256498, 1514589693, 1996845906],
    [-818974130, -689766142, -788710100],
]
GOLDEN_UNIFORM = [0.9843427538871765, 0.6641421914100647, 0.16613495349884033]
GOLDEN_INTEGERS = [351, 309, 220]
GOLDEN_NORMAL = [
    [-1.31257427, -0.58613849, 0.15043852, -0.85382777, -1.19986558],
    [0.88161629, 0.24977970, -0.40372652, 0.55583471, -0.33225900],
    [-1.97371423, -0.48124641, 1.32045424, 1.83127558, 1.78352797],
]
GOLDEN_POISSON = [[0, 3, 31], [0, 3, 34], [0, 2, 53]]
GOLDEN_CHOICE = [2, 1, 0]
POISSON_BOUNDS = {12.0: 1e-4, 16.0: 6e-5, 30.0: 2e-5, 100.0: 1e-5, 1000.0: 1e-5}
GOLDEN_PERMUTATION = [1, 0, 5, 6, 4, 7, 3, 2]


def poisson_counts(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Counts whose rates differ from element to element, on both sides of the change of method."""
    rate = torch.linspace(0, 40, int(np.prod(shape)), dtype=torch.float32, device=keys.device).view(1, *shape)
    return keyed.poisson(keys, rate.expand(len(keys), *shape))


DRAWS = {
    "bits": lambda keys, shape: keyed.bits(keys, int(np.prod(shape))).view(len(keys), *shape),
    "normal": keyed.normal,
    "uniform": keyed.uniform,
    "integers": lambda keys, shape: keyed.integers(keys, 10, shape),
    "choice": lambda keys, shape: keyed.choice(keys, [1, 2, 3]).view(-1, *[1] * len(shape)).expand(-1, *shape),
    "poisson": poisson_counts,
}


def correlation_z(x: Tensor, y: Tensor) -> float:
    """The correlation of two sets of values, in standard errors of independent ones."""
    x, y = x.flatten().double(), y.flatten().double()
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1] * len(x) ** 0.5)


@pytest.mark.parametrize("stream", ["a", "b"])
def test_normal_moments(stream: str) -> None:
    x = keyed.normal(keyed.fold(KEYS, stream), (3, 32, 32)).flatten().double()
    for power, expected in enumerate([0, 1, 0, 3], start=1):
        error = (x**power).std() / len(x) ** 0.5
        assert abs((x**power).mean() - expected) < 4 * error


def quantiles() -> np.ndarray:
    """The two columns of the table, (65536,2): a normal number is the sum or difference of entries of one of them."""
    return keyed.normal_pairs(torch.device("cpu")).view(torch.float32).view(-1, 2).double().numpy()


def normal_law(at: np.ndarray, every: int = 1) -> np.ndarray:
    """P(x < at) for x the sum of two quantiles drawn on their own, exact if the first one is not thinned out."""
    column = quantiles()[:, 0]
    first = np.concatenate([column[every // 2 :: every], -column[every // 2 :: every]]) if every > 1 else column
    return np.array([np.searchsorted(column, x - first).mean() for x in at]) / 65536


def test_normal_table_is_an_even_lattice_of_quantiles() -> None:
    first, second = quantiles().T
    assert (np.diff(first) > 0).all()
    assert np.array_equal(np.sort(second), first)
    assert np.array_equal(first[::-1], -first)
    assert np.array_equal(second[::-1], -second)
    np.testing.assert_allclose(first[1:-1], stats.norm.ppf((np.arange(1, 65535) + 0.5) / 65536) / 2**0.5, rtol=1e-4)
    # Of 256 × 256 equally likely squares of the plane none is crowded: the law has one pair in each.
    rank = np.searchsorted(first, second)
    assert np.bincount(np.arange(65536) // 256 * 256 + rank // 256).max() <= 3


def test_normal_table_moments() -> None:
    """All moments to the fourth of the sum of two entries, alone and with that of their partners."""
    a, b = quantiles().T * 2**0.5
    assert (a**2).mean() == pytest.approx(1, abs=1e-6)
    assert (b**2).mean() == pytest.approx(1, abs=1e-6)
    # Of the sum of two on their own, over √2: E x⁴ = (E a⁴ + 3) / 2, E x²y² = (E a²b² + 1) / 2 + 2 (E ab)² and so on.
    assert ((a**4).mean() + 3) / 2 == pytest.approx(3, abs=5e-4)
    assert abs((a * b).mean()) < 2e-5
    assert ((a**2 * b**2).mean() + 1) / 2 == pytest.approx(1, abs=5e-4)
    for odd in (a, b, a**3, b**3, a**2 * b, a * b**2):
        assert abs(odd.mean()) < 1e-9
    for mixed in (a**3 * b, a * b**3):
        assert abs(mixed.mean()) < 4e-4


def test_normal_tail_law() -> None:
    """The proportions beyond t, exactly as the table gives them, are those that the docstring claims."""
    t = np.linspace(0.5, 5.5, 21)
    error = 2 * normal_law(-t) / (2 * stats.norm.sf(t)) - 1
    assert np.abs(error[t <= 5]).max() < 0.015
    assert np.abs(error).max() < 0.11
    assert 6.30 < 2 * quantiles().max() < 6.31


def test_normal_tail_counts() -> None:
    """How many of 48 million draws lie beyond t."""
    beyond = dict.fromkeys((3.0, 4.0, 4.5, 5.0), 0)
    total = 0
    for part in torch.split(keyed.keys(3, "tails", 0, torch.arange(16384)), 64):
        x = keyed.normal(part, (3, 32, 31))
        total += x.numel()
        x = x.abs_().flatten()
        for t in beyond:
            x = x[x > t]
            beyond[t] += len(x)
    for t, count in beyond.items():
        expected = total * 2 * stats.norm.sf(t)
        assert abs(count - expected) < 4 * expected**0.5 + 0.015 * expected, t


def test_the_four_values_of_two_look_ups_are_unrelated() -> None:
    x = keyed.normal(keyed.keys(5, "four", 0, torch.arange(400_000)), (4,))
    for left, right in combinations(x.T, 2):
        for a in (1, 2, 3):
            for b in (1, 2, 3):
                assert abs(correlation_z(left**a, right**b)) < 4.5
    cells = torch.bucketize(x, torch.tensor([-1.1503494, -0.3186394, 0.3186394, 1.1503494]))
    probability = stats.norm.cdf([-1.1503494, -0.3186394, 0.3186394, 1.1503494])
    probability = np.diff(probability, prepend=0, append=1)
    expected = np.einsum("a,b,c,d->abcd", *[probability] * 4).ravel() * len(x)
    counts = torch.bincount((cells * torch.tensor([125, 25, 5, 1])).sum(1), minlength=625)
    assert 1e-4 < stats.chisquare(counts.numpy(), expected).pvalue < 1 - 1e-4


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


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 32, 33)])
def test_bits_do_not_hang_on_batch_or_order(draw, shape: tuple[int, ...]) -> None:
    whole = draw(KEYS, shape)
    assert whole.shape == (512, *shape)
    for size in (1, 3, 100):
        parts = [draw(part, shape) for part in torch.split(KEYS[:100], size)]
        assert torch.equal(torch.cat(parts), whole[:100])
    order = keyed.permutation(0, "order", 0, 512)
    assert torch.equal(draw(KEYS[order], shape), whole[order])
    assert torch.equal(draw(KEYS[1::2], shape), whole[1::2]), "keys that do not lie side by side"


def test_bits_do_not_hang_on_threads() -> None:
    before = torch.get_num_threads()
    try:
        draws = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            draws.append([draw(KEYS[:48], (3, 32, 32)) for draw in DRAWS.values()])
    finally:
        torch.set_num_threads(before)
    for alone, together in zip(*draws, strict=True):
        assert torch.equal(alone, together)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("default", [torch.float16, torch.float64])
def test_draws_do_not_depend_on_torchs_default_type(draw, default: torch.dtype) -> None:
    """A training of `trainer.precision=16-true` or 64-true sets it."""
    expected, before = draw(KEYS, (3, 5)), torch.get_default_dtype()
    keyed.normal_pairs.cache_clear()
    try:
        torch.set_default_dtype(default)
        found = draw(KEYS, (3, 5))
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 32, 33), (1, 512, 512)])
def test_cuda_draws_the_bits_of_the_cpu(draw, shape: tuple[int, ...]) -> None:
    index = torch.arange(64)
    there = keyed.keys(0, "test", 0, index.cuda())
    assert there.is_cuda
    assert torch.equal(there.cpu(), KEYS[:64])
    assert torch.equal(keyed.fold(there, "name").cpu(), keyed.fold(KEYS[:64], "name"))
    expected, found = draw(KEYS[:64], shape), draw(there, shape)
    assert found.is_cuda
    if draw is poisson_counts:  # a root or an exponential may differ in its last bit
        difference = (found.cpu() - expected).abs()
        assert difference.max() <= 1
        assert difference.mean() < 1e-4
    else:
        assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_an_empty_batch_draws_nothing(draw) -> None:
    assert draw(KEYS[:0], (3, 4)).shape == (0, 3, 4)
    assert draw(KEYS[:0], ()).shape == (0,)


@pytest.mark.parametrize("draw", [keyed.normal, keyed.uniform, poisson_counts])
def test_an_empty_shape_draws_nothing(draw) -> None:
    assert draw(KEYS, (3, 0)).shape == (512, 3, 0)


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


@pytest.mark.parametrize("weights", [[1, 1], [3, 1, 2], [0.1, 0, 0.7, 0.2, 0], [0, 5, 0, 1]])
def test_choice_follows_its_weights(weights: list[float]) -> None:
    chosen = keyed.choice(keyed.keys(1, "choice", 0, torch.arange(50_000)), weights)
    assert chosen.dtype == torch.int64
    counts = torch.bincount(chosen, minlength=len(weights)).numpy()
    expected = np.array(weights) / sum(weights) * 50_000
    assert len(counts) == len(weights)
    assert (counts[expected == 0] == 0).all()
    assert stats.chisquare(counts[expected > 0], expected[expected > 0]).pvalue > 1e-4


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5, 1 - 2.0**-24])
@pytest.mark.parametrize("weights", [[0, 0.5, 0, 0.5, 0], [0, 0.1, 0.1, 0.1, 0], [1, 0, 0, 3], [0, 0, 1]])
def test_choice_never_takes_a_weight_of_zero(place: float, weights: list[float], monkeypatch) -> None:
    """Not even where the uniform number falls on a bound, or on its first or last value."""
    monkeypatch.setattr(keyed, "uniform", lambda keys: torch.full((len(keys),), place))
    assert weights[int(keyed.choice(KEYS[:1], weights))] > 0


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, float("nan")], [float("inf"), 1]])
def test_choice_refuses_weights_that_are_none(weights: list[float]) -> None:
    with pytest.raises(InputError, match=r"^weights [^\n]+\.$"):
        keyed.choice(KEYS, weights)


@pytest.mark.parametrize(("rate", "bound"), POISSON_BOUNDS.items())
def test_poisson_law_of_the_expansion(rate: float, bound: float) -> None:
    """The total variation distance of the law that the table's normal numbers give from the Poisson law."""
    count = np.arange(1, int(rate + 7 * rate**0.5 + 12))
    low, high = torch.full((len(count),), -6.4).double(), torch.full((len(count),), 6.4).double()
    rates, out = torch.full_like(low, rate), torch.empty_like(low)
    for _ in range(50):  # the normal number from which on the count is reached, by bisection
        middle = (low + high) / 2
        keyed._poisson_by_normal(middle, rates, out)
        reached = out >= torch.from_numpy(count)
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    law = np.diff(normal_law(high.numpy(), every=4 if rate == 1000 else 1), prepend=0, append=1)
    assert 0.5 * np.abs(law - stats.poisson.pmf(np.arange(len(law)), rate)).sum() < bound
    mean = (law * np.arange(len(law))).sum()
    assert mean == pytest.approx(rate, rel=1e-6)
    assert (law * (np.arange(len(law)) - mean) ** 2).sum() == pytest.approx(rate, rel=3e-4)


def test_poisson_quantiles_of_small_rates_are_exact() -> None:
    place = keyed.uniform(KEYS[:1], (20_000,))[0].double() + 2.0**-33
    place = torch.cat([place, torch.tensor([2.0**-33, 1 - 2.0**-33], dtype=torch.float64)])
    rate = keyed.uniform(KEYS[1:2], (20_002,))[0].double() * 12
    rate[:3], rate[-2:] = 0, 11.99
    assert np.array_equal(
        keyed._poisson_by_inversion(place, rate).numpy(), stats.poisson.ppf(place.numpy(), rate.numpy())
    )


@pytest.mark.parametrize("rate", [0.01, 0.3, 1, 4, 11.9, 12, 20, 100])
def test_poisson_chi_square(rate: float) -> None:
    counts = keyed.poisson(KEYS, torch.full((512, 400), float(rate)))
    seen = np.bincount(counts.flatten().long().numpy())
    expected = stats.poisson.pmf(np.arange(len(seen)), rate) * counts.numel()
    common = expected > 20
    seen, expected = np.append(seen[common], seen[~common].sum()), np.append(expected[common], 0)
    expected[-1] = counts.numel() - expected.sum()
    if expected[-1] < 5:
        seen, expected = np.append(seen[:-2], seen[-2:].sum()), np.append(expected[:-2], expected[-2:].sum())
    assert stats.chisquare(seen, expected).pvalue > 1e-4


def test_poisson_rates_differ_per_element() -> None:
    rate = torch.logspace(-2, 6, 300, dtype=torch.float64)
    counts = keyed.poisson(KEYS, rate.expand(512, 300))
    z = (counts.mean(0) - rate) / (rate / 512).sqrt()
    assert z.abs().max() < 5
    assert z.square().sum().item() == pytest.approx(300, abs=5 * 600**0.5)
    spread = counts.var(0) / rate - 1
    assert (spread / ((2 + 1 / rate) / 512).sqrt()).abs().max() < 5
    assert abs(correlation_z(z[1:], z[:-1])) < 4


def test_poisson_neighbours_are_uncorrelated() -> None:
    """Also those of which one comes from a normal number and one from a uniform one."""
    for high in (3.0, 30.0):
        rate = torch.tensor([2.0, high]).repeat(512).expand(512, 1024)
        x = (keyed.poisson(KEYS, rate) - rate) / rate.sqrt()
        for shift in (1, 2, 256, 512):
            assert abs(correlation_z(x[:, shift:], x[:, :-shift])) < 4
        assert abs(correlation_z(x[1:], x[:-1])) < 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_poisson_edges(dtype: torch.dtype) -> None:
    rate = torch.tensor([0, 1e-30, 1e-3, 12, 1e4, 1e6, 1e7], dtype=dtype).expand(512, 7)
    counts = keyed.poisson(KEYS, rate)
    assert counts.dtype == dtype
    assert counts.isfinite().all()
    assert (counts >= 0).all()
    assert torch.equal(counts, counts.round())
    assert (counts[:, :2] == 0).all()
    assert torch.equal(counts[:, ::2], keyed.poisson(KEYS, rate)[:, ::2])
    assert (keyed.poisson(KEYS, rate.double()) - counts).abs().max() <= 1


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
    state = torch.tensor([keyed._GOLDEN, keyed._signed(2 * keyed._GOLDEN)])
    expected = [keyed._signed(0xE220A8397B1DCDAF), keyed._signed(0x6E789E6AA1B965F4)]
    assert keyed._splitmix64(state).tolist() == expected


def test_both_forms_of_splitmix64_are_one() -> None:
    """That of other devices is run here too."""
    assert torch.equal(keyed._splitmix64_by_torch(KEYS), keyed._splitmix64(KEYS))
    edges = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)])
    assert torch.equal(keyed._splitmix64_by_torch(edges), keyed._splitmix64(edges))


def test_golden_values() -> None:
    """Results on disk depend on these bits: a change of the generator must be noticed and documented."""
    keys = keyed.keys(7, "golden", 2, torch.tensor([0, 1, 59_999]))
    assert keys.tolist() == GOLDEN_KEYS
    assert keyed.fold(keys, "noise").tolist() == GOLDEN_FOLDED
    assert keyed.bits(keys, 3).tolist() == GOLDEN_BITS
    assert keyed.uniform(keys).tolist() == GOLDEN_UNIFORM
    assert keyed.integers(keys, 1000).tolist() == GOLDEN_INTEGERS
    # The quantiles pass through a logarithm, whose last bit may differ between processors.
    np.testing.assert_allclose(keyed.normal(keys, (5,)).numpy(), GOLDEN_NORMAL, rtol=1e-5)
    assert keyed.poisson(keys, torch.tensor([0.0, 3.0, 40.0]).expand(3, 3)).tolist() == GOLDEN_POISSON
    assert keyed.choice(keys, [1, 1, 1]).tolist() == GOLDEN_CHOICE
    assert keyed.permutation(7, "golden", 2, 8).tolist() == GOLDEN_PERMUTATION
