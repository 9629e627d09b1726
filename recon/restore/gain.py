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
from recon.restore.noise import Noise, Seen, beyond, noise_of

Restore = Callable[[Tensor], Tensor]

_PART = 512  # pixels: the side of the parts of a large picture that are looked at
_PARTS = 4
_PATCH = 32  # pixels: the side of the patches that the noise is measured in
_FINE = 4  # pixels: the side of the squares in which what is cut off is measured
_UNSURE_JPEG = 0.4  # dB, of photographs that were compressed at a known quality
_LEAST_COMPRESSED = 16  # pixels: half of it is one block of JPEG
_MUCH_LEFT = 0.99  # of the variance of the noise; where less is left, what is cut off matters
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
    keyed probe, and the noise that of `noise_of`. Where much of it was cut off at black or white, the estimate is that
    for cut-off noise, and the level is corrected by a parametric bootstrap.

    Args:
        image: (C,H,W), noisy, in [0,1].
        net: restores images (1,C,H,W).
    """
    is_cut = bool(image.amin() >= 0) and bool(image.amax() <= 1)

    def work(noisy: Tensor) -> Tensor:
        return net(noisy).clamp(0, 1) if is_cut else net(noisy)

    parts = [part[None] for part in parts_of(image)]
    maps = [_maps(part, index, work) for index, part in enumerate(parts)]
    noises = _noises(maps, is_cut)
    found = _errors(maps, noises)
    if found.left < _MUCH_LEFT and found.after < found.before:
        noises = _corrected(noises, maps, work)
        found = _errors(maps, noises, much_cut=True)
    if found.before <= 0 or found.after <= 0:
        return Gain(0.0, 0.0, found.sigma)
    unsure = _UNSURE if all(noise.black == noise.white for noise in noises) else _UNSURE_LINE
    slack = found.before * (2 * unsure * abs(1 - 2 * found.kept) + math.sqrt(2 / image.numel()))
    decibels = 10 * math.log10(found.before / found.after)
    return Gain(decibels, 10 * math.log10(1 + slack / found.after), found.sigma)


def _maps(noisy: Tensor, index: int, work: Restore) -> Tensor:
    """Return of a part (1,C,H,W) what was taken, squared, the divergence, what it became, and itself: (4,C,H,W)."""
    keys = keyed.keys(0, "gain", 0, torch.tensor([index]))
    restored, signs = work(noisy), probe(keys, tuple(noisy.shape[1:]))
    step = STEP * 0.1  # of white: a tenth of what a sigma of 0.1 would take
    slope = signs * (work(noisy + step * signs) - restored) / step
    return torch.cat([(noisy - restored).square(), slope, restored, noisy])


def _noises(maps: list[Tensor], is_cut: bool) -> list[Noise]:
    """Estimate the noise of each channel."""
    patches = torch.cat([_patches(each[:3]) for each in maps], 2)
    return [noise_of(taken, divergence, values, is_cut) for taken, divergence, values in patches.unbind(1)]


class _Errors(NamedTuple):
    """Mean squared errors `before` and `after`; mean divergence; the share of the noise that is `left`; its sigma."""

    before: float
    after: float
    kept: float
    left: float
    sigma: tuple[float, ...]


def _errors(maps: list[Tensor], noises: list[Noise], much_cut: bool = False) -> _Errors:
    taken, divergence, restored, noisy = torch.cat([each.flatten(2) for each in maps], 2).double()
    seen, whole = _seen(restored, noises)
    before = float((seen.variance + seen.bias.square()).mean())
    if much_cut:
        rest = _rest_of_cut(noisy, divergence, restored, seen, whole)
    else:
        rest = seen.variance * (2 * divergence - 1) + seen.bias.square()
    kept = float(divergence.mean())
    after = max(float((taken + rest).mean()), 0.5 * before * min(max(kept, 0.0), 1.0))
    left = float(seen.variance.mean() / whole.mean().clamp_min(1e-12))
    return _Errors(before, after, kept, left, tuple(whole.mean(1).sqrt().tolist()))


def _rest_of_cut(noisy: Tensor, divergence: Tensor, restored: Tensor, seen: Seen, whole: Tensor) -> Tensor:
    """Return what Stein's identity adds to the square of what was taken, where x + n was cut off to y in [0,1].

    E[(f - x)²] = E[(f - y)² + 2·f·(y - x)] + x² - E[y²] for any f(y), whose values may be counted from any constant c.
    Of f·(y - x), f·n has the mean sigma²·f' inside and 0 where y is cut off, as f does not change there; what remains
    is f times the mean of y - x - n beyond black or white.
    """
    light, variance, bias = seen
    black, white = beyond(light, whole.clamp_min(1e-12).sqrt())
    at_black, at_white = noisy <= 0, noisy >= 1
    nearer = (light > 0.5).double()  # c: the nearer of black and white, where it leaves least chance
    product = whole * divergence * ~(at_black | at_white)
    product -= (restored - nearer) * (torch.where(at_black, black, 0) + torch.where(at_white, white, 0))
    return 2 * product + (light - nearer).square() - variance - (light + bias - nearer).square()


def _seen(restored: Tensor, noises: list[Noise]) -> tuple[Seen, Tensor]:
    """Return of channels (C,...) what is seen of their noise, and its variance before anything was cut off."""
    channels = [noise.seen(values) for noise, values in zip(noises, restored, strict=True)]
    seen = Seen(*(torch.stack(each) for each in zip(*channels, strict=True)))
    return seen, torch.stack([noise.variance(each) for noise, each in zip(noises, seen.light, strict=True)])


def _corrected(noises: list[Noise], maps: list[Tensor], work: Restore) -> list[Noise]:
    """Correct the level by how wrong it is estimated of a known picture: what was restored, with the same noise.

    What was restored has less texture than the clean picture and so shows the error too large: half of it is believed,
    which on photographs with known noise is nearest.
    """
    again = []
    for index, each in enumerate(maps):
        (light, _, _), variance = _seen(each[2], noises)
        keys = keyed.keys(0, "gain", 1, torch.tensor([index]))
        noisy = (light + variance.sqrt() * keyed.normal(keys, tuple(light.shape))).clamp(0, 1)
        again.append(_maps(noisy, index, work))
    ratios = [
        math.sqrt((noise.black + noise.white) / max(known.black + known.white, 1e-12))
        for noise, known in zip(noises, _noises(again, True), strict=True)
    ]
    return [Noise(noise.black * ratio, noise.white * ratio, True) for noise, ratio in zip(noises, ratios, strict=True)]


def _patches(maps: Tensor) -> Tensor:
    """Cut maps (M,C,H,W) into patches that overlap by half: (M,C,N,K), of means over squares of a few pixels."""
    side = min(_PATCH, *maps.shape[2:])
    fine = F.avg_pool2d(maps, _FINE) if side == _PATCH else maps
    side = side // _FINE if side == _PATCH else side
    columns = F.unfold(fine, side, stride=max(1, side // 2)).unflatten(1, (maps.shape[1], -1))
    return torch.transpose(columns, 2, 3)


@torch.no_grad()
def compression_gain(image: Tensor, quality: int, net: Restore) -> Gain:
    """Estimate what a net gains on a picture that was compressed to JPEG, by one of its kind that is known.

    What the net restored, at half the size, stands for a clean picture: its details are those of photographs again, as
    these look alike at all scales. It is compressed at the same quality, and restored from that. A picture that was
    restored and not made smaller would not do, as compressing it again undoes little.

    Args:
        image: (C,H,W) in [0,1], of 1 or 3 channels.
        quality: what it was compressed with.
        net: restores images (1,C,H,W).
    """
    before = after = 0.0
    for part in parts_of(image):
        if min(part.shape[1:]) < _LEAST_COMPRESSED:
            return Gain(0.0, 0.0)
        known = F.avg_pool2d(net(part[None])[0].clamp(0, 1), 2)
        damaged = _compressed(known, quality)
        before += float((damaged - known).square().sum())
        after += float((net(damaged[None])[0].clamp(0, 1) - known).square().sum())
    if before <= 0 or after <= 0:
        return Gain(0.0, 0.0)
    return Gain(10 * math.log10(before / after), _UNSURE_JPEG)


def _compressed(image: Tensor, quality: int) -> Tensor:
    """Compress an image (C,H,W) in [0,1] to JPEG and decode it."""
    values = (image.movedim(0, 2) * 255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if values.shape[2] == 1 else values).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        array = np.asarray(decoded)
    return torch.from_numpy(array.reshape(values.shape).astype(np.float32) / 255).movedim(2, 0)
