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
from recon.restore.noise import noise_of

Restore = Callable[[Tensor], Tensor]

_PART = 512  # pixels: the side of the parts of a large picture that are looked at
_PARTS = 4
_PATCH = 32  # pixels: the side of the patches that the noise is measured in
_FINE = 4  # pixels: the side of the squares in which what is cut off is measured
_UNSURE = 0.01  # of sigma: how far off the estimate of the level is, on photographs with noise of known level
_UNSURE_LINE = 0.05  # the same where the level depends on the light


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
    keyed probe, and the noise that of `noise_of`. Where noise was cut off at black or white, the estimate is of the
    error to the mean of what is left of it, and the square of what that is off is added.

    Args:
        image: (C,H,W), noisy, in [0,1].
        net: restores images (1,C,H,W).
    """
    is_cut = bool(image.amin() >= 0) and bool(image.amax() <= 1)

    def work(noisy: Tensor) -> Tensor:
        return net(noisy).clamp(0, 1) if is_cut else net(noisy)

    maps = []
    for index, part in enumerate(parts_of(image)):
        noisy = part[None]
        keys = keyed.keys(0, "gain", 0, torch.tensor([index]))
        restored, signs = work(noisy), probe(keys, tuple(part.shape))
        step = STEP * 0.1  # of white: a tenth of what a sigma of 0.1 would take
        slope = signs * (work(noisy + step * signs) - restored) / step
        maps.append(torch.cat([(noisy - restored).square(), slope, restored]))
    patches = torch.cat([_patches(each) for each in maps], 2)
    noises = [noise_of(*channel, is_cut) for channel in patches.unbind(1)]
    taken, divergence, restored = torch.cat([each.flatten(2) for each in maps], 2)
    seen = [noise.seen(values) for noise, values in zip(noises, restored, strict=True)]
    variance, bias = torch.stack([each.variance for each in seen]), torch.stack([each.bias for each in seen])
    light = torch.stack([each.light for each in seen])
    before = float((variance + bias.square()).mean())
    after = float((taken + variance * (2 * divergence - 1) + bias.square()).mean())
    kept = float(divergence.mean())
    after = max(after, 0.5 * before * min(max(kept, 0.0), 1.0))
    sigma = tuple(float(noise.variance(each).mean()) ** 0.5 for noise, each in zip(noises, light, strict=True))
    if before <= 0 or after <= 0:
        return Gain(0.0, 0.0, sigma)
    unsure = _UNSURE if all(noise.black == noise.white for noise in noises) else _UNSURE_LINE
    slack = before * (2 * unsure * abs(1 - 2 * kept) + math.sqrt(2 / image.numel()))
    return Gain(10 * math.log10(before / after), 10 * math.log10(1 + slack / after), sigma)


def _patches(maps: Tensor) -> Tensor:
    """Cut maps (M,C,H,W) into patches that overlap by half: (M,C,N,K), of means over squares of a few pixels."""
    side = min(_PATCH, *maps.shape[2:])
    fine = F.avg_pool2d(maps, _FINE) if side == _PATCH else maps
    side = side // _FINE if side == _PATCH else side
    columns: Tensor = F.unfold(fine, side, stride=max(1, side // 2))
    return columns.unflatten(1, (maps.shape[1], -1)).transpose(2, 3)


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
