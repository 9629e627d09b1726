"""Random numbers as a pure function of (seed, stream, epoch, index): no generator, no state.

The same sample draws the same bits for any batch size, order, thread count, world size and device, so that two models
meet exactly the same damage and an interrupted run continues exactly. A key is one int64 per sample, made with
splitmix64 (Steele, Lea & Flood 2014); the values of a sample come from a 32-bit integer hash of its key and the
element's index (multipliers of Chris Wellons' "hash prospector"), and normals from sums of two entries of a table of
quantiles, so that nothing depends on how a device computes a logarithm. Words are split in little-endian order, that
of all processors that run torch.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from math import prod

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError

# Evaluation draws with this seed whatever the run's own, so that all runs see the same crops and the same damage.
EVALUATION_SEED = 0

_U1, _U2, _U27, _U30, _U31 = map(np.uint64, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 27, 30, 31))
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_ALL = (1 << 64) - 1
_BLOCK = 1 << 18  # values drawn at a time on the CPU
_OUTERMOST = 4.46  # the largest entry of the normal table, see `normal_pairs`
_LARGE_RATE = 12.0  # Poisson rates from which on counts come from a normal number


def _signed(value: int, size: int = 64) -> int:
    """Return the signed number of `size` bits with the same bits."""
    return (value + (1 << size - 1)) % (1 << size) - (1 << size - 1)


def _splitmix64(x: Tensor) -> Tensor:
    """Mix each number (B,) int64 by the finaliser of splitmix64."""
    if x.device.type == "cpu":  # NumPy has less overhead per call than torch, and batches are small
        y = x.numpy().view(np.uint64)
        y = (y ^ (y >> _U30)) * _U1
        y = (y ^ (y >> _U27)) * _U2
        return torch.from_numpy((y ^ (y >> _U31)).view(np.int64))
    return _splitmix64_by_torch(x)


def _splitmix64_by_torch(x: Tensor) -> Tensor:
    """Mix as `_splitmix64` does, on any device; torch shifts int64 with its sign, hence the masks."""
    x = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(_signed(int(_U1)))
    x = (x >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(x).mul_(_signed(int(_U2)))
    return (x >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(x)


@lru_cache(maxsize=1024)
def code(name: str) -> int:
    """Return the number of a stream, 64 bits.

    >>> code("sigma")
    -5349998337208203290
    """
    return _signed(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


def keys(seed: int, stream: str, epoch: int, index: Tensor) -> Tensor:
    """Make one key per sample.

    >>> keys(0, "degrade", 0, torch.arange(2)).tolist()
    [7826954371236496507, -5960336328085488290]

    Args:
        seed: the run's seed.
        stream: the purpose of the draws, such as "degrade"; different names give unrelated numbers.
        epoch: the epoch; evaluation always uses 0.
        index: (B,) int64, the samples' indices in their split.

    Returns:
        (B,) int64 on the device of `index`.
    """
    start = _start(seed, stream, epoch)
    return _splitmix64(_splitmix64(index * _GOLDEN + start) ^ start)


def word(seed: int, stream: str, epoch: int, index: int) -> int:
    """Make the key of one sample, in [0, 2**64), in plain Python: a tenth of the time of `keys`.

    >>> word(0, "degrade", 0, 1) == int(keys(0, "degrade", 0, torch.arange(2))[1]) % 2**64
    True
    """
    start = _start(seed, stream, epoch)
    return _mixed(_mixed((index * _GOLDEN + start) & _ALL) ^ start & _ALL)


def _mixed(x: int) -> int:
    """Mix as `_splitmix64` does."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _ALL
    return x ^ x >> 31


@lru_cache(maxsize=1024)
def _start(seed: int, stream: str, epoch: int) -> int:
    return int(_splitmix64(torch.tensor([_signed(seed * _GOLDEN + epoch)]) ^ code(stream)).item())


def fold(keys: Tensor, name: str) -> Tensor:
    """Derive unrelated keys (B,) int64 for the draw called `name`.

    >>> fold(torch.tensor([5]), "sigma").tolist()
    [3377606755797095974]
    """
    return _splitmix64((keys ^ code(name)).add_(_GOLDEN))


