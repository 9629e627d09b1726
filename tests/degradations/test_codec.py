"""JPEG and WebP: the tensor form against libjpeg itself, value by value; files against Pillow called by hand."""

import io

import numpy as np
import pytest
import torch
from conftest import data_root
from damage import COUNT, images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from torch import Tensor

from recon import keyed
from recon.degradations.base import Chain, Degradation
from recon.degradations.codec import JPEG, WebP
from recon.degradations.noise import GaussianNoise
from recon.errors import InputError

QUALITIES = [5, 10, 30, 50, 75, 90, 100]
SUBSAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]
SIZES = [(1, 1), (1, 9), (2, 2), (4, 4), (5, 5), (7, 9), (8, 8), (16, 16), (17, 15), (18, 50), (33, 47), (64, 66)]
ALL = [JPEG((1, 100)), JPEG(20, "4:4:4"), JPEG((30, 60), "4:2:2"), JPEG((5, 95), exact=True), WebP((0, 100)),
       JPEG((5, 90), shifted=True)]  # fmt: skip
each = pytest.mark.parametrize("operator", ALL, ids=lambda operator: f"{type(operator).__name__}{operator.level}")


def tensor(pixels: np.ndarray) -> Tensor:
    """A picture of bytes, (H,W) or (H,W,3), as a batch of one."""
    return torch.from_numpy(np.moveaxis(np.atleast_3d(pixels), 2, 0).copy())[None].float() / 255


def by_pillow(clean: Tensor, quality: int, form: str = "JPEG", **options: object) -> Tensor:
    """Save one image with Pillow and load it again; WebP holds grey as colour."""
    pixels = np.round(np.clip(clean[0].numpy(), 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0]) if len(pixels) == 1 else Image.fromarray(np.moveaxis(pixels, 0, 2))
    file = io.BytesIO()
    (picture.convert("RGB") if form == "WEBP" else picture).save(file, form, quality=quality, **options)
    decoded = Image.open(file)
    assert decoded.format == form
    return tensor(np.asarray(decoded.convert("L") if form == "WEBP" and len(pixels) == 1 else decoded))


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    return -10 * (image.double() - clean.double()).square().mean().clamp_min(1e-10).log10()


def assert_as_libjpeg(clean: Tensor, quality: int, subsampling: str) -> None:
    """What was asked for, 0.1 dB and one grey level, and what holds: the same values."""
    image = JPEG(quality, subsampling)(clean, keys(1)).image
    expected = by_pillow(clean, quality, subsampling=subsampling)
    assert (psnr(image, clean) - psnr(expected, clean)).abs() <= 0.1
    assert (image - expected).abs().median() <= 1 / 255
    assert torch.equal(image, expected)


# The tensor form of JPEG


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_photographs_are_as_libjpeg_decodes_them(quality: int, subsampling: str) -> None:
    assert_as_libjpeg(tensor(data.astronaut()), quality, subsampling)
    assert_as_libjpeg(tensor(data.coffee()[50:306, 100:356]), quality, subsampling)
    if subsampling == "4:2:0":
        assert_as_libjpeg(tensor(data.camera()), quality, subsampling)


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_jpeg_literature_s_pictures(quality: int) -> None:
    files = sorted(path for path in (data_root() / "classic5").glob("*") if path.suffix in (".bmp", ".png", ".tif"))
    if not files:
        pytest.skip(f"there are no pictures in {data_root() / 'classic5'}")
    for file in files:
        assert_as_libjpeg(tensor(np.asarray(Image.open(file).convert("L"))), quality, "4:2:0")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_odd_sizes_and_borders(size: tuple[int, int]) -> None:
    height, width = size
    part = data.astronaut()[100 : 100 + height, 200 : 200 + width]
    for quality in QUALITIES:
        assert_as_libjpeg(tensor(part[..., 0]), quality, "4:2:0")
        for subsampling in SUBSAMPLINGS:
            assert_as_libjpeg(tensor(part), quality, subsampling)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shifted_grid_is_that_of_a_crop_of_a_compressed_image(channels: int) -> None:
    clean = images((channels, 37, 53))
    found = JPEG(20, shifted=True)(clean, keys())
    room, places = 8 if channels == 1 else 16, set()
    for number, image in enumerate(found.image):
        matching = []
        for top in range(room):
            for left in range(room):
                edges = ((0, 0), (0, 0), (top, room - 1 - top), (left, room - 1 - left))
                whole = torch.from_numpy(np.pad(clean[number : number + 1].numpy(), edges, mode="edge"))
                expected = by_pillow(whole, 20)[..., top : top + 37, left : left + 53]
                if torch.equal(image[None], expected):
                    matching.append((top, left))
        assert matching  # several where the image is flat
        places.update(matching[:1])
    assert len(places) > 1, "each image has its own place"
    assert not torch.equal(JPEG(20)(clean, keys()).image, found.image)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(SUBSAMPLINGS),
    seed=st.integers(0, 2**32),
    binary=st.booleans(),
)
def test_any_values_at_any_size(
    height: int, width: int, channels: int, quality: int, subsampling: str, seed: int, binary: bool
) -> None:
    """Noise and black-and-white noise drive every rounding and every clipping further than photographs do."""
    clean = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(seed))
    assert_as_libjpeg(clean.round() if binary else clean * 1.4 - 0.2, quality, subsampling)


