"""Random numbers as a pure function of (seed, stream, epoch, index): no generator, no state.

The same sample draws the same bits for any batch size, order, thread count, world size and device, so that two models
meet exactly the same damage and an interrupted run continues exactly. A key is one int64 per sample, made with
splitmix64 (Steele, Lea & Flood 2014); the values of a sample come from a 32-bit integer hash of its key and the
element's place (multipliers of Chris Wellons' "hash prospector"), and normals from sums of two entries of a table of
quantiles, so that nothing depends on how a device computes a logarithm. Halves of words are taken in the order of
little-endian processors, which all that run torch are.
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

# Evaluation draws with this seed whatever the run's own, so that every run meets the same crops and the same damage.
EVALUATION_SEED = 0

_U1, _U2, _U27, _U30, _U31 = map(np.uint64, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 27, 30, 31))
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_ALL = (1 << 64) - 1
_BLOCK = 1 << 18  # values drawn at a time on the CPU
_OUTERMOST = 4.46  # the largest entry of the normal table, see `_normal_pairs`
_MANY = 12.0  # Poisson rates from which on counts come from a normal number


def _int64(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _splitmix64(x: Tensor) -> Tensor:
    """Mix each number (B,) int64 by the finaliser of splitmix64."""
    if x.device.type == "cpu":  # where a call of NumPy's costs less than one of torch's, and batches are small
        y = x.numpy().view(np.uint64)
        y = (y ^ (y >> _U30)) * _U1
        y = (y ^ (y >> _U27)) * _U2
        return torch.from_numpy((y ^ (y >> _U31)).view(np.int64))
    return _splitmix64_by_torch(x)


def _splitmix64_by_torch(x: Tensor) -> Tensor:
    """Mix as `_splitmix64` does, on any device; torch shifts int64 with its sign, hence the masks."""
    x = (x >> 30).bitwise_and_((1 << 34) - 1).bitwise_xor_(x).mul_(_int64(int(_U1)))
    x = (x >> 27).bitwise_and_((1 << 37) - 1).bitwise_xor_(x).mul_(_int64(int(_U2)))
    return (x >> 31).bitwise_and_((1 << 33) - 1).bitwise_xor_(x)


@lru_cache(maxsize=1024)
def _code(name: str) -> int:
    return _int64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


def keys(seed: int, stream: str, epoch: int, index: Tensor) -> Tensor:
    """Make one key per sample.

    Args:
        seed: the run's seed.
        stream: what the draws are for, such as "degrade"; different names give unrelated numbers.
        epoch: the epoch; evaluation always uses 0.
        index: (B,) int64, the samples' places in their split.

    Returns:
        (B,) int64 on the device of `index`.
    """
    start = _start(seed, stream, epoch)
    return _splitmix64(_splitmix64(index * _GOLDEN + start) ^ start)


def word(seed: int, stream: str, epoch: int, index: int) -> int:
    """Make the key of one sample, in [0, 2**64), in plain Python: a tenth of the time of `keys`."""
    start = _start(seed, stream, epoch)
    return _mixed(_mixed((index * _GOLDEN + start) & _ALL) ^ start & _ALL)


def _mixed(x: int) -> int:
    """Mix as `_splitmix64` does."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _ALL
    return x ^ x >> 31


@lru_cache(maxsize=1024)
def _start(seed: int, stream: str, epoch: int) -> int:
    return int(_splitmix64(torch.tensor([_int64(seed * _GOLDEN + epoch)]) ^ _code(stream)).item())


def fold(keys: Tensor, name: str) -> Tensor:
    """Derive unrelated keys (B,) int64 for the draw called `name`."""
    return _splitmix64((keys ^ _code(name)).add_(_GOLDEN))


@lru_cache(maxsize=64)
def _places(count: int, device: torch.device) -> Tensor:
    """One hashed int32 per element place: lowbias32 of j·0x9E3779B9 + 1."""
    j = torch.arange(count, dtype=torch.int32, device=device) * _int32(0x9E3779B9) + 1
    j = (j ^ ((j >> 16) & 0xFFFF)) * _int32(0x7FEB352D)
    j = (j ^ ((j >> 15) & 0x1FFFF)) * _int32(0x846CA68B)
    return j ^ ((j >> 16) & 0xFFFF)


