"""Resampling against Pillow, MATLAB's definition and laws; `Downsample` as a degradation."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import data_root
from damage import COUNT, SIZES, images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.degradations.base import Chain, Degradation, Identity
from recon.degradations.missing import MissingBox, MissingPixels
from recon.degradations.noise import GaussianNoise
from recon.degradations.resample import Downsample
from recon.errors import InputError
from recon.filters.resize import resize

PILLOW = {
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
METHODS = ["bicubic", "bicubic_matlab", "area", "bilinear", "lanczos", "nearest"]
EVERY = [*METHODS, "bicubic_matlab_uint8"]  # which rounds, so that laws of linear methods are not its own
ODD = [*SIZES, (1, 1, 1), (1, 1, 9), (3, 5, 70), (1, 90, 80), (3, 131, 64)]
BLIND = {"max_examples": 25, "deadline": None}


def pillow(image: Tensor, size: tuple[int, int], method: str) -> np.ndarray:
    """Each plane as Pillow resizes it in mode "F"."""
    planes = [Image.fromarray(plane).resize(size[::-1], PILLOW[method]) for plane in image.flatten(0, 1).numpy()]
    return np.stack([np.asarray(plane) for plane in planes]).reshape(*image.shape[:2], *size)


def smaller(size: tuple[int, ...], scale: int) -> tuple[int, int]:
    return math.ceil(size[-2] / scale), math.ceil(size[-1] / scale)


def keys_cubic(x: float) -> float:
    """The interpolation kernel of Keys (1981), equation 15."""
    x = abs(x)
    if x < 1:
        return 3 / 2 * x**3 - 5 / 2 * x**2 + 1
    return -1 / 2 * x**3 + 5 / 2 * x**2 - 4 * x + 2 if x < 2 else 0.0


def matlab_line(line: np.ndarray, length: int, scale: float) -> np.ndarray:
    """One line as `imresize(..., scale)` makes it, pixel by pixel; places count from 1 as in MATLAB."""
    width, squeeze = (4 / scale, scale) if scale < 1 else (4, 1)
    there_and_back = np.concatenate([line, line[::-1]])
    result = np.zeros(length)
    for x in range(1, length + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        total = 0.0
        for place in range(left, left + math.ceil(width) + 2):
            weight = squeeze * keys_cubic(squeeze * (u - place))
            total += weight
            result[x - 1] += weight * there_and_back[(place - 1) % len(there_and_back)]
        result[x - 1] /= total
    return result


def matlab(image: Tensor, size: tuple[int, int], scales: tuple[float, float]) -> np.ndarray:
    array = image.double().numpy()
    array = np.apply_along_axis(matlab_line, 2, array, size[0], scales[0])
    return np.apply_along_axis(matlab_line, 3, array, size[1], scales[1])


# Outside truths


@pytest.mark.parametrize("size", [*ODD, (3, 512, 512)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("method", ["bicubic", "bilinear", "lanczos", "nearest"])
def test_smaller_as_pillow_makes_it(method: str, scale: int, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    image = Downsample(scale, method)(clean, keys(2)).image
    expected = pillow(clean, smaller(size, scale), method)
    np.testing.assert_allclose(image.numpy(), expected, atol=0 if method == "nearest" else 2e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 36, 24), (3, 512, 512)], ids=str)
@pytest.mark.parametrize("upsample", PILLOW)
@pytest.mark.parametrize("method", ["bicubic", "area"])
def test_back_to_the_clean_size_as_pillow_makes_it(method: str, upsample: str, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    image = Downsample(4, method, upsample)(clean, keys(2)).image
    small = torch.from_numpy(pillow(clean, smaller(size, 4), method))
    np.testing.assert_allclose(image.numpy(), pillow(small, size[1:], upsample), atol=3e-6, rtol=0)


@settings(**BLIND)
@given(st.tuples(*[st.integers(1, 100)] * 4), st.sampled_from(sorted(PILLOW)))
def test_any_size_to_any_other_is_that_of_pillow(sides: tuple[int, int, int, int], method: str) -> None:
    image = images((3, 100, 100), 1)[:, :, : sides[0], : sides[1]]
    expected = pillow(image.contiguous(), sides[2:], method)
    np.testing.assert_allclose(resize(image, sides[2:], method).numpy(), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("size", [*ODD[:6], (3, 24, 20)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_smaller_and_back_as_matlab_makes_it(scale: int, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    small = matlab(clean, smaller(size, scale), (1 / scale, 1 / scale))
    image = Downsample(scale, "bicubic_matlab")(clean, keys(2)).image
    np.testing.assert_allclose(image.numpy(), small, atol=2e-6, rtol=0)
    back = Downsample(scale, "bicubic_matlab", "bicubic_matlab")(clean, keys(2)).image
    np.testing.assert_allclose(back.numpy(), matlab(torch.from_numpy(small), size[1:], (scale, scale)), atol=3e-6)


def matlab_bytes(levels: np.ndarray, scale: int) -> np.ndarray:
    """`imresize(levels, 1/scale)` of uint8 (H,W,C): rows first, then columns, each rounded to bytes, halves upwards."""
    for dim in (0, 1):
        count = len(levels) if dim == 0 else levels.shape[1]
        impulses = np.array([matlab_line(row, math.ceil(count / scale), 1 / scale) for row in np.eye(count)])
        sums = np.moveaxis(np.tensordot(impulses, levels.astype(float), (0, dim)), 0, dim)
        levels = np.clip(np.floor(sums + 0.5 + 1e-9), 0, 255)
    return levels


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_as_the_published_low_resolution_sets(scale: int) -> None:
    """MATLAB's uint8 form, pixel by pixel in float64; without its rounding in between, a tenth of the values differ."""
    paths = sorted((data_root() / "set5").glob("*.bmp"))
    if len(paths) != 5:
        pytest.skip(f"no Set5 below {data_root()} (set RECON_DATA)")
    counts = np.zeros(3)
    for path in paths:
        levels = np.asarray(Image.open(path).convert("RGB"))[:96, :129]
        clean = torch.from_numpy(levels / np.float32(255)).permute(2, 0, 1)[None]
        truth = matlab_bytes(levels, scale)
        for form, name in enumerate(("bicubic_matlab_uint8", "bicubic_matlab")):
            image = Downsample(scale, name)(clean, keys(1)).image[0].permute(1, 2, 0).mul(255)
            difference = np.abs(image.clamp(0, 255).round().numpy() - truth)
            counts[form] += (difference > 0).sum()
            assert form or torch.equal(image, image.round())
            assert difference.max() <= 1 + form
        counts[2] += truth.size
    assert counts[0] < 1e-4 * counts[2]
    assert counts[1] > 0.05 * counts[2]


