"""The pictures that an exported net is compared on, damaged as the net was trained to mend."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from recon import keyed
from recon.config.construct import construct
from recon.data.images import read_image
from recon.data.tasks.photos import Photos
from recon.restore.weights import Weights

_SIDE = 256


class Example(NamedTuple):
    """A damaged picture as a net is given it (1,C',h,w), and the clean one (1,C,H,W)."""

    given: Tensor
    clean: Tensor


def test_pictures(weights: Weights) -> list[Example]:
    """Return the photographs that scikit-image ships and none of recon's presets trains on, whole."""
    return list(_damaged(weights, Photos.TEST, None))


def crops(weights: Weights, count: int) -> list[Example]:
    """Return crops of other photographs of scikit-image and scikit-learn, to calibrate on."""
    return list(_damaged(weights, Photos.TRAIN, count))


def _damaged(weights: Weights, places: list[tuple[str, str]], count: int | None) -> Iterator[Example]:
    facts, node = weights.about.facts, weights.about.trained.get("degradation")
    damage = construct(node, "degradation") if node else None
    for index in range(count or len(places)):
        package, path = places[index % len(places)]
        values = read_image(Path(str(files(package))) / path, facts["channels"])
        clean = torch.tensor(values).float()[None] / 255
        keys = keyed.keys(0, "export", 0, torch.tensor([index]))
        if count is not None:
            top, left = (int(keyed.integers(keyed.fold(keys, name), side - _SIDE))
                         for name, side in zip(("top", "left"), clean.shape[2:], strict=True))  # fmt: skip
            clean = clean[..., top : top + _SIDE, left : left + _SIDE]
        else:
            clean = clean[..., : clean.shape[2] // 8 * 8, : clean.shape[3] // 8 * 8]
        damaged = damage(clean, keys) if damage else None
        given = clean if damaged is None else damaged.image
        if weights.about.purpose == "inpaint":
            assert damaged is not None
            given = torch.cat([given, damaged.mask], 1)
        if weights.about.noise_map:
            assert damaged is not None
            given = torch.cat([given, damaged.severity.view(1, 1, 1, 1).expand_as(given[:, :1])], 1)
        yield Example(given, clean)


def difference(weights: Weights, other: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Compare a net with its exported form: the largest difference of a value, and the PSNR that is lost at most."""
    worst, lost = 0.0, 0.0
    with torch.inference_mode():
        for given, clean in test_pictures(weights):
            mine, theirs = weights.net(given), other(given)
            worst = max(worst, float((mine - theirs).abs().max()))
            lost = max(lost, _psnr(mine, clean) - _psnr(theirs, clean))
    return worst, lost


def _psnr(image: Tensor, clean: Tensor) -> float:
    return -10 * math.log10(max(1e-10, float((image.clamp(0, 1) - clean).square().mean())))
