"""Tone: fewer grey levels, little light, little contrast, less colour."""

from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.degradations import fused
from recon.degradations.base import Degradation, Degraded, all_known, draw, draw_whole, per_image
from recon.degradations.levels import Range, ends, light_ends, whole_ends
from recon.degradations.noise import PEAKS, count_photons
from recon.errors import InputError

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class Quantise(Degradation):
    """Round to the 2^bits evenly spaced levels from 0 to 1, clipping to [0,1]; halves go to the even level.

    The severity is the bits; fewer are worse.

    >>> Quantise(1)(clean, keys).image.mean((1, 2, 3))
    tensor([0., 1.])

    Args:
        bits: whole numbers from 1 to 8; of a range each is as likely.
    """

    examples: ClassVar = ("bits", (4, 2, 1))

    def __init__(self, bits: Range) -> None:
        self.level = whole_ends("bits", bits, 1, 8)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Round the values, see `Degradation`."""
        bits = draw_whole(self.level, keys, "bits")
        highest = per_image((1 << bits) - 1, clean)
        return Degraded((clean.clamp(0, 1) * highest).round_().div_(highest), all_known(clean), bits.float())

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Round the values, see `Degradation`."""
        bits = draw_whole(self.level, keys, "bits")
        return fused.Plan([fused.Step(fused.QUANTISE, keys, [], [((1 << bits) - 1).float()], bits.float())])


class LowLight(Degradation):
    """Dim as a sensor records little light: gain·x^gamma, then Poisson-Gaussian noise, not brightened again.

    The noise is that of Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting for single-image
    raw-data": a variance of y/peak + read_noise² about the light y. Nothing is clipped. The severity is the gain; lower
    is worse.

    >>> LowLight(0.2)(clean, keys).image[1, 0, 0]
    tensor([0.1097, 0.0994, 0.1156, 0.1216])

    Args:
        gain: the share of the light that is left, in [0.001,1].
        gamma: the exponent, in [0.1,10]; above 1 shadows darken more than lights.
        peak: the mean count of photons where the image after the gain is 1, from 0.001 to 10⁹.
        read_noise: the sensor's own standard deviation in units of the [0,1] range, from 0 to 1.
    """

    examples: ClassVar = ("gain", (0.6, 0.3, 0.1))

    def __init__(self, gain: Range, gamma: Range = 1.0, peak: Range = 1000.0, read_noise: Range = 0.002) -> None:
        self.level = ends("gain", gain, 1e-3, 1)
        self.gamma = ends("gamma", gamma, 0.1, 10)
        self.peak = ends("peak", peak, *PEAKS)
        self.read_noise = light_ends("read_noise", read_noise)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Dim the images and draw the sensor's noise, see `Degradation`."""
        gain = draw(self.level, keys, "gain")
        peak = draw(self.peak, keys, "peak")
        image = count_photons(self._bend(clean, keys), peak, keyed.fold(keys, "photons"), gain)
        if self.read_noise[1]:
            noise = keyed.normal(keyed.fold(keys, "read noise"), tuple(clean.shape[1:])).to(clean.dtype)
            image.addcmul_(noise, per_image(draw(self.read_noise, keys, "read_noise"), clean))
        return Degraded(image, all_known(clean), gain)

    def _bend(self, clean: Tensor, keys: Tensor) -> Tensor:
        """Return x^gamma, of negative values 0."""
        if self.gamma == (1.0, 1.0):
            return clean
        # The CPU computes the powers at a tensor's end by another function, whose last bit may differ: in double
        # precision and rounded, no image depends on its index in the batch.
        gamma = per_image(draw(self.gamma, keys, "gamma").double(), clean.double())
        return clean.double().clamp_min(0).pow(gamma).to(clean.dtype)


