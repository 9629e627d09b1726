"""Blur that is no convolution with one symmetric kernel: frosted glass, a zoom while exposing, a trail."""

import math
from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, draw
from recon.degradations.blur import Blur, GaussianBlur, constant
from recon.degradations.kernels import distinct, trail
from recon.degradations.levels import Range, ends, one_of
from recon.filters.bands import BOUNDARIES
from recon.filters.convolve import filter_whole
from recon.filters.warp import magnified
from recon.ranges import require_number, require_whole

_STEP = 0.01  # from one enlargement of a zoom to the next
_MOST_SWAPS = 16  # of glass: pixels that one swap reaches, and rounds


class GlassBlur(Degradation):
    """Blur, let pixels change places with near ones, and blur again, as frosted glass does.

    From the last pixel to the first, each changes places with one up to `reach` pixels above or `reach` - 1 below, and
    as far to the left or right; a border of `reach` pixels takes no turn of its own (Hendrycks &
    Dietterich 2019). The severity is sigma.

    >>> GlassBlur(0)(clean, keys).image.flatten(1).sort().values.equal(clean.flatten(1).sort().values)
    True

    Args:
        sigma: of both Gaussian blurs, in pixels, from 0 to 50.
        reach: in pixels, from 1 to 16.
        rounds: how often every pixel takes its turn, from 1 to 16.
        chance: the probability that a pixel takes its turn, in [0,1].
    """

    examples: ClassVar = ("reach", (1, 3, 8))

    def __init__(self, sigma: Range, reach: int = 1, rounds: int = 1, chance: float = 1.0) -> None:
        self.blur = GaussianBlur(sigma, boundary="replicate")
        require_whole("reach", reach, 1, _MOST_SWAPS)
        require_whole("rounds", rounds, 1, _MOST_SWAPS)
        require_number("chance", chance, 0, 1)
        self.level, self.reach, self.rounds, self.chance = self.blur.level, reach, rounds, float(chance)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur, swap and blur, see `Degradation`."""
        blurred, _, severity = self.blur(clean, keys)
        place = torch.arange(math.prod(clean.shape[2:]), device=clean.device).repeat(len(clean), 1)
        for number in range(self.rounds):
            self._swap(place, keyed.fold(keys, f"round {number}"), *clean.shape[2:])
        taken = blurred.flatten(2).gather(2, place.unsqueeze(1).expand(-1, clean.shape[1], -1)).view_as(clean)
        return Degraded(self.blur(taken, keys).image, all_known(clean), severity)

    def _swap(self, place: Tensor, keys: Tensor, height: int, width: int) -> None:
        """Let all pixels of a round take their turns in order, on the places (B,H·W) that they came from.

        Turns along a slanting line touch different pixels, and those that must precede them lie on earlier lines: all
        of a line are taken at once.
        """
        reach, slant = self.reach, 2 * self.reach
        rows, columns = height - 2 * reach, width - 2 * reach  # from `reach` + 1 to the side less `reach`
        if rows < 1 or columns < 1:
            return
        by = keyed.integers(keyed.fold(keys, "by"), 2 * reach, (2, rows, columns)).sub_(reach)
        by = by[:, 0] * width + by[:, 1]
        if self.chance < 1:
            by *= keyed.uniform(keyed.fold(keys, "chance"), (rows, columns)) < self.chance
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        line = slant * (rows - 1 - row) + (columns - 1 - column)
        order = line.flatten().argsort(stable=True).to(place.device)
        here = ((row + reach + 1) * width + column + reach + 1).flatten().to(place.device)
        for turn in order.split(line.flatten().bincount().tolist()):
            mine = here[turn].expand(len(place), -1)
            other = mine + by.flatten(1).index_select(1, turn)
            first, second = place.gather(1, mine), place.gather(1, other)
            place.scatter_(1, other, first).scatter_(1, mine, second)


class ZoomBlur(Degradation):
    """Average the image and its enlargements by 1, 1.01, … up to a factor, as a zoom while exposing does.

    As in ImageNet-C (Hendrycks & Dietterich 2019) the image counts twice. The severity is the factor; 1 leaves the
    image unchanged.

    >>> ZoomBlur(1.5)(clean, keys).image[0, 0, 0]
    tensor([0.0448, 0.0710, 0.0973, 0.1236])

    Args:
        factor: of the largest enlargement, from 1 to 4.
    """

    examples: ClassVar = ("factor", (1.04, 1.1, 1.25))

    def __init__(self, factor: Range) -> None:
        self.level = ends("factor", factor, 1, 4)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Average the enlargements, see `Degradation`."""
        factor = draw(self.level, keys, "factor")
        # Rounded first, as (1.11 - 1) / 0.01 is a little less or more than 11.
        steps = ((factor.double() - 1) / _STEP).mul(1e3).round().div(1e3).floor().to(clean.dtype).view(-1, 1, 1, 1)
        total = clean.clone()
        for step in range(1, int(steps.max()) + 1 if len(steps) else 0):
            total = total + magnified(clean, 1 + step * _STEP) * (step <= steps)
        # Twice the image and `steps` enlargements; of none, the image alone.
        return Degraded((total + clean * (steps > 0)) / (steps + 1 + (steps > 0)), all_known(clean), factor)


class TrailBlur(Blur):
    """Blur to one side along a line, as ImageMagick's `-motion-blur` does: each pixel trails half a Gaussian.

    The taps lie on whole pixels, and the trail ends at 2·reach of them or at 4 sigma. The severity is sigma.

    >>> TrailBlur(1, reach=1, angle=0)(clean, keys).image[0, 0, 0]
    tensor([0.0162, 0.0485, 0.0783, 0.0968])

    Args:
        sigma: of the Gaussian in pixels, from 0 to 50.
        reach: in pixels, from 1 to 100, rounded up.
        angle: towards which the pixels come from in degrees, clockwise from the right, from -3600 to 3600.
        boundary: "replicate", "reflect", "circular" or "zero".
    """

    examples: ClassVar = ("sigma", (1, 3, 8))

    def __init__(
        self, sigma: Range, reach: float = 20, angle: Range = (-45.0, 45.0), boundary: str = "replicate"
    ) -> None:
        self.level = ends("sigma", sigma, 0, 50)
        require_number("reach", reach, 1, 100)
        self.reach = math.ceil(reach)
        self.angle = ends("angle", angle, -3600, 3600)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def _longest(self, sigma: float) -> int:
        return min(2 * self.reach, int(4 * sigma + 0.5))

    def kernel(self, severity: float) -> Tensor:
        """Return the kernel of a severity, see `Blur`."""
        angle = torch.tensor([constant("angle", self.angle)])
        return trail(torch.tensor([severity]), angle, self._longest(severity)).flip(1, 2)[0]

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Blur the images, see `Degradation`."""
        sigma, angle = draw(self.level, keys, "sigma"), draw(self.angle, keys, "angle")
        longest = self._longest(self.level[1])
        kernels = trail(*_together(distinct(sigma, self.level), distinct(angle, self.angle)), longest)
        return Degraded(filter_whole(clean, kernels, self.boundary), all_known(clean), sigma)


def _together(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Bring (1,) or (B,) and (1,) or (B,) to one length."""
    first, second = torch.broadcast_tensors(first, second)
    return first, second
