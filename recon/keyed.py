"""Random numbers as a pure function of (seed, stream, epoch, index): no generator, no state.

The same sample draws the same bits for any batch size, order, thread count, world size and device, so that two models
meet exactly the same damage and an interrupted run continues exactly. A key is one int64 per sample, made with
splitmix64 (Steele, Lea & Flood 2014); the values of a sample come from a 32-bit integer hash of its key and the
element's place (multipliers of Chris Wellons' "hash prospector"), and normals from a table of 65,536 quantiles, so
that nothing depends on how a device computes a logarithm. The table stops at ±4.3 standard deviations.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

# Evaluation draws with this seed whatever the run's own, so that every run meets the same crops and the same damage.
EVALUATION_SEED = 0

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_BLOCK = 1 << 18  # values drawn at a time on the CPU


def _int64(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _splitmix64(x: Tensor) -> Tensor:
    """The finaliser of splitmix64; `>>` is arithmetic on int64, hence the masks."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _int64(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _int64(0x94D049BB133111EB)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


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
    start = _splitmix64(torch.tensor([_int64(seed * _GOLDEN + epoch)]) ^ _code(stream)).item()
    return _splitmix64(_splitmix64(index * _GOLDEN + int(start)) ^ int(start))


def fold(keys: Tensor, name: str) -> Tensor:
    """Derive unrelated keys (B,) int64 for the draw called `name`."""
    return _splitmix64((keys ^ _code(name)) + _GOLDEN)


@lru_cache(maxsize=64)
def _places(count: int, device: torch.device) -> Tensor:
    """One hashed int32 per element place: lowbias32 of j·0x9E3779B9 + 1."""
    j = torch.arange(count, dtype=torch.int32, device=device) * _int32(0x9E3779B9) + 1
    j = (j ^ ((j >> 16) & 0xFFFF)) * _int32(0x7FEB352D)
    j = (j ^ ((j >> 15) & 0x1FFFF)) * _int32(0x846CA68B)
    return j ^ ((j >> 16) & 0xFFFF)


@lru_cache(maxsize=8)
def _quantiles(device: torch.device) -> Tensor:
    """65,536 normal quantiles with unit variance, computed on the CPU so that every device has the same table."""
    middle = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    table: Tensor = torch.special.ndtri(middle)
    table /= table.square().mean().sqrt()
    return table.float().to(device)


def bits(keys: Tensor, count: int) -> Tensor:
    """Draw `count` 32-bit words per key.

    Args:
        keys: (B,) int64.
        count: how many words each key gives.

    Returns:
        (B,count) int32, every bit fair.
    """
    low = keys.to(torch.int32).unsqueeze(1)
    high = (keys >> 32).to(torch.int32).unsqueeze(1)
    x = low ^ _places(count, keys.device)
    # In place, as every temporary of a whole batch costs as much as the arithmetic.
    x.mul_(_int32(0x21F0AAAD))
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF))
    x.add_(high).mul_(_int32(0xD35A2D97))
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))


def _blocks(keys: Tensor, values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split keys (B,) and the values (B,N) to be drawn from them into blocks that are worked on one after another.

    On the CPU the temporaries of a large batch are given back to the system at every call and come back page by page,
    which costs more than the arithmetic; those of a block are reused.
    """
    rows = max(1, _BLOCK // max(1, values.shape[1])) if keys.device.type == "cpu" else max(1, len(keys))
    return zip(torch.split(keys, rows), torch.split(values, rows), strict=True)


def uniform(keys: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw uniform numbers in [0,1) with 24 bits: (B,*shape) float32."""
    count = prod(shape)
    values = torch.empty(len(keys), count, device=keys.device)
    for some, out in _blocks(keys, values):
        torch.mul(bits(some, count).bitwise_and_(0xFFFFFF), 2.0**-24, out=out)
    return values.view(len(keys), *shape)


def normal(keys: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Draw standard normal numbers: (B,*shape) float32, within ±4.3."""
    count = prod(shape)
    words = (count + 1) // 2  # two values from each
    values = torch.empty(len(keys), 2 * words, device=keys.device)
    for some, out in _blocks(keys, values):
        halves = bits(some, words).view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF)
        torch.index_select(_quantiles(keys.device), 0, halves.view(-1), out=out.view(-1))
    return values[:, :count].reshape(len(keys), *shape)


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


def permutation(seed: int, stream: str, epoch: int, count: int) -> Tensor:
    """Shuffle 0..count-1: (count,) int64 on the CPU, a function of (seed, stream, epoch) alone."""
    return keys(seed, stream, epoch, torch.arange(count)).argsort(stable=True)
