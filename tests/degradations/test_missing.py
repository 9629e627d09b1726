"""Missing pixels: counted, placed and shaped as configured; text against Pillow, own masks against their files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import COUNT, SIZES, images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage, stats
from skimage import data
from torch import Tensor

from recon import keyed
from recon.degradations import lettering, strokes
from recon.degradations.base import Chain
from recon.degradations.levels import Range
from recon.degradations.missing import (
    Missing,
    MissingBox,
    MissingFile,
    MissingGrid,
    MissingHalf,
    MissingPixels,
    MissingStrokes,
    MissingText,
)
from recon.errors import InputError

ALL = [
    MissingPixels((0.1, 0.9)),
    MissingBox((0.1, 0.9)),
    MissingBox((0.1, 0.9), place="centre"),
    MissingHalf("any"),
    MissingStrokes((1, 3)),
    MissingGrid((3, 8), (1, 2), fill=0.5),
    MissingText(0.08),
    MissingText((0.05, 0.3), fill=1),
]
each = pytest.mark.parametrize("operator", ALL, ids=lambda operator: type(operator).__name__)
at_each_size = pytest.mark.parametrize("size", SIZES, ids=str)


def holes(operator: Missing, size: tuple[int, int, int], count: int = COUNT) -> Tensor:
    """The holes (B,H,W) bool of `count` copies of one image."""
    clean = images(size, 1).expand(count, -1, -1, -1)
    return operator(clean, keys(count)).mask.squeeze(1) == 0


# Laws


@each
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    count=st.integers(1, 9),
    part=st.integers(1, 8),
    double=st.booleans(),
)
def test_laws(operator: Missing, height: int, width: int, channels: int, count: int, part: int, double: bool) -> None:
    """Same bits for any batch, known pixels untouched, the severity as counted, at least one pixel known."""
    clean = images((channels, height, width), count).to(torch.float64 if double else torch.float32)
    before = clean.clone()
    whole = operator(clean, keys(count))
    assert torch.equal(clean, before)
    assert whole.image.shape == clean.shape
    assert whole.image.dtype == whole.mask.dtype == clean.dtype
    pieces = [operator(*some) for some in zip(clean.split(part), keys(count).split(part), strict=True)]
    for field, split in zip(whole, zip(*pieces, strict=True), strict=True):
        assert torch.equal(field, torch.cat(split))
    hole = whole.mask == 0
    assert (hole | (whole.mask == 1)).all()
    assert not hole.flatten(1).all(1).any()
    torch.testing.assert_close(whole.severity, hole.float().mean((1, 2, 3)))
    assert torch.equal(whole.image, torch.where(hole, torch.tensor(operator.fill, dtype=clean.dtype), clean))
    assert torch.equal(operator(whole.image, keys(count)).image, whole.image), "the same holes again change nothing"


@each
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 512, 512), (3, 511, 3)], ids=str)
def test_any_size(operator: Missing, size: tuple[int, int, int]) -> None:
    image, mask, _ = operator(images(size, 2).bfloat16(), keys(2))
    assert image.dtype == mask.dtype == torch.bfloat16
    assert image.shape == (2, *size)
    assert (mask.sum((1, 2, 3)) >= 1).all()


@each
def test_every_image_has_its_own_holes(operator: Missing) -> None:
    hole = holes(operator, (1, 64, 64))
    alike = (hole[:, None] == hole[None]).flatten(2).all(2).float().sum(1) - 1
    assert alike.mean() < 0.35 * COUNT
    other = operator(images((1, 64, 64)), keys(seed=1)).mask.squeeze(1) == 0
    assert not torch.equal(other, hole)


@each
def test_no_images_are_no_fault(operator: Missing) -> None:
    image, mask, severity = operator(torch.empty(0, 3, 37, 53), keys(0))
    assert (len(image), len(mask), len(severity)) == (0, 0, 0)


@pytest.mark.parametrize("kind", dict.fromkeys(type(operator) for operator in ALL if type(operator) is not MissingHalf))
def test_examples_grow_worse(kind: type[Missing]) -> None:
    """More is missing, or of text larger pieces."""
    parameter, values = kind.examples
    made = [kind(**{parameter: value}).degrade(torch.ones(16, 1, 256, 256), keys(16)) for value in values]
    if kind is MissingText:
        widest = [max(ndimage.distance_transform_edt(mask[0] == 0).max() for mask in each.mask) for each in made]
        assert widest[0] < widest[1] < widest[2]
        return
    mild, medium, strong = (degraded.severity.mean() for degraded in made)
    assert 0.02 < mild < medium / 1.5
    assert medium < strong / 1.3
    assert strong < 0.9


@pytest.mark.parametrize(
    "operator",
    [MissingPixels(1.0), MissingBox(1.0), MissingBox(1.0, place="centre"), MissingStrokes(40, 1.0)],
    ids=lambda operator: type(operator).__name__,
)
def test_one_pixel_is_always_known(operator: Missing) -> None:
    mask = operator(images((1, 8, 8)), keys()).mask
    assert (mask.sum((1, 2, 3)) >= 1).all()
    assert (mask.sum((1, 2, 3)) == 1).any()
    assert len(mask.flatten(1).argmax(1).unique()) > 5, "the key chooses it"


# Pixels, box, half


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_missing_pixels_are_counted(fraction: float) -> None:
    severity = MissingPixels(fraction)(images((1, 28, 28)), keys()).severity
    count = COUNT * 28 * 28
    assert abs(severity.sum() * 784 - count * fraction) <= 4 * (count * fraction * (1 - fraction)) ** 0.5


@at_each_size
def test_missing_box_is_one_box_anywhere(size: tuple[int, int, int]) -> None:
    hole = holes(MissingBox(0.4), size, 500)
    height, width = round(0.4 * size[1]), round(0.4 * size[2])
    assert (hole.any(2).sum(1) == height).all()
    assert (hole.any(1).sum(1) == width).all()
    assert (hole.sum((1, 2)) == height * width).all()
    top, left = hole.any(2).int().argmax(1), hole.any(1).int().argmax(1)
    assert (top.min(), top.max()) == (0, size[1] - height)
    assert (left.min(), left.max()) == (0, size[2] - width)


@pytest.mark.parametrize("size", [*SIZES, (1, 7, 8), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.9])
def test_missing_box_in_the_centre(size: tuple[int, int, int], fraction: float) -> None:
    """As much is left above as below and to the left as to the right, but for a pixel where that cannot be."""
    _, height, width = size
    rows, columns = round(fraction * height), round(fraction * width)
    expected = torch.zeros(height, width, dtype=torch.bool)
    top, left = (height - rows) // 2, (width - columns) // 2
    expected[top : top + rows, left : left + columns] = True
    if not expected.all():
        assert (holes(MissingBox(fraction, place="centre"), size) == expected).all()
    sizes = MissingBox((0.1, 0.9), place="centre")(images((1, 28, 28)), keys()).severity
    assert len(sizes.unique()) > 5, "the size is still drawn"


def test_missing_half() -> None:
    found = {side: holes(MissingHalf(side), (3, 37, 53))[0] for side in ("left", "right", "top", "bottom")}
    for side, (rows, columns) in {
        "left": (slice(None), slice(0, 26)),
        "right": (slice(None), slice(27, 53)),
        "top": (slice(0, 18), slice(None)),
        "bottom": (slice(19, 37), slice(None)),
    }.items():
        assert found[side][rows, columns].all()
        assert found[side].sum() == found[side][rows, columns].numel()
    drawn = holes(MissingHalf("any"), (3, 37, 53), 400)
    shares = [(drawn == hole).flatten(1).all(1).float().mean() for hole in found.values()]
    assert sum(shares) == pytest.approx(1)
    assert all(abs(share - 0.25) < 0.1 for share in shares)


# Strokes


@pytest.mark.parametrize("side", [8, 28, 64])
def test_strokes_miss_about_a_quarter_at_every_size(side: int) -> None:
    severity = MissingStrokes((2, 4))(torch.zeros(300, 1, side, side), keys(300)).severity
    assert 0.2 < severity.mean() < 0.35
    assert severity.min() > 0.02
    assert severity.max() < 0.75


def test_strokes_are_connected_and_independent() -> None:
    """One stroke is one piece, and other strokes leave it where it is."""
    clean = torch.zeros(50, 1, 100, 80)
    one = MissingStrokes(1)(clean, keys(50)).mask.squeeze(1).numpy() == 0
    many = MissingStrokes(5)(clean, keys(50)).mask.squeeze(1).numpy() == 0
    assert all(ndimage.label(hole, np.ones((3, 3)))[1] == 1 for hole in one)
    assert (many >= one).all()
    assert many.mean() > 2 * one.mean()


def test_a_segment_is_every_pixel_within_the_radius() -> None:
    """Against the distances to many points along it; the last segment is a single point."""
    start = keyed.uniform(keyed.fold(keys(), "start"), (2,)) * torch.tensor([36, 52])
    end = keyed.uniform(keyed.fold(keys(), "end"), (2,)) * torch.tensor([36, 52])
    end[-1] = start[-1]
    radius = 0.5 + 5 * keyed.uniform(keyed.fold(keys(), "radius"))
    known = torch.ones(COUNT, 37, 53)
    strokes.paint(known, start, end, radius)
    pixels = torch.cartesian_prod(torch.arange(37.0), torch.arange(53.0))
    points = torch.lerp(start.unsqueeze(1), end.unsqueeze(1), torch.linspace(0, 1, 1000).view(1, -1, 1))
    distance = torch.cdist(pixels, points).amin(2).view(COUNT, 37, 53)
    clear = (distance - radius.view(-1, 1, 1)).abs() > 0.01
    assert torch.equal((known == 0)[clear], (distance <= radius.view(-1, 1, 1))[clear])
    assert clear.float().mean() > 0.99


# Grid


@at_each_size
@pytest.mark.parametrize(("spacing", "width"), [(5, 1), (6, 2), (3, 2), (100, 7), (4, 0)])
def test_grid_is_one_of_the_shifted_grids(size: tuple[int, int, int], spacing: int, width: int) -> None:
    """Against all grids there are, drawn by slices; each offset comes up."""

    def lines(side: int) -> np.ndarray:
        shifted = np.zeros((spacing, side), bool)
        for offset in range(spacing):
            for first in range(offset - spacing, side, spacing):
                shifted[offset, max(first, 0) : max(first + width, 0)] = True
        return shifted

    found = holes(MissingGrid(spacing, width), size, 300).numpy()
    rows, columns = lines(size[1]), lines(size[2])
    # Where no line crosses it, a pixel tells for its whole row and column.
    for hole in found:
        row, column = hole.all(1), hole.all(0)
        assert (hole == (row[:, None] | column)).all()
        assert (rows == row).all(1).any()
        assert (columns == column).all(1).any()
    if width > 0 and spacing < min(size[1:]):
        assert len(np.unique(found.all(2), axis=0)) == len(np.unique(found.all(1), axis=0)) == spacing
        pairs = len(np.unique(found, axis=0))
        assert pairs > min(spacing**2, 300) / 2, "rows and columns are shifted apart"


def test_grid_draws_spacing_and_width() -> None:
    hole = holes(MissingGrid((5, 8), (1, 3)), (3, 37, 53), 400).all(2).numpy()
    seen = set()
    for rows in hole:
        edges = np.flatnonzero(np.diff(rows.astype(int)) == 1)
        ends = np.flatnonzero(np.diff(rows.astype(int)) == -1)
        spacings = set(np.diff(edges))
        assert len(spacings) == 1, "regular"
        seen.add((spacings.pop(), (ends[ends > edges[0]] - edges[: len(ends[ends > edges[0]])])[0]))
    assert seen == {(spacing, width) for spacing in (5, 6, 7, 8) for width in (1, 2, 3)}


# Text


def pieces(line: np.ndarray, height: int) -> list[bytes]:
    """The pieces of a line of text (H,W) bool from left to right, columns with less than a space between joined."""
    gap = max(3, round(0.3 * height))
    joined = ndimage.binary_closing(np.pad(line.any(0), gap), np.ones(gap))[gap:-gap]
    return [tight(line[:, place]) for (place,) in ndimage.find_objects(ndimage.label(joined)[0])]


def tight(ink: np.ndarray) -> bytes:
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return bytes([*cut.shape, *np.packbits(cut)])


@pytest.mark.parametrize("height", [8, 20])
def test_text_is_words_as_pillow_draws_them(height: int) -> None:
    """Line after line and word after word of a page, but for those that its border cuts."""
    font, drawn = ImageFont.load_default(height / 0.69), dict[bytes, str]()
    for word in lettering.WORDS:
        canvas = Image.new("1", (8 * height, 2 * height))
        ImageDraw.Draw(canvas).text((height, 1.4 * height // 1), word, fill=1, font=font, anchor="ls")
        # A narrow 1 stands so far from its neighbours that it looks like a word.
        drawn |= dict.fromkeys(pieces(np.asarray(canvas), height), word)
    assert len(drawn) >= 0.95 * len(lettering.WORDS)
    read = []
    pitch = round(1.75 * height)
    for hole in holes(MissingText(height / 200), (1, 200, 400), 4).numpy():
        # A line ends where nothing is written any more.
        ink = [hole[offset::pitch].any() for offset in range(pitch)]
        start = next(offset for offset in range(pitch) if ink[offset - 1] and not ink[offset])
        for top in range(start, 200 - pitch, pitch):
            words = [drawn.get(piece) for piece in pieces(hole[top : top + pitch], height)[1:-1]]
            assert None not in words
            read.append(tuple(words))
    assert len(read) >= 12
    assert len(set(read)) == len(read), "no line twice"
    assert len({word for words in read for word in words}) > 40


@pytest.mark.parametrize("side", [8, 28, 64, 256])
@pytest.mark.parametrize("size", [0.05, 0.15, (0.02, 0.3)], ids=str)
def test_text_covers_a_part_at_every_size(side: int, size: Range) -> None:
    severity = MissingText(size)(torch.zeros(100, 1, side, side), keys(100)).severity
    assert 0.1 < severity.mean() < 0.25
    assert severity.max() < 0.6
    assert (severity > 0).float().mean() > 0.95


def test_text_is_shifted_everywhere() -> None:
    """Over many images every pixel is hit about as often."""
    share = holes(MissingText(0.2), (1, 28, 28), 3000).float().mean(0)
    assert share.std() < 0.2 * share.mean()
    assert share.amin() > 0.5 * share.mean()


def test_text_has_its_height() -> None:
    """Seen in the capitals alone; of a range all heights come up."""
    for height in (6, 9, 17, 40, 77):
        font = lettering.font(height, height, torch.device("cpu"))
        word = lettering.WORDS.index("1984")
        ink = 1 - font.blank.view(-1, font.rows)[font.column[0, word] :][: font.width[0, word]]
        assert abs(int(ink.any(0).sum()) - height) <= 1 + 0.03 * height, "round digits reach a little further"
    font = lettering.font(10, 20, torch.device("cpu"))
    pitch = keyed.integers(keyed.fold(keys(200), "size"), len(font.extents)).unique()
    assert len(pitch) == 8
    tops = MissingText((0.05, 0.1))(torch.zeros(200, 1, 200, 200), keys(200)).mask.squeeze(1).amin(2)
    longest = {max(len(run) for run in "".join("01"[int(row)] for row in top).split("1")) for top in tops}
    assert len(longest) > 8


# The user's masks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three masks of 28×36 pixels and one inside a folder of its own; and what is no mask."""
    dark = 255 * (data.camera() < 100).astype(np.uint8)
    for number in range(3):
        part = dark[40 * number + 100 : 40 * number + 128, 220 : 220 + 36]
        Image.fromarray(part).save(tmp_path / f"{number}.png")
    (tmp_path / "more").mkdir()
    Image.fromarray(255 * np.eye(28, 36, dtype=np.uint8)).convert("RGB").save(tmp_path / "more" / "diagonal.BMP")
    (tmp_path / "notes.txt").write_text("no mask")
    (tmp_path / "._0.png").write_text("of another system")
    return tmp_path