@lru_cache(maxsize=64)
def element_hashes(count: int, device: torch.device) -> Tensor:
    """Return one hashed int32 per element index j: lowbias32 of j·0x9E3779B9 + 1.

    >>> element_hashes(2, torch.device("cpu")).dtype
    torch.int32
    """
    j = torch.arange(count, dtype=torch.int32, device=device) * _signed(0x9E3779B9, 32) + 1
    j = (j ^ ((j >> 16) & 0xFFFF)) * _signed(0x7FEB352D, 32)
    j = (j ^ ((j >> 15) & 0x1FFFF)) * _signed(0x846CA68B, 32)
    return j ^ ((j >> 16) & 0xFFFF)


@lru_cache(maxsize=8)
def normal_pairs(device: torch.device) -> Tensor:
    """Pair up the 65,536 normal quantiles of variance 1/2: (65536,) int64, each of two floats, made on the CPU.

    Quantile i is paired with quantile 53845·i + 26922 modulo 65,536, a Korobov lattice. So each occurs once as first
    and once as second, the pairs are symmetric about 0 and fill the plane evenly (they lie on lines at most 1/236
    apart), their correlation is 1e-5, and their mixed fourth moments are right within 4e-4.

    The outermost quantiles stand for all beyond 4.17 and are set so that sums of two have the tail of the law.

    >>> normal_pairs(torch.device("cpu")).view(torch.float32).std()
    tensor(0.7071)
    """
    middle = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    table: Tensor = torch.special.ndtri(middle)
    table[0], table[-1] = -_OUTERMOST, _OUTERMOST
    table /= (2 * table.square().mean()).sqrt()
    partner = (torch.arange(65536) * 53845 + 26922) % 65536
    return torch.stack([table, table[partner]], dim=1).float().view(torch.int64).view(-1).to(device)


def bits(keys: Tensor, count: int) -> Tensor:
    """Draw `count` 32-bit words per key (B,) int64: (B,count) int32, every bit fair.

    >>> bits(keys(0, "degrade", 0, torch.arange(1)), 2).tolist()
    [[552791186, 2121976651]]
    """
    parts = keys.unsqueeze(1).view(torch.int32)
    if count == 1:  # a key is well mixed already
        return parts[:, 1:].clone()
    x = parts[:, :1] ^ element_hashes(count, keys.device)
    # In place, as every temporary of a whole batch costs as much as the arithmetic.
    x.mul_(_signed(0x21F0AAAD, 32))
    shifted = x >> 15
    x.bitwise_xor_(shifted.bitwise_and_(0x1FFFF))
    x.add_(parts[:, 1:]).mul_(_signed(0xD35A2D97, 32))
    torch.bitwise_right_shift(x, 16, out=shifted)
    return x.bitwise_xor_(shifted.bitwise_and_(0xFFFF))


