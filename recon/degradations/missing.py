"""Missing pixels: images with holes, and the masks that say where."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, Range, draw, ends, number
from recon.errors import InputError

_SIDES = ("left", "right", "top", "bottom")
_SEGMENTS = 4  # of each stroke
_HEADINGS = 1024  # directions in which a stroke can go


class Missing(Degradation):
    """A degradation that makes holes; outside them the image is untouched.

    The severity is the fraction of pixels that the mask really misses. At least one pixel of every image stays known.

    Args:
        fill: the value put into the holes.
    """

    makes_holes = True

    def __init__(self, fill: float) -> None:
        self.fill = number("fill", fill)

    @abstractmethod
    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw which pixels stay known: (B,height,width) float32 of 0 and 1, in new memory."""

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Make the holes, see `Degradation`."""
        height, width = clean.shape[2:]
        known = self.known(keys, height, width).view(len(keys), -1)
        kept = keyed.integers(keyed.fold(keys, "kept"), height * width).unsqueeze(1)
        nothing_left = (known.sum(1, keepdim=True) == 0).float()
        known.scatter_(1, kept, known.gather(1, kept).maximum(nothing_left))
        severity = 1 - known.mean(1)
        mask = known.view(-1, 1, height, width).to(clean.dtype)
        # Exact for 0 and 1, and on the CPU several times faster than masked_fill or where.
        return Degraded(torch.addcmul(self.fill * (1 - mask), clean, mask), mask, severity)


class MissingPixels(Missing):
    """Lose single pixels, each with the same probability.

    Args:
        fraction: the probability that a pixel is missing, in [0,1].
        fill: the value put into the holes.
    """

    def __init__(self, fraction: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("fraction", fraction, high=1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the missing pixels, see `Missing`."""
        fraction = draw(self.level, keys, "fraction").view(-1, 1, 1)
        return keyed.uniform(keyed.fold(keys, "pixels"), (height, width)).ge_(fraction)


