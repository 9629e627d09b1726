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
_LEAST_PATCHES = 64  # fewer do not show how the noise depends on the brightness
_CERTAIN = 6  # standard errors of the slope; patches overlap by half, so that they are some three times as large
# The squared error of a net in units of sigma²·divergence: 1 for the best estimator there is (Tweedie's formula), more
# for a net that was trained for an hour.
_EXCESS = 1.2
_UNSURE = 0.01  # of sigma: how far off the estimate of the level is, on photographs with noise of known level
_UNSURE_LINE = 0.05  # the same where the level depends on the brightness


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
    found: list[Tensor] = []
    for index, part in enumerate(parts_of(image)):
        noisy = part[None]
        keys = keyed.keys(0, "gain", 0, torch.tensor([index]))
        restored, signs = net(noisy), probe(keys, tuple(part.shape))
        step = STEP * 0.1  # of white: a tenth of what a sigma of 0.1 would take
        slope = signs * (net(noisy + step * signs) - restored) / step
        side = min(_PATCH, *part.shape[1:])
        values = torch.cat([(noisy - restored).square(), slope, restored])
        found.append(F.avg_pool2d(values, side, max(1, side // 2)).flatten(2))
    taken, divergence, brightness = torch.cat(found, 2)
    level = torch.stack([_level(*channel) for channel in zip(taken, divergence, brightness, strict=True)])
    noise = float(level.mean())
    error = float((taken + level * (2 * divergence - 1)).mean())
    rest = max(error, 0.5 * noise * float(divergence.mean().clamp(0, 1)))
    sigma = tuple(level.mean(1).sqrt().tolist())
    if noise <= 0 or rest <= 0:
        return Gain(0.0, 0.0, sigma)
    unsure = _UNSURE if (level == level[:, :1]).all() else _UNSURE_LINE
    slack = noise * (2 * unsure * abs(1 - 2 * float(divergence.mean())) + math.sqrt(2 / image.numel()))
    return Gain(10 * math.log10(noise / rest), 10 * math.log10(1 + slack / rest), sigma)


def _level(taken: Tensor, divergence: Tensor, brightness: Tensor) -> Tensor:
    """Estimate sigma² in each patch of one channel (N,), a line in its brightness as that of a camera is.

    It is fitted to the smoothest patches of each quarter of the brightnesses. Where it does not rise or fall for
    certain, the mean of the smoothest patches of all is the level of each.
    """
    mean = _measured(taken, divergence, _smoothest(divergence)).mean().clamp_min(0)
    constant = mean.float().expand(len(taken))
    if len(taken) < _LEAST_PATCHES or mean == 0:
        return constant
    quarters = brightness.argsort().tensor_split(4)
    smooth = torch.cat([part[_smoothest(divergence[part])] for part in quarters])
    measured, x = _measured(taken, divergence, smooth), brightness[smooth].double()
    design = torch.stack([torch.ones_like(x), x], 1)
    level = mean.expand(len(x))
    for _ in range(5):  # the deviation of a measured sigma² is proportional to it, but where there is hardly any
        weight = 1 / level.clamp_min(0.2 * mean)
        inverse = torch.linalg.pinv((design * weight[:, None]).T @ (design * weight[:, None]))
        line = inverse @ (design * weight[:, None] ** 2).T @ measured
        level = design @ line
    spread = ((measured - level) * weight).square().mean()
    if line[1].abs() < _CERTAIN * (spread * inverse[1, 1]).sqrt():
        return constant
    return (line[0] + line[1] * brightness.double()).clamp_min(1e-3 * mean).float()


def _smoothest(divergence: Tensor) -> Tensor:
    """Return the indices of the patches in which the net keeps least."""
    return divergence.argsort()[: max(1, round(_SMOOTHEST * len(divergence)))]


def _measured(taken: Tensor, divergence: Tensor, patches: Tensor) -> Tensor:
    """Return sigma² as each of some patches shows it: what the net took from it, and its squared error."""
    return (taken[patches] / (1 - (2 - _EXCESS) * divergence[patches].clamp(0, 1))).double()


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
