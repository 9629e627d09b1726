"""Missing pixels: images with holes, and the masks that say where."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.data.find import expanded
from recon.degradations.base import Degradation, Degraded, draw, draw_whole
from recon.degradations.lettering import WORDS, font, font_bytes
from recon.degradations.levels import Range, ends, light, one_of, whole_ends
from recon.degradations.masks import Stack, nearest, part_of, read_masks
from recon.errors import InputError

_SIDES = ("left", "right", "top", "bottom")
_SEGMENTS = 4  # of each stroke
_MOST_STROKES = 100  # each of them costs several passes over the images
_WIDEST_SPACING = 65535  # pixels
_LARGEST_FONT = 1 << 27  # bytes
_HEADINGS = 1024  # directions in which a stroke can go
_SMALLEST_LETTER = 6  # pixels; below, the font cannot be read


class Missing(Degradation):
    """A degradation that makes holes; outside them the image is untouched.

    The severity is the fraction of pixels that the mask really misses. At least one pixel of every image stays known.

    Args:
        fill: the value put into the holes, from -1 to 1; images are in [0,1].
    """

    makes_holes = True

    def __init__(self, fill: float) -> None:
        self.fill = light("fill", fill, -1)

    @abstractmethod
    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw which pixels stay known: (B,height,width) float32 of 0 and 1, in new memory."""

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Make the holes, see `Degradation`."""
        height, width = clean.shape[2:]
        known = self.known(keys, height, width).view(len(keys), height * width)
        total = known.sum(1)
        # Elsewhere the question would stall the device, which would wait for the answer.
        if clean.device.type != "cpu" or not total.all():
            kept = keyed.integers(keyed.fold(keys, "kept"), height * width).unsqueeze(1)
            known.scatter_(1, kept, known.gather(1, kept).maximum((total == 0).float().unsqueeze(1)))
            total = known.sum(1)
        severity = 1 - total / (height * width)
        mask = known.view(-1, 1, height, width).to(clean.dtype)
        # Exact for 0 and 1, and on the CPU several times faster than masked_fill or where.
        image = clean * mask if self.fill == 0 else torch.addcmul(self.fill * (1 - mask), clean, mask)
        return Degraded(image, mask, severity)


class MissingPixels(Missing):
    """Lose single pixels, each with the same probability.

    Args:
        fraction: the probability that a pixel is missing, in [0,1].
        fill: the value put into the holes.
    """

    examples: ClassVar = ("fraction", (0.2, 0.5, 0.8))

    def __init__(self, fraction: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("fraction", fraction, 0, 1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the missing pixels, see `Missing`."""
        fraction = draw(self.level, keys, "fraction").view(-1, 1, 1)
        return keyed.uniform(keyed.fold(keys, "pixels"), (height, width)).ge_(fraction)


