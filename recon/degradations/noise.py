"""Noise: Gaussian and impulse."""

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, Range, all_known, draw, ends, number, per_image


class GaussianNoise(Degradation):
    """Add white Gaussian noise and do not clip, the protocol of the denoising literature (Zhang et al. 2017).

    The severity is sigma.

    Args:
        sigma: standard deviation in units of the [0,1] range, at least 0; 25/255 is the literature's "sigma 25".
    """

    def __init__(self, sigma: Range) -> None:
        self.level = ends("sigma", sigma)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Add the noise, see `Degradation`."""
        sigma = draw(self.level, keys, "sigma")
        noise = keyed.normal(keyed.fold(keys, "noise"), tuple(clean.shape[1:])).to(clean.dtype)
        return Degraded(torch.addcmul(clean, noise, per_image(sigma, clean)), all_known(clean), sigma)


class SaltPepper(Degradation):
    """Replace values by 1 or 0, each channel's on its own, as `skimage.util.random_noise` does.

    The severity is the amount.

    Args:
        amount: the probability that a value is replaced, in [0,1].
        salt: the share of the replaced values that become 1, in [0,1].
    """

    def __init__(self, amount: Range, salt: float = 0.5) -> None:
        self.level = ends("amount", amount, high=1)
        self.salt = number("salt", salt, low=0, high=1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Replace the values, see `Degradation`."""
        amount = draw(self.level, keys, "amount")
        place = keyed.uniform(keyed.fold(keys, "place"), tuple(clean.shape[1:]))
        bound = amount.view(-1, 1, 1, 1)
        # Comparing into numbers and adding are on the CPU several times faster than masked_fill or where.
        salt = torch.lt(place, bound * self.salt, out=torch.empty_like(place)).to(clean.dtype)
        kept = place.ge_(bound).to(clean.dtype)
        return Degraded(torch.addcmul(salt, clean, kept), all_known(clean), amount)
