"""The corruptions against their published constants; their operators against scikit-image, SciPy, Pillow and loops."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from damage import images, keys
from PIL import Image
from scipy import ndimage
from skimage import color, transform
from torch import Tensor

from recon import keyed
from recon.degradations import (
    Brightness,
    Contrast,
    Corruption,
    DottedLine,
    Elastic,
    Fog,
    GlassBlur,
    Pixelate,
    Rescale,
    Rotate,
    Shear,
    Snow,
    Spatter,
    Stripe,
    TrailBlur,
    Translate,
    Zigzag,
    ZoomBlur,
)
from recon.degradations.corruptions import KINDS, severities
from recon.degradations.weather import cloud

# Of make_cifar_c.py and of corruptions.py of MNIST-C, as they stand there; the second set has one severity each.
PUBLISHED = {
    "cifar10_c": {
        "gaussian_noise": [0.04, 0.06, 0.08, 0.09, 0.10],
        "shot_noise": [500, 250, 100, 75, 50],
        "impulse_noise": [0.01, 0.02, 0.03, 0.05, 0.07],
        "defocus_blur": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
        "glass_blur": [(0.05, 1, 1, 1), (0.25, 1, 1, 1), (0.4, 1, 1, 1), (0.25, 1, 2, 1), (0.4, 1, 2, 1)],
        "motion_blur": [(1, 6), (1.5, 6), (2, 6), (2, 8), (2.5, 9)],
        "zoom_blur": [np.arange(1, end, 0.01).max() for end in (1.06, 1.11, 1.16, 1.21, 1.26)],
        "snow": [(0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
                 (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)],
        "fog": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
        "brightness": [0.05, 0.1, 0.15, 0.2, 0.3],
        "contrast": [0.75, 0.5, 0.4, 0.3, 0.15],
        "elastic_transform": [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                              (0.1, 0.03, 0.03)],
        "pixelate": [0.95, 0.9, 0.85, 0.75, 0.65],
        "jpeg_compression": [80, 65, 58, 50, 40],
    },
    "mnist_c": {
        "shot_noise": [3], "impulse_noise": [0.17], "glass_blur": [(0.7, 1, 2, 0.5)], "motion_blur": [(3, 10)],
        "shear": [0.4], "scale": [0.7], "rotate": [0.4], "brightness": [0.5], "translate": [3], "stripe": [7 / 28],
        "fog": [(3, 1.4, 256)], "spatter": [(0.65, 0.65, 1, 1.5)], "dotted_line": [1], "zigzag": [1],
        "canny_edges": [1],
    },
}  # fmt: skip
EACH = [(set_, kind) for set_, kinds in KINDS.items() for kind in kinds]


def image_of(set_: str, count: int = 12) -> Tensor:
    return images((3, 32, 32) if set_ == "cifar10_c" else (1, 28, 28), count)


def test_the_constants_are_the_published_ones() -> None:
    assert {set_: list(kinds) for set_, kinds in KINDS.items()} == {s: list(kinds) for s, kinds in PUBLISHED.items()}
    for set_, kind in EACH:
        published = [one if isinstance(one, tuple) else (one,) for one in PUBLISHED[set_][kind]]
        assert np.allclose(KINDS[set_][kind].constants, published), (set_, kind)
        assert len(KINDS[set_][kind].constants) == severities(set_)


@pytest.mark.parametrize(("set_", "kind"), EACH)
def test_severity_0_changes_nothing_and_the_key_decides_the_bytes(set_: str, kind: str) -> None:
    clean = image_of(set_)
    assert torch.equal(Corruption(set_, kind, 0)(clean, keys(12)).image, clean)
    operator = Corruption(set_, kind, severities(set_))
    image, mask, severity = operator(clean, keys(12))
    assert (severity == severities(set_)).all()
    assert (mask == 1).all()
    assert not torch.equal(image, clean)
    assert torch.equal((image * 255).round() / 255, image)
    assert image.min() >= 0
    assert image.max() <= 1
    alone = [operator(one, key).image for one, key in zip(clean.split(1), keys(12).split(1), strict=True)]
    assert torch.equal(torch.cat(alone), image)


def test_damage_rises_with_the_severity() -> None:
    """But for glass blur, of which the published constants go down once, and elastic, whose three points move less."""
    clean = image_of("cifar10_c", 24)
    for kind in KINDS["cifar10_c"]:
        errors = [float((Corruption("cifar10_c", kind, level)(clean, keys(24)).image - clean).square().mean())
                  for level in range(1, 6)]  # fmt: skip
        if kind not in ("glass_blur", "elastic_transform", "snow"):
            assert errors == sorted(errors), (kind, errors)
        assert errors[0] > 0


def test_all_kinds_and_ranges_are_drawn() -> None:
    clean = images((1, 28, 28))[:1].expand(600, -1, -1, -1)
    operator = Corruption("mnist_c", "all", (0, 1))
    image, _, severity = operator(clean, keys(600))
    assert 0.43 < severity.mean() < 0.57
    assert torch.equal(image[severity == 0], clean[severity == 0])
    assert len({one.numpy().tobytes() for one in Corruption("mnist_c", "stripe", 1)(clean, keys(600)).image}) == 1
    assert len({one.numpy().tobytes() for one in image}) > 100


def warped(clean: Tensor, matrices: list[np.ndarray]) -> Tensor:
    """Read images at matrix·(column, row, 1) by scikit-image, about the middle."""
    middle = (np.array(clean.shape[:1:-1]) - 1) / 2
    made = []
    for image, matrix in zip(clean.numpy(), matrices, strict=True):
        whole = matrix.astype(np.float64).copy()
        whole[:2, 2] += middle - whole[:2, :2] @ middle
        planes = [
            transform.warp(plane.astype(np.float64), transform.AffineTransform(whole), order=1, clip=False)
            for plane in image
        ]
        made.append(np.stack(planes))
    return torch.from_numpy(np.stack(made)).float()


def matrix(entries: list[list[float]]) -> np.ndarray:
    return np.array([*entries, [0, 0, 1]])


def sheared(angle: float) -> np.ndarray:
    return matrix([[1, -math.sin(angle), 0], [0, math.cos(angle), 0]])


def turned(angle: float) -> np.ndarray:
    return matrix([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 37, 53)], ids=str)
@pytest.mark.parametrize(
    ("operator", "choices"),
    [
        (Rotate(math.degrees(0.4)), [turned(0.4), turned(-0.4)]),
        (Shear(math.degrees(0.4)), [sheared(0.4), sheared(-0.4)]),
        (Rescale(0.7), [matrix([[1 / 0.7, 0, 0], [0, 1 / 0.7, 0]])]),
        (Translate(3), [matrix([[1, 0, dx], [0, 1, dy]]) for dx in (-3, 3) for dy in (-3, 3)]),
        (Translate(0.25), [matrix([[1, 0, dx], [0, 1, dy]]) for dx in (-0.25, 0.25) for dy in (-0.25, 0.25)]),
    ],
    ids=["rotate", "shear", "rescale", "translate", "between pixels"],
)
def test_geometry_is_that_of_scikit_image(
    operator: Callable[..., tuple[Tensor, ...]], choices: list[np.ndarray], size: tuple[int, int, int]
) -> None:
    clean = images(size)
    image = operator(clean, keys())[0]
    made = torch.stack([warped(clean, [one] * len(clean)) for one in choices])
    # scikit-image fades out beyond the border otherwise; inside there is no difference.
    inside = torch.stack([warped(torch.ones_like(clean), [one] * len(clean)) for one in choices]) == 1
    error = ((image - made).abs() * inside).amax((2, 3, 4))
    assert error.amin(0).max() < 1e-5
    chosen = error.argmin(0).bincount(minlength=len(choices))
    assert (chosen > 0).all(), "every direction is drawn"


def test_elastic_is_an_affine_map_and_a_smooth_field() -> None:
    clean = images((1, 28, 28), 6)
    points = np.array([[1, 1], [1, -1], [-1, -1]]) * 28 / 3  # column, row
    moved = (keyed.uniform(keyed.fold(keys(6), "points"), (3, 2)).double() * 2 - 1).numpy()[..., ::-1] * 0.08 * 28
    maps = [np.linalg.solve(np.c_[points + by, np.ones(3)], points).T for by in moved]
    expected = warped(clean, [matrix(map_.tolist()) for map_ in maps])
    image = Elastic(0, affine=0.08)(clean, keys(6)).image
    torch.testing.assert_close(image[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], atol=1e-5, rtol=0)
    # The field, by SciPy.
    drawn = keyed.uniform(keyed.fold(keys(6), "shifts"), (2, 28, 28)).double().numpy() * 2 - 1
    bent = Elastic(0.3, 0.08)(clean, keys(6)).image
    for one, shifts, made in zip(clean[:, 0].double().numpy(), drawn, bent, strict=True):
        by = [ndimage.gaussian_filter(shift, 0.08 * 28, truncate=3) * 0.3 * 28 for shift in shifts]
        at = np.meshgrid(np.arange(28), np.arange(28), indexing="ij")
        expected_one = ndimage.map_coordinates(one, [a + b for a, b in zip(at, by, strict=True)], order=1,
                                               mode="reflect")  # fmt: skip
        np.testing.assert_allclose(made[0].numpy(), expected_one, atol=1e-5)


@pytest.mark.parametrize("factor", [1.06, 1.25, 2.0])
def test_zoom_blur_is_the_mean_of_enlargements(factor: float) -> None:
    clean = images((1, 37, 53), 3)
    middle = (np.array([37, 53]) - 1) / 2
    zooms = [1 + 0.01 * step for step in range(round((factor - 1) / 0.01) + 1)]
    for one, made in zip(clean[:, 0].numpy(), ZoomBlur(factor)(clean, keys(3)).image, strict=True):
        parts = [ndimage.affine_transform(one, np.eye(2) / z, middle - middle / z, order=1) for z in zooms]
        np.testing.assert_allclose(made[0].numpy(), (one + sum(parts)) / (len(parts) + 1), atol=1e-5)
    assert torch.equal(ZoomBlur(1)(clean, keys(3)).image, clean)


@pytest.mark.parametrize(("reach", "chance"), [(1, 1.0), (2, 1.0), (2, 0.5)])
def test_glass_takes_the_turns_one_after_another(reach: int, chance: float) -> None:
    clean = images((3, 17, 21), 5)
    image = GlassBlur(0, reach, 2, chance)(clean, keys(5)).image
    rows, columns = 17 - 2 * reach, 21 - 2 * reach
    for number, (key, expected) in enumerate(zip(keys(5).split(1), clean.clone(), strict=True)):
        for turn in range(2):
            of_round = keyed.fold(key, f"round {turn}")
            by = keyed.integers(keyed.fold(of_round, "by"), 2 * reach, (2, rows, columns))[0] - reach
            takes = keyed.uniform(keyed.fold(of_round, "chance"), (rows, columns))[0] < chance
            for row in range(17 - reach, reach, -1):
                for column in range(21 - reach, reach, -1):
                    if takes[row - reach - 1, column - reach - 1]:
                        down, right = by[:, row - reach - 1, column - reach - 1].tolist()
                        first = expected[:, row, column].clone()
                        expected[:, row, column] = expected[:, row + down, column + right]
                        expected[:, row + down, column + right] = first
        assert torch.equal(image[number], expected)


def test_a_trail_is_half_a_gaussian_along_a_line() -> None:
    clean = images((1, 37, 53), 4)
    angles = keyed.uniform(keyed.fold(keys(4), "angle")).mul(90).sub(45)
    image = TrailBlur(2, 8)(clean, keys(4)).image
    for one, angle, made in zip(clean[:, 0].numpy(), angles.deg2rad().tolist(), image, strict=True):
        steps = range(9)  # 4 sigma
        weights = np.exp(-0.5 * (np.array(steps) / 2) ** 2)
        offsets = [(math.ceil(i * math.sin(angle) - 0.5), math.ceil(i * math.cos(angle) - 0.5)) for i in steps]
        padded = np.pad(one, 9, mode="edge")
        parts = [padded[9 + down : 9 + down + 37, 9 + right : 9 + right + 53] for down, right in offsets]
        np.testing.assert_allclose(
            made[0].numpy(), np.tensordot(weights / weights.sum(), np.stack(parts), 1), atol=1e-5
        )
    point = torch.zeros(1, 1, 31, 31)
    point[..., 15, 15] = 1
    operator = TrailBlur(2, 8, angle=30, boundary="zero")
    spread = operator(point, keys(1)).image[0, 0, 7:24, 7:24]
    torch.testing.assert_close(spread, operator.kernel(2).float(), atol=1e-7, rtol=0)


def test_brightness_is_the_v_of_hsv() -> None:
    clean = images((3, 37, 53))
    clean[0, :, :5] = 0
    image = Brightness(0.3)(clean, keys()).image
    hsv = color.rgb2hsv(clean.numpy(), channel_axis=1)
    hsv[:, 2] = (hsv[:, 2] + 0.3).clip(0, 1)
    np.testing.assert_allclose(image.numpy(), color.hsv2rgb(hsv, channel_axis=1), atol=1e-5)


def test_contrast_by_channel_keeps_each_mean() -> None:
    clean = images((3, 37, 53)).double()
    image = Contrast(0.4, by_channel=True)(clean, keys()).image
    mean = clean.mean((2, 3), keepdim=True)
    torch.testing.assert_close(image, (clean - mean) * 0.4 + mean, atol=1e-7, rtol=0)


@pytest.mark.parametrize("fraction", [0.95, 0.65, 0.3])
def test_pixelate_is_pillow_s_box(fraction: float) -> None:
    clean = images((3, 32, 40))
    image = Pixelate(fraction)(clean, keys()).image
    small = int(40 * fraction + 1e-9), int(32 * fraction + 1e-9)
    for one, made in zip(clean, image, strict=True):
        picture = Image.fromarray((one * 255).round().byte().permute(1, 2, 0).numpy())
        expected = picture.resize(small, Image.Resampling.BOX).resize((40, 32), Image.Resampling.BOX)
        # Pillow rounds to whole levels after each of four passes.
        assert np.abs(made.permute(1, 2, 0).numpy() * 255 - np.asarray(expected, float)).max() <= 2
    ranged = Pixelate((0.3, 0.9))(clean, keys())
    for number, one in enumerate(ranged.severity.tolist()):
        expected = Pixelate(one)(clean[number : number + 1], keys()[number : number + 1]).image[0]
        assert torch.equal(ranged.image[number], expected)


def test_a_cloud_is_made_of_diamonds_and_squares() -> None:
    made = cloud(keys(2), 8, 3.0)
    for key, result in zip(keys(2).split(1), made, strict=True):
        height, step, swing = np.zeros((8, 8)), 8, 100.0

        def noise(row: int, column: int, key: Tensor = key, step_: int = 8, swing_: float = 0.0) -> np.ndarray:
            count = 8 // step_
            drawn = keyed.uniform(keyed.fold(key, f"{row} {column} {step_}"), (count, count))[0]
            return (drawn.double().numpy() * 2 - 1) * swing_**2

        while step >= 2:
            half, count = step // 2, 8 // step
            before = height.copy()
            middle, beside, above = (
                noise(*at, step_=step, swing_=swing) for at in ((half, half), (0, half), (half, 0))
            )
            for i in range(count):
                for j in range(count):
                    row, column = i * step, j * step
                    corners = [before[(row + a) % 8, (column + b) % 8] for a in (0, step) for b in (0, step)]
                    height[row + half, column + half] = np.mean(corners) + middle[i, j]
            squares = height.copy()
            for i in range(count):
                for j in range(count):
                    for row, column, drawn in ((i * step, j * step + half, beside), (i * step + half, j * step, above)):
                        four = [squares[(row + a) % 8, (column + b) % 8]
                                for a, b in ((half, 0), (-half, 0), (0, half), (0, -half))]  # fmt: skip
                        height[row, column] = np.mean(four) + drawn[i, j]
            step, swing = half, swing / 3
        height -= height.min()
        np.testing.assert_allclose(result.numpy(), height / height.max(), atol=1e-5)


def test_fog_keeps_the_brightest_value_in_its_bounds() -> None:
    clean = images((3, 32, 32), 4)
    image = Fog(1.5, 1.75)(clean, keys(4)).image
    layer = cloud(keyed.fold(keys(4), "cloud"), 32, 1.75).unsqueeze(1)
    most = clean.amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(image, (clean + 1.5 * layer) * most / (most + 1.5))
    black = torch.zeros(2, 1, 28, 28)
    assert Fog((0.0, 1.0))(black, keys(2)).image.isfinite().all()


def test_spatter_covers_by_smoothed_noise() -> None:
    clean = images((1, 28, 28), 4)
    image = Spatter(0.65)(clean, keys(4)).image
    noise = keyed.normal(keyed.fold(keys(4), "drops"), (1, 28, 28))[:, 0].double().numpy() * 0.3 + 0.65
    for one, drops, made in zip(clean[:, 0].numpy(), noise, image, strict=True):
        covered = (ndimage.gaussian_filter(drops, 1, mode="nearest") > 0.65).astype(float)
        mud = ndimage.gaussian_filter(covered, 1.5, mode="nearest")
        mud[mud < 0.8] = 0
        assert (np.abs(made[0].numpy() - (one * (1 - mud) + 63 / 255 * mud)) < 1e-5).mean() > 0.99
        assert 0.02 < (mud > 0).mean() < 0.6


def test_snow_whitens_and_adds_flakes_twice() -> None:
    clean = images((3, 32, 32), 4)
    calm = Snow(0, spread=0)(clean, keys(4)).image
    grey = (clean * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(calm, (0.9 * clean + 0.1 * clean.maximum(1.5 * grey + 0.5)).clamp(max=1))
    flakes = Snow(0.3, kept=1.0)(torch.zeros(2, 1, 32, 32), keys(2)).image
    assert torch.equal(flakes, flakes.flip(2, 3))
    assert 0.01 < flakes.mean() < 0.6


def lines(start: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """Draw a line from (column, row) to another on 28×28 pixels, pixel by pixel."""
    picture = np.zeros((28, 28))
    for row in range(28):
        for column in range(math.floor(start[0]), min(28, math.ceil(end[0]))):
            if column >= 0:
                at = start[1] + (end[1] - start[1]) / (end[0] - start[0]) * (column - start[0])
                far = min(abs(row - at), 2.3 - 1e-10)
                picture[row, column] = min(max(math.log(1 - far / 2.3) + 1, 0), 1)
    return picture


def test_lines_and_zigzags_are_drawn_as_published() -> None:
    black = torch.zeros(6, 1, 28, 28)
    dotted, zigzag = (kind(1.0)(black, keys(6)).image[:, 0].double().numpy() for kind in (DottedLine, Zigzag))
    ends = keyed.integers(keyed.fold(keys(6), "rows"), 27, (2,)).tolist()
    first = keyed.integers(keyed.fold(keys(6), "row"), 27).tolist()
    rises = (keyed.integers(keyed.fold(keys(6), "rise"), 10) - 5).tolist()
    for number in range(6):
        expected = lines((0, ends[number][0]), (27, ends[number][1]))
        expected[:, [column for column in range(28) if column // 2 % 2 == 0]] = 0
        np.testing.assert_allclose(dotted[number], expected, atol=1e-6)
        angle = math.atan(rises[number] / 23)
        length = 23 / math.cos(angle)
        teeth = int((length - 2) // 4) + 1
        points = [(0.0, 0.0), *((4 * i + 2, (-1) ** i * 2) for i in range(teeth))]
        points.append((length, points[-1][1] / (2 * (length - 4 * (length // 4)))))
        placed = [(2 + a * math.cos(angle) - o * math.sin(angle),
                   first[number] + a * math.sin(angle) + o * math.cos(angle)) for a, o in points]  # fmt: skip
        expected = np.zeros((28, 28))
        for start, end in pairwise(placed):
            expected = np.minimum(expected + lines(start, end), 1)
        np.testing.assert_allclose(zigzag[number], expected, atol=1e-6)


def test_stripes_are_seven_columns_of_28() -> None:
    clean = images((1, 28, 28))
    image = Stripe(0.25)(clean, keys()).image
    assert torch.equal(image[..., 7:21], clean[..., 7:21])
    assert torch.equal(image[..., :7], 1 - clean[..., :7])
    assert torch.equal(image[..., 21:], 1 - clean[..., 21:])
