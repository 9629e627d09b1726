"""Noise: the laws of its distributions, by moments, counts and Kolmogorov-Smirnov, and how it is keyed."""

import numpy as np
import pytest
import torch
from damage import SIZES, images, keys
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from recon.degradations.base import Degradation
from recon.degradations.levels import Range
from recon.degradations.noise import GaussianNoise, PoissonNoise, SaltPepper, SpeckleNoise, UniformNoise
from recon.errors import InputError

ALL = [GaussianNoise((0.05, 0.5)), SaltPepper((0.1, 0.5)), PoissonNoise((5, 50)), SpeckleNoise((0.1, 0.5))]
ALL.append(UniformNoise((0.1, 0.5)))


def name_of(operator: Degradation) -> str:
    return type(operator).__name__


each = pytest.mark.parametrize("operator", ALL, ids=name_of)


def z_scores(sample: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """By how many of their own errors mean and spread of each row of noise (B,N) miss 0 and `deviation` (B,N)."""
    score = (sample / deviation).double()
    count = score.shape[1]
    fourth = (score**4).mean(1) - 1  # the variance of a squared score
    return score.mean(1) * count**0.5, (score.square().mean(1) - 1) * (count / fourth) ** 0.5


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
def test_same_bits_for_any_batch(
    operator: Degradation, height: int, width: int, channels: int, count: int, part: int, double: bool
) -> None:
    clean = images((channels, height, width), count).to(torch.float64 if double else torch.float32)
    before = clean.clone()
    whole = operator(clean, keys(count))
    assert whole.image.shape == clean.shape
    assert whole.image.dtype == clean.dtype
    assert torch.equal(clean, before)
    pieces = [operator(*some) for some in zip(clean.split(part), keys(count).split(part), strict=True)]
    for field, split in zip(whole, zip(*pieces, strict=True), strict=True):
        assert torch.equal(field, torch.cat(split))
    assert (whole.mask == 1).all()
    low, high = operator.level
    assert ((whole.severity >= low) & (whole.severity <= high)).all()


@each
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 512, 512), (3, 511, 1)], ids=str)
def test_any_size(operator: Degradation, size: tuple[int, int, int]) -> None:
    clean = images(size, 2)
    image = operator(clean, keys(2)).image
    assert image.shape == clean.shape
    assert image.isfinite().all()
    rounded = operator(clean.bfloat16(), keys(2)).image
    assert rounded.dtype == torch.bfloat16
    exact = operator(clean.bfloat16().float(), keys(2)).image
    torch.testing.assert_close(rounded.float(), exact, atol=0.02, rtol=0.01)


@each
def test_examples_grow_worse(operator: Degradation) -> None:
    """The three values to show go from mild to strong."""
    parameter, values = operator.examples
    clean = images((3, 37, 53))
    mild, medium, strong = (
        (type(operator)(**{parameter: value})(clean, keys()).image - clean).square().mean() for value in values
    )
    assert 5e-5 < mild < medium / 2
    assert medium < strong / 2


@each
def test_levels_are_uniform(operator: Degradation) -> None:
    severity = operator(torch.full((2000, 1, 1, 1), 0.5), keys(2000)).severity
    low, high = operator.level
    assert stats.kstest(severity.numpy(), "uniform", (low, high - low)).pvalue > 1e-3


