"""Weather: fog, snow and spatters of mud, after Hendrycks & Dietterich (2019) and Mu & Gilmer (2019)."""

from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, draw, per_image
from recon.degradations.blur import GaussianBlur
from recon.degradations.levels import Range, ends, light
from recon.degradations.optics import TrailBlur
from recon.degradations.tone import OfLuma, luma
from recon.filters.warp import magnified
from recon.ranges import require_number, require_whole

_VALUES = 1 << 22  # of the maps of fog that are in memory at a time
_LARGEST_MAP = 1 << 14  # pixels of a side
_MUD = (63 / 255, 42 / 255, 20 / 255)  # brown; grey images take its red


class Fog(Degradation):
    """Add a cloud (Fournier, Fussell & Carpenter 1982), and scale so that the brightest value stays the brightest.

    The cloud is a plasma fractal in [0,1], by diamonds and squares that wrap around. With m the image's largest value,
    x becomes (x + amount·cloud)·m/(m + amount). The severity is the amount.

    >>> Fog(1.0)(clean, keys).image.amax((1, 2, 3)) <= clean.amax((1, 2, 3))
    tensor([True, True])

    Args:
        amount: from 0 to 100; 0 leaves the image unchanged.
        decay: how much smaller the differences are at half the distance, from 1 to 10; lower makes wisps.
        extent: the side of the cloud in pixels, of which the images show a part; it is rounded up to a power of 2 that
            covers them.
    """

    examples: ClassVar = ("amount", (0.3, 1.0, 2.5))

    def __init__(self, amount: Range, decay: float = 2.0, extent: int = 1) -> None:
        self.level = ends("amount", amount, 0, 100)
        require_number("decay", decay, 1, 10)
        require_whole("extent", extent, 1, _LARGEST_MAP)
        self.decay, self.extent = float(decay), extent

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Add the cloud, see `Degradation`."""
        amount, (height, width) = draw(self.level, keys, "amount"), clean.shape[2:]
        side = 1 << (max(2, height, width, self.extent) - 1).bit_length()
        parts = keyed.fold(keys, "cloud").split(max(1, _VALUES // side**2))
        clouds = [cloud(part, side, self.decay)[:, :height, :width].clone() for part in parts]
        layer = torch.cat(clouds).unsqueeze(1).to(clean.dtype) * per_image(amount, clean)
        brightest = clean.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
        return Degraded(
            (clean + layer) * (brightest / (brightest + per_image(amount, clean))), all_known(clean), amount
        )


def cloud(keys: Tensor, side: int, decay: float) -> Tensor:
    """Draw plasma fractals (B,side,side) float32 from 0 to 1; the side is a power of 2, at least 2.

    >>> cloud(keys, 4, 2.0).amax((1, 2))
    tensor([1., 1.])
    """
    height = torch.zeros(len(keys), side, side, device=keys.device)
    step, swing = side, 100.0
    while step >= 2:
        half = step // 2
        corners = height[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        _set(height, half, half, step, pairs + pairs.roll(-1, 2), keys, swing)
        middles = height[:, half::step, half::step]
        beside = (middles + middles.roll(1, 1)) + (corners + corners.roll(-1, 2))
        above = (middles + middles.roll(1, 2)) + (corners + corners.roll(-1, 1))
        _set(height, 0, half, step, beside, keys, swing)
        _set(height, half, 0, step, above, keys, swing)
        step, swing = half, swing / decay
    height = height - height.amin((1, 2), keepdim=True)
    return height / height.amax((1, 2), keepdim=True).clamp_min(1e-30)


def _set(height: Tensor, row: int, column: int, step: int, four: Tensor, keys: Tensor, swing: float) -> None:
    """Set every `step`-th height to the mean of four, and up to swing² more or less."""
    drawn = keyed.uniform(keyed.fold(keys, f"{row} {column} {step}"), tuple(four.shape[1:])).mul_(2).sub_(1)
    height[:, row::step, column::step] = four / 4 + drawn * swing**2


class Snow(OfLuma):
    """Whiten the image and let flakes drive through it.

    Flakes are Gaussian noise, enlarged, cut off below a threshold and blurred along a drawn direction downwards; they
    are added, and once more turned upside down. Values are at most 1. The severity is the amount.

    >>> (Snow(0.3)(clean, keys).image >= 0.95 * clean).all()
    tensor(True)

    Args:
        amount: the mean of the noise, from 0 to 1.
        spread: its standard deviation, from 0 to 1.
        size: of the flakes in pixels, from 1 to 10.
        threshold: below it there is no flake, from 0 to 1.
        reach: of a flake's trail in pixels, from 1 to 100.
        sigma: of that trail in pixels, from 0 to 50.
        kept: the share of the image that is not whitened, in [0,1].
    """

    examples: ClassVar = ("amount", (0.05, 0.2, 0.4))

    def __init__(
        self, amount: Range, spread: float = 0.3, size: float = 2.0, threshold: float = 0.6, reach: float = 10,
        sigma: float = 4.0, kept: float = 0.9,
    ) -> None:  # fmt: skip
        self.level = ends("amount", amount, 0, 1)
        for name, value, least, most in (("spread", spread, 0, 1), ("size", size, 1, 10), ("kept", kept, 0, 1)):
            require_number(name, value, least, most)
        self.spread, self.size, self.kept = float(spread), float(size), float(kept)
        self.threshold = light("threshold", threshold)
        self.trail = TrailBlur(sigma, reach, (-135.0, -45.0))

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Whiten and snow, see `Degradation`."""
        amount = draw(self.level, keys, "amount")
        noise = keyed.normal(keyed.fold(keys, "flakes"), (1, *clean.shape[2:])) * self.spread
        flakes = magnified(noise + amount.view(-1, 1, 1, 1), self.size)
        flakes = (flakes * (flakes >= self.threshold)).clamp(0, 1)
        flakes = self.trail(flakes, keyed.fold(keys, "trail")).image.to(clean.dtype)
        whitened = torch.maximum(clean, luma(clean) * 1.5 + 0.5)
        image = clean * self.kept + whitened * (1 - self.kept) + (flakes + flakes.flip(2, 3))
        return Degraded(image.clamp_max(1), all_known(clean), amount)


