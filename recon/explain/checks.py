"""Whether maps explain anything: randomised weights must change them, and pixels that they name must matter.

References: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018; Petsiuk, Das & Saenko, "RISE", BMVC 2018
(deletion and insertion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recon import keyed
from recon.report.inference import mean_interval

Array = NDArray[np.float64]
SHARES = np.linspace(0, 1, 21)  # of the pixels that are deleted or inserted


@contextmanager
def randomised(net: nn.Module) -> Iterator[None]:
    """Give every layer of a net new initial weights, always the same, and afterwards its own again."""
    own = {name: value.clone() for name, value in net.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(0)
            for module in net.modules():
                if callable(again := getattr(module, "reset_parameters", None)):
                    again()
        yield
    finally:
        net.load_state_dict(own)


def likeness(first: Tensor, second: Tensor) -> Array:
    """Return Spearman's rank correlation of the absolute values of maps (B,H,W), NaN where one is constant: (B,)."""
    from scipy.stats import rankdata

    ranks = [
        np.stack([rankdata(one) for one in maps.abs().flatten(1).double().cpu().numpy()]) for maps in (first, second)
    ]
    a, b = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found: Array = np.divide((a * b).sum(1), scale, out=np.full(len(a), np.nan), where=scale > 0)
    return found


def deletion(
    probability: Callable[[Tensor], Tensor], image: Tensor, map_: Tensor, baseline: Tensor, keys: Tensor
) -> tuple[Array, Array]:
    """Return the probabilities (B,21) as the pixels of a map are deleted, and inserted, the strongest first.

    Args:
        probability: of images (B,C,H,W), of the class that the map explains: (B,).
        image: (B,C,H,W).
        map_: (B,H,W).
        baseline: (B,C,H,W), what deleted pixels show.
        keys: (B,), which order equal values.
    """
    chance = keyed.uniform(keyed.fold(keys, "ties"), tuple(map_.shape[1:])).flatten(1)
    order = chance.argsort(1)
    order = order.gather(1, map_.flatten(1).gather(1, order).argsort(dim=1, descending=True, stable=True))
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    deleted, inserted = [], []
    with torch.no_grad():
        for share in SHARES:
            strongest = (rank < round(share * order.shape[1])).view(len(image), 1, *image.shape[2:])
            deleted.append(probability(torch.where(strongest, baseline, image)))
            inserted.append(probability(torch.where(strongest, image, baseline)))
    return tuple(torch.stack(each, 1).double().cpu().numpy() for each in (deleted, inserted))  # type: ignore[return-value]


@dataclass(frozen=True)
class Gain:
    """The area under a curve of a map, that of pixels in random order, and the difference with its 95 % interval."""

    area: float
    by_chance: float
    low: float
    high: float


def gain(by_map: Array, by_chance: Array) -> Gain:
    """Compare the areas under curves (B,21) with those of a random order, image by image; at least two images."""
    from scipy.integrate import trapezoid

    first, second = (trapezoid(each, SHARES, axis=1) for each in (by_map, by_chance))
    low, high = mean_interval(np.asarray(first - second))
    return Gain(float(first.mean()), float(second.mean()), float(low), float(high))
