"""What a person sees in the pictures of a run: holes, errors, captions, titles, classes."""

import numpy as np
import pytest
import torch
from looking import found_in

from recon.runs import tiles
from recon.runs.draw import Words, grid, heatmap, legible, shortened
from recon.training.pictures import _title

RNG = np.random.default_rng(0)


def arrays(count: int = 3, side: int = 8, channels: int = 1) -> dict[str, np.ndarray]:
    """Random images of which the left half is missing from the degraded ones."""
    clean = RNG.integers(0, 256, (count, side, side, channels), np.uint8)
    restored = RNG.integers(0, 256, clean.shape, np.uint8)
    mask = np.full((count, side, side, 1), 255, np.uint8)
    mask[:, :, : side // 2] = 0
    titles = np.array([f"photograph {n}.png" for n in range(count)])
    return {
        "index": np.arange(count), "title": titles, "degraded": clean * (mask > 0), "restored": restored,
        "clean": clean, "mask": mask,
    }  # fmt: skip


@pytest.mark.parametrize(("side", "zoom"), [(8, 14), (28, 4), (64, 2), (96, 2), (150, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_holes_are_a_checkerboard_and_the_rest_is_as_it_is(side: int, zoom: int, channels: int) -> None:
    given = arrays(1, side, channels)
    given["clean"][:] = 255  # a checkerboard has no square that could be a white or black pixel
    given["degraded"] = given["clean"] * (given["mask"] > 0)
    (tile,) = tiles.columns(given, zoom)["degraded"]
    assert (tile[:, side // 2 * zoom :] == 255).all()
    hole = tile[:, : side // 2 * zoom]
    colours, counts = np.unique(hole.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) == 2
    assert counts.min() > 0.4 * counts.sum(), "both squares of the board are seen"
    assert all(100 < colour.mean() < 240 and np.ptp(colour) > 10 for colour in colours), "neither grey, black nor white"
    assert found_in(np.asarray(grid(given)), tile) == 1, "the grid shows it whole"


def test_errors_are_signed_and_have_one_scale() -> None:
    given = arrays(2)
    given["clean"][:], given["restored"][:] = 100, 100
    given["restored"][0, 2:4], given["restored"][0, 4:6] = 151, 49
    given["restored"][1, 0, 0] = 255  # one pixel alone does not set the scale
    limit = tiles.error_limit(given)
    assert limit == 0.2
    too_bright, too_dark, none = (tiles.columns(given)["error"][0][row, 0].astype(int) for row in (2, 4, 0))
    assert too_bright[0] - too_bright[2] > 100
    assert too_dark[2] - too_dark[0] > 100
    assert none.min() > 240
    assert (tiles.colour_bar(101, 3)[1, [0, 100]] == [too_dark, too_bright]).all()
    sheet = np.asarray(grid(given))
    assert found_in(sheet, tiles.colour_bar(160, 12)[1:-1, 1:-1]) == 1
    assert found_in(sheet, tiles.columns(given, 14, limit)["error"][0]) == 1


@pytest.mark.parametrize(
    ("difference", "limit"), [(0, 0.01), (1, 0.01), (5, 0.02), (13, 0.06), (60, 0.3), (130, 0.6), (255, 1.0)]
)
def test_the_scale_of_errors_is_rounded_up_to_a_digit(difference: int, limit: float) -> None:
    clean = np.zeros((1, 4, 4, 3), np.uint8)
    assert tiles.error_limit({"clean": clean, "restored": clean + np.uint8(difference)}) == limit


def test_the_mean_over_the_channels_is_the_error_of_a_colour() -> None:
    restored = np.array([30, 0, 255], np.uint8)
    assert tiles.error(restored, np.array([0, 30, 204], np.uint8)) == pytest.approx(51 / 3 / 255)


def test_every_row_is_whole_and_every_word_has_room() -> None:
    """Letters neither leave the picture nor lie over images, whatever is written."""
    for count in (1, 3, 8):
        given = arrays(count, 28)
        given["a column with a heading that is longer"] = given.pop("restored")
        given["title"] = np.array(["a name that is much longer than the image is wide, and more.png"] * count)
        captions = {"clean": ["a caption that is wider than the image\nand a second line"] * count}
        cells = {"truth": ["ankle boot"] * count}
        sheet = np.asarray(grid(given, Words(captions, cells, note="A note. " * 30)))
        assert all((sheet[edge] == 255).all() for edge in (0, -1, (slice(None), 0), (slice(None), -1)))
        for images in tiles.columns(given, 4).values():
            assert all(found_in(sheet, tile) == 1 for tile in images)


def test_what_nobody_damaged_is_not_called_clean() -> None:
    given = arrays(1)
    sheets = {}
    for name in ("degraded", "mask"):
        sheets[name] = np.asarray(grid(given))
        del given[name]
    assert list(tiles.columns(given)) == ["clean", "restored", "error"]
    heading = sheets["degraded"][:17, 8 + 2 * 120 : 8 + 3 * 120]
    assert found_in(sheets["degraded"], heading) == 1
    assert found_in(np.asarray(grid(given)), heading) == 0


def test_a_wrong_row_is_marked() -> None:
    given = {name: arrays(2)[name] for name in ("index", "degraded")}
    words = {wrong: Words(cells={"prediction": ["1", "2"]}, wrong=[wrong, False]) for wrong in (True, False)}
    red = {wrong: np.asarray(grid(given, each)).astype(int) for wrong, each in words.items()}
    assert {wrong: bool((sheet[..., 0] - sheet[..., 1] > 120).any()) for wrong, sheet in red.items()} == {
        True: True, False: False,
    }  # fmt: skip


def test_the_place_of_a_window_is_framed_on_the_whole() -> None:
    whole = np.full((256, 256, 3), 90, np.uint8)  # filled up below: the whole is twice as wide as high
    shown = tiles.marked(whole, np.array([300, 100, 128, 128, 512, 1024]))
    assert shown.shape == (128, 256, 3)
    rows, columns = (np.flatnonzero((shown != 90).any((2, axis))) for axis in (1, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (74, 107, 24, 57)
    assert (shown[77:105, 27:55] == 90).all(), "what is in the window can be seen"


def test_windows_stand_beside_their_wholes_and_a_picture_is_bounded() -> None:
    given = arrays(8, 128, 3)
    given["whole"] = np.full((8, 256, 256, 3), 90, np.uint8)
    given["window"] = np.array([[10, 20, 128, 128, 3000, 4000]] * 8)
    sheet = grid(given)
    assert list(tiles.columns(given)) == ["whole", "degraded", "restored", "clean", "error"]
    assert sheet.width < 1500
    assert sheet.height < 1500
    assert found_in(np.asarray(sheet), tiles.marked(given["whole"][0], given["window"][0])) == 4


def test_a_confusion_matrix_is_darkest_where_the_most_are_and_names_its_classes() -> None:
    table = torch.tensor([[90, 10], [0, 50]])
    sheet = np.asarray(heatmap(table, ["ankle boot", "a name that has many more letters than fit"]))
    assert (sheet[:, [0, -1]] == 255).all(), "no name is cut"
    size = sheet.shape[0] - 8
    shades = [[int(sheet[size - 44 * (2 - r) + 3, size - 44 * (2 - c) + 3, 0]) for c in (0, 1)] for r in (0, 1)]
    assert shades[1][1] < shades[0][0] < shades[0][1] < shades[1][0] == 255
    assert sheet.shape[0] > np.asarray(heatmap(table)).shape[0] + 50, "names take room"
    assert heatmap(torch.ones(1000, 1000, dtype=torch.int64)).width < 5000


def test_titles_are_files_or_classes_and_bounded() -> None:
    digits, clothes = tuple("0123456789"), ("T-shirt/top", "trouser")
    assert _title(17, 3, "test", digits) == "digit 3, test image 17"
    assert _title(17, 1, "validation", clothes) == "trouser, validation image 17"
    assert _title(17, 3, "test", ()) == "class 3, test image 17"
    assert _title(17, -1, "test", ()) == "test image 17"
    assert shortened("x" * 100 + ".png", 60) == "x" * 29 + "…" + "x" * 26 + ".png"
    assert legible("Élan − 你\x1b.png") == "Elan - ??.png"
