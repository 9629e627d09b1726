"""How much better a restored picture is, estimated from the damaged one alone: clean pictures are left as they are."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.metrics.sure import STEP, probe

Restore = Callable[[Tensor], Tensor]

_PART = 512  # pixels: the side of the parts of a large picture that are looked at
_PARTS = 4
_PATCH = 32  # pixels: the side of the patches that the level of the noise is measured in
_SMOOTHEST = 0.3  # the share of the patches that it is measured in
# The squared error of a net in units of sigma²·divergence: 1 for the best estimator there is (Tweedie's formula), more
# for a net that was trained for an hour.
_EXCESS = 1.2
_UNSURE = 0.01  # of sigma: how far off the estimate of the level is, on photographs with noise of known level


class Gain(NamedTuple):
    """What restoring is expected to change.

    Attributes:
        decibels: by which the squared error to the picture that nobody has becomes smaller.
        error: by which this estimate is usually off, in dB.
        sigma: the standard deviation of the noise of each channel, in [0,1]; empty where there is no noise to measure.
    """

    decibels: float
    error: float
    sigma: tuple[float, ...] = ()


def parts_of(image: Tensor) -> list[Tensor]:
    """Return the whole of a small picture (C,H,W), or some parts of a large one, spread over it."""
    height, width = image.shape[1:]
    if height * width <= _PARTS * _PART**2:
        return [image]
    rows, columns = ([0] if side <= _PART else [side // 4 - _PART // 4, side - side // 4 - _PART * 3 // 4]
                     for side in (height, width))  # fmt: skip
    return [image[:, max(0, top) :, max(0, left) :][:, :_PART, :_PART] for top in rows for left in columns]


@torch.no_grad()
def denoising_gain(image: Tensor, net: Restore) -> Gain:
    """Estimate the level of the noise in a picture and what a net gains on it.

    The error of the restored picture is Stein's unbiased estimate (see `recon.metrics.sure`), its divergence that of a
    keyed probe. The level comes from the same two uses of the net: in a smooth patch what the net takes away is nearly
    all of the noise, sigma²·(1 - 2·divergence) plus its squared error, which is nearly sigma²·divergence.

    Args:
        image: (C,H,W), noisy, in [0,1].
        net: restores images (1,C,H,W).
    """
    taken: list[Tensor] = []
    change: list[Tensor] = []
    for index, part in enumerate(parts_of(image)):
        noisy = part[None]
        keys = keyed.keys(0, "gain", 0, torch.tensor([index]))
        restored, signs = net(noisy), probe(keys, tuple(part.shape))
        step = STEP * 0.1  # of white: a tenth of what a sigma of 0.1 would take
        slope = signs * (net(noisy + step * signs) - restored) / step
        side = min(_PATCH, *part.shape[1:])
        for means, values in ((taken, (noisy - restored).square()), (change, slope)):
            means.append(F.avg_pool2d(values[0], side, max(1, side // 2)).flatten(1))
    energy, divergence = torch.cat(taken, 1), torch.cat(change, 1).clamp(0, 1)
    sigma2 = _level(energy, divergence)
    error = (energy.mean(1) + sigma2 * (2 * divergence.mean(1) - 1)).maximum(0.5 * sigma2 * divergence.mean(1))
    noise, rest = float(sigma2.mean()), float(error.mean())
    if noise <= 0 or rest <= 0:
        return Gain(0.0, 0.0, tuple(sigma2.clamp_min(0).sqrt().tolist()))
    count = image.numel()
    slack = noise * (2 * _UNSURE * abs(1 - 2 * float(divergence.mean())) + math.sqrt(2 / count))
    decibels = 10 * math.log10(noise / rest)
    return Gain(decibels, 10 * math.log10(1 + slack / rest), tuple(sigma2.sqrt().tolist()))


def _level(energy: Tensor, divergence: Tensor) -> Tensor:
    """Estimate sigma² of each channel from patches (C,N): what the net took from each and its divergence there."""
    count = max(1, round(_SMOOTHEST * energy.shape[1]))
    smooth = divergence.argsort(1)[:, :count]
    taken, change = energy.gather(1, smooth).mean(1), divergence.gather(1, smooth).mean(1)
    return taken / (1 - (2 - _EXCESS) * change)


@torch.no_grad()
def compression_gain(image: Tensor, quality: int, net: Restore) -> Gain:
    """Estimate what a net gains on a picture that was compressed to JPEG, by compressing what it made of it again.

    What the net restores stands for the picture that nobody has: it is compressed at the same quality, and restored
    from that (a parametric bootstrap, Efron & Tibshirani 1993).

    Args:
        image: (C,H,W) in [0,1], of 1 or 3 channels.
        quality: what it was compressed with.
        net: restores images (1,C,H,W).
    """
    before, after = [], []
    for part in parts_of(image):
        stand_in = net(part[None])[0].clamp(0, 1)
        damaged = _compressed(stand_in, quality)
        before.append((damaged - stand_in).square().flatten())
        after.append((net(damaged[None])[0].clamp(0, 1) - stand_in).square().flatten())
    damage, rest = float(torch.cat(before).mean()), float(torch.cat(after).mean())
    if damage <= 0 or rest <= 0:
        return Gain(0.0, 0.0)
    return Gain(10 * math.log10(damage / rest), 0.2)


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Compress an image (C,H,W) in [0,1] to JPEG and decode it."""
    values = (image.movedim(0, 2) * 255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        array = np.asarray(decoded)
    return torch.from_numpy(array.reshape(values.shape).astype(np.float32) / 255).movedim(2, 0)
