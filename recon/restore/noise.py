"""The level of the noise in a picture: one, or a line in the light, and cut off at black and white."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import log_ndtr, ndtr

_SMOOTHEST = 0.3  # the share of the patches that the level is measured in
_LEAST_PATCHES = 64  # fewer do not show how the noise depends on the light
_CERTAIN = 6  # standard errors of the slope; patches overlap by half, so that they are some three times as large
# The squared error of a net in units of sigma²·divergence: 1 for the best estimator there is (Tweedie's formula), more
# for a net that was trained for an hour.
_EXCESS = 1.35
_ROUNDS = 5  # after which the level hardly changes,
_HARDLY = 1e-3  # or when it changes by less than this share
_LIGHTS = 1025  # of the table of `Noise.seen`
_LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


class Seen(NamedTuple):
    """Noise as it is seen at pixels, whose values are the mean over the noise.

    Attributes:
        light: what the values would be if nothing were cut off.
        variance: of the noise that is left.
        bias: the value minus `light`.
    """

    light: Tensor
    variance: Tensor
    bias: Tensor


class Noise(NamedTuple):
    """The noise of one channel: its variance is a line in the light (Foi, "Clipped noisy images", 2009).

    Attributes:
        black: sigma² at black.
        white: sigma² at white.
        is_cut: whether values beyond black and white were cut off, as in every file.
    """

    black: float
    white: float
    is_cut: bool

    def variance(self, light: Tensor) -> Tensor:
        """Return sigma² at a light in [0,1], before anything is cut off."""
        return self.black + (self.white - self.black) * light

    def seen(self, values: Tensor) -> Seen:
        """Return what is seen where the mean is `values`, of any shape."""
        if not self.is_cut or self.black + self.white <= 0:
            return Seen(values, self.variance(values.clamp(0, 1)).clamp_min(0), torch.zeros_like(values))
        light = torch.linspace(0, 1, _LIGHTS, dtype=torch.float64)
        sigma = self.variance(light).clamp_min(1e-12).sqrt()
        low, high = -light / sigma, (1 - light) / sigma
        above = ndtr(-high)
        inside = 1 - ndtr(low) - above
        at_low, at_high = _density(low), _density(high)
        mean = above + light * inside + sigma * (at_low - at_high)
        square = above + light.square() * inside + 2 * light * sigma * (at_low - at_high)
        square += sigma.square() * (inside + low * at_low - high * at_high)
        table = torch.stack([light, (square - mean.square()).clamp_min(0), mean - light])
        return Seen(*_interpolated(values.double(), mean, table).to(values.dtype))


def beyond(light: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far beyond black (below 0) and white (above 0) values are, on average, that were cut off there."""
    low, high = -light / sigma, (1 - light) / sigma
    black = light - sigma * _density(low, log_ndtr(low))
    white = light - 1 + sigma * _density(high, log_ndtr(-high))
    return black, white


def _density(x: Tensor, log_share: Tensor | float = 0.0) -> Tensor:
    """Return the density of the standard normal distribution, divided by exp(`log_share`)."""
    return (-0.5 * x.square() - _LOG_ROOT_TAU - log_share).exp()


def _interpolated(x: Tensor, points: Tensor, table: Tensor) -> Tensor:
    """Interpolate the rows of a table (R,N), given at rising points (N,), at x of any shape: (R,...)."""
    x = x.clamp(points[0], points[-1])
    index = torch.searchsorted(points, x).clamp(1, len(points) - 1)
    share = (x - points[index - 1]) / (points[index] - points[index - 1]).clamp_min(1e-12)
    return table[:, index - 1] + share * (table[:, index] - table[:, index - 1])


def noise_of(taken: Tensor, divergence: Tensor, values: Tensor, is_cut: bool) -> Noise:
    """Estimate the noise of one channel from what a net made of N patches of K squares of pixels each, (N,K).

    In a smooth patch what the net takes away is nearly all of the noise, sigma²·(1 - 2·divergence) plus its squared
    error, which is nearly sigma²·divergence. A line is fitted to the smoothest patches of each quarter of the values.
    Where it does not rise or fall for certain, the mean of the smoothest patches of all is the level.

    Args:
        taken: squares of what the net took.
        divergence: of the net, for each pixel.
        values: what the net restored, in [0,1].
        is_cut: see `Noise`.
    """
    divergence = divergence.mean(1)
    measured = (taken.mean(1) / (1 - (2 - _EXCESS) * divergence.clamp(0, 1))).double()
    one = _one_level(measured, values, _smoothest(divergence), is_cut)
    if len(taken) < _LEAST_PATCHES or one.black == 0:
        return one
    smooth = torch.cat([part[_smoothest(divergence[part])] for part in values.mean(1).argsort().tensor_split(4)])
    return _line(measured[smooth], values[smooth], one) or one


def _smoothest(divergence: Tensor) -> Tensor:
    """Return the indices of the patches in which the net keeps least."""
    return divergence.argsort()[: max(1, round(_SMOOTHEST * len(divergence)))]


def _one_level(measured: Tensor, values: Tensor, smooth: Tensor, is_cut: bool) -> Noise:
    """Average over smooth patches, those where little is cut off above all."""
    level = float(measured[smooth].mean().clamp_min(0))
    for _ in range(_ROUNDS if is_cut and level > 0 else 0):
        left = (Noise(level, level, True).seen(values[smooth]).variance.mean(1) / level).double().clamp_min(0.05)
        # The deviation of a measured sigma² is proportional to what is left of it.
        before, level = level, float((measured[smooth] * left).sum() / left.square().sum())
        if abs(level - before) <= _HARDLY * before:
            break
    return Noise(level, level, is_cut)


def _line(measured: Tensor, values: Tensor, one: Noise) -> Noise | None:
    """Fit a line to smooth patches; None where one level explains them as well."""
    noise, mean = one, one.black
    for _ in range(_ROUNDS):
        seen = noise.seen(values)
        light = seen.light.mean(1)
        level = noise.variance(light).double().clamp_min(0.2 * mean)
        left = (seen.variance.mean(1).double() / level).clamp_min(0.05)
        weight = left / level
        design = torch.stack([1 - light, light], 1).double() * weight[:, None]
        inverse = torch.linalg.pinv(design.T @ design)
        rest = measured / left * weight
        black, white = inverse @ design.T @ rest
        spread = (rest - design @ torch.stack([black, white])).square().mean()
        noise = Noise(float(black.clamp_min(0)), float(white.clamp_min(0)), one.is_cut)
    across = inverse.new_tensor([-1.0, 1.0])
    slope_error = (spread * (across @ inverse @ across)).sqrt()
    return noise if (white - black).abs() > _CERTAIN * slope_error else None
