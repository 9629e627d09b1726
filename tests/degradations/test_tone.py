"""Tone: quantisation, low light, contrast and colour against their formulas, Pillow and scikit-image."""

import numpy as np
import pytest
import torch
from damage import COUNT, SIZES, images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import stats
from skimage.util import img_as_ubyte
from torch import Tensor

from recon.degradations.base import Degradation
from recon.degradations.levels import Range
from recon.degradations.tone import Contrast, Decolourise, LowLight, Quantise
from recon.errors import InputError

ALL = [
    Quantise((1, 8)),
    LowLight((0.1, 0.5), (0.8, 2.2), (50, 500), (0, 0.01)),
    Contrast((0, 1.5)),
    Decolourise((0, 1)),
]
at_each_size = pytest.mark.parametrize("size", [*SIZES, (1, 1, 1), (3, 1, 1), (1, 512, 512), (3, 511, 3)], ids=str)
each = pytest.mark.parametrize("operator", ALL, ids=lambda operator: type(operator).__name__)


def pillow(image: Tensor) -> Image.Image:
    """A picture (C,H,W) of whole grey levels."""
    pixels = img_as_ubyte(image.permute(1, 2, 0).numpy())
    return Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels)


def luma(clean: Tensor) -> np.ndarray:
    """ITU-R BT.601: E'Y = 0.299 E'R + 0.587 E'G + 0.114 E'B."""
    return np.tensordot(clean.double().numpy(), [0.299, 0.587, 0.114] if clean.shape[1] == 3 else [1.0], (1, 0))


# Laws


@each
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    count=st.integers(1, 9),
    part=st.integers(1, 8),
)
def test_same_bits_for_any_batch(
    operator: Degradation, height: int, width: int, channels: int, count: int, part: int
) -> None:
    clean = images((channels, height, width), count)
    before = clean.clone()
    whole = operator(clean, keys(count))
    assert whole.image.shape == clean.shape
    assert torch.equal(clean, before)
    pieces = [operator(*some) for some in zip(clean.split(part), keys(count).split(part), strict=True)]
    for field, split in zip(whole, zip(*pieces, strict=True), strict=True):
        assert torch.equal(field, torch.cat(split))
    assert (whole.mask == 1).all()
    low, high = operator.level
    assert ((whole.severity >= low) & (whole.severity <= high)).all()


@each
def test_same_bits_for_any_number_of_threads(operator: Degradation) -> None:
    clean = images((3, 509, 511), 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = operator(clean, keys(1))
        torch.set_num_threads(2)
        two = operator(clean, keys(1))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*fields) for fields in zip(one, two, strict=True))