@pytest.mark.parametrize("count", [1, 5, 24, 256])
@pytest.mark.parametrize("size", [(1, 28, 28), (3, 32, 32), (3, 37, 53)], ids=str)
def test_a_range_draws_a_quality_for_each_image(size: tuple[int, int, int], count: int) -> None:
    """The severity tells which; an image has the same bits in any batch, as each is compared on its own."""
    clean = images(size, count)
    image, mask, severity = JPEG((3, 95))(clean, keys(count))
    for place in range(0, count, 7):
        one = slice(place, place + 1)
        assert torch.equal(image[one], by_pillow(clean[one], int(severity[place])))
    assert (mask == 1).all()
    assert (severity == severity.round()).all()
    assert severity.min() >= 3
    assert severity.max() <= 95
    if count == 256:
        assert severity.min() < 10
        assert severity.max() > 88


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_precision_elsewhere_changes_no_bit(precision: str) -> None:
    clean = images((3, 37, 53))
    expected = JPEG((5, 95))(clean, keys()).image
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert torch.equal(JPEG((5, 95))(clean, keys()).image, expected)
    finally:
        torch.set_float32_matmul_precision(before)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(JPEG((5, 95))(clean, keys()).image, expected)


def test_other_types_of_float() -> None:
    clean = images((3, 37, 53))
    expected = JPEG((5, 95))(clean, keys()).image
    double = JPEG((5, 95))(clean.double(), keys()).image
    assert double.dtype == torch.float64
    assert torch.equal((double * 255).round(), (expected * 255).round())
    half = JPEG((5, 95))(clean.bfloat16(), keys()).image
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().mean() < 0.03


@pytest.mark.gpu
@pytest.mark.parametrize("size", [(1, 28, 28), (3, 37, 53), (3, 256, 256)], ids=str)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_cuda_gives_the_same_bits(size: tuple[int, int, int], subsampling: str) -> None:
    clean = images(size)
    expected = JPEG((1, 100), subsampling)(clean, keys()).image
    assert torch.equal(JPEG((1, 100), subsampling)(clean.cuda(), keys().cuda()).image.cpu(), expected)


# Files


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(1, 8, 8), (1, 28, 28), (3, 37, 53), (3, 1, 1)], ids=str)
def test_both_forms_of_jpeg_are_pillow_s(size: tuple[int, int, int], subsampling: str) -> None:
    clean = images(size)
    file, severity = JPEG((1, 100), subsampling, exact=True)(clean, keys())[::2]
    assert torch.equal(file[:1], by_pillow(clean[:1], int(severity[0]), subsampling=subsampling))
    assert torch.equal(file, JPEG((1, 100), subsampling)(clean, keys()).image)


@pytest.mark.parametrize("size", [(1, 8, 8), (1, 28, 28), (3, 37, 53), (3, 1, 1), (3, 256, 256)], ids=str)
def test_webp_is_pillow_s(size: tuple[int, int, int]) -> None:
    clean = images(size, 5)
    image, mask, severity = WebP((0, 100))(clean, keys(5))
    for place in range(5):
        one = slice(place, place + 1)
        assert torch.equal(image[one], by_pillow(clean[one], int(severity[place]), "WEBP"))
    assert (mask == 1).all()


@each
def test_worse_quality_is_farther_from_the_clean_image(operator: Degradation) -> None:
    clean = images((3, 256, 256), 4)
    kind = type(operator)
    found = [float(psnr(kind(quality)(clean, keys(4)).image, clean)) for quality in (5, 30, 60, 95)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 5


# Laws


@each
@pytest.mark.parametrize("size", [(1, 8, 8), (1, 28, 28), (3, 37, 53), (1, 1, 1), (3, 1, 1)], ids=str)
def test_same_bits_for_any_batch_and_order(operator: Degradation, size: tuple[int, int, int]) -> None:
    clean = images(size)
    before = clean.clone()
    whole = operator(clean, keys())
    for part in (1, 5):
        pieces = [operator(*some) for some in zip(clean.split(part), keys().split(part), strict=True)]
        for field, split in zip(whole, zip(*pieces, strict=True), strict=True):
            assert torch.equal(field, torch.cat(split))
    order = keyed.permutation(0, "order", 0, COUNT)
    assert torch.equal(whole.image[order], operator(clean[order], keys()[order]).image)
    assert torch.equal(clean, before)
    assert operator(clean[:0], keys(0)).image.shape == (0, *size)


@each
def test_any_memory_layout(operator: Degradation) -> None:
    clean = images((3, 37, 53))
    expected = operator(clean, keys()).image
    assert torch.equal(operator(clean.contiguous(memory_format=torch.channels_last), keys()).image, expected)
    wide = torch.cat([clean, clean], 3)
    assert torch.equal(operator(wide[..., :53], keys()).image, expected)


@each
def test_a_file_holds_bytes_between_black_and_white(operator: Degradation) -> None:
    noise = GaussianNoise(0.3)
    noisy = noise(images((3, 37, 53)), keyed.fold(keys(), "noise")).image
    image = Chain({"noise": noise, "codec": operator})(images((3, 37, 53)), keys()).image
    assert noisy.min() < -0.3
    assert torch.equal(image, operator(noisy.clamp(0, 1), keyed.fold(keys(), "codec")).image)
    torch.testing.assert_close(image * 255, (image * 255).round(), atol=1e-4, rtol=0)


# Gradients


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 37, 53), (3, 3, 3)], ids=str)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_the_switch_changes_no_value(size: tuple[int, int, int], subsampling: str) -> None:
    clean = images(size).requires_grad_()
    image = JPEG((5, 95), subsampling, differentiable=True)(clean, keys()).image
    assert torch.equal(image, JPEG((5, 95), subsampling)(clean.detach(), keys()).image)
    assert not JPEG((5, 95), subsampling)(clean, keys()).image.requires_grad
    (gradient,) = torch.autograd.grad(image.square().sum(), clean)
    assert gradient.isfinite().all()
    assert gradient.abs().mean() > 0.1
    clean.requires_grad_(False)