def test_matlab_at_512() -> None:
    clean = images((1, 512, 512), 1)
    image = resize(clean, (43, 43), "bicubic_matlab", ratio=12)
    np.testing.assert_allclose(image.numpy(), matlab(clean, (43, 43), (1 / 12, 1 / 12)), atol=2e-6, rtol=0)


def test_the_weights_of_matlab_at_half_the_size() -> None:
    """Those of `imresize(x, 1/2)` far from the border: the kernel at 1/4, 3/4, 5/4 and 7/4, halved."""
    impulse = torch.zeros(1, 1, 1, 40, dtype=torch.float64)
    impulse[..., 20] = 1
    weights = resize(impulse, (1, 20), "bicubic_matlab")[0, 0, 0]
    np.testing.assert_allclose(weights[8:12], [-0.01171875, 0.11328125, 0.43359375, -0.03515625], atol=1e-15)
    assert weights.count_nonzero() == 4


@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_set5_has_the_published_psnr(scale: int, published: float) -> None:
    """The bicubic row of Kim, Lee & Lee (VDSR, CVPR 2016): 8-bit luma, as many border pixels cut off as `scale`."""
    paths = sorted((data_root() / "set5").glob("*.bmp"))
    if len(paths) != 5:
        pytest.skip(f"no Set5 below {data_root()} (set RECON_DATA)")
    values = []
    for path in paths:
        rgb = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) / 255
        rgb = rgb[: len(rgb) // scale * scale, : rgb.shape[1] // scale * scale]
        luma = torch.from_numpy(16 + rgb @ [65.481, 128.553, 24.966]).round()[None, None] / 255
        small = resize(luma, smaller(luma.shape, scale), "bicubic_matlab").clamp(0, 1).mul(255).round().div(255)
        back = resize(small, luma.shape[2:], "bicubic_matlab").clamp(0, 1).mul(255).round().div(255)
        error = (back - luma)[..., scale:-scale, scale:-scale]
        values.append(-10 * error.square().mean().log10().item())
    assert np.mean(values) == pytest.approx(published, abs=0.015)


@pytest.mark.parametrize("size", ODD, ids=str)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 40])
def test_area_is_the_mean_of_boxes(scale: int, size: tuple[int, int, int]) -> None:
    """Also of those that the border cuts."""
    clean = images(size, 2)
    expected = np.zeros((2, size[0], *smaller(size, scale)))
    for row, column in np.ndindex(*expected.shape[2:]):
        box = clean[:, :, row * scale : (row + 1) * scale, column * scale : (column + 1) * scale]
        expected[:, :, row, column] = box.double().mean((2, 3))
    np.testing.assert_allclose(Downsample(scale, "area")(clean, keys(2)).image.numpy(), expected, atol=1e-6, rtol=0)