class Spatter(Degradation):
    """Spatter mud: where smoothed Gaussian noise exceeds a threshold, and all around is mud too, it covers the image.

    The severity is the amount.

    >>> Spatter(0.0)(clean, keys).image.equal(clean)
    True

    Args:
        amount: the mean of the noise, from 0 to 1, whose deviation before smoothing is 0.3; at the threshold about
            half of the image is covered.
        threshold: from 0 to 1.
        size: of the drops, the sigma of the smoothing in pixels, from 0 to 50.
        edge: how soft their edges are, a sigma in pixels, from 0 to 50; thinner mud than 0.8 runs off.
    """

    examples: ClassVar = ("amount", (0.5, 0.6, 0.7))

    def __init__(self, amount: Range, threshold: float = 0.65, size: float = 1.0, edge: float = 1.5) -> None:
        self.level = ends("amount", amount, 0, 1)
        self.threshold = light("threshold", threshold)
        require_number("size", size, 0, 50)
        require_number("edge", edge, 0, 50)
        self._smooth, self._soften = (GaussianBlur(sigma, boundary="replicate") for sigma in (size, edge))

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Cover with mud, see `Degradation`."""
        amount = draw(self.level, keys, "amount")
        noise = keyed.normal(keyed.fold(keys, "drops"), (1, *clean.shape[2:])) * 0.3 + amount.view(-1, 1, 1, 1)
        covered = (self._smooth(noise, keys).image > self.threshold).float()
        mud = self._soften(covered, keys).image
        mud = (mud * (mud >= 0.8)).to(clean.dtype)
        colour = clean.new_tensor(_MUD if clean.shape[1] == 3 else _MUD[:1]).view(1, -1, 1, 1)
        return Degraded(clean * (1 - mud) + colour * mud, all_known(clean), amount)
