"""Geometry: turned, sheared, scaled, shifted and elastically bent images.

All read the clean image at other coordinates, by bilinear interpolation, about its middle. What lies outside it is
"zero" (black), "reflect", "replicate" or "circular", see `recon.filters.convolve`.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, draw
from recon.degradations.kernels import distinct, gaussian
from recon.degradations.levels import Range, ends, one_of
from recon.filters.bands import BOUNDARIES
from recon.filters.convolve import filter_apart
from recon.filters.warp import warp

_LARGEST_SHIFT = 10_000.0  # pixels
_MOST_MOVED = 0.1  # of the side: three points that move further may come to lie on a line


def _grid(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (H,1) and the columns (1,W) of images, counted from their middle, in float64."""
    height, width = clean.shape[2:]
    rows, columns = (
        torch.arange(side, dtype=torch.float64, device=clean.device) - (side - 1) / 2 for side in (height, width)
    )
    return rows.unsqueeze(1), columns.unsqueeze(0)


def _read_by(clean: Tensor, matrix: Tensor, shift: Tensor, boundary: str) -> Tensor:
    """Read each pixel p, counted from the middle, at matrix·p + shift: (B,2,2) and (B,2), rows first."""
    rows, columns = _grid(clean)
    middle = [(side - 1) / 2 for side in clean.shape[2:]]
    (down, across), (lower, right) = ((line.view(-1, 1, 1) for line in row.unbind(1)) for row in matrix.unbind(1))
    row = down * rows + across * columns + (shift[:, 0] + middle[0]).view(-1, 1, 1)
    column = lower * rows + right * columns + (shift[:, 1] + middle[1]).view(-1, 1, 1)
    return warp(clean, row, column, boundary)


def _matrix(rows: Tensor, across: Tensor, lower: Tensor, columns: Tensor) -> Tensor:
    """Return the matrices (B,2,2) of four entries (B,)."""
    return torch.stack([torch.stack([rows, across], 1), torch.stack([lower, columns], 1)], 1)


def _either(keys: Tensor, name: str) -> Tensor:
    """Draw 1 or -1 (B,) float64."""
    return keyed.integers(keyed.fold(keys, name), 2).mul_(2).sub_(1).double()


class _Linear(Degradation):
    """A degradation whose image is the clean one, read at coordinates that are linear in the pixel's."""

    boundary: str
    name: ClassVar[str]

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Read the image elsewhere, see `Degradation`."""
        severity = draw(self.level, keys, self.name)
        matrix, shift = self.where(severity.double(), keys)
        return Degraded(_read_by(clean, matrix, shift, self.boundary), all_known(clean), severity)

    @abstractmethod
    def where(self, severity: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrices (B,2,2) and shifts (B,2), rows first, that lead to what each pixel shows."""