def test_area_is_that_of_pillow_where_scale_divides_the_sides() -> None:
    clean = images((3, 36, 60), 2)
    image = Downsample(3, "area")(clean, keys(2)).image
    np.testing.assert_allclose(image.numpy(), pillow(clean, (12, 20), "area"), atol=1e-6, rtol=0)


# Laws

sides = st.integers(1, 40)


@settings(**BLIND)
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(METHODS), st.floats(0, 1))
def test_one_colour_stays(size: tuple[int, int], wanted: tuple[int, int], method: str, value: float) -> None:
    image = torch.full((2, 3, *size), value, dtype=torch.float64)
    assert (resize(image, wanted, method) - value).abs().max() < 1e-12


@settings(**BLIND)
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(METHODS), st.integers(0, 99))
def test_it_is_linear(size: tuple[int, int], wanted: tuple[int, int], method: str, seed: int) -> None:
    x, y = keyed.uniform(keys(2, seed), (1, *size)).double().split(1)
    apart = 0.3 * resize(x, wanted, method) - 1.7 * resize(y, wanted, method)
    torch.testing.assert_close(resize(0.3 * x - 1.7 * y, wanted, method), apart, atol=1e-12, rtol=0)


@settings(**BLIND)
@given(st.tuples(sides, sides), st.integers(1, 5), st.sampled_from(["bicubic_matlab", "area"]))
def test_the_mean_is_kept(size: tuple[int, int], scale: int, method: str) -> None:
    """Each pixel gives away all its weight, at the border too, as the image is mirrored there."""
    clean = keyed.uniform(keys(2), (1, size[0] * scale, size[1] * scale)).double()
    image = Downsample(scale, method)(clean, keys(2)).image
    torch.testing.assert_close(image.mean((2, 3)), clean.mean((2, 3)), atol=1e-12, rtol=0)


@settings(**BLIND)
@given(st.tuples(sides, sides), st.integers(1, 5), st.sampled_from([m for m in METHODS if m != "nearest"]))
def test_a_flipped_image_gives_the_flipped_result(size: tuple[int, int], scale: int, method: str) -> None:
    clean = keyed.uniform(keys(2), (1, size[0] * scale, size[1] * scale)).double()
    operator = Downsample(scale, method)
    flipped = operator(clean.flip(2, 3), keys(2)).image
    torch.testing.assert_close(flipped, operator(clean, keys(2)).image.flip(2, 3), atol=1e-12, rtol=0)


@settings(**BLIND)
@given(
    st.integers(30, 70),
    st.integers(2, 3),
    st.sampled_from(METHODS[:-1]),
    st.sampled_from(["bicubic", "bicubic_matlab", "bilinear"]),
)
def test_what_comes_back_lies_where_it_was(side: int, scale: int, method: str, upsample: str) -> None:
    """A slope of one a pixel stays one away from the border, also where `scale` does not divide the side."""
    slope = torch.arange(side, dtype=torch.float64).expand(1, 1, side, side)
    image = Downsample(scale, method, upsample)(slope, keys(1)).image
    assert (image - slope)[..., 4 * scale : -4 * scale].abs().max() < 0.1


