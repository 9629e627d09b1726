"""Missing pixels: images with holes, and the masks that say where."""

import glob
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, Range, draw, draw_whole, ends, number, whole_ends
from recon.errors import InputError

_SIDES = ("left", "right", "top", "bottom")
_SEGMENTS = 4  # of each stroke
_HEADINGS = 1024  # directions in which a stroke can go
_SMALLEST_LETTER = 6  # pixels; below, the font cannot be read
_LETTER_HEIGHTS = 8  # of a range of letter heights, so many are rendered
_CAPITAL = 0.69  # height of a capital, as a share of the size that Pillow's built-in font is asked for
# In heights of a capital: from line to line, from a line's top to its letters' feet, and between words.
_PITCH = 1.75
_BASELINE = 1.2
_SPACE = 0.4
_TEXT = (
    "a about after all and are as at back be book but by can city come could day each early every far few for form "
    "garden give good great green had have he her high home how if image in is it just know large light line little "
    "long made many more my never new night no now of old on one open other our over paint people picture quiet read "
    "right river said see she small so some street that the their then they this time to tree under until up very was "
    "water way we well were what when where white who will wind with word work world yes you Above After Every For How "
    "In Keep Look Open She The What You 1 2 10 24 1984 365"
)
_WORDS = _TEXT.split()
_MASK_FILES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class Missing(Degradation):
    """A degradation that makes holes; outside them the image is untouched.

    The severity is the fraction of pixels that the mask really misses. At least one pixel of every image stays known.

    Args:
        fill: the value put into the holes.
    """

    makes_holes = True

    def __init__(self, fill: float) -> None:
        self.fill = number("fill", fill, low=-1, high=2)

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

    examples: ClassVar = {"fraction": (0.2, 0.5, 0.8)}

    def __init__(self, fraction: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("fraction", fraction, high=1)

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

    examples: ClassVar = {"size": (0.25, 0.5, 0.75)}

    def __init__(self, size: Range, place: str = "random", fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("size", size, high=1)
        if place not in ("random", "centre"):
            raise InputError(f"place must be random or centre, not {place!r}.")
        self.place = place

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

    examples: ClassVar = {"count": (1, 3, 8)}

    def __init__(
        self, count: Range, width: Range = (0.05, 0.15), length: Range = (0.1, 0.5), fill: float = 0.0
    ) -> None:
        super().__init__(fill)
        self.level = whole_ends("count", count, high=1000)
        self.width = ends("width", width, high=1)
        self.length = ends("length", length, high=1)

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
        spacing: pixels from one line's edge to the next line's same edge, whole numbers of at least 1.
        width: of a line, in pixels, whole numbers; below the spacing.
        fill: the value put into the holes.
    """

    examples: ClassVar = {"spacing": (16, 8, 4)}

    def __init__(self, spacing: Range, width: Range = 1, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = whole_ends("spacing", spacing, low=1, high=10000)
        self.width = whole_ends("width", width, high=10000)
        if self.width[1] >= self.level[0]:
            raise InputError(f"width must be below spacing={spacing!r}, so that pixels stay known, not {width!r}.")

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

    examples: ClassVar = {"size": (0.04, 0.08, 0.16)}

    def __init__(self, size: Range, fill: float = 0.0) -> None:
        super().__init__(fill)
        self.level = ends("size", size, high=1)

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Set the words, see `Missing`."""
        low, high = (max(_SMALLEST_LETTER, round(end * min(height, width))) for end in self.level)
        font = _font(low, high, keys.device)
        size = keyed.integers(keyed.fold(keys, "size"), len(font.extents))
        pitch, widest = font.pitch[size], font.width.amax(1)[size]
        # A page larger than the image, which is shifted up by less than a line, and each line left by less than a word.
        lines = max((height + pitch - 2) // pitch + 1 for pitch, _, _ in font.extents)
        words = max((width + widest - 2) // narrowest + 1 for _, narrowest, widest in font.extents)
        word = keyed.integers(keyed.fold(keys, "words"), len(_WORDS), (lines, words))
        word_width, word_column = (table[size.view(-1, 1, 1), word] for table in (font.width, font.column))
        end = word_width.cumsum(2)
        x = keyed.integers(keyed.fold(keys, "left"), widest, (lines, 1)) + torch.arange(width, device=keys.device)
        at = torch.searchsorted(end, x, right=True)
        column = (word_column - end + word_width).gather(2, at).add_(x)  # of the font, (B,lines,width)
        y = keyed.integers(keyed.fold(keys, "top"), pitch).unsqueeze(1) + torch.arange(height, device=keys.device)
        line, row = y // pitch.unsqueeze(1), y % pitch.unsqueeze(1)
        place = column.gather(1, line.unsqueeze(2).expand(-1, -1, width)).mul_(font.rows).add_(row.unsqueeze(2))
        return font.blank.take(place).float()


class _Font(NamedTuple):
    """The words at one or more letter heights, each pixel's column after column.

    Attributes:
        blank: (columns·rows,) uint8, 1 where no ink is.
        rows: pixels in a column, those of the tallest line.
        column: (heights,words) int64, where each word begins.
        width: (heights,words) int64, each word's pixels with the space after it.
        pitch: (heights,) int64, pixels from line to line.
        extents: for each height its pitch, its narrowest and its widest word, as plain numbers.
    """

    blank: Tensor
    rows: int
    column: Tensor
    width: Tensor
    pitch: Tensor
    extents: list[tuple[int, int, int]]


@lru_cache(maxsize=4)
def _font(low: int, high: int, device: torch.device) -> _Font:
    """Render the words with capitals of `low` to `high` pixels."""
    steps = _LETTER_HEIGHTS - 1
    heights = sorted({low + (high - low) * step // steps for step in range(_LETTER_HEIGHTS)})
    rows = round(_PITCH * high)
    columns: list[np.ndarray] = []
    for height in heights:
        font = ImageFont.load_default(height / _CAPITAL)
        for word in _WORDS:
            # A pixel to the left is for letters that begin before their place.
            width = 1 + math.ceil(font.getlength(word, mode="1")) + round(_SPACE * height)
            canvas = Image.new("1", (width, rows), 1)
            ImageDraw.Draw(canvas).text((1, round(_BASELINE * height)), word, fill=0, font=font, anchor="ls")
            columns.append(np.asarray(canvas, np.uint8).T)
    widths = torch.tensor([len(word) for word in columns])
    table = widths.view(len(heights), -1)
    pitch = [round(_PITCH * height) for height in heights]
    return _Font(
        torch.from_numpy(np.concatenate(columns).ravel()).to(device),
        rows,
        (widths.cumsum(0) - widths).view_as(table).to(device),
        table.to(device),
        torch.tensor(pitch, device=device),
        list(zip(pitch, table.amin(1).tolist(), table.amax(1).tolist(), strict=True)),
    )


class MissingFile(Missing):
    """Lose what the white pixels of the user's own masks cover, as in the irregular masks of Liu et al. 2018.

    A value of at least 128 (of 255) is a hole; of a colour its luma counts. Each image's mask is chosen by its key.
    All masks are kept in memory, one bit per pixel.

    Args:
        path: an image file, or a folder with such files and folders (PNG, JPEG, BMP, TIFF or WebP).
        resize: whether masks of another size than the image's are resized to it (nearest pixel); else they are refused.
        fill: the value put into the holes.

    Raises:
        InputError: there is no mask, one cannot be read, none has a hole, or their sizes differ.
    """

    def __init__(self, path: str | Path, resize: bool = False, fill: float = 0.0) -> None:
        super().__init__(fill)
        if not isinstance(path, (str, Path)):
            raise InputError(f"path must be a mask image or a folder of them, not {path!r}.")
        if not isinstance(resize, bool):
            raise InputError(f"resize must be true or false, not {resize!r}.")
        self.path, self.resize = path, resize
        masks = _read_masks(Path(path).expanduser())
        self.level = min(mask.missing for mask in masks), max(mask.missing for mask in masks)
        if not self.level[1]:
            raise InputError(f"path {path} shows no hole: make the missing pixels white, which is 128 to 255.")
        self._sizes = sorted({(mask.height, mask.width) for mask in masks})
        self.check_shape((1, *self._sizes[0]))
        self._stack = _Stack.of(masks)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse images of another size than a mask's, see `Degradation`."""
        height, width = shape[1:]
        for mask_height, mask_width in () if self.resize else self._sizes:
            if (mask_height, mask_width) != (height, width):
                raise InputError(
                    f"path {self.path} has a mask of {mask_height}×{mask_width} pixels where {height}×{width} are "
                    "needed: set resize=true, or give masks of that size."
                )

    def known(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Choose the masks, see `Missing`."""
        self.check_shape((1, height, width))
        stack = self._stack = self._stack.to(keys.device)
        chosen = keyed.integers(keyed.fold(keys, "mask"), len(stack.start))
        mask_height, mask_width = stack.height[chosen].unsqueeze(1), stack.width[chosen].unsqueeze(1)
        row, column = _nearest(height, mask_height), _nearest(width, mask_width)
        place = (stack.start[chosen].unsqueeze(1) + row * mask_width).unsqueeze(2) + column.unsqueeze(1)
        shift = (place & 7).to(torch.uint8)
        hole = stack.bits.take(place.bitwise_right_shift_(3)).bitwise_right_shift_(shift).bitwise_and_(1)
        return hole.bitwise_xor_(1).float()


def _nearest(side: int, mask_side: Tensor) -> Tensor:
    """Give the place in a mask's side (B,1) under the middle of each of an image's pixels: (B,side) int64."""
    return (2 * torch.arange(side, device=mask_side.device) + 1) * mask_side // (2 * side)


class _Mask(NamedTuple):
    """A mask as it lies in memory: `bits` are its pixels row by row, 1 in a hole; `missing` is their share."""

    bits: np.ndarray
    height: int
    width: int
    missing: float


class _Stack(NamedTuple):
    """Masks of any sizes, one after another: their bits, and where each begins (in bits), its height and its width."""

    bits: Tensor
    start: Tensor
    height: Tensor
    width: Tensor

    @classmethod
    def of(cls, masks: Sequence[_Mask]) -> "_Stack":
        """Stack masks on the CPU."""
        count = torch.tensor([8 * len(mask.bits) for mask in masks])
        height, width = (torch.tensor([getattr(mask, side) for mask in masks]) for side in ("height", "width"))
        bits = torch.from_numpy(np.concatenate([mask.bits for mask in masks]))
        return cls(bits, count.cumsum(0) - count, height, width)

    def to(self, device: torch.device) -> "_Stack":
        """Move to a device; nothing is copied where it already is."""
        return _Stack(*(field.to(device) for field in self))


def _read_masks(path: Path) -> list[_Mask]:
    """Read a mask, or all of a folder in the order of their paths, which does not hang on the file system."""
    if path.is_dir():
        # Like the shell's, Python's glob leaves out hidden files, such as the `._name.png` of macOS.
        found = map(Path, glob.iglob(f"{glob.escape(str(path))}/**", recursive=True))
        files = sorted(file for file in found if file.suffix.lower() in _MASK_FILES and file.is_file())
    else:
        files = [path] if path.exists() else []
    if not files:
        what = "holds no mask" if path.is_dir() else "does not exist"
        raise InputError(
            f"path {path} {what}: give an image file or a folder of {', '.join(sorted(_MASK_FILES))} files."
        )
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_read_mask, files))


def _read_mask(file: Path) -> _Mask:
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image)
            deep = upright.mode.startswith("I;16")
            hole = np.asarray(upright) >= 1 << 15 if deep else np.asarray(upright.convert("L")) >= 128
    except Exception as error:  # Pillow's decoders raise many kinds on broken files: OSError, SyntaxError, struct.error
        reason = "no image" if isinstance(error, UnidentifiedImageError) else f"{error}" or type(error).__name__
        raise InputError(f"path {file} cannot be read as a mask ({reason}): replace or remove it.") from error
    height, width = hole.shape
    return _Mask(np.packbits(hole, bitorder="little"), height, width, float(hole.mean()))
