"""Blur against scipy, and against the published definitions of its kernels written anew."""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import SIZES, images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image
from scipy import integrate, ndimage, stats
from torch import Tensor

from recon import keyed
from recon.degradations import base
from recon.degradations.base import Degradation
from recon.degradations.blur import BoxBlur, DefocusBlur, GaussianBlur, KernelBlur, MotionBlur
from recon.degradations.levels import Range
from recon.errors import InputError

MODES = {"reflect": "reflect", "replicate": "nearest", "circular": "wrap", "zero": "constant"}
SHAKE = np.array([[0, 0, 1, 5, 2], [0, 3, 4, 1, 0], [1, 2, 0, 0, 0]])
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}

each_boundary = pytest.mark.parametrize("boundary", MODES)
each_size = pytest.mark.parametrize(
    ("size", "count"),
    [*((size, 8) for size in SIZES), ((1, 1, 1), 3), ((1, 5, 70), 8), ((3, 90, 80), 3)],
    ids=str,
)


# The definitions


def line(length: float, degrees: float) -> NDArray:
    """MATLAB's fspecial('motion'): the half of the kernel right of (or left of) and above the middle, then unfolded."""
    length = max(1.0, length)
    half = (length - 1) / 2
    angle = degrees % 180 / 180 * math.pi
    towards = 1 if math.cos(angle) >= 0 else -1
    epsilon = np.finfo(float).eps
    reach_x = math.trunc(half * math.cos(angle) + towards - length * epsilon)
    reach_y = math.trunc(half * math.sin(angle) + 1 - length * epsilon)
    quarter = np.zeros((reach_y + 1, abs(reach_x) + 1))
    for row in range(reach_y + 1):
        for column in range(abs(reach_x) + 1):
            x, y = towards * column, row
            distance = y * math.cos(angle) - x * math.sin(angle)
            if math.hypot(x, y) >= half and abs(distance) <= 1:
                rest = half - abs((x + distance * math.sin(angle)) / math.cos(angle))
                distance = math.hypot(distance, rest)
            quarter[row, column] = max(0, 1 + epsilon - abs(distance))
    kernel = np.zeros((2 * reach_y + 1, 2 * abs(reach_x) + 1))
    kernel[: reach_y + 1, : abs(reach_x) + 1] = quarter[::-1, ::-1]
    kernel[reach_y:, abs(reach_x) :] = quarter
    kernel /= kernel.sum() + epsilon * length**2
    return kernel[::-1] if math.cos(angle) > 0 else kernel


@lru_cache
def disk(radius: float) -> NDArray:
    """The area of each pixel inside the circle, by numeric integration of the height that they share."""
    reach = max(0, math.ceil(radius - 0.5))
    kernel = np.zeros((2 * reach + 1,) * 2)
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            nearest, farthest = (math.hypot(*(max(0, abs(p) + more) for p in (row, column))) for more in (-0.5, 0.5))
            if farthest <= radius or nearest >= radius:
                kernel[row + reach, column + reach] = float(farthest <= radius)
                continue

            def shared(x: float, row: int = row) -> float:
                height = math.sqrt(max(0, radius**2 - x**2))
                return max(0, min(row + 0.5, height) - max(row - 0.5, -height))

            kinks = [abs(radius**2 - (row + more) ** 2) ** 0.5 for more in (-0.5, 0.5)] + [radius]
            inside = sorted(k for kink in kinks for k in (-kink, kink) if abs(k - column) < 0.5)
            ends = [column - 0.5, *inside, column + 0.5]
            pieces = (integrate.quad(shared, *piece, epsabs=1e-13, epsrel=1e-13)[0] for piece in pairwise(ends))
            kernel[row + reach, column + reach] = sum(pieces)
    return kernel / kernel.sum() if radius else np.ones((1, 1))


def turned(sigma: float, ratio: float, degrees: float) -> NDArray:
    """The density of a Gaussian whose axes are turned, from its covariance."""
    radius = int(4 * sigma + 0.5)
    angle = math.radians(degrees)
    # (column, row); rows are counted downwards.
    along, across = np.array([math.cos(angle), -math.sin(angle)]), np.array([math.sin(angle), math.cos(angle)])
    covariance = sigma**2 * (np.outer(along, along) + ratio**2 * np.outer(across, across))
    row, column = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    place = np.stack([column, row], -1)
    kernel = np.exp(-0.5 * np.einsum("...i,ij,...j", place, np.linalg.inv(covariance), place))
    return kernel / kernel.sum()


