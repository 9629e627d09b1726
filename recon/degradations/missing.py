"""Missing pixels: images with holes, and the masks that locate them."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.data.find import expanded
from recon.degradations import fused
from recon.degradations.base import Degradation, Degraded, draw, draw_whole
from recon.degradations.lettering import WORDS, font, font_bytes
from recon.degradations.levels import Range, ends, light, one_of, whole_ends
from recon.degradations.masks import Stack, read_masks
from recon.degradations.strokes import paint, segments
from recon.errors import InputError

_SIDES = ("left", "right", "top", "bottom")
_MOST_STROKES = 100  # each costs several passes over the images
_WIDEST_SPACING = 65535  # pixels
_LARGEST_FONT = 1 << 27  # bytes
_SMALLEST_LETTER = 6  # pixels; smaller letters are illegible


class Missing(Degradation):
    """A degradation that makes holes; outside them the image is untouched.

    The severity is the fraction of pixels missing in the mask. At least one pixel of every image stays known.

    >>> degraded = MissingHalf("left")(clean, keys)
    >>> degraded.image[0, 0, 0], degraded.severity
    (tensor([0.0000, 0.0000, 0.0645, 0.0968]), tensor([0.5000, 0.5000]))

    Args:
        fill: of all classes below, the value put into the holes, from -1 to 1; images are in [0,1].
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
        # On other devices the test would force a synchronisation.
        if clean.device.type != "cpu" or not total.all():
            index = keyed.integers(keyed.fold(keys, "kept"), height * width).unsqueeze(1)
            known.scatter_(1, index, known.gather(1, index).maximum((total == 0).float().unsqueeze(1)))
            total = known.sum(1)
        severity = 1 - total / (height * width)
        mask = known.view(-1, 1, height, width).to(clean.dtype)
        # Exact for 0 and 1, and on the CPU several times faster than masked_fill or where.
        image = clean * mask if self.fill == 0 else torch.addcmul(self.fill * (1 - mask), clean, mask)
        return Degraded(image, mask, severity)