# Distributions


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("operator", "deviation"),
    [
        (GaussianNoise((0.05, 0.5)), lambda x, level: level.expand_as(x)),
        (SpeckleNoise((0.05, 0.5)), lambda x, level: x * level),
        (UniformNoise((0.05, 0.5)), lambda x, level: (level / 3**0.5).expand_as(x)),
        (PoissonNoise((2, 300)), lambda x, level: (x / level).sqrt()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_moments(operator: Degradation, deviation, channels: int) -> None:
    """Mean 0 and the published standard deviation, given each value and each image's own level."""
    clean = images((channels, 90, 80), 20).clamp(min=0.05)
    image, _, severity = operator(clean, keys(20))
    noise, expected = (image - clean).flatten(1), deviation(clean, severity.view(-1, 1, 1, 1)).flatten(1)
    for score in z_scores(noise, expected):
        assert score.abs().max() < 4.5
        assert abs(score.mean()) < 4.5 / 20**0.5
    assert image.min() < 0 or isinstance(operator, PoissonNoise), "noise is not clipped"
    assert image.max() > 1
    assert abs(torch.corrcoef(torch.stack([(noise / expected).flatten(), clean.flatten()]))[0, 1]) < 0.01


@pytest.mark.parametrize(
    ("operator", "law"),
    [
        (GaussianNoise(0.2), stats.norm(0.7, 0.2)),
        (SpeckleNoise(0.2), stats.norm(0.7, 0.2 * 0.7)),
        (UniformNoise(0.2), stats.uniform(0.5, 0.4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_distribution(operator: Degradation, law) -> None:
    clean = torch.full((4, 3, 60, 70), 0.7)
    values = operator(clean, keys(4)).image.flatten().numpy()
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    assert len(np.unique(values)) > 10000


@pytest.mark.parametrize("light", [0.02, 0.5, 1.0, 2.5])
def test_photons_are_poisson(light: float) -> None:
    """Chi-square of the counts against the probabilities; light above white counts on."""
    values = PoissonNoise(8)(torch.full((5, 3, 60, 70), light), keys(5)).image.mul(8).flatten()
    counts = values.round()
    torch.testing.assert_close(values, counts, atol=1e-5, rtol=0)
    law = stats.poisson(8 * light)
    edges = np.arange(int(law.ppf(1e-3)), int(law.ppf(1 - 1e-3)) + 1)
    seen = [(counts <= edges[0]).sum(), *((counts == edge).sum() for edge in edges[1:]), (counts > edges[-1]).sum()]
    expected = np.array([law.cdf(edges[0]), *law.pmf(edges[1:]), law.sf(edges[-1])]) * len(counts)
    assert stats.chisquare(torch.stack(seen).numpy(), expected).pvalue > 1e-3


def test_no_photons_in_the_dark() -> None:
    """Black and what an earlier step of a chain has made negative."""
    clean = torch.cat([torch.zeros(4, 1, 9, 9), torch.full((4, 1, 9, 9), -0.3)])
    assert (PoissonNoise(100)(clean, keys(8)).image == 0).all()


def test_many_photons_leave_the_image() -> None:
    clean = images((3, 37, 53))
    assert (PoissonNoise(1e6)(clean, keys()).image - clean).abs().max() < 6e-3


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("operator", [GaussianNoise(0), SpeckleNoise(0), UniformNoise(0), SaltPepper(0)], ids=name_of)
def test_no_noise_changes_nothing(operator: Degradation, size: tuple[int, int, int]) -> None:
    assert torch.equal(operator(images(size), keys()).image, images(size))


def test_speckle_leaves_black() -> None:
    assert (SpeckleNoise(0.5)(torch.zeros(3, 1, 9, 9), keys(3)).image == 0).all()


def test_uniform_noise_keeps_its_width() -> None:
    clean = images((3, 37, 53))
    image, _, width = UniformNoise((0.1, 0.4))(clean, keys())
    furthest = (image - clean).abs().amax((1, 2, 3))
    assert (furthest <= width + 1e-6).all()
    assert (furthest > 0.99 * width).all()


@pytest.mark.parametrize(("amount", "salt"), [(0.05, 0.5), (0.3, 0.2), (1.0, 0.5), (0.5, 1.0), (0.5, 0.0)])
def test_salt_and_pepper_are_counted(amount: float, salt: float) -> None:
    image = SaltPepper(amount, salt)(torch.full((20, 3, 40, 50), 0.5), keys(20)).image
    count = image.numel()
    for value, share in ((1, amount * salt), (0, amount * (1 - salt)), (0.5, 1 - amount)):
        margin = 4 * (count * share * (1 - share)) ** 0.5
        assert abs((image == value).sum() - count * share) <= margin
    assert ((image == 0) | (image == 1) | (image == 0.5)).all()


@each
def test_pixels_channels_and_images_are_unrelated(operator: Degradation) -> None:
    """Neighbouring pixels, the channels of one pixel and images of neighbouring keys."""
    noise = type(operator)(operator.level[1])(torch.full((30, 3, 40, 50), 0.5), keys(30)).image - 0.5
    for one, other in (
        (noise[..., 1:], noise[..., :-1]),
        (noise[..., 1:, :], noise[..., :-1, :]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[1:], noise[:-1]),
    ):
        pair = torch.stack([one.flatten(), other.flatten()])
        assert abs(torch.corrcoef(pair)[0, 1]) < 4.5 / pair.shape[1] ** 0.5


# Mistakes


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (GaussianNoise, "sigma"),
        (SpeckleNoise, "sigma"),
        (UniformNoise, "width"),
        (PoissonNoise, "peak"),
        (SaltPepper, "amount"),
    ],
)
@pytest.mark.parametrize(
    "value", [-0.1, [0.3, 0.1], [0.1, 0.2, 0.3], "much", None, float("nan"), float("inf"), True], ids=str
)
def test_a_mistake_raises_one_sentence(kind: type[Degradation], name: str, value: Range) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        kind(value)


def test_other_mistakes() -> None:
    with pytest.raises(InputError, match=r"^amount: [^\n]+; give a number from [^\n]+$"):
        SaltPepper(1.1)
    for salt in (2, -1, [0, 1]):
        with pytest.raises(InputError, match=r"^salt: [^\n]+; give a number from [^\n]+$"):
            SaltPepper(0.1, salt=salt)
    with pytest.raises(InputError, match=r"^peak: [^\n]+; give a number from [^\n]+$"):
        PoissonNoise(0)