@lru_cache(maxsize=8)
def _normal_pairs(device: torch.device) -> Tensor:
    """Pair up the 65,536 normal quantiles of variance 1/2: (65536,) int64, each of two floats, made on the CPU.

    Quantile i goes with quantile 53845·i + 26922 modulo 65,536, a lattice of Korobov's kind. So each comes up once in
    either place, the pairs are symmetric about 0 and fill the plane evenly (they lie on lines at most 1/236 apart),
    their correlation is 1e-5, and their mixed fourth moments are right within 4e-4.

    The outermost quantiles stand for all beyond 4.17 and are set so that sums of two have the tail of the law.
    """
    middle = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    table: Tensor = torch.special.ndtri(middle)
    table[0], table[-1] = -_OUTERMOST, _OUTERMOST
    table /= (2 * table.square().mean()).sqrt()
    partner = (torch.arange(65536) * 53845 + 26922) % 65536
    return torch.stack([table, table[partner]], dim=1).float().view(torch.int64).view(-1).to(device)


def bits(keys: Tensor, count: int) -> Tensor:
    """Draw `count` 32-bit words per key.

    Args:
        keys: (B,) int64.
        count: how many words each key gives.

    Returns:
        (B,count) int32, every bit fair.
    """
    parts = keys.unsqueeze(1).view(torch.int32)
    if count == 1:  # a key is well mixed itself
        return parts[:, 1:].clone()
    x = parts[:, :1] ^ _places(count, keys.device)
    # In place, as every temporary of a whole batch costs as much as the arithmetic.
    x.mul_(_int32(0x21F0AAAD))
    shifted = x >> 15
    x.bitwise_xor_(shifted.bitwise_and_(0x1FFFF))
    x.add_(parts[:, 1:]).mul_(_int32(0xD35A2D97))
    torch.bitwise_right_shift(x, 16, out=shifted)
    return x.bitwise_xor_(shifted.bitwise_and_(0xFFFF))