@each
@at_each_size
def test_types(operator: Degradation, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    single, double, half = (operator(clean.to(kind), keys(2)).image for kind in (torch.float, torch.double, torch.half))
    assert (single.dtype, double.dtype, half.dtype) == (torch.float, torch.double, torch.half)
    torch.testing.assert_close(double.float(), single, atol=1e-5, rtol=0)
    exact = operator(clean.half().float(), keys(2)).image
    torch.testing.assert_close(half.float(), exact, atol=1e-3, rtol=1e-3)


@each
def test_examples_grow_worse(operator: Degradation) -> None:
    """The three values to show go from mild to strong."""
    parameter, values = operator.examples
    clean = images((3, 37, 53))
    mild, medium, strong = (
        (type(operator)(**{parameter: value})(clean, keys()).image - clean).square().mean() for value in values
    )
    assert 5e-5 < mild < medium < strong


@pytest.mark.parametrize("operator", [Contrast(1), Decolourise(0)], ids=["contrast", "decolourise"])
@at_each_size
def test_the_neutral_value_changes_nothing(operator: Degradation, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    assert torch.equal(operator(clean, keys(2)).image, clean)


# Quantise


@pytest.mark.parametrize("bits", range(1, 9))
@at_each_size
def test_quantise_is_its_formula(bits: int, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    image = Quantise(bits)(clean, keys(2)).image
    highest = 2**bits - 1
    expected = np.round(clean.double().numpy() * highest) / highest
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-7, rtol=0)
    if bits == 8 and size != (1, 8, 8):  # the digits have 17 levels, the photographs 256
        np.testing.assert_allclose(image.numpy(), clean.numpy(), atol=1e-7, rtol=0)


def test_quantise_has_its_levels_and_no_others() -> None:
    """Also for what noise has put outside [0,1], which is clipped; again it changes nothing."""
    clean = torch.linspace(-0.5, 1.5, 10001).view(1, 1, 1, -1)
    for bits in range(1, 9):
        image = Quantise(bits)(clean, keys(1)).image
        levels = torch.arange(2**bits) / (2**bits - 1)
        assert torch.equal(image.unique(), levels)
        inside = (clean >= 0) & (clean <= 1)
        assert (image - clean)[inside].abs().max() <= 0.5 / (2**bits - 1) + 1e-6
        assert torch.equal(Quantise(bits)(image, keys(1)).image, image)


def test_quantise_draws_whole_bits_alike() -> None:
    severity = Quantise((2, 5))(torch.full((4000, 1, 1, 1), 0.4), keys(4000)).severity
    values, counts = severity.unique(return_counts=True)
    assert values.tolist() == [2, 3, 4, 5]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


# Low light


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gamma", [1.0, 2.2, 0.6])
def test_low_light_has_its_moments(gamma: float, channels: int) -> None:
    """Mean gain·x^gamma, variance mean/peak + read_noise², one value of light after another."""
    for light in (0.0, 0.1, 0.5, 1.0):
        clean = torch.full((4, channels, 120, 110), light)
        image = LowLight(0.3, gamma, 200, 0.02)(clean, keys(4)).image.double()
        mean = 0.3 * light**gamma
        variance = mean / 200 + 0.02**2
        count = image.numel()
        assert abs(image.mean() - mean) < 4.5 * (variance / count) ** 0.5
        # The fourth moment of a Poisson-Gaussian is close to the Gaussian's here.
        assert abs(image.var() / variance - 1) < 4.5 * (2.2 / count) ** 0.5
        assert image.min() < mean < image.max()


def test_low_light_without_noise_is_its_formula() -> None:
    clean = images((3, 37, 53), 4)
    image, _, severity = LowLight((0.2, 0.9), 1.7, 1e9, 0)(clean, keys(4))
    expected = severity.double().view(-1, 1, 1, 1) * clean.double() ** 1.7
    torch.testing.assert_close(image.double(), expected, atol=2e-4, rtol=0)


def test_low_light_counts_photons() -> None:
    """Without read noise every value is a whole number of photons."""
    image = LowLight(0.3, 2.2, 50, 0)(images((1, 28, 28)), keys()).image * 50
    torch.testing.assert_close(image, image.round(), atol=1e-5, rtol=0)
    assert image.min() >= 0


def test_low_light_of_negative_values_is_dark() -> None:
    """What an earlier step of a chain has made negative has no power and no photons."""
    image = LowLight(0.3, 2.2, 50, 0)(torch.full((2, 1, 5, 5), -0.2), keys(2)).image
    assert (image == 0).all()


def test_low_light_draws_each_parameter_by_itself() -> None:
    """Each image's own gain, gamma, peak and read noise, seen in what it makes of flat images."""
    count = 300
    clean = torch.full((count, 1, 60, 60), 0.5)
    gain = LowLight((0.2, 0.8), 1, 1e6, 0)(clean, keys(count))
    torch.testing.assert_close(gain.image.mean((1, 2, 3)), gain.severity * 0.5, atol=2e-4, rtol=0)
    gamma = -LowLight(1, (1, 3), 1e6, 0)(clean, keys(count)).image.mean((1, 2, 3)).log2()
    peak = 0.5 / LowLight(1, 1, (10, 100), 0)(clean, keys(count)).image.var((1, 2, 3))
    read = LowLight(1, 1, 1e8, (0.01, 0.2))(clean, keys(count)).image.std((1, 2, 3))
    for drawn, low, high in ((gain.severity, 0.2, 0.8), (gamma, 1, 3), (peak, 10, 100), (read, 0.01, 0.2)):
        assert stats.kstest(drawn.numpy(), "uniform", (low, high - low)).statistic < 0.1
    related = torch.corrcoef(torch.stack([gain.severity, gamma, peak, read])) - torch.eye(4)
    assert related.abs().max() < 4.5 / count**0.5


# Contrast


@at_each_size
@pytest.mark.parametrize("factor", [0.0, 0.3, 1.8, (0.0, 2.0)], ids=str)
def test_contrast_is_its_formula(factor: Range, size: tuple[int, int, int]) -> None:
    clean = images(size, 4)
    image, _, severity = Contrast(factor)(clean, keys(4))
    mean = luma(clean).mean((1, 2)).reshape(-1, 1, 1, 1)
    drawn = severity.double().numpy().reshape(-1, 1, 1, 1)
    expected = mean + drawn * (clean.double().numpy() - mean)
    np.testing.assert_allclose(image.numpy(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 37, 53), (1, 512, 512), (3, 511, 3)], ids=str)
@pytest.mark.parametrize("factor", [0.0, 0.3, 0.8, 1.5])
def test_contrast_is_that_of_pillow(factor: float, size: tuple[int, int, int]) -> None:
    """Within the roundings of Pillow: luma, mean and result each to whole grey levels; and it clips."""
    clean = images(size, 4)
    image = Contrast(factor)(clean, keys(4)).image.clamp(0, 1)
    for one, given_image in zip(image, clean, strict=True):
        expected = np.asarray(ImageEnhance.Contrast(pillow(given_image)).enhance(factor), np.float64)
        found = 255 * one.permute(1, 2, 0).double().numpy().reshape(expected.shape)
        assert abs(found - expected).max() < 1.0 + abs(1 - factor)
        assert abs((found - expected).mean()) < 0.5 + abs(1 - factor)


@at_each_size
def test_contrast_keeps_the_mean_luma(size: tuple[int, int, int]) -> None:
    clean = images(size, 4)
    image = Contrast((0.0, 3.0))(clean, keys(4)).image
    np.testing.assert_allclose(luma(image).mean((1, 2)), luma(clean).mean((1, 2)), atol=1e-6)


# Colour


@pytest.mark.parametrize("size", [(3, 37, 53), (3, 1, 1), (3, 511, 3), (3, 512, 512)], ids=str)
@pytest.mark.parametrize("amount", [0.4, 1.0, (0.0, 1.0)], ids=str)
def test_decolourise_is_its_formula(amount: Range, size: tuple[int, int, int]) -> None:
    clean = images(size, 4)
    image, _, severity = Decolourise(amount)(clean, keys(4))
    drawn = severity.double().numpy().reshape(-1, 1, 1, 1)
    expected = (1 - drawn) * clean.double().numpy() + drawn * luma(clean)[:, None]
    np.testing.assert_allclose(image.numpy(), expected, atol=3e-7, rtol=0)


def test_decolourise_is_that_of_pillow() -> None:
    """In full its luma, of which Pillow rounds to whole grey levels; in part `ImageEnhance.Color`."""
    clean = images((3, 37, 53), 4)
    full, part = Decolourise(1.0)(clean, keys(4)).image, Decolourise(0.6)(clean, keys(4)).image
    assert torch.equal(full[:, :1].expand_as(full), full), "three equal channels"
    for grey, faded, given_image in zip(full, part, clean, strict=True):
        picture = pillow(given_image)
        assert abs(255 * grey[0].numpy() - np.asarray(picture.convert("L"), np.float32)).max() < 0.51
        expected = np.asarray(ImageEnhance.Color(picture).enhance(0.4), np.float32)
        assert abs(255 * faded.permute(1, 2, 0).numpy() - expected).max() < 1.31


def test_grey_has_no_colour_to_lose() -> None:
    clean = images((1, 28, 28))
    image, _, severity = Decolourise((0.2, 0.9))(clean, keys())
    assert torch.equal(image, clean)
    assert len(severity.unique()) == COUNT
    grey = clean.expand(-1, 3, -1, -1)
    torch.testing.assert_close(Decolourise(0.7)(grey, keys()).image, grey, atol=3e-7, rtol=0)


# Mistakes


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Quantise(0), "bits"),
        (lambda: Quantise(9), "bits"),
        (lambda: Quantise(2.5), "bits"),
        (lambda: Quantise((3, 2)), "bits"),
        (lambda: Quantise((1, 2.5)), "bits"),
        (lambda: Quantise("two"), "bits"),
        (lambda: LowLight(0), "gain"),
        (lambda: LowLight(1.1), "gain"),
        (lambda: LowLight(-0.5), "gain"),
        (lambda: LowLight(0.5, gamma=0), "gamma"),
        (lambda: LowLight(0.5, gamma=[2, 1]), "gamma"),
        (lambda: LowLight(0.5, peak=0), "peak"),
        (lambda: LowLight(0.5, peak=float("inf")), "peak"),
        (lambda: LowLight(0.5, read_noise=-1), "read_noise"),
        (lambda: Contrast(-0.1), "factor"),
        (lambda: Contrast(None), "factor"),
        (lambda: Decolourise(1.5), "amount"),
        (lambda: Decolourise([-1, 1]), "amount"),
        (lambda: Contrast(0.5)(torch.rand(2, 2, 4, 4), keys(2)), "clean"),
        (lambda: Decolourise(0.5)(torch.rand(2, 4, 4, 4), keys(2)), "clean"),
        (lambda: Contrast(0.5).check_shape((4, 8, 8)), "clean"),
        (lambda: Decolourise(0.5).check_shape((2, 8, 8)), "clean"),
    ],
)
def test_a_mistake_raises_one_sentence(make, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        make()