def test_the_gradient_foretells_what_a_change_does() -> None:
    """Against differences of the rounded codec itself, for changes well above a grey level."""
    clean = (0.25 + 0.5 * images((3, 64, 66), 8)).requires_grad_()
    operator = JPEG(90, differentiable=True)
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(66.0), indexing="ij")
    waves = torch.stack([torch.sin(row / 9), torch.cos(column / 7), torch.sin((row + column) / 8)])
    (gradient,) = torch.autograd.grad((operator(clean, keys(8)).image * waves).sum(), clean)
    with torch.no_grad():
        for change in (0.1 * waves, 0.1 * waves.flip(0), torch.full((3, 1, 1), 0.1) * waves[:1]):
            later, sooner = (operator(clean + sign * change, keys(8)).image for sign in (0.5, -0.5))
            effect = ((later - sooner) * waves).sum((1, 2, 3))
            torch.testing.assert_close((gradient * change).sum((1, 2, 3)), effect, rtol=0.03, atol=1.0)


def test_detail_of_colour_gets_no_gradient() -> None:
    """One pixel's red against its neighbour's cannot pass through halved chroma, its brightness can."""
    clean = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    sign = 1 - 2 * (torch.arange(32) % 2).float()
    image = JPEG(50, differentiable=True)(clean, keys(1)).image
    (gradient,) = torch.autograd.grad((image[:, 0] * sign).sum(), clean)
    # Only by what red weighs in luma (ITU-R BT.601), which all three colours show.
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    inner = slice(2, -2)  # at the border the row of columns breaks off
    expected = (weights * sign).expand(3, 32, 32)[..., inner]
    torch.testing.assert_close(gradient[0, ..., inner], expected, atol=1e-4, rtol=0)


def test_descending_through_the_codec() -> None:
    """Find what, once compressed, looks like another picture."""
    target = images((3, 64, 66), 2)
    guess = torch.full_like(target, 0.5, requires_grad=True)
    operator = JPEG(50, differentiable=True)
    losses = []
    for _ in range(30):
        loss = (operator(guess, keys(2)).image - target).square().mean()
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, guess)
        guess = (guess - 0.3 * gradient * target.numel()).detach().requires_grad_()
    assert losses[-1] < 0.1 * losses[0]


def test_outside_the_range_there_is_no_gradient() -> None:
    clean = torch.tensor([-0.5, 0.5, 1.5]).view(1, 1, 1, 3).repeat(1, 1, 8, 1).requires_grad_()
    JPEG(50, differentiable=True)(clean, keys(1)).image.sum().backward()
    assert torch.equal(clean.grad[0, 0], torch.tensor([0.0, 1.0, 0.0]).expand(8, 3))


# Mistakes


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: JPEG(0), "quality"),
        (lambda: JPEG(101), "quality"),
        (lambda: JPEG(50.5), "quality"),
        (lambda: JPEG((80, 20)), "quality"),
        (lambda: JPEG("high"), "quality"),
        (lambda: JPEG(True), "quality"),
        (lambda: JPEG(50, "4:1:1"), "subsampling"),
        (lambda: JPEG(50, exact=True, differentiable=True), "differentiable"),
        (lambda: WebP(-1), "quality"),
        (lambda: WebP((0, 101)), "quality"),
        (lambda: JPEG(50).check_shape((2, 8, 8)), "images"),
        (lambda: JPEG(50).check_shape((1, 65501, 1)), "images"),
        (lambda: WebP(50).check_shape((3, 1, 16384)), "images"),
        (lambda: JPEG(50)(torch.zeros(1, 4, 8, 8), keys(1)), "images"),
        (lambda: WebP(50)(torch.zeros(1, 1, 0, 8), keys(1)), "images"),
    ],
)
def test_a_mistake_raises_one_sentence(make, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        make()