def drawn(operator: Degradation, parameter: str, count: int) -> list[float]:
    return base.draw(getattr(operator, parameter), keys(count), parameter).tolist()


def convolved(clean: Tensor, kernels: list[NDArray], boundary: str) -> NDArray:
    pairs = zip(clean.double().numpy(), kernels, strict=True)
    return np.array([[ndimage.convolve(plane, kernel, mode=MODES[boundary]) for plane in one] for one, kernel in pairs])


def check(operator: Degradation, clean: Tensor, truth: NDArray) -> None:
    """Compare in both precisions."""
    for dtype, tolerance in TOLERANCES.items():
        image, mask, _ = operator(clean.to(dtype), keys(len(clean)))
        assert image.dtype == dtype
        assert (mask == 1).all()
        np.testing.assert_allclose(image.numpy(), truth, atol=tolerance, rtol=0)


# Gaussian


@each_size
@each_boundary
@pytest.mark.parametrize("sigma", [0.1, 3.0, (0.0, 3.0)], ids=str)
def test_gaussian_is_that_of_scipy(size: tuple[int, int, int], count: int, boundary: str, sigma: Range) -> None:
    """Border included, and kernels wider than the image; each image with its own sigma and radius."""
    clean, operator = images(size, count), GaussianBlur(sigma, boundary=boundary)
    severity = operator(clean, keys(count)).severity.tolist()
    pairs = zip(clean.double().numpy(), severity, strict=True)
    truth = [[ndimage.gaussian_filter(p, sigma, mode=MODES[boundary], truncate=4) for p in one] for one, sigma in pairs]
    check(operator, clean, np.array(truth))


@each_boundary
@pytest.mark.parametrize("angle", [-90, 0, 90, 180])
@pytest.mark.parametrize("ratio", [0.3, (0.2, 1.0)], ids=str)
@pytest.mark.parametrize(("size", "count"), [((3, 37, 53), 8), ((1, 70, 90), 3)])
def test_upright_gaussian_is_that_of_scipy(
    size: tuple[int, int, int], count: int, ratio: Range, angle: int, boundary: str
) -> None:
    clean, operator = images(size, count), GaussianBlur((0.5, 2.5), ratio, angle, boundary)
    truth = []
    severity = operator(clean, keys(count)).severity.tolist()
    for one, sigma, share in zip(clean.double().numpy(), severity, drawn(operator, "ratio", count), strict=True):
        sigmas = (share * sigma, sigma) if angle % 180 == 0 else (sigma, share * sigma)
        radius = int(4 * sigma + 0.5)
        truth.append([ndimage.gaussian_filter(plane, sigmas, mode=MODES[boundary], radius=radius) for plane in one])
    check(operator, clean, np.array(truth))


@each_size
@each_boundary
@pytest.mark.parametrize(
    ("sigma", "ratio", "angle"),
    [(1.2, 0.5, 30), ((0.5, 1.7), (0.3, 1.0), (0, 180)), ((1.0, 3.0), 0.5, 135)],
    ids=str,
)
def test_turned_gaussian(
    size: tuple[int, int, int], count: int, sigma: Range, ratio: Range, angle: Range, boundary: str
) -> None:
    clean, operator = images(size, count), GaussianBlur(sigma, ratio, angle, boundary)
    severity = operator(clean, keys(count)).severity.tolist()
    values = zip(severity, drawn(operator, "ratio", count), drawn(operator, "angle", count), strict=True)
    check(operator, clean, convolved(clean, [turned(*value) for value in values], boundary))


def test_a_turned_gaussian_meets_the_upright_and_the_round_one() -> None:
    clean = images((3, 37, 53), 5).double()
    for one, other in (
        (GaussianBlur(1.5, 0.4, (90, 90 + 1e-9)), GaussianBlur(1.5, 0.4, 90)),
        (GaussianBlur(1.5, (1 - 1e-12, 1), 33), GaussianBlur(1.5)),
    ):
        torch.testing.assert_close(one(clean, keys(5)).image, other(clean, keys(5)).image, atol=1e-6, rtol=0)