class Rotate(_Linear):
    """Turn images by an angle, one way or the other by chance; the severity is the angle.

    >>> Rotate(180)(clean, keys).image[1, 0, 3].equal(clean[1, 0, 0].flip(0))
    True

    Args:
        angle: in degrees, from 0 to 180.
        boundary: "zero", "reflect", "replicate" or "circular".
    """

    examples: ClassVar = ("angle", (5, 20, 45))
    name = "angle"

    def __init__(self, angle: Range, boundary: str = "zero") -> None:
        self.level = ends("angle", angle, 0, 180)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def where(self, severity: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Turn, see `_Linear`."""
        angle = severity.deg2rad() * _either(keys, "side")
        # Rounded, so that quarters of a turn are exact.
        cos, sin = (value.mul(1e15).round().div(1e15) for value in (angle.cos(), angle.sin()))
        return _matrix(cos, sin, -sin, cos), severity.new_zeros(len(keys), 2)


class Shear(_Linear):
    """Slant images by an angle, one way or the other by chance, as `skimage` 0.14 did; the severity is the angle.

    Rows shift by the sine of the angle for each pixel and move together by its cosine: an upright line leans, with its
    length unchanged.

    >>> Shear(0)(clean, keys).image.equal(clean)
    True

    Args:
        angle: in degrees, from 0 to 80.
        boundary: "zero", "reflect", "replicate" or "circular".
    """

    examples: ClassVar = ("angle", (5, 15, 30))
    name = "angle"

    def __init__(self, angle: Range, boundary: str = "zero") -> None:
        self.level = ends("angle", angle, 0, 80)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def where(self, severity: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Slant, see `_Linear`."""
        angle = severity.deg2rad() * _either(keys, "side")
        ones, zeros = torch.ones_like(angle), torch.zeros_like(angle)
        return _matrix(angle.cos(), zeros, -angle.sin(), ones), severity.new_zeros(len(keys), 2)


class Rescale(_Linear):
    """Make what an image shows smaller or larger within the same frame; the severity is the factor, of which 1 is none.

    >>> (Rescale(0.5)(clean, keys).image[1] > 0).sum(2)
    tensor([[0, 2, 2, 0]])

    Args:
        factor: from 0.01 to 100; below 1 what is shown becomes smaller.
        boundary: "zero", "reflect", "replicate" or "circular".
    """

    examples: ClassVar = ("factor", (0.95, 0.8, 0.6))
    name = "factor"

    def __init__(self, factor: Range, boundary: str = "zero") -> None:
        self.level = ends("factor", factor, 0.01, 100)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def where(self, severity: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Scale, see `_Linear`."""
        zeros = torch.zeros_like(severity)
        return _matrix(1 / severity, zeros, zeros, 1 / severity), severity.new_zeros(len(keys), 2)


class Translate(_Linear):
    """Shift images along both axes, each one way or the other by chance; the severity is the distance along each.

    >>> (Translate(1)(clean, keys).image == 0).sum((1, 2, 3))
    tensor([7, 7])

    Args:
        distance: in pixels, from 0 to 10000; of a part of a pixel, values are interpolated.
        boundary: "zero", "reflect", "replicate" or "circular".
    """

    examples: ClassVar = ("distance", (1, 4, 12))
    name = "distance"

    def __init__(self, distance: Range, boundary: str = "zero") -> None:
        self.level = ends("distance", distance, 0, _LARGEST_SHIFT)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def where(self, severity: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Shift, see `_Linear`."""
        ones, zeros = torch.ones_like(severity), torch.zeros_like(severity)
        shift = torch.stack([severity * _either(keys, "down"), severity * _either(keys, "right")], 1)
        return _matrix(ones, zeros, zeros, ones), shift


class Elastic(Degradation):
    """Bend images by a smooth random field of shifts, after three points of them have moved (Simard et al. 2003).

    The shifts are uniform in [-strength,strength] at every pixel, then smoothed by a Gaussian; the points that move,
    each coordinate uniformly, are three corners of a square around the middle, a third of the shorter side from it.
    All lengths are shares of the shorter side. The severity is the strength.

    >>> Elastic(0, affine=0)(clean, keys).image.equal(clean)
    True

    Args:
        strength: of the shifts before they are smoothed, from 0 to 4.
        smoothness: the sigma of the Gaussian, from 0 to 1; it ends at three of them.
        affine: how far the three points move along each axis, from 0 to 0.1.
        boundary: "reflect", "zero", "replicate" or "circular".
    """

    examples: ClassVar = ("strength", (0.15, 0.3, 0.6))

    def __init__(
        self, strength: Range, smoothness: float = 0.05, affine: Range = 0.0, boundary: str = "reflect"
    ) -> None:
        self.level = ends("strength", strength, 0, 4)
        self.smoothness = ends("smoothness", smoothness, 0, 1)[0]
        self.affine = ends("affine", affine, 0, _MOST_MOVED)
        self.boundary = one_of("boundary", boundary, BOUNDARIES)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Move the points, then bend, see `Degradation`."""
        strength, side = draw(self.level, keys, "strength"), min(clean.shape[2:])
        image = clean
        if self.affine[1]:
            moved = draw(self.affine, keys, "affine").double() * side
            image = _read_by(image, *_back(keyed.fold(keys, "points"), moved, side), self.boundary)
        if self.level[1]:
            shifts = self._shifts(clean, keys) * (strength.double() * side).view(-1, 1, 1, 1)
            rows, columns = (torch.arange(n, dtype=torch.float64, device=clean.device) for n in clean.shape[2:])
            image = warp(image, rows.unsqueeze(1) + shifts[:, 0], columns + shifts[:, 1], self.boundary)
        return Degraded(image, all_known(clean), strength)

    def _shifts(self, clean: Tensor, keys: Tensor) -> Tensor:
        """Draw the field of shifts (B,2,H,W) of strength 1, in float64."""
        drawn = keyed.uniform(keyed.fold(keys, "shifts"), (2, *clean.shape[2:])).mul_(2).sub_(1)
        sigma = torch.tensor([self.smoothness * min(clean.shape[2:])], device=clean.device)
        weights = gaussian(distinct(sigma, (0, 0)), sigma * 0.75, int(3 * float(sigma) + 0.5))
        return filter_apart(drawn, weights, weights, "reflect").double()


def _back(keys: Tensor, moved: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the map from where three points have moved to where they were: (B,2,2) and (B,2), rows first."""
    third = side / 3
    was = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64, device=keys.device) * third
    now = was + (keyed.uniform(keys, (3, 2)).double() * 2 - 1) * moved.view(-1, 1, 1)
    # Both edges that leave the middle point, as columns, before and after.
    first, second = now[:, 0] - now[:, 1], now[:, 2] - now[:, 1]
    determinant = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    # was: the first edge goes down, the second to the left, each two thirds long.
    along = torch.stack([second[:, 1], -second[:, 0]], 1) * (2 * third / determinant).unsqueeze(1)
    aside = torch.stack([-first[:, 1], first[:, 0]], 1) * (-2 * third / determinant).unsqueeze(1)
    matrix = torch.stack([along, aside], 1)
    shift = was[1] - (matrix * now[:, 1].unsqueeze(1)).sum(2)
    return matrix, shift