class MissingBox(Missing):
    """Lose one box, anywhere inside the image (the masks of Pathak et al. 2016).

    Args:
        size: the box's height and width as a fraction of the image's, in [0,1].
        fill: the value put into the hole.
    """

    def __init__(self, size: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("size", size, high=1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the box, see `Missing`."""
        size = draw(self.level, keys, "size")
        rows = _span(size, keyed.fold(keys, "top"), height)
        columns = _span(size, keyed.fold(keys, "left"), width)
        return 1 - rows.unsqueeze(2) * columns.unsqueeze(1)


def _span(size: Tensor, keys: Tensor, side: int) -> Tensor:
    """Place an interval of `size` (B,) times `side` pixels by key: (B,side) float of 0 and 1."""
    length = (size * side).round().long()
    start = keyed.integers(keys, side - length + 1).unsqueeze(1)
    place = torch.arange(side, device=keys.device)
    return ((place >= start) & (place < start + length.unsqueeze(1))).float()


class MissingHalf(Missing):
    """Lose one half of the image; of an odd side, the smaller half.

    Args:
        side: the half that is missing: "left", "right", "top", "bottom", or "any" by key.
        fill: the value put into the hole.
    """

    level = (0.5, 0.5)

    def __init__(self, side: str, fill: float = 0.0) -> None:
        super().__init__(fill)
        if side not in (*_SIDES, "any"):
            raise InputError(f"side must be one of {', '.join(_SIDES)} or any, not {side!r}.")
        self.side = side

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Choose the half, see `Missing`."""
        halves = torch.ones(4, height, width, device=keys.device)
        halves[0, :, : width // 2] = 0
        halves[1, :, width - width // 2 :] = 0
        halves[2, : height // 2] = 0
        halves[3, height - height // 2 :] = 0
        if self.side == "any":
            return halves.index_select(0, keyed.integers(keyed.fold(keys, "side"), 4))
        return halves[_SIDES.index(self.side)].repeat(len(keys), 1, 1)


class MissingStrokes(Missing):
    """Lose what free-form brush strokes cover, in the manner of Yu et al. 2019, "Free-form image inpainting".

    A stroke starts anywhere and goes on for four straight segments, turning by up to 135° after each; it does not
    leave the image. Sizes are fractions of the image's shorter side, so that masks look alike at every size.

    Args:
        count: how many strokes, whole numbers.
        width: the brush's width, in [0,1]; at least one pixel is used.
        length: the length of a segment, in [0,1].
        fill: the value put into the holes.
    """

    def __init__(
        self, count: Range, width: Range = (0.05, 0.15), length: Range = (0.1, 0.5), fill: float = 0.0
    ) -> None:
        super().__init__(fill)
        self.level = ends("count", count)
        if not all(end.is_integer() for end in self.level):
            raise InputError(f"count must be a whole number or a range of whole numbers, not {count!r}.")
        self.width = ends("width", width, high=1)
        self.length = ends("length", length, high=1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the strokes, see `Missing`."""
        known = torch.ones(len(keys), height, width, device=keys.device)
        low, high = map(int, self.level)
        count = low + keyed.integers(keyed.fold(keys, "count"), high - low + 1)
        for stroke in range(high):
            stroke_keys = keyed.fold(keys, f"stroke {stroke}")
            radius = draw(self.width, stroke_keys, "width").mul_(min(height, width)).clamp_min_(1).div_(2)
            radius.masked_fill_(count <= stroke, -1)
            for start, end in self._segments(stroke_keys, height, width):
                _paint(known, start, end, radius)
        return known

    def _segments(self, keys: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Walk along one stroke of each image: the ends (B,2) of segment after segment, (row, column) in pixels."""
        size = torch.tensor([height - 1, width - 1], device=keys.device)
        start = keyed.uniform(keyed.fold(keys, "start"), (2,)) * size
        heading = keyed.integers(keyed.fold(keys, "heading"), _HEADINGS)
        for segment in range(_SEGMENTS):
            segment_keys = keyed.fold(keys, f"segment {segment}")
            length = draw(self.length, segment_keys, "length").mul_(min(height, width)).unsqueeze(1)
            end = (start + length * _directions(keys.device)[heading]).clamp_min_(0).minimum(size)
            yield start, end
            start = end
            turn = keyed.integers(keyed.fold(segment_keys, "turn"), _HEADINGS * 3 // 4)
            heading = (heading + turn - _HEADINGS * 3 // 8) % _HEADINGS


@lru_cache(maxsize=8)
def _directions(device: torch.device) -> Tensor:
    """Unit vectors all around (1024,2), a table so that no device's cosine matters."""
    angle = torch.arange(_HEADINGS, dtype=torch.float64) * (2 * math.pi / _HEADINGS)
    return torch.stack([angle.sin(), angle.cos()], 1).float().to(device)


def _paint(known: Tensor, start: Tensor, end: Tensor, radius: Tensor) -> None:
    """Take out of `known` (B,H,W), in place, what lies within `radius` (B,) of the segments from start to end (B,2)."""
    height, width = known.shape[1:]
    along = end - start
    # Seen from the segment's start; a segment of no length is a point.
    row = (torch.arange(height, device=known.device) - start[:, :1]).unsqueeze(2)
    column = (torch.arange(width, device=known.device) - start[:, 1:]).unsqueeze(1)
    along_row, along_column = along.view(-1, 2, 1, 1).unbind(1)
    squared = along.square().sum(1).clamp_min_(1e-9).view(-1, 1, 1)
    nearest = (row * (along_row / squared) + column * (along_column / squared)).clamp_(0, 1)
    off_row = torch.addcmul(row, nearest, along_row, value=-1)
    off_column = nearest.mul_(-along_column).add_(column)
    squared_distance = off_row.square_().addcmul_(off_column, off_column)
    known.mul_(squared_distance.gt_((radius * radius.abs()).view(-1, 1, 1)))