def white(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L")) >= 128


def test_masks_of_a_folder(folder: Path) -> None:
    """Each file comes up, and the same key has the same; the severity and its ends are counted."""
    files = sorted(folder.rglob("[!.]*.[pB][nM][gP]"))
    expected = [white(file) for file in files]
    assert len(expected) == 4
    operator = MissingFile(folder, fill=0.5)
    clean = images((3, 28, 36), 200)
    image, mask, severity = operator(clean, keys(200))
    which = [[np.array_equal(one[0] == 0, hole) for hole in expected].index(True) for one in mask.numpy()]
    assert stats.chisquare(np.bincount(which, minlength=4)).pvalue > 1e-3
    assert torch.equal(image, torch.where(mask == 0, torch.tensor(0.5), clean))
    shares = [hole.mean() for hole in expected]
    np.testing.assert_allclose(severity, [shares[place] for place in which], atol=1e-6)
    assert operator.level == (min(shares), max(shares))
    alone = operator(clean[7:8], keys(200)[7:8])
    assert torch.equal(alone.mask, mask[7:8])


@pytest.mark.parametrize("size", [(28, 36), (14, 18), (56, 72), (12, 52), (1, 1), (300, 8)], ids=str)
def test_resized_masks_are_those_of_pillow(folder: Path, size: tuple[int, int]) -> None:
    """By the nearest pixel, masks of several sizes in one batch; to sizes where no two pixels are as near."""
    Image.fromarray(255 * np.tri(31, 17, dtype=np.uint8)).save(folder / "3.png")
    operator = MissingFile(folder, resize=True)
    operator.check_shape((3, *size))
    known = operator.known(keys(100), *size).numpy()
    expected = []
    for file in [*sorted(folder.glob("[0-3].png")), folder / "more" / "diagonal.BMP"]:
        picture = Image.fromarray((~white(file)).astype(np.uint8))
        expected.append(np.asarray(picture.resize(size[::-1], Image.Resampling.NEAREST)))
    counts = [sum(np.array_equal(one, mask) for one in known) for mask in expected]
    assert all(counts)
    if size[0] > 10:
        assert sum(counts) == 100


def test_one_mask_of_any_kind(tmp_path: Path) -> None:
    """Two-valued, 16 bits, with a palette, with alpha, of an odd width; white is 128 and more."""
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32)[:, :31]
    clean = torch.ones(2, 1, 8, 31)
    kinds = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "palette.png": Image.fromarray(grey).convert("P"),
        "two.png": Image.fromarray(grey).point(lambda value: 255 * (value >= 128)).convert("1", dither=0),
        "alpha.png": Image.merge("LA", [Image.fromarray(grey), Image.new("L", (31, 8), 255)]),
        "colour.tif": Image.fromarray(grey).convert("RGB"),
    }
    for name, picture in kinds.items():
        picture.save(tmp_path / name)
        mask = MissingFile(str(tmp_path / name))(clean, keys(2)).mask
        assert np.array_equal(mask[0, 0] == 0, grey >= 128), name
        assert torch.equal(mask[0], mask[1])


