"""The mean difference of two codecs' rates at equal quality (Bjøntegaard 2001), with an interval over the images.

Curves of the logarithm of the rate over the quality are joined by monotone cubics (PCHIP), as in the common test
conditions of JVET (JVET-T2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recon.codec.points import Point
from recon.report.inference import LEVEL, pareto

Numbers = NDArray[np.float64]
_DRAWS = 400  # of a bootstrap over the images


class Difference(NamedTuple):
    """A share of the rate that is added, negative where less is needed, with its interval, and where it was compared.

    Attributes:
        value: such as -0.2 for a fifth less; NaN where both have no quality in common.
        low, high: the 95 % interval, by bootstrap over the images.
        start, end: the qualities between which it is the mean.
    """

    value: float
    low: float
    high: float
    start: float
    end: float


def bd_rate(rates: Sequence[Numbers], qualities: Sequence[Numbers]) -> float:
    """Return the mean difference of the rate of a codec from that of a rival, as a share: the BD-rate.

    Args:
        rates: (P,) those of the rival, and of the codec.
        qualities: (P,) of both, such as PSNR; more is better.

    Returns:
        Between the lowest and the highest quality that both reach; NaN where there is none.
    """
    curves = [_front(*each) for each in zip(rates, qualities, strict=True)]
    start, end = _common(curves)
    if not start < end or min(len(rate) for rate, _ in curves) < 2:
        return math.nan
    areas = [_joined(*curve).integrate(start, end) for curve in curves]
    return math.expm1(float(areas[1] - areas[0]) / (end - start))


def at_equal_quality(rates: Sequence[Numbers], qualities: Sequence[Numbers]) -> float:
    """Return by what share the one rate (1,) of a codec differs from that of a rival's curve at the same quality."""
    rate, quality = _front(rates[0], qualities[0])
    at = float(qualities[1][0])
    if len(rate) < 2 or not quality[0] <= at <= quality[-1]:
        return math.nan
    return math.expm1(math.log(float(rates[1][0])) - float(_joined(rate, quality)(at)))


def compared(rival: Sequence[Point], codec: Sequence[Point], way: str, measure: str) -> Difference:
    """Compare the points of a codec with those of a rival on the same images, drawn again for the interval."""
    rates = [np.stack([each.rates[way] for each in points], 1) for points in (rival, codec)]
    qualities = [np.stack([each.quality[measure] for each in points], 1) for points in (rival, codec)]
    difference: Callable[[Sequence[Numbers], Sequence[Numbers]], float] = bd_rate
    if len(codec) == 1:
        difference = at_equal_quality
    means = [[each.mean(0) for each in columns] for columns in (rates, qualities)]
    value, count = difference(*means), len(rates[0])
    draw = np.random.default_rng(0)
    values = []
    for _ in range(_DRAWS if math.isfinite(value) and count > 1 else 0):
        weight = draw.multinomial(count, np.full(count, 1 / count)) / count
        values.append(difference([weight @ each for each in rates], [weight @ each for each in qualities]))
    finite = [each for each in values if math.isfinite(each)] or [math.nan]
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(value, float(low), float(high), *_common([_front(*each) for each in zip(*means, strict=True)]))


def _front(rate: Numbers, quality: Numbers) -> tuple[Numbers, Numbers]:
    """Leave out points that take more for no more quality, and order the others."""
    best = pareto(list(zip(rate.tolist(), quality.tolist(), strict=True)))
    return rate[best], quality[best]


def _common(curves: Sequence[tuple[Numbers, Numbers]]) -> tuple[float, float]:
    """Return from which to which quality curves reach; the first is larger where they have none in common."""
    return max(float(quality[0]) for _, quality in curves), min(float(quality[-1]) for _, quality in curves)


def _joined(rate: Numbers, quality: Numbers) -> Any:
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(quality, np.log(rate))
