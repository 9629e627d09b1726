"""What is drawn over an image or taken out of it: lines, zigzags, inverted stripes, edges (Mu & Gilmer 2019).

Lines are defined for 28×28 pixels and stretched to other sizes.
"""

import math
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, draw, per_image
from recon.degradations.levels import Range, ends
from recon.degradations.tone import OfLuma, luma

_LAST = 27.0  # the last of 28 rows and columns
_FADES = 2.3  # pixels above and below a line, at which it ends


def _grid(clean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (H,1) and columns (1,W) of images, from 0 to 27, in float64."""
    rows, columns = (
        torch.arange(side, dtype=torch.float64, device=clean.device) * (_LAST / max(side - 1, 1))
        for side in clean.shape[2:]
    )
    return rows.unsqueeze(1), columns.unsqueeze(0)


def _line(clean: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Draw a line from start to end, both (B,2) of column and row, left to right: (B,H,W) float32 in [0,1]."""
    rows, columns = _grid(clean)
    left, top, right, bottom = (part.view(-1, 1, 1) for part in (*start.unbind(1), *end.unbind(1)))
    slope = (bottom - top) / (right - left).clamp_min(1e-9)
    distance = (rows - ((columns - left) * slope + top)).abs().clamp_max(_FADES - 1e-10)
    ink = (1 - distance / _FADES).log().add(1).clamp(0, 1)
    return (ink * ((columns >= left.floor()) & (columns < right.ceil()))).float()


class _Ink(Degradation):
    """Add ink of a strength to an image, up to 1."""

    def __init__(self, strength: Range) -> None:
        self.level = ends("strength", strength, 0, 1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Draw over the image, see `Degradation`."""
        strength = draw(self.level, keys, "strength")
        ink = self.ink(clean, keys).unsqueeze(1).to(clean.dtype) * per_image(strength, clean)
        return Degraded((clean + ink).clamp_max(1), all_known(clean), strength)

    def ink(self, clean: Tensor, keys: Tensor) -> Tensor:
        """Return the ink (B,H,W) float32 in [0,1]."""
        raise NotImplementedError


class DottedLine(_Ink):
    """Draw a white dotted line from a row at the left border to one at the right; the severity is its strength.

    >>> DottedLine(0)(clean, keys).image.equal(clean)
    True

    Args:
        strength: of the ink, from 0 to 1.
    """

    examples: ClassVar = ("strength", (0.3, 0.6, 1.0))

    def ink(self, clean: Tensor, keys: Tensor) -> Tensor:
        """Draw it, see `_Ink`."""
        ends_ = keyed.integers(keyed.fold(keys, "rows"), int(_LAST), (2,)).double()
        start, end = torch.zeros_like(ends_), torch.full_like(ends_, _LAST)
        start[:, 1], end[:, 1] = ends_.unbind(1)
        _, columns = _grid(clean)
        return _line(clean, start, end) * (columns.div(2).floor() % 2 == 1)


class Zigzag(_Ink):
    """Draw a white zigzag across the image; the severity is its strength.

    >>> Zigzag(0)(clean, keys).image.equal(clean)
    True

    Args:
        strength: of the ink, from 0 to 1.
    """

    examples: ClassVar = ("strength", (0.3, 0.6, 1.0))

    def ink(self, clean: Tensor, keys: Tensor) -> Tensor:
        """Draw its seven strokes, see `_Ink`."""
        first, last, half = 2.0, 25.0, 2.0  # columns where it begins and ends, half the width and the height of a tooth
        row = keyed.integers(keyed.fold(keys, "row"), int(_LAST)).double()
        rise = keyed.integers(keyed.fold(keys, "rise"), 10).sub_(5).double()
        length = (rise.square() + (last - first) ** 2).sqrt()
        cos, sin = (last - first) / length, rise / length
        teeth = int((last - first - half) // (2 * half)) + 1
        along = [0.0, *((2 * i + 1) * half for i in range(teeth))]
        off = [0.0, *((-1.0) ** i * half for i in range(teeth))]
        beyond = length - 2 * half * ((last - first) // (2 * half))
        points = [(torch.full_like(row, a), torch.full_like(row, o)) for a, o in zip(along, off, strict=True)]
        points.append((length, off[-1] / (2 * beyond)))
        turned = [torch.stack([first + a * cos - o * sin, row + a * sin + o * cos], 1) for a, o in points]
        ink = torch.zeros(len(keys), *clean.shape[2:], device=keys.device)
        for start, end in pairwise(turned):
            ink = (ink + _line(clean, start, end)).clamp_max(1)
        return ink


class Stripe(Degradation):
    """Invert a stripe at the left and one at the right; the severity is their width.

    >>> Stripe(0.25)(clean, keys).image[0, 0, 0]
    tensor([1.0000, 0.0323, 0.0645, 0.9032])

    Args:
        width: of each as a share of the image's width, from 0 to 0.5, rounded to whole columns.
    """

    examples: ClassVar = ("width", (0.05, 0.15, 0.25))

    def __init__(self, width: Range) -> None:
        self.level = ends("width", width, 0, 0.5)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Invert the stripes, see `Degradation`."""
        width = draw(self.level, keys, "width")
        columns = torch.arange(clean.shape[3], device=clean.device)
        stripe = (width.double() * clean.shape[3]).round().view(-1, 1, 1, 1)
        inverted = (columns < stripe) | (columns >= clean.shape[3] - stripe)
        return Degraded(torch.where(inverted, 1 - clean, clean), all_known(clean), width)


class Edges(OfLuma):
    """Leave the edges alone, as `skimage.feature.canny` finds them (Canny 1986), image by image; the severity is sigma.

    >>> Edges(1)(torch.eye(8).view(1, 1, 8, 8), keys[:1]).image.unique()
    tensor([0., 1.])

    Args:
        sigma: of the Gaussian that smooths the luma first, in pixels, from 0.1 to 50.
    """

    def __init__(self, sigma: Range) -> None:
        self.level = ends("sigma", sigma, 0.1, 50)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Find the edges, see `Degradation`."""
        from skimage.feature import canny

        sigma = draw(self.level, keys, "sigma")
        # Noise that leads to no finite numbers has no edges either.
        grey = luma(clean.detach()).float().nan_to_num(0, 0, 0).squeeze(1).cpu().numpy()
        edges = np.zeros(grey.shape, np.float32)
        for target, image, one in zip(edges, grey, sigma.tolist(), strict=True):
            if min(image.shape) > 2 and math.isfinite(one):
                target[...] = canny(image, one)
        image = torch.from_numpy(edges).to(clean.device, clean.dtype).unsqueeze(1).expand_as(clean)
        return Degraded(image.contiguous(), all_known(clean), sigma)
