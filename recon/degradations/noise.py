"""Noise: Gaussian, impulse, Poisson, speckle and uniform."""

from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.degradations import fused
from recon.degradations.base import Degradation, Degraded, all_known, draw, per_image
from recon.degradations.levels import Range, ends, light_ends
from recon.ranges import require_number

PEAKS = 1e-3, 1e9  # photons: from one in a thousand pixels to noise below the resolution of float32


class GaussianNoise(Degradation):
    """Add white Gaussian noise and do not clip, the protocol of the denoising literature (Zhang et al. 2017).

    The severity is sigma.

    >>> GaussianNoise(0.1)(clean, keys).image[0, 0, 0]
    tensor([ 0.0174, -0.0337,  0.0776,  0.1845])

    Args:
        sigma: standard deviation in units of the [0,1] range, from 0 to 1; 25/255 is the literature's "sigma 25".
    """

    gaussian: ClassVar = True
    examples: ClassVar = ("sigma", (0.05, 0.1, 0.25))

    def __init__(self, sigma: Range) -> None:
        self.level = light_ends("sigma", sigma)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Add the noise, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        noise = keyed.normal(keyed.fold(keys, "noise"), tuple(clean.shape[1:])).to(clean.dtype)
        # In place, as fresh memory costs more than the arithmetic.
        return Degraded(noise.mul_(per_image(sigma, clean)).add_(clean), all_known(clean), sigma)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Add the noise, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        return fused.Plan([fused.Step(fused.NOISE, keys, ["noise"], [sigma], sigma)])


class SaltPepper(Degradation):
    """Replace values by 1 or 0, in each channel independently, as `skimage.util.random_noise` does.

    The severity is the amount.

    >>> SaltPepper(0.5)(clean, keys).image[1, 0, 0]
    tensor([0.5161, 1.0000, 0.0000, 0.6129])

    Args:
        amount: the probability that a value is replaced, in [0,1].
        salt: the share of the replaced values that become 1, in [0,1].
    """

    examples: ClassVar = ("amount", (0.02, 0.1, 0.3))

    def __init__(self, amount: Range, salt: float = 0.5) -> None:
        self.level = ends("amount", amount, 0, 1)
        require_number("salt", salt, 0, 1)
        self.salt = float(salt)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Replace the values, see `Degradation`."""
        amount = draw(self.level, keys, "amount")
        drawn = keyed.uniform(keyed.fold(keys, "place"), tuple(clean.shape[1:]))
        bound = amount.view(-1, 1, 1, 1)
        # On the CPU, comparing into numbers and adding is several times faster than masked_fill or where.
        salt = torch.lt(drawn, bound * self.salt, out=torch.empty_like(drawn)).to(clean.dtype)
        unchanged = drawn.ge_(bound).to(clean.dtype)
        return Degraded(salt.addcmul_(clean, unchanged), all_known(clean), amount)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Replace the values, see `Degradation`."""
        amount = draw(self.level, keys, "amount")
        return fused.Plan([fused.Step(fused.SALT_PEPPER, keys, ["place"], [amount, amount * self.salt], amount)])


class PoissonNoise(Degradation):
    """Count photons: x becomes Poisson(peak·x)/peak, with a variance of x/peak (Mäkitalo & Foi 2011).

    The severity is the peak; lower is worse. Negative values count as 0, and values above 1 are not clipped.

    >>> PoissonNoise(4)(clean, keys).image[1, 0, 0]
    tensor([0.2500, 0.5000, 1.0000, 0.7500])

    Args:
        peak: the mean count of photons where the image is 1, from 0.001 to 10⁹.
    """

    examples: ClassVar = ("peak", (200, 30, 4))

    def __init__(self, peak: Range) -> None:
        self.level = ends("peak", peak, *PEAKS)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Count the photons, see `Degradation`."""
        peak = draw(self.level, keys, "peak")
        return Degraded(count_photons(clean, peak, keyed.fold(keys, "photons")), all_known(clean), peak)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Count the photons, see `Degradation`."""
        peak = draw(self.level, keys, "peak")
        return fused.Plan([fused.Step(fused.POISSON, keys, ["photons", "many", "few"], [peak], peak)])


def count_photons(light: Tensor, peak: Tensor, keys: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """Draw Poisson(peak·gain·max(light,0))/peak.

    >>> count_photons(clean, torch.tensor([4.0, 8.0]), keys)[1, 0, 0]
    tensor([0.2500, 0.7500, 0.5000, 0.1250])

    Args:
        light: (B,C,H,W) float.
        peak: (B,) float, the mean count where light times gain is 1.
        keys: (B,) int64.
        gain: (B,) float, or 1.

    Returns:
        (B,C,H,W) of the type of `light`.
    """
    # The rates are float32 for any type: a last bit that differs may change a count by a whole photon.
    rate = light.float().clamp_min(0).mul_((peak * gain).view(-1, 1, 1, 1))
    return keyed.poisson(keys, rate).to(light.dtype).div_(per_image(peak, light))


class SpeckleNoise(Degradation):
    """Add noise in proportion to the light, x + x·n with Gaussian n, the "speckle" of `skimage.util.random_noise`.

    The severity is sigma, the standard deviation of n. Nothing is clipped.

    >>> SpeckleNoise(0.1)(clean, keys).image[1, 0, 0]
    tensor([0.4082, 0.5015, 0.5734, 0.6797])

    Args:
        sigma: standard deviation relative to the value, from 0 to 1; 1 is a radar's intensity in a single look.
    """

    examples: ClassVar = ("sigma", (0.1, 0.25, 0.6))

    def __init__(self, sigma: Range) -> None:
        self.level = ends("sigma", sigma, 0, 1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Add the noise, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        noise = keyed.normal(keyed.fold(keys, "noise"), tuple(clean.shape[1:])).to(clean.dtype)
        # Not `addcmul`, which some processors round once and others twice.
        return Degraded((noise.mul_(per_image(sigma, clean)) * clean).add_(clean), all_known(clean), sigma)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Add the noise, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        return fused.Plan([fused.Step(fused.SPECKLE, keys, ["noise"], [sigma], sigma)])


class UniformNoise(Degradation):
    """Add noise uniform in [-width,width); its standard deviation is width/√3. Nothing is clipped.

    The severity is the width.

    >>> UniformNoise(0.1)(clean, keys).image[1, 0, 0]
    tensor([0.4591, 0.5949, 0.6347, 0.5591])

    Args:
        width: the largest change of a value in units of the [0,1] range, from 0 to 1.
    """

    examples: ClassVar = ("width", (0.1, 0.2, 0.5))

    def __init__(self, width: Range) -> None:
        self.level = light_ends("width", width)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Add the noise, see `Degradation`."""
        width = draw(self.level, keys, "width")
        noise = keyed.uniform(keyed.fold(keys, "noise"), tuple(clean.shape[1:])).mul_(2).sub_(1).to(clean.dtype)
        return Degraded(noise.mul_(per_image(width, clean)).add_(clean), all_known(clean), width)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Add the noise, see `Degradation`."""
        width = draw(self.level, keys, "width")
        return fused.Plan([fused.Step(fused.UNIFORM, keys, ["noise"], [width], width)])