def test_gaussian_points_where_its_angle_does() -> None:
    """Up and to the right at 45 degrees."""
    clean = torch.zeros(1, 1, 21, 21)
    clean[..., 10, 10] = 1
    image = GaussianBlur(2, 0.3, 45)(clean, keys(1)).image[0, 0]
    assert image[7, 13] > 10 * image[13, 13]


# Motion, defocus, box


@each_size
@each_boundary
@pytest.mark.parametrize(
    ("length", "angle"),
    [(9, (0, 180)), ((1, 15), 30), ((5, 28.3), (-90, 270))],
    ids=str,
)
def test_motion_is_that_of_matlab(
    size: tuple[int, int, int], count: int, length: Range, angle: Range, boundary: str
) -> None:
    clean, operator = images(size, count), MotionBlur(length, angle, boundary)
    severity = operator(clean, keys(count)).severity.tolist()
    kernels = [line(*value) for value in zip(severity, drawn(operator, "angle", count), strict=True)]
    check(operator, clean, convolved(clean, kernels, boundary))


@pytest.mark.parametrize("length", [1, 1.5, 3, 10, 11, 14.2, 31])
@pytest.mark.parametrize("angle", [0, 20, 45, 53.13, 90, 120, 135, 180, 200])
def test_motion_kernel(length: float, angle: float) -> None:
    """What a single bright pixel becomes, at every kind of angle, also where a pixel lies as far as the line's end."""
    clean = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    clean[..., 20, 20] = 1
    operator = MotionBlur(length, angle)
    degrees = drawn(operator, "angle", 1)[0]
    image = operator(clean, keys(1)).image[0, 0].numpy()
    kernel = line(operator(clean, keys(1)).severity.item(), degrees)
    height, width = (side // 2 for side in kernel.shape)
    np.testing.assert_allclose(image[20 - height : 21 + height, 20 - width : 21 + width], kernel, atol=1e-12)
    assert image.sum() == pytest.approx(1)


def test_known_motion() -> None:
    """Three pixels across; and up and to the right at 45 degrees."""
    clean = torch.zeros(1, 1, 7, 7)
    clean[..., 3, 3] = 1
    across = MotionBlur(3, 0)(clean, keys(1)).image[0, 0]
    torch.testing.assert_close(across[3], torch.tensor([0, 0, 1, 1, 1, 0, 0]) / 3)
    assert across[:3].abs().max() < 1e-7
    slanting = MotionBlur(5, 45)(clean, keys(1)).image[0, 0]
    assert slanting[2, 4] > 0.15
    assert slanting[4, 4] == 0


@each_size
@each_boundary
@pytest.mark.parametrize("radius", [0.8, (0, 5.2), 9.3], ids=str)
def test_defocus_is_a_disk(size: tuple[int, int, int], count: int, radius: Range, boundary: str) -> None:
    count = min(count, 3)
    clean, operator = images(size, count), DefocusBlur(radius, boundary)
    severity = operator(clean, keys(count)).severity.tolist()
    check(operator, clean, convolved(clean, [disk(value) for value in severity], boundary))


@each_size
@each_boundary
@pytest.mark.parametrize("side", [9, (1, 31)], ids=str)
def test_box_is_that_of_scipy(size: tuple[int, int, int], count: int, side: Range, boundary: str) -> None:
    clean, operator = images(size, count), BoxBlur(side, boundary)
    severity = operator(clean, keys(count)).severity.int().tolist()
    pairs = zip(clean.double().numpy(), severity, strict=True)
    truth = [[ndimage.uniform_filter(plane, side, mode=MODES[boundary]) for plane in one] for one, side in pairs]
    check(operator, clean, np.array(truth))


def test_a_range_of_boxes_draws_odd_sizes_alike() -> None:
    sizes = BoxBlur((3, 9))(torch.zeros(2000, 1, 1, 1), keys(2000)).severity
    values, counts = sizes.unique(return_counts=True)
    assert values.tolist() == [3, 5, 7, 9]
    assert stats.chisquare(counts).pvalue > 1e-3


# Any kernel


@each_size
@each_boundary
def test_kernel_is_a_convolution(size: tuple[int, int, int], count: int, boundary: str) -> None:
    clean = images(size, count)
    check(KernelBlur(SHAKE, boundary=boundary), clean, convolved(clean, [SHAKE / SHAKE.sum()] * count, boundary))


@each_boundary
@pytest.mark.parametrize("shape", [(1, 1), (1, 201), (15, 1), (15, 15), (17, 31), (75, 3)], ids=str)
def test_kernels_of_any_shape(shape: tuple[int, int], boundary: str) -> None:
    """Unnormalised and negative, small and larger than the image."""
    kernels = np.random.default_rng(0).normal(size=(4, *shape)) / math.prod(shape)
    operator, clean = KernelBlur(kernels, normalise=False, boundary=boundary), images((1, 28, 28))
    chosen = operator(clean, keys()).severity.int().tolist()
    check(operator, clean, convolved(clean, [kernels[number] for number in chosen], boundary))


def test_kernels_are_drawn_alike() -> None:
    operator = KernelBlur(np.stack([SHAKE, 2 * SHAKE, 3 * SHAKE]), normalise=False)
    image, _, severity = operator(torch.ones(1500, 1, 1, 1), keys(1500))
    torch.testing.assert_close(image.flatten(), (severity + 1) * SHAKE.sum())
    assert stats.chisquare(severity.unique(return_counts=True)[1]).pvalue > 1e-3
    assert operator.level == (0, 2)


def test_a_kernel_comes_from_a_file_or_a_list(tmp_path: Path) -> None:
    clean = images((1, 28, 28))
    expected = KernelBlur(SHAKE)(clean, keys()).image
    np.save(tmp_path / "kernel.npy", SHAKE)
    Image.fromarray((40 * SHAKE).astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray((9000 * SHAKE).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray((40 * SHAKE).astype(np.uint8)).convert("RGB").save(tmp_path / "colour.png")
    rows = SHAKE.tolist()
    files = [tmp_path / name for name in ("kernel.npy", "grey.png", "deep.png", "colour.png")]
    for kernel in (*files, str(files[0]), rows, OmegaConf.create(rows), torch.tensor(rows)):
        torch.testing.assert_close(KernelBlur(kernel)(clean, keys()).image, expected, atol=1e-7, rtol=0)


# Laws


OPERATORS = {
    "gaussian": GaussianBlur((0.0, 2.0)),
    "upright": GaussianBlur((0.5, 2.0), (0.2, 1), 90),
    "turned": GaussianBlur((0.5, 1.7), (0.2, 1), (0, 180)),
    "motion": MotionBlur((5, 15)),
    "long motion": MotionBlur((5, 40), 20),
    "defocus": DefocusBlur((0, 5)),
    "wide defocus": DefocusBlur((0, 12)),
    "box": BoxBlur((1, 9)),
    "kernel": KernelBlur(SHAKE),
    "kernels": KernelBlur(np.stack([SHAKE, SHAKE[::-1], SHAKE[:, ::-1]])),
}
each_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


@each_operator
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    ("size", "count"),
    [((1, 1, 1), 9), ((1, 9, 7), 9), ((1, 28, 28), 70), ((3, 37, 53), 9), ((3, 70, 90), 3)],
    ids=str,
)
def test_same_bits_for_any_batch_and_order(
    operator: Degradation, size: tuple[int, int, int], count: int, dtype: torch.dtype
) -> None:
    # In double precision, images go through one by one.
    count = count if dtype == torch.float32 else min(count, 5)
    clean = images(size, count).to(dtype)
    whole = operator(clean, keys(count)).image
    for part in (1, 4) if count < 50 else (33,):
        pieces = zip(clean.split(part), keys(count).split(part), strict=True)
        assert torch.equal(whole, torch.cat([operator(*piece).image for piece in pieces]))
    order = keyed.permutation(0, "order", 0, count)
    assert torch.equal(whole[order], operator(clean[order], keys(count)[order]).image)


@each_operator
def test_same_bits_for_any_number_of_threads(operator: Degradation) -> None:
    clean, threads = images((3, 37, 53), 2), torch.get_num_threads()
    for values in (clean, clean.double()):
        before = operator(values, keys(2)).image
        try:
            torch.set_num_threads(1 if threads > 1 else 2)
            assert torch.equal(before, operator(values, keys(2)).image)
        finally:
            torch.set_num_threads(threads)


@each_operator
def test_a_batch_of_none(operator: Degradation) -> None:
    image, mask, severity = operator(torch.zeros(0, 3, 20, 30), keys(0))
    assert (image.shape, mask.shape, severity.shape) == ((0, 3, 20, 30), (0, 1, 20, 30), (0,))


@each_operator
@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_half_precision(operator: Degradation, dtype: torch.dtype) -> None:
    clean = images((3, 37, 53))
    image = operator(clean.to(dtype), keys()).image
    assert image.dtype == dtype
    torch.testing.assert_close(image.float(), operator(clean, keys()).image, atol=0.01, rtol=0)


@each_operator
def test_other_memory_layouts(operator: Degradation) -> None:
    clean = images((3, 37, 53))
    expected = operator(clean, keys()).image
    for strided in (clean.to(memory_format=torch.channels_last), clean.transpose(2, 3).contiguous().transpose(2, 3)):
        before = strided.clone()
        torch.testing.assert_close(operator(strided, keys()).image, expected, atol=1e-6, rtol=0)
        assert torch.equal(strided, before)


@each_operator
def test_severity_lies_in_its_range_and_keys_decide(operator: Degradation) -> None:
    clean = images((1, 28, 28))[:1].expand(400, -1, -1, -1)
    image, _, severity = operator(clean, keys(400))
    low, high = operator.level
    assert low <= severity.min() <= severity.max() <= high
    assert low == high or severity.std() > 0.2 * (high - low)
    assert torch.equal(image, operator(clean, keys(400)).image)
    varies = low < high or any(
        a < b for a, b in (getattr(operator, "angle", (0, 0)), getattr(operator, "ratio", (0, 0)))
    )
    assert varies != torch.equal(image, operator(clean, keys(400, seed=1)).image)


def operators() -> st.SearchStrategy[Degradation]:
    boundary = st.sampled_from(["reflect", "circular"])
    angle, ratio = st.floats(-400, 400), st.floats(0.05, 1)
    return st.one_of(
        st.builds(GaussianBlur, st.floats(0, 5), ratio, angle, boundary),
        st.builds(MotionBlur, st.floats(1, 40), angle, boundary),
        st.builds(DefocusBlur, st.floats(0, 12), boundary),
        st.builds(BoxBlur, st.integers(0, 15).map(lambda half: 2 * half + 1), boundary),
        st.builds(KernelBlur, st.just(SHAKE), st.just(True), boundary),
    )


@settings(max_examples=40, deadline=None)
@given(operator=operators(), height=st.integers(1, 40), width=st.integers(1, 40), value=st.floats(0, 1))
def test_even_surfaces_stay_and_the_mean_is_kept(operator: Degradation, height: int, width: int, value: float) -> None:
    """All weights sum to 1; around a circle nothing is lost."""
    even = torch.full((3, 1, height, width), value)
    torch.testing.assert_close(operator(even, keys(3)).image, even, atol=1e-6, rtol=0)
    clean = images((3, 40, 40), 3)[..., :height, :width]
    image = operator(clean, keys(3)).image
    assert image.min() >= clean.min() - 1e-6
    assert image.max() <= clean.max() + 1e-6
    if operator.boundary == "circular":
        torch.testing.assert_close(image.mean((2, 3)), clean.mean((2, 3)), atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(operator=operators(), weight=st.floats(-1, 1))
def test_blur_is_linear_and_moves_with_the_image(operator: Degradation, weight: float) -> None:
    one, other = images((3, 37, 53), 3), images((3, 37, 53), 6)[3:]
    expected = operator(one, keys(3)).image + weight * operator(other, keys(3)).image
    torch.testing.assert_close(operator(one + weight * other, keys(3)).image, expected, atol=2e-6, rtol=0)
    if operator.boundary == "circular":
        moved = operator(one.roll((5, -3), (2, 3)), keys(3)).image
        torch.testing.assert_close(moved, operator(one, keys(3)).image.roll((5, -3), (2, 3)), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "operator", [GaussianBlur(0), GaussianBlur(0, 0.5, 30), MotionBlur(1), DefocusBlur(0), DefocusBlur(0.5), BoxBlur(1)]
)
def test_least_damage_is_none(operator: Degradation) -> None:
    clean = images((3, 37, 53))
    assert torch.equal(operator(clean, keys()).image, clean)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("operator", [GaussianBlur(0.7), GaussianBlur(2.0), DefocusBlur(3.0), BoxBlur(5)])
def test_mirrored_borders_keep_the_mean(size: tuple[int, int, int], operator: Degradation) -> None:
    """Of kernels that are their own mirror image."""
    clean = images(size)
    image = operator(clean, keys()).image
    torch.testing.assert_close(image.mean((2, 3)), clean.mean((2, 3)), atol=1e-6, rtol=0)


def large() -> Iterator[tuple[Degradation, list[NDArray]]]:
    yield MotionBlur(15, 30), [line(15, 30)]
    yield DefocusBlur(20.5), [disk(20.5)]
    yield KernelBlur(SHAKE), [SHAKE / SHAKE.sum()]


@each_boundary
def test_large_images(boundary: str) -> None:
    clean = images((3, 512, 512), 1)
    for operator, kernels in large():
        operator.boundary = boundary
        # One plane is enough of the slow truth.
        truth = convolved(clean[:, :1], kernels, boundary)
        for dtype, tolerance in TOLERANCES.items():
            image = operator(clean.to(dtype), keys(1)).image[:, :1]
            np.testing.assert_allclose(image.numpy(), truth, atol=tolerance, rtol=0)


# Mistakes


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: GaussianBlur((-1, 1)), "sigma"),
        (lambda: GaussianBlur(1, ratio=0), "ratio"),
        (lambda: GaussianBlur(1, ratio=(0.5, 1.5)), "ratio"),
        (lambda: GaussianBlur(1, angle="up"), "angle"),
        (lambda: GaussianBlur(1, boundary="mirror"), "boundary"),
        (lambda: MotionBlur(0.5), "length"),
        (lambda: MotionBlur((15, 5)), "length"),
        (lambda: MotionBlur(5, angle=math.inf), "angle"),
        (lambda: MotionBlur(5, boundary=None), "boundary"),
        (lambda: DefocusBlur(-1), "radius"),
        (lambda: DefocusBlur(1, boundary=["zero"]), "boundary"),
        (lambda: BoxBlur(4), "size"),
        (lambda: BoxBlur(0), "size"),
        (lambda: BoxBlur(3.5), "size"),
        (lambda: BoxBlur((3, 6)), "size"),
        (lambda: BoxBlur(3, boundary="edge"), "boundary"),
        (lambda: KernelBlur(np.ones((4, 3))), "kernel"),
        (lambda: KernelBlur(np.ones((2, 3, 4))), "kernel"),
        (lambda: KernelBlur(np.ones(3)), "kernel"),
        (lambda: KernelBlur(np.ones((0, 3, 3))), "kernel"),
        (lambda: KernelBlur([[1, 2, 3], [4, 5]]), "kernel"),
        (lambda: KernelBlur([["a", "b", "c"]]), "kernel"),
        (lambda: KernelBlur([[1, math.nan, 1]]), "kernel"),
        (lambda: KernelBlur([[1, 0, -1]]), "kernel"),
        (lambda: KernelBlur([[1, 1e-12, -1]]), "kernel"),
        (lambda: KernelBlur([[1e308, 1e308, 1e308]]), "kernel"),
        (lambda: KernelBlur([[1e308]], normalise=False), "kernel"),
        (lambda: KernelBlur(np.ones((403, 1))), "kernel"),
        (lambda: KernelBlur(None), "kernel"),
        (lambda: KernelBlur("nowhere.npy"), "kernel"),
        (lambda: KernelBlur(__file__), "kernel"),
        (lambda: KernelBlur([[1]], boundary="wrap"), "boundary"),
    ],
)
def test_a_mistake_raises_one_sentence(make, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        make()


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"^kernel: "):
        KernelBlur(tmp_path / "pickle.npy")
    (tmp_path / "empty.npy").touch()
    with pytest.raises(InputError, match=r"^kernel: "):
        KernelBlur(tmp_path / "empty.npy")


@pytest.mark.gpu
@each_operator
def test_cuda_agrees_and_has_the_same_bits_for_any_batch(operator: Degradation) -> None:
    clean = images((3, 37, 53))
    whole = operator(clean.cuda(), keys().cuda()).image
    torch.testing.assert_close(whole.cpu(), operator(clean, keys()).image, atol=1e-6, rtol=0)
    parts = zip(clean.cuda().split(5), keys().cuda().split(5), strict=True)
    assert torch.equal(whole, torch.cat([operator(*part).image for part in parts]))