def test_a_mask_turned_by_exif(tmp_path: Path) -> None:
    turned = np.zeros((8, 5), np.uint8)
    turned[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the first row is the right-hand side
    Image.fromarray(turned).save(tmp_path / "turned.png", exif=exif)
    mask = MissingFile(tmp_path / "turned.png")(torch.ones(1, 1, 5, 8), keys(1)).mask[0, 0]
    assert (mask[:, -1] == 0).all()
    assert (mask[:, :-1] == 1).all()


def test_a_white_mask_leaves_a_pixel(tmp_path: Path) -> None:
    Image.new("L", (6, 5), 255).save(tmp_path / "white.png")
    mask = MissingFile(tmp_path / "white.png")(torch.ones(9, 1, 5, 6), keys(9)).mask
    assert (mask.sum((1, 2, 3)) == 1).all()


def test_a_mask_of_another_size_is_refused(folder: Path) -> None:
    """Before any work and at use; the sentence names both sizes and the remedy."""
    operator = MissingFile(folder)
    operator.check_shape((3, 28, 36))
    for attempt, key in (
        (lambda: operator.check_shape((1, 32, 36)), "path"),
        (lambda: operator(torch.ones(2, 1, 32, 36), keys(2)), "path"),
        (lambda: Chain({"masks": operator}).check_shape((1, 32, 36)), "steps.masks.path"),
    ):
        with pytest.raises(InputError, match=rf"^{key}: [^\n]+28×36[^\n]+32×36; [^\n]+resize=true$"):
            attempt()


def test_of_a_larger_mask_each_image_has_its_part(tmp_path: Path) -> None:
    """Masks of whole photographs, of several sizes, serve crops; whole images have the whole mask."""
    masks = [np.random.default_rng(number).random((20 + number, 31)) < 0.3 for number in range(2)]
    for number, hole in enumerate(masks):
        Image.fromarray(hole).save(tmp_path / f"{number}.png")
    operator = MissingFile(tmp_path)
    known = operator(torch.ones(200, 1, 6, 7), keys(200)).mask[:, 0].numpy() == 1
    parts = {
        (~hole[top : top + 6, left : left + 7]).tobytes(): (number, top, left)
        for number, hole in enumerate(masks)
        for top in range(len(hole) - 5)
        for left in range(25)
    }
    found = [parts[np.ascontiguousarray(one).tobytes()] for one in known]
    assert {number for number, _, _ in found} == {0, 1}
    assert {top for _, top, _ in found} == set(range(16))
    assert {left for _, _, left in found} == set(range(25))
    alone = MissingFile(tmp_path / "0.png")
    whole, severity = alone(torch.ones(2, 1, 20, 31), keys(2))[1:]
    assert np.array_equal(whole[1, 0] == 0, masks[0])
    assert severity[0] == pytest.approx(masks[0].mean())


# Mistakes


def spoil(text: str) -> Callable[[Path], object]:
    def make(folder: Path) -> object:
        (folder / "1.png").write_text(text)
        return MissingFile(folder)

    return make


def cut_short(folder: Path) -> object:
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    return MissingFile(folder)


def without_holes(folder: Path) -> object:
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(folder / "ones.png")
    return MissingFile(folder / "ones.png")


def empty(folder: Path) -> object:
    (folder / "empty").mkdir()
    return MissingFile(folder / "empty")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: MissingFile(folder / "nowhere"), "does not exist"),
        (empty, "holds no mask"),
        (spoil("no image"), r"1\.png cannot be read"),
        (spoil(""), r"1\.png cannot be read"),
        (cut_short, r"1\.png cannot be read"),
        (lambda folder: MissingFile(folder / "notes.txt"), "cannot be read"),
        (without_holes, "no hole"),
        (lambda folder: MissingFile(None), "None"),
    ],
)
def test_the_error_says_what_is_wrong_with_a_mask(folder: Path, make: Callable[[Path], object], says: str) -> None:
    with pytest.raises(InputError, match=rf"^path: [^\n]*{says}[^\n]*$"):
        make(folder)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: MissingPixels(1.5), "fraction"),
        (lambda: MissingPixels(0.5, fill="black"), "fill"),
        (lambda: MissingPixels(0.5, fill=float("nan")), "fill"),
        (lambda: MissingBox([0.5, 2]), "size"),
        (lambda: MissingBox(0.5, place="left"), "place"),
        (lambda: MissingHalf("middle"), "side"),
        (lambda: MissingStrokes(1.5), "count"),
        (lambda: MissingStrokes(-1), "count"),
        (lambda: MissingStrokes(3, width=2), "width"),
        (lambda: MissingStrokes(3, length=-1), "length"),
        (lambda: MissingGrid(0), "spacing"),
        (lambda: MissingGrid(4.5), "spacing"),
        (lambda: MissingGrid([8, 4]), "spacing"),
        (lambda: MissingGrid(4, 4), "width"),
        (lambda: MissingGrid((4, 8), (1, 5)), "width"),
        (lambda: MissingGrid(4, -1), "width"),
        (lambda: MissingGrid(4, 1.5), "width"),
        (lambda: MissingText(1.5), "size"),
        (lambda: MissingText(-0.1), "size"),
        (lambda: MissingText("large"), "size"),
        (lambda: MissingText(0.1, fill=None), "fill"),
        (lambda: MissingFile(".", resize="often"), "resize"),
    ],
)
def test_a_mistake_raises_one_sentence(make: Callable[[], object], name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        make()
