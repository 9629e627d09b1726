"""How good a set of generated images is: each measure with an interval, and with its floor between real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from recon.metrics.distribution import Support, frechet, kernel_distance, support, support_of_each, vendi

_BLOCKS = 10  # that the kernel distance is the mean of
_T = 2.262  # the 97.5 % quantile of Student's t with one degree of freedom less than that


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        value: of the generated images against the real ones.
        low, high: its 95 % interval, by bootstrap over the images.
        floor: the same measure of one half of the real images against the other.
    """

    value: float
    low: float
    high: float
    floor: float


def values(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Measure generated images against real ones in the features of a net.

    Args:
        real: (N,D).
        fake: (M,D).

    Returns:
        "fd" (`frechet`), "kd" (the mean of `kernel_distance` over ten blocks), "precision", "recall", "density",
        "coverage" (`support`) and "vendi", as far as there are enough images.
    """
    found = {"fd": float(frechet(real, fake))}
    if _suffice(real, fake):
        found["kd"] = _kernel_interval(real, fake)[0]
        found |= {name: float(value) for name, value in support(real, fake)._asdict().items()}
    return {**found, "vendi": float(vendi(fake))}


def measured(real: Tensor, fake: Tensor, seed: int = 0, draws: int = 100) -> dict[str, Found]:
    """Measure as `values` does, with intervals and floors.

    An interval is of what is expected at these numbers of images: the basic bootstrap interval (Davison & Hinkley,
    "Bootstrap methods and their application", 1997, 5.2) of the expectation, which the mean of the draws stands for.

    Args:
        real: (N,D).
        fake: (M,D).
        seed: of the bootstrap and of the halves.
        draws: how often images are drawn again.
    """
    generator = torch.Generator().manual_seed(seed)
    one, other = halves(real, generator)

    def interval(statistic: Callable[..., Tensor], *sets: Tensor) -> tuple[float, float, float]:
        value = statistic(*sets)
        drawn = [
            statistic(*(x[torch.randint(len(x), (len(x),), generator=generator)] for x in sets)) for _ in range(draws)
        ]
        # Images that are drawn twice shift the value, of a Fréchet distance upwards by what as few images do, often by
        # more than it scatters. So these are not centred at the value but at their own mean.
        several = torch.stack(drawn)
        low, high = value + several.mean() - several.quantile(torch.tensor([0.975, 0.025], dtype=torch.float64))
        return float(value), float(low), float(high)

    value, low, high = interval(frechet, real, fake)
    found = {"fd": Found(value, max(low, 0.0), high, float(frechet(one, other)))}
    if _suffice(real, fake):
        value, low, high = _kernel_interval(real, fake)
        found["kd"] = Found(value, low, high, _kernel_interval(one, other)[0])
        floors = support(one, other)
        for name, each, floor in zip(Support._fields, support_of_each(real, fake), floors, strict=True):
            most = inf if name == "density" else 1.0
            value, low, high = interval(Tensor.mean, each)
            found[name] = Found(value, max(low, 0.0), min(high, most), float(floor))
    value, low, high = interval(vendi, fake)
    found["vendi"] = Found(value, max(low, 1.0), high, float(vendi(one)))
    return found


def halves(real: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut real images (N,D) into two halves at random, as a data set's own order may sort them."""
    one, other = real[torch.randperm(len(real), generator=generator)].tensor_split(2)
    return one, other


def _suffice(real: Tensor, fake: Tensor) -> bool:
    """Return whether there are enough images for blocks and neighbours, also in one half of the real ones."""
    return min(len(real), len(fake)) >= 4 * _BLOCKS


def _kernel_interval(real: Tensor, fake: Tensor) -> tuple[float, float, float]:
    """Return the mean of the kernel distance over blocks, which are independent of each other, and its interval."""
    parts = zip(real.tensor_split(_BLOCKS), fake.tensor_split(_BLOCKS), strict=True)
    each = torch.stack([kernel_distance(*part) for part in parts])
    mean, reach = float(each.mean()), float(_T * each.std() / _BLOCKS**0.5)
    return mean, mean - reach, mean + reach
