"""What a plan of `recon.degradations.fused` does to a batch, compiled by Numba; imported where that is installed.

It is one file, as Numba's cache follows the file of the compiled function alone.

Every operation is one of IEEE 754 that rounds once, in the order of the torch form: the results have its bits. Only
`_count` calls an exponential function, in double precision; the counts that it decides between have probabilities 2⁻³²
apart, so that its last bit changes a count with a probability of about 10⁻¹⁵.
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from recon.degradations.fused import (
    BLUR,
    BOX,
    CONTRAST,
    NOISE,
    PIXELS,
    POISSON,
    QUANTISE,
    SALT_PEPPER,
    SPECKLE,
    UNIFORM,
)  # fmt: skip
from recon.filters.convolve import SUM

Words: TypeAlias = NDArray[np.uint32]
Floats: TypeAlias = NDArray[np.float32]
Pairs: TypeAlias = NDArray[np.complex64]

_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # as in `recon.keyed`
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HASH, _HASH_AGAIN = np.uint32(0x21F0AAAD), np.uint32(0xD35A2D97)
_UNIT, _BYTE = np.float32(2.0**-24), np.float32(255)
_RED, _GREEN, _BLUE = np.float32(0.299), np.float32(0.587), np.float32(0.114)  # as in `tone`
_ZERO, _ONE, _TWO, _LARGE_RATE = np.float32(0), np.float32(1), np.float32(2), np.float32(12)
_INVERSE_FACTORIALS = np.array([1 / math.factorial(number) for number in range(129)])
_SIGNATURE = (
    "void(int64,int64,int64,int64,uint8[:,::1],float32[:,::1],float32[:,::1],float32[:,::1],float32[:,::1],int64[::1],"
    "uint64[:,::1],uint64[:,::1],float32[:,:,::1],uint32[::1],complex64[::1])"
)
_inner = njit(error_model="numpy")  # division by 0 gives what IEEE 754 says


@_inner
def _fold(key: np.uint64, code: np.uint64) -> np.uint64:
    """Derive the key of a draw, as `keyed.fold`."""
    x = (key ^ code) + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


@_inner
def _word(key: np.uint64, element: np.uint32, total: int) -> np.uint32:
    """Return one word of `keyed.bits`, for the hash of its element."""
    last = np.uint32(key >> np.uint64(32))
    if total == 1:
        return last
    x = np.uint32(np.uint32(np.uint32(key) ^ element) * _HASH)
    x = np.uint32(np.uint32(np.uint32(x ^ np.uint32(x >> np.uint32(15))) + last) * _HASH_AGAIN)
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@_inner
def _words(key: np.uint64, hashes: Words, count: int, out: Words) -> None:
    for j in range(count):
        out[j] = _word(key, hashes[j], count)


@_inner
def _uniform(key: np.uint64, hashes: Words, count: int, words: Words, out: Floats) -> None:
    """Draw as `keyed.uniform`."""
    _words(key, hashes, count, words)
    for j in range(count):
        out[j] = np.float32(np.int32(words[j] & np.uint32(0xFFFFFF))) * _UNIT


@_inner
def _normal(
    key: np.uint64, hashes: Words, table: Pairs, count: int, words: Words, halves: NDArray[np.uint16], out: Pairs
) -> None:
    """Draw as `keyed.normal`, two numbers at once; `halves` are those of `words`."""
    half = (count + 3) // 4
    _words(key, hashes, half, words)
    for j in range(half):
        one, other = table[halves[j]], table[halves[half + j]]
        total = one + other
        out[j] = total
        out[half + j] = total - (other + other)


@_inner
def _count(probability: float, rate: Any) -> np.float32:
    """Return a Poisson quantile of a small rate, as `keyed._poisson_by_inversion`."""
    power = math.exp(-rate)
    rest = probability - power
    count = 0
    while rest >= 0:
        count += 1
        power *= rate
        rest -= power * _INVERSE_FACTORIALS[count]
    return np.float32(count)


@_inner
def _large_count(normal: Any, rate: Any) -> np.float32:
    """Return a Poisson quantile of a large rate, as `keyed._poisson_by_normal`."""
    root = np.sqrt(rate)
    square = normal * normal
    third = ((np.float32(3) * square + np.float32(7)) * square - np.float32(16)) / (rate * np.float32(810))
    second = (_LARGE_RATE - normal / root) * (square + _TWO) / np.float32(72)
    return np.floor(max(((root * normal + rate) + second) + third, _ZERO))


@_inner
def _poisson(
    source: Floats,
    target: Floats,
    peak: np.float32,
    many: np.uint64,
    few: np.uint64,
    hashes: Words,
    words: Words,
    draws: Floats,
) -> None:
    """Count photons of the mean count `peak`, where the normal numbers are drawn."""
    count = len(target)
    for j in range(count):
        rate = max(source[j], _ZERO) * peak
        if rate < _LARGE_RATE:
            word = np.float64(np.int32(_word(few, hashes[j], count)))
            drawn = _count((word + (2.0**31 + 0.5)) * 2.0**-32, np.float64(rate))
        else:
            drawn = _large_count(draws[j], rate)
        target[j] = drawn / peak


@_inner
def _contrast(source: Floats, target: Floats, values: Floats, sums: NDArray[np.float64]) -> None:
    """Move an image's values towards their mean; `values` are the factor, and 1 for each channel towards its own."""
    area = len(sums)
    channels = len(source) // area
    by, single = values[0], values[1] != _ZERO or channels == 1
    for channel in range(channels):
        start = channel * area
        if single:
            for j in range(area):
                sums[j] = source[start + j]
        elif channel == 0:
            for j in range(area):
                red, green, blue = source[j] * _RED, source[area + j] * _GREEN, source[2 * area + j] * _BLUE
                sums[j] = (red + green) + blue
        if single or channel == 0:
            mean = np.float32(_total(sums) / area)
        for j in range(area):
            target[start + j] = source[start + j] * by + mean * (_ONE - by)