def _blocks(keys: Tensor, *values: Tensor, largest: int = _BLOCK) -> Iterator[tuple[Tensor, ...]]:
    """Split keys (B,) and what goes with them, each (B,N), into blocks that are worked on one after another.

    On the CPU the temporaries of a large batch are given back to the system at every call and come back page by page,
    which costs more than the arithmetic; those of a block, of at most `largest` values, are reused.
    """
    if keys.device.type != "cpu" or values[0].numel() <= largest:
        return iter([(keys, *values)])
    rows = max(1, largest // values[0].shape[1])
    return zip(*(torch.split(each, rows) for each in (keys, *values)), strict=True)


def uniform(keys: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw uniform numbers in [0,1) with 24 bits: (B,*shape) float32."""
    count = prod(shape)
    values = torch.empty(len(keys), count, dtype=torch.float32, device=keys.device)
    for some, out in _blocks(keys, values):
        torch.mul(bits(some, count).bitwise_and_(0xFFFFFF), 2.0**-24, out=out)
    return values.view(len(keys), *shape)


def normal(keys: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw standard normal numbers: (B,*shape) float32, within ±6.31.

    A 16-bit half of a word looks up a pair (a, b); two of them, from the first and the second half of a sample's
    words, give four values (a ± a')/√2 and (b ± b')/√2, which are normal and unrelated as the rotation of a normal
    vector is. So half the look-ups of one per value do, and the tail is that of a sum: P(|x| > t) is right within
    1.5 % up to t = 5 and 11 % up to 5.5 (single-precision Box-Muller ends at 5.8).
    """
    count = prod(shape)
    words = (count + 3) // 4
    pairs = torch.empty(len(keys), 2 * words, dtype=torch.int64, device=keys.device)
    for some, out in _blocks(keys, pairs):
        halves = bits(some, words).view(torch.uint16).to(torch.int32)
        torch.index_select(_normal_pairs(keys.device), 0, halves.view(-1), out=out.view(-1))
        first, second = out[:, :words].view(torch.float32), out[:, words:].view(torch.float32)
        first.add_(second)
        torch.add(first, second, alpha=-2, out=second)  # twice a float is exact, so fused or not gives the same bits
    return pairs.view(torch.float32)[:, :count].reshape(len(keys), *shape).contiguous()


def integers(keys: Tensor, high: int | Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw integers in [0,high): (B,*shape) int64.

    Args:
        keys: (B,) int64.
        high: the bound (at most 2³¹), one number or one per key (B,).
        shape: the shape of one sample's draw.
    """
    words = (bits(keys, prod(shape)).long() & 0x7FFFFFFF).view(len(keys), *shape)
    if isinstance(high, Tensor):
        high = high.view(len(keys), *[1] * len(shape))
    return (words * high) >> 31


def choice(keys: Tensor, weights: Sequence[float]) -> Tensor:
    """Choose one of several things for each key: (B,) int64, its place among the weights.

    Args:
        keys: (B,) int64.
        weights: how often each is chosen, at least 0; they need not sum to 1. One of weight 0 is never chosen.

    Raises:
        InputError: the weights are none, negative, not finite or all 0.
    """
    if not (all(0 <= weight < math.inf for weight in weights) and 0 < sum(weights) < math.inf):
        raise InputError(f"weights must be numbers of at least 0, and one of them above 0, not {list(weights)!r}.")
    *bounds, total = accumulate(weights)
    place = uniform(keys)
    chosen = torch.zeros_like(keys)
    # Comparing with numbers instead of a tensor of bounds spares a copy to the device, which would wait for it.
    for bound in bounds:
        chosen += place >= bound / total
    return chosen


def poisson(keys: Tensor, rate: Tensor) -> Tensor:
    """Draw Poisson counts, each with its own rate: (B,*shape) of the dtype of `rate`.

    Rates below 12 are drawn exactly, by inversion of a 32-bit uniform number. Others come from a normal number through
    the expansion of the Poisson quantile (Giles 2016, Algorithm 955, ACM TOMS 42(1), as far as the term in 1/rate);
    the total variation distance from the law is 1e-4 at 12, 2e-5 at 30 and below 1e-5 from 100 on. On another device a
    count may differ by one where the last bit of an exponential or root does, which is rare.

    Args:
        keys: (B,) int64.
        rate: (B,*shape) float32 or float64, the expected counts, at least 0; above 2²⁴ float32 holds no odd counts.
    """
    count = prod(rate.shape[1:])
    counts = torch.empty(len(keys), count, dtype=rate.dtype, device=rate.device)
    for some, rates, out in _blocks(keys, rate.reshape(len(keys), count), counts, largest=_BLOCK // 4):
        few = (rates.reshape(-1) < _MANY).nonzero().squeeze(1)
        if len(few) < rates.numel():
            _many(normal(fold(some, "many"), (count,)).to(rate.dtype), rates, out)
        if len(few):
            words = bits(fold(some, "few"), count).view(-1).index_select(0, few)
            place = words.double().add_(2.0**31 + 0.5).mul_(2.0**-32)
            drawn = _few(place, rates.reshape(-1).index_select(0, few).double())
            out.view(-1).index_copy_(0, few, drawn.to(rate.dtype))
    return counts.view(rate.shape)


def _many(normals: Tensor, rate: Tensor, out: Tensor) -> None:
    """Write the Poisson quantiles of standard normal numbers, for rates from 12 on."""
    rate = rate.clamp(min=_MANY)
    root = rate.sqrt()
    square = normals.square()
    third = (3 * square + 7).mul_(square).sub_(16).div_(rate * 810)
    second = (12 - normals / root).mul_(square.add_(2)).div_(72)
    torch.floor(root.mul_(normals).add_(rate).add_(second).add_(third).clamp_(min=0), out=out)


def _few(place: Tensor, rate: Tensor) -> Tensor:
    """Give the Poisson quantiles (N,) int8 at `place` (N,) in (0,1) by taking off the law's terms, in double precision.

    Places have 32 bits, so that the rounding of the terms does not matter. Those whose count is found are dropped after
    every eighth term: the work follows the counts.
    """
    counts = torch.zeros(len(rate), dtype=torch.int8, device=rate.device)
    undecided, so_far, terms = torch.arange(len(rate), device=rate.device), counts.clone(), 0
    power = torch.exp(-rate)
    rest = place - power
    while len(undecided):
        above = torch.empty_like(so_far)
        for _ in range(8):
            so_far.add_(torch.ge(rest, 0, out=above))
            terms += 1
            rest.sub_(power.mul_(rate), alpha=1 / math.factorial(terms))
        counts.index_copy_(0, undecided, so_far)
        kept = (rest >= 0).nonzero().squeeze(1)
        undecided, so_far, power, rest, rate = (
            each.index_select(0, kept) for each in (undecided, so_far, power, rest, rate)
        )
    return counts


def permutation(seed: int, stream: str, epoch: int, count: int) -> Tensor:
    """Shuffle 0..count-1: (count,) int64 on the CPU, a function of (seed, stream, epoch) alone."""
    return keys(seed, stream, epoch, torch.arange(count)).argsort(stable=True)