class MissingPixels(Missing):
    """Lose single pixels, each with the same probability.

    >>> MissingPixels(0.5)(clean, keys).mask[0, 0, 0]
    tensor([0., 1., 1., 0.])

    Args:
        fraction: the probability that a pixel is missing, in [0,1].
    """

    examples: ClassVar = ("fraction", (0.2, 0.5, 0.8))

    def __init__(self, fraction: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("fraction", fraction, 0, 1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Draw the missing pixels, see `Missing`."""
        fraction = draw(self.level, keys, "fraction").view(-1, 1, 1)
        return keyed.uniform(keyed.fold(keys, "pixels"), (height, width)).ge_(fraction)

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Draw the missing pixels, see `Degradation`."""
        fraction = draw(self.level, keys, "fraction")
        values = [torch.full_like(fraction, self.fill), fraction]
        return fused.Plan([fused.Step(fused.PIXELS, keys, ["kept", "pixels"], values, None)])


class MissingBox(Missing):
    """Lose one box, anywhere inside the image or in its middle (the masks of Pathak et al. 2016).

    >>> MissingBox(0.5, place="centre")(clean, keys).mask[0, 0, 1]
    tensor([1., 0., 0., 1.])

    Args:
        size: the box's height and width as a fraction of the image's, in [0,1].
        place: "random" by key, or "centre"; where the centre lies between two pixels, the upper or left one counts.
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
        index = torch.arange(side, device=keys.device)
        return ((index < start) | (index >= start + length.unsqueeze(1))).float()

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Draw the box, see `Degradation`."""
        size = draw(self.level, keys, "size")
        values = [torch.full_like(size, self.fill), size, torch.full_like(size, self.place == "centre")]
        return fused.Plan([fused.Step(fused.BOX, keys, ["kept", "top", "left"], values, None)])


class MissingHalf(Missing):
    """Lose one half of the image; of an odd side, the smaller half.

    >>> MissingHalf("right")(clean, keys).mask[0, 0, 0]
    tensor([1., 1., 0., 0.])

    Args:
        side: the half that is missing: "left", "right", "top", "bottom", or "any" by key.
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
    """Lose the pixels under free-form brush strokes, in the manner of Yu et al. 2019, "Free-form image inpainting".

    A stroke starts anywhere and has four straight segments, turning by up to 135° after each; it does not leave the
    image. Sizes are fractions of the image's shorter side, so that masks look alike at every size.

    >>> MissingStrokes(1)(clean, keys).mask[0, 0, 0]
    tensor([0., 0., 1., 1.])

    Args:
        count: how many strokes, whole numbers from 0 to 100.
        width: the brush's width, in [0,1]; at least one pixel is used.
        length: the length of a segment, in [0,1].
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
            for start, end in segments(stroke_keys, self.length, height, width):
                paint(known, start, end, radius)
        return known


class MissingGrid(Missing):
    """Lose the lines of a regular grid, which starts anywhere.

    >>> MissingGrid(spacing=2)(clean, keys).mask[0, 0, 0]
    tensor([1., 0., 1., 0.])

    Args:
        spacing: pixels from one line's edge to the next line's same edge, whole numbers from 1 to 65535.
        width: of a line in pixels, whole numbers below the spacing.
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
    """Lose the pixels under lines of random English words in Pillow's built-in font (Aileron).

    Every image has its own words, at its own offset. The letters are Pillow's: another version of it may draw single
    pixels differently.

    >>> bool((MissingText(0.5)(torch.zeros(2, 1, 16, 32), keys).severity > 0).all())
    True

    Args:
        size: the height of a capital letter as a fraction of the image's shorter side, in [0,1]; at least 6 pixels,
            and of a range at most 8 heights, evenly spaced.
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
        """Return the least and the greatest height of a capital in pixels."""
        return [max(_SMALLEST_LETTER, round(end * min(height, width))) for end in self.level]

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Set the words, see `Missing`."""
        self.check_shape((1, height, width))
        low, high = self._heights(height, width)
        letters = font(low, high, keys.device)
        size = keyed.integers(keyed.fold(keys, "size"), len(letters.extents))
        pitch, widest = letters.pitch[size], letters.width.amax(1)[size]
        # A page larger than the image is shifted up by less than a line, and each line left by less than a word.
        lines = max((height + pitch - 2) // pitch + 1 for pitch, _, _ in letters.extents)
        words = max((width + widest - 2) // narrowest + 1 for _, narrowest, widest in letters.extents)
        word = keyed.integers(keyed.fold(keys, "words"), len(WORDS), (lines, words))
        word_width, word_column = (table[size.view(-1, 1, 1), word] for table in (letters.width, letters.column))
        end = word_width.cumsum(2)
        x = keyed.integers(keyed.fold(keys, "left"), widest, (lines, 1)) + torch.arange(width, device=keys.device)
        index = torch.searchsorted(end, x, right=True)
        column = (word_column - end + word_width).gather(2, index).add_(x)  # of the font, (B,lines,width)
        y = keyed.integers(keyed.fold(keys, "top"), pitch).unsqueeze(1) + torch.arange(height, device=keys.device)
        line, row = y // pitch.unsqueeze(1), y % pitch.unsqueeze(1)
        pixel = column.gather(1, line.unsqueeze(2).expand(-1, -1, width)).mul_(letters.rows).add_(row.unsqueeze(2))
        return letters.blank.take(pixel).float()


class MissingFile(Missing):
    """Lose the pixels under the white ones of the user's own masks, as the irregular masks of Liu et al. 2018.

    A value of at least 128 (of 255) is a hole; of a colour the luma counts, and alpha does not. The key chooses each
    image's mask and, of a mask larger than the image, the part that covers it. All masks are kept in memory, one bit
    per pixel.

    >>> MissingFile(mask_file)(clean, keys).severity
    tensor([0.5000, 0.5000])

    Args:
        path: an image file, or a folder with such files and folders (PNG, JPEG, BMP, TIFF or WebP).
        resize: whether masks are resized to the image (nearest pixel); otherwise smaller ones are refused.
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
        """Refuse images larger than a mask, see `Degradation`."""
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
        row = self._indices(keyed.fold(keys, "top"), height, stack.height[chosen].unsqueeze(1))
        column = self._indices(keyed.fold(keys, "left"), width, stack.width[chosen].unsqueeze(1))
        return stack.known(chosen, row, column)

    def _indices(self, keys: Tensor, side: int, mask_side: Tensor) -> Tensor:
        """Return the index in a mask's side (B,1) that covers each of an image's pixels: (B,side) int64."""
        index = torch.arange(side, device=keys.device)
        if self.resize:
            return (2 * index + 1) * mask_side // (2 * side)  # under the centre of the pixel
        return keyed.integers(keys, mask_side.squeeze(1) - side + 1).unsqueeze(1) + index