class MissingBox(Missing):
    """Lose one box, anywhere inside the image or in its middle (the masks of Pathak et al. 2016).

    Args:
        size: the box's height and width as a fraction of the image's, in [0,1].
        place: "random" by key, or "centre"; where the centre lies between two pixels, the upper or left one counts.
        fill: the value put into the hole.
    """

    examples: ClassVar = ("size", (0.25, 0.5, 0.75))

    def __init__(self, size: Range, place: str = "random", fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("size", size, 0, 1)
        self.place = one_of("place", place, ("random", "centre"))

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the box, see `Missing`."""
        size = draw(self.level, keys, "size")
        rows = self._outside(size, keyed.fold(keys, "top"), height)
        columns = self._outside(size, keyed.fold(keys, "left"), width)
        return torch.maximum(rows.unsqueeze(2), columns.unsqueeze(1))

    def _outside(self, size: Tensor, keys: Tensor, side: int) -> Tensor:
        """Place an interval of `size` (B,) times `side` pixels: (B,side) float, 0 inside it and 1 outside."""
        length = (size * side).round().long()
        room = side - length
        start = (room // 2 if self.place == "centre" else keyed.integers(keys, room + 1)).unsqueeze(1)
        place = torch.arange(side, device=keys.device)
        return ((place < start) | (place >= start + length.unsqueeze(1))).float()


class MissingHalf(Missing):
    """Lose one half of the image; of an odd side, the smaller half.

    Args:
        side: the half that is missing: "left", "right", "top", "bottom", or "any" by key.
        fill: the value put into the hole.
    """

    level = (0.5, 0.5)

    def __init__(self, side: str, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.side = one_of("side", side, (*_SIDES, "any"))

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
        count: how many strokes, whole numbers from 0 to 100.
        width: the brush's width, in [0,1]; at least one pixel is used.
        length: the length of a segment, in [0,1].
        fill: the value put into the holes.
    """

    examples: ClassVar = ("count", (1, 3, 8))

    def __init__(
        self, count: Range, width: Range = (0.05, 0.15), length: Range = (0.1, 0.5), fill: float = 0.0
    ) -> None:
        super().__init__(fill)
        self.level = whole_ends("count", count, 0, _MOST_STROKES)
        self.width = ends("width", width, 0, 1)
        self.length = ends("length", length, 0, 1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the strokes, see `Missing`."""
        known = torch.ones(len(keys), height, width, device=keys.device)
        count = draw_whole(self.level, keys, "count")
        for stroke in range(int(self.level[1])):
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


class MissingGrid(Missing):
    """Lose the lines of a regular grid, which starts anywhere.

    Args:
        spacing: pixels from one line's edge to the next line's same edge, whole numbers from 1 to 65535.
        width: of a line, in pixels, whole numbers; below the spacing.
        fill: the value put into the holes.
    """

    examples: ClassVar = ("spacing", (16, 8, 4))

    def __init__(self, spacing: Range, width: Range = 1, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = whole_ends("spacing", spacing, 1, _WIDEST_SPACING)
        self.width = whole_ends("width", width, 0, _WIDEST_SPACING)
        if self.width[1] >= self.level[0]:
            raise InputError(f"width: {width!r} leaves no pixel known; give less than spacing={spacing!r}")

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the grid, see `Missing`."""
        spacing = draw_whole(self.level, keys, "spacing").unsqueeze(1)
        line = draw_whole(self.width, keys, "width").unsqueeze(1)
        sides = {"top": height, "left": width}
        rows, columns = (
            (keyed.integers(keyed.fold(keys, name), spacing).unsqueeze(1) + torch.arange(side, device=keys.device))
            .remainder_(spacing)
            .ge(line)
            .float()
            for name, side in sides.items()
        )
        return rows.unsqueeze(2) * columns.unsqueeze(1)


class MissingText(Missing):
    """Lose what lines of random English words cover, set in Pillow's built-in font (Aileron).

    Every image has its own words, at its own offset. The letters are Pillow's, so that another version of it may
    set single pixels otherwise.

    Args:
        size: the height of a capital letter as a fraction of the image's shorter side, in [0,1]; at least 6 pixels
            are used, and of a range at most 8 heights, evenly spaced.
        fill: the value put into the holes.
    """

    examples: ClassVar = ("size", (0.04, 0.08, 0.16))

    def __init__(self, size: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("size", size, 0, 1)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse letters that would take all memory, see `Degradation`."""
        low, high = self._heights(*shape[1:])
        if font_bytes(low, high) > _LARGEST_FONT:
            large = f"letters of {high} pixels take more than {_LARGEST_FONT >> 20} MB"
            raise InputError(f"size: {large}; give less for images of {shape[1]}×{shape[2]}, or use smaller crops")

    def _heights(self, height: int, width: int) -> list[int]:
        """Give the least and the greatest height of a capital in pixels."""
        return [max(_SMALLEST_LETTER, round(end * min(height, width))) for end in self.level]

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Set the words, see `Missing`."""
        self.check_shape((1, height, width))
        low, high = self._heights(height, width)
        letters = font(low, high, keys.device)
        size = keyed.integers(keyed.fold(keys, "size"), len(letters.extents))
        pitch, widest = letters.pitch[size], letters.width.amax(1)[size]
        # A page larger than the image, which is shifted up by less than a line, and each line left by less than a word.
        lines = max((height + pitch - 2) // pitch + 1 for pitch, _, _ in letters.extents)
        words = max((width + widest - 2) // narrowest + 1 for _, narrowest, widest in letters.extents)
        word = keyed.integers(keyed.fold(keys, "words"), len(WORDS), (lines, words))
        word_width, word_column = (table[size.view(-1, 1, 1), word] for table in (letters.width, letters.column))
        end = word_width.cumsum(2)
        x = keyed.integers(keyed.fold(keys, "left"), widest, (lines, 1)) + torch.arange(width, device=keys.device)
        at = torch.searchsorted(end, x, right=True)
        column = (word_column - end + word_width).gather(2, at).add_(x)  # of the font, (B,lines,width)
        y = keyed.integers(keyed.fold(keys, "top"), pitch).unsqueeze(1) + torch.arange(height, device=keys.device)
        line, row = y // pitch.unsqueeze(1), y % pitch.unsqueeze(1)
        place = column.gather(1, line.unsqueeze(2).expand(-1, -1, width)).mul_(letters.rows).add_(row.unsqueeze(2))
        return letters.blank.take(place).float()


class MissingFile(Missing):
    """Lose what the white pixels of the user's own masks cover, as in the irregular masks of Liu et al. 2018.

    A value of at least 128 (of 255) is a hole; of a colour its luma counts, and alpha does not. Each image's mask is
    chosen by its key. An image smaller than its mask, such as a crop of the photographs that the masks are for, lies
    under a part of it that the key chooses too. All masks are kept in memory, one bit per pixel.

    Args:
        path: an image file, or a folder with such files and folders (PNG, JPEG, BMP, TIFF or WebP).
        resize: whether masks are resized to the image (nearest pixel) instead; else smaller ones are refused.
        fill: the value put into the holes.

    Raises:
        InputError: there is no mask, one cannot be read, or none has a hole.
    """

    def __init__(self, path: str | Path, resize: bool = False, fill: float = 0.0) -> None:
        super().__init__(fill)
        if not isinstance(path, (str, Path)):
            raise InputError(f"path: {path!r} does not fit; give a mask image or a folder of them")
        if not isinstance(resize, bool):
            raise InputError(f"resize: {resize!r} does not fit; give true or false")
        self.path, self.resize = path, resize
        masks = read_masks(expanded(str(path)))
        self.level = min(mask.missing for mask in masks), max(mask.missing for mask in masks)
        if not self.level[1]:
            raise InputError(f"path: {path} shows no hole; make the missing pixels white, which is 128 to 255")
        self._sizes = sorted({(mask.height, mask.width) for mask in masks})
        self._stack = Stack.of(masks)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse images that are larger than a mask, see `Degradation`."""
        height, width = shape[1:]
        for mask_height, mask_width in () if self.resize else self._sizes:
            if mask_height < height or mask_width < width:
                raise InputError(
                    f"path: {self.path} has a mask of {mask_height}×{mask_width} pixels, too small for images of "
                    f"{height}×{width}; give larger masks, or set resize=true"
                )

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Choose the masks, see `Missing`."""
        self.check_shape((1, height, width))
        stack = self._stack = self._stack.to(keys.device)
        chosen = keyed.integers(keyed.fold(keys, "mask"), len(stack.start))
        mask_height, mask_width = stack.height[chosen].unsqueeze(1), stack.width[chosen].unsqueeze(1)
        if self.resize:
            row, column = nearest(height, mask_height), nearest(width, mask_width)
        else:
            row, column = part_of(keys, "top", height, mask_height), part_of(keys, "left", width, mask_width)
        return stack.known(chosen, row, column)