class OfLuma(Degradation):
    """A degradation of grey or colour images.

    >>> Contrast(0.5).check_shape((3, 8, 8))
    """

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse images that are neither grey nor colour, see `Degradation`."""
        _require_grey_or_colour(shape[0])


class Contrast(OfLuma):
    """Move all values towards their image's mean grey, or away: mean + factor·(x - mean); nothing is clipped.

    The mean is that of the luma (ITU-R BT.601), as in Pillow's `ImageEnhance.Contrast`, which rounds it to a whole grey
    level of 255. The severity is the factor; 1 leaves the image unchanged.

    >>> Contrast(0.5)(clean, keys).image[:, 0, 0, 0]
    tensor([0.1210, 0.6371])

    Args:
        factor: from 0 to 10; below 1 the contrast falls, above 1 it rises.
        by_channel: move each channel towards its own mean instead, which also takes the colours away.
    """

    examples: ClassVar = ("factor", (0.7, 0.4, 0.15))

    def __init__(self, factor: Range, by_channel: bool = False) -> None:
        self.level = ends("factor", factor, 0, 10)
        self.by_channel = by_channel

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Change the contrast, see `Degradation`."""
        factor = draw(self.level, keys, "factor")
        mean = mean_of(clean if self.by_channel else luma(clean)).to(clean.dtype)
        by = per_image(factor, clean)
        # Not `addcmul`, which some processors round once and others twice.
        return Degraded((clean * by).add_(mean * (1 - by)), all_known(clean), factor)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Change the contrast, see `Degradation`."""
        if not self.by_channel:
            _require_grey_or_colour(shape[0])
        factor = draw(self.level, keys, "factor")
        values = [factor, torch.full_like(factor, self.by_channel)]
        return fused.Plan([fused.Step(fused.CONTRAST, keys, [], values, factor)])


class Brightness(OfLuma):
    """Raise or lower the V of HSV, the largest of an image's channels, up to 1; hue and saturation stay.

    The severity is the shift; 0 leaves the image unchanged.

    >>> Brightness(0.2)(clean, keys).image[1, 0, 3]
    tensor([1., 1., 1., 1.])

    Args:
        shift: from -1 to 1; below 0 the image darkens.
    """

    examples: ClassVar = ("shift", (0.1, 0.3, 0.6))

    def __init__(self, shift: Range) -> None:
        self.level = ends("shift", shift, -1, 1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Shift the values, see `Degradation`."""
        shift = draw(self.level, keys, "shift")
        value = clean.amax(1, keepdim=True)
        raised = (value + per_image(shift, clean)).clamp(0, 1)
        # Black has no hue: it becomes grey.
        ratio, black = raised / value.where(value > 0, 1), value <= 0
        return Degraded((clean * ratio).where(~black, raised), all_known(clean), shift)


class Decolourise(OfLuma):
    """Fade colours towards their luma (ITU-R BT.601), as three equal channels at 1; grey images stay unchanged.

    The severity is the amount. At 1, restoring is colourisation.

    >>> Decolourise(1)(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1), keys[:1]).image.flatten()
    tensor([0.2990, 0.2990, 0.2990])

    Args:
        amount: the share of the luma in the result, in [0,1].
    """

    examples: ClassVar = ("amount", (0.4, 0.7, 1.0))

    def __init__(self, amount: Range) -> None:
        self.level = ends("amount", amount, 0, 1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Fade the colours, see `Degradation`."""
        amount = draw(self.level, keys, "amount")
        if clean.shape[1] == 1:
            return Degraded(clean, all_known(clean), amount)
        share = per_image(amount, clean)
        return Degraded(torch.addcmul(clean * (1 - share), luma(clean), share), all_known(clean), amount)


def mean_of(image: Tensor) -> Tensor:
    """Return the mean (B,C,1,1) float64 of each channel: halves are added until one value is left.

    So it has the same bits on every device, with any number of threads and in the fused form.

    >>> mean_of(torch.tensor([1.0, 2, 6]).view(1, 1, 1, 3)).item()
    3.0
    """
    total = image.flatten(2).double()
    while (count := total.shape[2]) > 1:
        half = (count + 1) // 2
        middle = total[..., count - half : half]  # of an odd number
        total = torch.cat([total[..., : count - half] + total[..., half:], middle], 2)
    return total.unsqueeze(3) / (image.shape[2] * image.shape[3])


def luma(image: Tensor) -> Tensor:
    """Return the luma (B,1,H,W) of grey or colour images (B,C,H,W).

    >>> luma(torch.ones(1, 3, 1, 1)).flatten()
    tensor([1.])
    """
    _require_grey_or_colour(image.shape[1])
    if image.shape[1] == 1:
        return image
    # Separate products: a fused one would round differently at a tensor's end.
    red, green, blue = (image[:, index : index + 1] * weight for index, weight in enumerate(_LUMA))
    return red.add_(green).add_(blue)


def _require_grey_or_colour(channels: int) -> None:
    if channels not in (1, 3):
        raise InputError(f"clean must have 1 channel (grey) or 3 (colour), not {channels}: convert the images.")