@_inner
def _total(sums: NDArray[np.float64]) -> np.float64:
    """Sum numbers in the order of `tone.mean_of`, in place."""
    count = len(sums)
    while count > 1:
        half = (count + 1) // 2
        for j in range(count - half):
            sums[j] += sums[half + j]
        count = half
    return sums[0]


@_inner
def _integer(key: np.uint64, high: Any) -> Any:
    """Draw one number as `keyed.integers`."""
    return np.int64((((key >> np.uint64(32)) & np.uint64(0x7FFFFFFF)) * np.uint64(high)) >> np.uint64(31))


@_inner
def _interval(key: np.uint64, code: np.uint64, values: Floats, side: int) -> Any:
    """Place one side of a box: its first pixel, and how many."""
    length = np.int64(np.rint(values[1] * np.float32(side)))
    room = side - length
    return (room // 2 if values[2] == _ONE else _integer(_fold(key, code), room + 1)), length


@_inner
def _mask(
    kind: int,
    key: np.uint64,
    codes: NDArray[np.uint64],
    values: Floats,
    hashes: Words,
    width: int,
    words: Words,
    own: Floats,
) -> int:
    """Draw which pixels stay known, at least one; returns how many.

    Values of `PIXELS`: the fill and the fraction; of `BOX`: the fill, the size, and 1 for one in the middle.
    """
    area = len(own)
    known = 0
    if kind == PIXELS:
        _uniform(_fold(key, codes[1]), hashes, area, words, own)
        for j in range(area):
            own[j] = _ONE if own[j] >= values[1] else _ZERO
            known += own[j] > _ZERO
    else:
        own[:] = _ONE
        top, height = _interval(key, codes[1], values, area // width)
        left, across = _interval(key, codes[2], values, width)
        for row in range(top, top + height):
            own[row * width + left : row * width + left + across] = _ZERO
        known = area - height * across
    if known == 0:
        own[_integer(_fold(key, codes[0]), area)] = _ONE
        known = 1
    return known


@_inner
def _hide(source: Floats, target: Floats, own: Floats, mask: Floats, fill: np.float32) -> None:
    """Fill what `own` hides in each channel of an image, and in its mask."""
    area = len(own)
    for channel in range(len(target) // area):
        start = channel * area
        if fill == _ZERO:
            for j in range(area):
                target[start + j] = source[start + j] * own[j]
        else:
            for j in range(area):
                target[start + j] = fill * (_ONE - own[j]) + source[start + j] * own[j]
    for j in range(area):
        mask[j] *= own[j]


@_inner
def _pointwise(kind: int, source: Floats, target: Floats, values: Floats, draws: Floats) -> None:
    """Change each value by what was drawn for it; `values` are those of the operator in the order of its arguments."""
    first, second = values[0], values[1]
    if kind == NOISE:
        for j in range(len(target)):
            target[j] = draws[j] * first + source[j]
    elif kind == SPECKLE:
        for j in range(len(target)):
            target[j] = draws[j] * first * source[j] + source[j]
    elif kind == UNIFORM:
        for j in range(len(target)):
            target[j] = (draws[j] * _TWO - _ONE) * first + source[j]
    elif kind == SALT_PEPPER:
        for j in range(len(target)):
            salt = _ONE if draws[j] < second else _ZERO
            target[j] = salt + source[j] * (_ONE if draws[j] >= first else _ZERO)
    elif kind == QUANTISE:
        for j in range(len(target)):
            target[j] = np.rint(min(max(source[j], _ZERO), _ONE) * first) / first


@_inner
def _source(index: int, side: int, boundary: int) -> int:
    """Map an index outside 0..side-1 as `filters.bands.source`, by the number of the boundary; -1 is black."""
    if 0 <= index < side or boundary == 3:
        return index if 0 <= index < side else -1
    if boundary == 1:
        return 0 if index < 0 else side - 1
    index %= side if boundary == 2 else 2 * side
    return index if boundary == 2 else min(index, 2 * side - 1 - index)


@_inner
def _add(line: Floats, step: int, weights: Floats, out: Floats) -> None:
    """Add a line, `step` values further for each of four weights, in their order."""
    count = len(out)
    one, two, three, four = weights[0], weights[1], weights[2], weights[3]
    a, b = line[:count], line[step : step + count]
    c, d = line[2 * step : 2 * step + count], line[3 * step : 3 * step + count]
    for j in range(count):
        out[j] = (((out[j] + a[j] * one) + b[j] * two) + c[j] * three) + d[j] * four


@_inner
def _weighted(line: Floats, weights: Floats, step: int, part: Floats, out: Floats) -> None:
    """Correlate a line with weights for values that lie `step` apart, in the sums of `filters.convolve`."""
    for start in range(0, len(weights), SUM):
        total, end = part if start else out, min(start + SUM, len(weights))
        moved, weight = line[start * step :], weights[start]
        for j in range(len(out)):
            total[j] = moved[j] * weight
        fours = (end - start - 1) // 4  # memory is slower than arithmetic
        for tap in range(start + 1, start + 1 + 4 * fours, 4):
            _add(line[tap * step :], step, weights[tap:], total)
        for tap in range(start + 1 + 4 * fours, end):
            moved, weight = line[tap * step :], weights[tap]
            for j in range(len(out)):
                total[j] += moved[j] * weight
        if start:
            for j in range(len(out)):
                out[j] += part[j]


@_inner
def _blur(source: Floats, target: Floats, values: Floats, width: int, area: int, room: Floats) -> None:
    """Filter each channel along columns, then along rows; `values`: the boundary, both numbers of weights, the weights.

    A plane, continued beyond its borders, is one line of values; `room` has space for three such lines.
    """
    boundary, rows, columns = int(values[0]), int(values[1]), int(values[2])
    down, right = values[3 : 3 + rows], values[3 + rows : 3 + rows + columns]
    height, side, size = area // width, width + columns - 1, len(room) // 3
    line, sums, part = room[:size], room[size : 2 * size], room[2 * size :]
    length = height * side - columns + 1
    for start in range(0, len(source), area):
        plane, blurred, inner = source[start : start + area], target[start : start + area], line[rows // 2 * width :]
        for j in range(area):
            inner[j] = plane[j]
        for edge in range(rows - 1):
            y = edge if edge < rows // 2 else height + edge
            _row(plane, width, _source(y - rows // 2, height, boundary), line[y * width :][:width])
        _weighted(line, down, width, part[:area], sums[:area])
        for y in range(height):
            _row(sums, width, y, line[y * side + columns // 2 :][:width])
        for edge in range(columns - 1):
            x = edge if edge < columns // 2 else width + edge
            column = _source(x - columns // 2, width, boundary)
            seen, shown = sums[max(0, column) : area : width], line[x : height * side : side]
            for y in range(height):
                shown[y] = seen[y]
            if column < 0:
                shown[:] = _ZERO
        _weighted(line, right, 1, part[:length], sums[:length])
        for y in range(height):
            _row(sums, side, y, blurred[y * width :][:width])


@njit(error_model="numpy", inline="always")
def _row(plane: Floats, apart: int, number: int, out: Floats) -> None:
    """Copy a row of a plane whose rows begin so many values apart; of number -1 it is black."""
    row = plane[apart * max(0, number) :]
    for x in range(len(out)):
        out[x] = row[x]
    if number < 0:
        out[:] = _ZERO


@_inner
def _longest(kinds: NDArray[np.int64], values: Floats, width: int, height: int) -> int:
    """Return how many values a plane has that is continued for the widest of the blurs."""
    longest = 0
    for step in range(len(kinds)):
        if kinds[step] == BLUR:
            rows, columns = int(values[step, 1, 0]), int(values[step, 2, 0])
            longest = max(longest, (height + rows - 1) * width, height * (width + columns - 1))
    return longest


@njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
def degrade(
    first: int,
    last: int,
    area: int,
    width: int,
    pixels: NDArray[np.uint8],
    clean: Floats,
    image: Floats,
    mask: Floats,
    known: Floats,
    kinds: NDArray[np.int64],
    keys: NDArray[np.uint64],
    codes: NDArray[np.uint64],
    values: Floats,
    hashes: Words,
    table: Pairs,
) -> None:
    """Degrade the images from `first` to `last` of a batch, one after another.

    Args:
        first: the index of the first image.
        last: the index after the last.
        area: pixels of an image.
        width: of an image.
        pixels: (B,N) uint8, or empty where `clean` is given.
        clean: (B,N) float32.
        image: (B,N) float32, written.
        mask: (B,H·W) float32, written; or (B,0).
        known: (S,B) float32, written: how many pixels each of the steps leaves known.
        kinds: (S,) of the steps.
        keys: (S,B).
        codes: (S,K) of the streams that they draw from.
        values: (S,V,B), see `_pointwise`, `_mask`, `_poisson` and `_blur`.
        hashes: (N,) of the elements.
        table: (65536,) of the normal numbers.
    """
    count = clean.shape[1]
    words, own, sums = np.empty(count + 4, np.uint32), np.empty(area, np.float32), np.empty(area, np.float64)
    halves, pairs = words.view(np.uint16), np.empty(count // 2 + 2, np.complex64)
    draws, spare = pairs.view(np.float32), np.empty(count, np.float32)
    room = np.empty(3 * _longest(kinds, values, width, area // width), np.float32)
    for b in range(first, last):
        source = clean[b]
        if len(pixels):
            for j in range(count):
                source[j] = np.float32(pixels[b, j]) / _BYTE
        mask[b] = _ONE
        for step in range(len(kinds)):
            kind, key, numbers = kinds[step], keys[step, b], values[step, :, b].copy()
            # Never in place, which would keep the loops from being vectorised.
            target = image[b] if (len(kinds) - step) % 2 else spare
            if kind in (NOISE, SPECKLE):
                _normal(_fold(key, codes[step, 0]), hashes, table, count, words, halves, pairs)
            elif kind in (UNIFORM, SALT_PEPPER):
                _uniform(_fold(key, codes[step, 0]), hashes, count, words, draws)
            if kind == POISSON:
                photons = _fold(key, codes[step, 0])
                _normal(_fold(photons, codes[step, 1]), hashes, table, count, words, halves, pairs)
                _poisson(source, target, numbers[0], _fold(photons, codes[step, 1]), _fold(photons, codes[step, 2]),
                         hashes, words, draws)  # fmt: skip
            elif kind == CONTRAST:
                _contrast(source, target, numbers, sums)
            elif kind == BLUR:
                _blur(source, target, numbers, width, area, room)
            elif kind in (PIXELS, BOX):
                known[step, b] = _mask(kind, key, codes[step], numbers, hashes, width, words, own)
                _hide(source, target, own, mask[b], numbers[0])
            else:
                _pointwise(kind, source, target, numbers, draws)
            source = target