def _blocks(keys: Tensor, *values: Tensor, largest: int = _BLOCK) -> Iterator[tuple[Tensor, ...]]:
    """Split keys (B,) and the values that belong to them, each (B,N), into blocks to compute one after another.

    On the CPU the temporaries of a large batch are freed at every call and mapped again page by page, which costs more
    than the arithmetic; those of a block, of at most `largest` values, are reused.
    """
    if keys.device.type != "cpu" or values[0].numel() <= largest:
        return iter([(keys, *values)])
    rows = max(1, largest // values[0].shape[1])
    return zip(*(torch.split(tensor, rows) for tensor in (keys, *values)), strict=True)


def uniform(keys: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw uniform numbers in [0,1) with 24 bits: (B,*shape) float32.

    >>> uniform(keys(0, "degrade", 0, torch.arange(2)))
    tensor([0.6208, 0.2837])
    """
    count = prod(shape)
    values = torch.empty(len(keys), count, dtype=torch.float32, device=keys.device)
    for block, out in _blocks(keys, values):
        # Copied first: whole numbers times a float are computed in torch's default type, float16 with 16-true.
        out.copy_(bits(block, count).bitwise_and_(0xFFFFFF)).mul_(2.0**-24)
    return values.view(len(keys), *shape)


def normal(keys: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw standard normal numbers: (B,*shape) float32, within ±6.31.

    A 16-bit half of a word looks up a pair (a, b); two of them, from the first and the second half of a sample's
    words, give four values (a ± a')/√2 and (b ± b')/√2, which are normal and unrelated as the rotation of a normal
    vector is. This halves the look-ups, and the tail is that of a sum: P(|x| > t) is right within 1.5 % up to t = 5 and
    11 % up to 5.5 (single-precision Box-Muller ends at 5.8).

    >>> normal(keys(0, "degrade", 0, torch.arange(2)))
    tensor([0.8974, 0.5622])
    """
    count = prod(shape)
    words = (count + 3) // 4
    pairs = torch.empty(len(keys), 2 * words, dtype=torch.int64, device=keys.device)
    for block, out in _blocks(keys, pairs):
        halves = bits(block, words).view(torch.uint16).to(torch.int32)
        torch.index_select(normal_pairs(keys.device), 0, halves.view(-1), out=out.view(-1))
        first, second = out[:, :words].view(torch.float32), out[:, words:].view(torch.float32)
        first.add_(second)
        torch.add(first, second, alpha=-2, out=second)  # twice a float is exact, so the bits are the same fused or not
    return pairs.view(torch.float32)[:, :count].reshape(len(keys), *shape).contiguous()


def integers(keys: Tensor, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw integers in [0,high): (B,*shape) int64.

    >>> integers(keys(0, "degrade", 0, torch.arange(4)), 6)
    tensor([5, 2, 5, 5])

    Args:
        keys: (B,) int64.
        high: the bound (at most 2³¹), one number or one per key (B,).
        shape: the shape of one sample's draw.
    """
    words = (bits(keys, prod(shape)).long() & 0x7FFFFFFF).view(len(keys), *shape)
    if isinstance(high, Tensor):
        high = high.view(len(keys), *[1] * len(shape))
    return (words * high) >> 31


@lru_cache(maxsize=16)
def _beta_quantiles(alpha: float, device: torch.device) -> Tensor:
    """Return the 65,536 quantiles of Beta(alpha, alpha), made on the CPU: (65536,) float32."""
    from scipy.special import betaincinv

    middle = (np.arange(65536) + 0.5) / 65536
    return torch.from_numpy(betaincinv(alpha, alpha, middle).astype(np.float32)).to(device)


def beta(keys: Tensor, alpha: float) -> Tensor:
    """Draw from Beta(alpha, alpha), one of 65,536 quantiles for each key: (B,) float32.

    >>> beta(keys(0, "degrade", 0, torch.arange(2)), 0.2)
    tensor([1.0000, 0.8490])
    """
    return _beta_quantiles(alpha, keys.device).index_select(0, bits(keys, 1).view(-1).long() & 0xFFFF)


def choice(keys: Tensor, weights: Sequence[float]) -> Tensor:
    """Choose an index of the weights for each key: (B,) int64.

    >>> choice(keys(0, "degrade", 0, torch.arange(4)), [1, 2, 1])
    tensor([1, 1, 1, 2])

    Args:
        keys: (B,) int64.
        weights: how often each is chosen, at least 0; they need not sum to 1. One of weight 0 is never chosen.

    Raises:
        InputError: the weights are none, negative, not finite or all 0.
    """
    if not (all(0 <= weight < math.inf for weight in weights) and 0 < sum(weights) < math.inf):
        raise InputError(f"weights must be numbers of at least 0, and one of them above 0, not {list(weights)!r}.")
    *bounds, total = accumulate(weights)
    drawn = uniform(keys)
    chosen = torch.zeros_like(keys)
    # Comparing with numbers instead of a tensor of bounds avoids a copy to the device, and a synchronisation.
    for bound in bounds:
        chosen += drawn >= bound / total
    return chosen


def poisson(keys: Tensor, rate: Tensor) -> Tensor:
    """Draw Poisson counts, each with its own rate: (B,*shape) of the dtype of `rate`.

    Rates below 12 are drawn exactly, by inversion of a 32-bit uniform number. Others come from a normal number through
    the expansion of the Poisson quantile (Giles 2016, Algorithm 955, ACM TOMS 42(1), as far as the term in 1/rate);
    the total variation distance from the law is 1e-4 at 12, 2e-5 at 30 and below 1e-5 from 100 on. On another device a
    count may differ by one where the last bit of an exponential or root does, which is rare.

    >>> poisson(keys(0, "degrade", 0, torch.arange(2)), torch.tensor([0.5, 1000.0]))
    tensor([1.0000e+00, 1.0580e+03])

    Args:
        keys: (B,) int64.
        rate: (B,*shape) float32 or float64, the expected counts, at least 0; above 2²⁴ float32 holds no odd counts.
    """
    count = prod(rate.shape[1:])
    counts = torch.empty(len(keys), count, dtype=rate.dtype, device=rate.device)
    for block, rates, out in _blocks(keys, rate.reshape(len(keys), count), counts, largest=_BLOCK // 4):
        small = (rates.reshape(-1) < _LARGE_RATE).nonzero().squeeze(1)
        if len(small) < rates.numel():
            _poisson_by_normal(normal(fold(block, "many"), (count,)).to(rate.dtype), rates, out)
        if len(small):
            words = bits(fold(block, "few"), count).view(-1).index_select(0, small)
            probability = words.double().add_(2.0**31 + 0.5).mul_(2.0**-32)
            drawn = _poisson_by_inversion(probability, rates.reshape(-1).index_select(0, small).double())
            out.view(-1).index_copy_(0, small, drawn.to(rate.dtype))
    return counts.view(rate.shape)


def _poisson_by_normal(normals: Tensor, rate: Tensor, out: Tensor) -> None:
    """Write the Poisson quantiles of standard normal numbers, for rates from 12 on."""
    rate = rate.clamp(min=_LARGE_RATE)
    # In double precision and rounded, as torch's root is off by a last bit that depends on the processor.
    root = rate.double().sqrt().to(rate.dtype)
    square = normals.square()
    third = (3 * square + 7).mul_(square).sub_(16).div_(rate * 810)
    second = (12 - normals / root).mul_(square.add_(2)).div_(72)
    torch.floor(root.mul_(normals).add_(rate).add_(second).add_(third).clamp_(min=0), out=out)


def _poisson_by_inversion(probability: Tensor, rate: Tensor) -> Tensor:
    """Return the Poisson quantiles (N,) int8 at probabilities (N,) in (0,1), subtracting the law's terms in float64.

    Probabilities have 32 bits, so that the rounding of the terms does not matter. Those whose count is decided are
    dropped after every eighth term, so that the cost follows the counts.
    """
    counts = torch.zeros(len(rate), dtype=torch.int8, device=rate.device)
    undecided, so_far, terms = torch.arange(len(rate), device=rate.device), counts.clone(), 0
    power = torch.exp(-rate)
    rest = probability - power
    while len(undecided):
        above = torch.empty_like(so_far)
        for _ in range(8):
            so_far.add_(torch.ge(rest, 0, out=above))
            terms += 1
            rest.sub_(power.mul_(rate), alpha=1 / math.factorial(terms))
        counts.index_copy_(0, undecided, so_far)
        remaining = (rest >= 0).nonzero().squeeze(1)
        undecided, so_far, power, rest, rate = (
            values.index_select(0, remaining) for values in (undecided, so_far, power, rest, rate)
        )
    return counts


def permutation(seed: int, stream: str, epoch: int, count: int) -> Tensor:
    """Shuffle 0..count-1: (count,) int64 on the CPU, a function of (seed, stream, epoch) alone.

    >>> permutation(0, "order", 0, 5)
    tensor([3, 1, 0, 2, 4])
    """
    return keys(seed, stream, epoch, torch.arange(count)).argsort(stable=True)