# The contract


@pytest.mark.parametrize("upsample", [None, "bicubic_matlab", "nearest"])
@pytest.mark.parametrize("size", [*SIZES, (1, 2, 5), (1, 130, 97)], ids=str)
@pytest.mark.parametrize("method", EVERY)
def test_same_bits_for_any_batch_order_and_threads(
    method: str, size: tuple[int, int, int], upsample: str | None
) -> None:
    operator, clean = Downsample(3, method, upsample, GaussianNoise(0.1)), images(size)
    whole = operator(clean, keys()).image
    assert whole.is_contiguous()
    for part in (1, 5):
        pieces = zip(clean.split(part), keys().split(part), strict=True)
        assert torch.equal(torch.cat([operator(*some).image for some in pieces]), whole)
    order = keyed.permutation(0, "order", 0, COUNT)
    assert torch.equal(operator(clean[order], keys()[order]).image, whole[order])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert torch.equal(operator(clean, keys()).image, whole)
    finally:
        torch.set_num_threads(threads)
    assert Downsample(3, method)(clean[:0], keys(0)).image.shape == (0, size[0], *smaller(size, 3))


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("wanted", [(13, 27), (80, 60)], ids=str)
def test_other_devices_compute_the_same(method: str, wanted: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where matrix products are not to be trusted, the taps are added one by one."""
    clean = images((3, 37, 53))
    expected = resize(clean, wanted, method)
    monkeypatch.setattr("recon.filters.resize.exact_matmul", lambda: False)
    image = resize(clean, wanted, method)
    torch.testing.assert_close(image, expected, atol=2e-6, rtol=0)
    assert torch.equal(torch.cat([resize(some, wanted, method) for some in clean.split(5)]), image)


@pytest.mark.gpu
@pytest.mark.parametrize("method", EVERY)
def test_same_bits_for_any_batch_on_cuda(method: str) -> None:
    clean = images((3, 130, 97))
    operator = Downsample(3, method, "bicubic")
    whole = operator(clean.cuda(), keys().cuda()).image
    pieces = zip(clean.cuda().split(5), keys().cuda().split(5), strict=True)
    assert torch.equal(torch.cat([operator(*some).image for some in pieces]), whole)
    torch.testing.assert_close(whole.cpu(), operator(clean, keys()).image, atol=3e-6, rtol=0)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_faster_matrix_products_change_no_image(precision: str) -> None:
    clean = images((3, 64, 64))
    expected = Downsample(2)(clean, keys()).image
    try:
        torch.set_float32_matmul_precision(precision)
        image = Downsample(2)(clean, keys()).image
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Downsample(2)(clean, keys()).image, expected)


@pytest.mark.parametrize("method", METHODS)
def test_precision(method: str) -> None:
    clean = images((3, 37, 53))
    operator = Downsample(2, method, "bicubic")
    double, single = operator(clean.double(), keys()).image, operator(clean, keys()).image
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), atol=2e-6, rtol=0)
    half = operator(clean.bfloat16(), keys()).image
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), single, atol=0.02, rtol=0)
    assert resize(clean.half(), (9, 9), method).dtype == torch.float16


@pytest.mark.parametrize("size", ODD, ids=str)
@pytest.mark.parametrize("upsample", [None, *EVERY])
def test_shapes_mask_and_severity(upsample: str | None, size: tuple[int, int, int]) -> None:
    clean = images(size, 3)
    before = clean.clone()
    operator = Downsample(3, upsample=upsample)
    image, mask, severity = operator(clean, keys(3))
    assert operator.scale == (3 if upsample is None else 1)
    assert operator.level == (3, 3)
    assert image.shape == (3, size[0], *(smaller(size, 3) if upsample is None else size[1:]))
    assert mask.shape == (3, 1, *size[1:])
    assert (mask == 1).all()
    assert severity.tolist() == [3, 3, 3]
    assert torch.equal(clean, before)


def test_scale_one_changes_nothing() -> None:
    clean = images((3, 37, 53))
    assert all(torch.equal(Downsample(1, method, "bicubic")(clean, keys()).image, clean) for method in METHODS)


@pytest.mark.parametrize("upsample", [None, "bicubic"])
def test_then_happens_while_the_image_is_small(upsample: str | None) -> None:
    clean, noise = images((3, 37, 53)), GaussianNoise((0.05, 0.2))
    image = Downsample(2, "area", upsample, noise)(clean, keys()).image
    small = noise(resize(clean, (19, 27), "area", 2), keyed.fold(keys(), "then")).image
    assert torch.equal(image, small if upsample is None else resize(small, (37, 53), "bicubic", 0.5))


@pytest.mark.parametrize("upsample", [None, "nearest"])
@pytest.mark.parametrize("then", [MissingPixels(0.4), MissingBox(0.5)], ids=["pixels", "box"])
@pytest.mark.parametrize("size", [(3, 36, 24), (3, 37, 53)], ids=str)
def test_holes_of_then_lie_over_the_clean_image(
    size: tuple[int, int, int], then: Degradation, upsample: str | None
) -> None:
    clean = images(size)
    operator = Downsample(3, "area", upsample, then)
    assert operator.makes_holes
    mask = operator(clean, keys()).mask
    small = then(resize(clean, smaller(size, 3), "area", 3), keyed.fold(keys(), "then")).mask
    assert torch.equal(mask, small.repeat_interleave(3, 2).repeat_interleave(3, 3)[:, :, : size[1], : size[2]])


def test_in_a_chain() -> None:
    clean = images((3, 37, 53))
    chain = Chain({"small": Downsample(2), "noise": GaussianNoise(0.1), "smaller": Downsample(3, "area")})
    assert chain.scale == 6
    image, mask, _ = chain(clean, keys())
    assert image.shape == (COUNT, 3, 7, 9)
    assert mask.shape == (COUNT, 1, 37, 53)


@pytest.mark.parametrize("exact", [True, False])
def test_a_gradient_passes_also_after_an_evaluation(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recon.filters.resize.exact_matmul", lambda: exact)
    for dtype in (torch.float32, torch.float64):
        image = torch.rand(1, 1, 11, 13, dtype=dtype)
        with torch.inference_mode():
            resize(image, (4, 5), "bicubic")
        image.requires_grad_()
        resize(image, (4, 5), "bicubic").sum().backward()
        assert image.grad is not None
    assert torch.autograd.gradcheck(lambda x: resize(x, (4, 5), "bicubic"), image)


# What cannot be


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("scale", {"scale": 0}),
        ("scale", {"scale": -2}),
        ("scale", {"scale": 1.5}),
        ("scale", {"scale": True}),
        ("scale", {"scale": (2, 4)}),
        ("scale", {"scale": "2"}),
        ("method", {"scale": 2, "method": "cubic"}),
        ("upsample", {"scale": 2, "upsample": "linear"}),
        ("then", {"scale": 2, "then": Downsample(2)}),
    ],
)
def test_bad_parameters_are_named(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        Downsample(**arguments)


@pytest.mark.parametrize("upsample", [None, "bicubic"])
def test_images_smaller_than_scale_are_refused(upsample: str | None) -> None:
    with pytest.raises(InputError, match=r"^scale: 9 would leave 0×2 pixels of 8×20; give at most 8$"):
        Downsample(9, upsample=upsample).check_shape((1, 8, 20))
    Downsample(8).check_shape((1, 8, 20))


def test_then_is_asked_about_the_small_shape() -> None:
    class Curious(Identity):
        def check_shape(self, shape: tuple[int, int, int]) -> None:
            raise InputError(f"shape is {shape}.")

    with pytest.raises(InputError, match=r"shape is \(3, 3, 5\)"):
        Downsample(3, then=Curious()).check_shape((3, 8, 13))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image", {"image": torch.zeros(3, 8, 8)}),
        ("image", {"image": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}),
        ("size", {"size": (0, 4)}),
        ("size", {"size": (4,)}),
        ("method", {"method": "keys"}),
    ],
)
def test_resize_refuses_what_cannot_be(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        resize(**({"image": torch.zeros(1, 3, 8, 8), "size": (4, 4), "method": "bicubic"} | change))
