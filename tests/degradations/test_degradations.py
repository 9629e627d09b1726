"""Degradations: laws that hold for every file of conf/degradation, and outside truths for each operator."""

import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import COUNT, SIZES, images, keys
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from scipy import ndimage, stats

from recon import degradations, keyed
from recon.degradations import base, missing
from recon.errors import InputError

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "degradation").glob("*.yaml"))


@lru_cache
def degradation(name: str) -> degradations.Degradation:
    with initialize_config_dir(str(CONF), version_base=None):
        return instantiate(compose(f"degradation/{name}")).degradation


each = pytest.mark.parametrize("name", NAMES)
at_each_size = pytest.mark.parametrize("size", SIZES, ids=str)


# Laws


@each
@at_each_size
def test_shapes_types_and_values(name: str, size: tuple[int, int, int]) -> None:
    clean = images(size)
    before = clean.clone()
    image, mask, severity = degradation(name)(clean, keys())
    assert image.shape == clean.shape
    assert mask.shape == (COUNT, 1, *size[1:])
    assert severity.shape == (COUNT,)
    assert image.dtype == mask.dtype == clean.dtype
    assert image.isfinite().all()
    assert ((mask == 0) | (mask == 1)).all()
    assert (mask.flatten(1).sum(1) > 0).all(), "every image keeps a known pixel"
    assert torch.equal(clean, before), "the clean images stay as they are"


@each
def test_double_precision_is_kept(name: str) -> None:
    clean = images((3, 37, 53))
    image, mask, _ = degradation(name)(clean.double(), keys())
    assert image.dtype == mask.dtype == torch.float64
    torch.testing.assert_close(image.float(), degradation(name)(clean, keys()).image, atol=1e-5, rtol=0)


@each
@at_each_size
def test_same_bits_for_any_batch_and_order(name: str, size: tuple[int, int, int]) -> None:
    operator, clean = degradation(name), images(size)
    whole = operator(clean, keys())
    for part in (1, 5):
        pieces = [operator(*some) for some in zip(torch.split(clean, part), torch.split(keys(), part), strict=True)]
        for field, split in zip(whole, zip(*pieces, strict=True), strict=True):
            assert torch.equal(field, torch.cat(split))
    order = keyed.permutation(0, "order", 0, COUNT)
    for field, shuffled in zip(whole, operator(clean[order], keys()[order]), strict=True):
        assert torch.equal(field[order], shuffled)


@each
@at_each_size
def test_keys_decide(name: str, size: tuple[int, int, int]) -> None:
    """The same picture degrades alike under one key; under other keys it does, but for what has no randomness."""
    operator = degradation(name)
    clean = images(size)[:1].expand(COUNT, -1, -1, -1)
    one, again, other = operator(clean, keys()), operator(clean, keys()), operator(clean, keys(seed=1))
    assert all(torch.equal(*fields) for fields in zip(one, again, strict=True))
    alike = torch.stack([(one.image[0] == image).all() for image in torch.cat([one.image[1:], other.image])])
    constant = alike.all()
    assert constant or alike.float().mean() < 0.2
    if type(operator).__name__ in ("GaussianNoise", "SaltPepper", "MissingPixels", "MissingBox", "MissingStrokes"):
        assert not constant


@each
@at_each_size
def test_severity_lies_in_its_range(name: str, size: tuple[int, int, int]) -> None:
    operator = degradation(name)
    _, mask, severity = operator(images(size), keys())
    if isinstance(operator, degradations.Missing):
        torch.testing.assert_close(severity, 1 - mask.mean((1, 2, 3)))
        return
    low, high = operator.level
    tolerance = 1e-6 * max(1, high)
    assert severity.min() >= low - tolerance
    assert severity.max() <= high + tolerance
    if low < high:
        assert severity.std() > 0.1 * (high - low)


@each
@at_each_size
def test_known_pixels_are_untouched(name: str, size: tuple[int, int, int]) -> None:
    operator, clean = degradation(name), images(size)
    image, mask, _ = operator(clean, keys())
    assert operator.makes_holes == bool((mask == 0).any())
    if isinstance(operator, degradations.Missing):
        hole = (mask == 0).expand_as(clean)
        assert torch.equal(image[~hole], clean[~hole])
        assert (image[hole] == operator.fill).all()
        again = operator(image, keys())
        assert torch.equal(again.image, image), "the same holes again change nothing"


@each
def test_the_default_is_no_extreme(name: str) -> None:
    """A default damages real images, and leaves something to restore from."""
    clean = images((1, 28, 28))
    image, _, _ = degradation(name)(clean, keys())
    error = (image - clean).square().mean()
    assert error == 0 if name == "none" else 1e-4 < error < clean.square().mean()


def test_levels_are_uniform_and_hang_on_their_names() -> None:
    sigma, amount = (base.draw((2.0, 5.0), keys(2000), name) for name in ("sigma", "amount"))
    assert stats.kstest(sigma.numpy(), "uniform", (2, 3)).pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([sigma, amount]))[0, 1]) < 4 / 2000**0.5
    unnamed = keyed.uniform(keys(2000))
    assert abs(torch.corrcoef(torch.stack([sigma, unnamed]))[0, 1]) < 4 / 2000**0.5
    assert (base.draw((2.0, 2.0), keys(5), "sigma") == 2).all()


# Outside truths


@pytest.mark.parametrize("size", [*SIZES, (1, 64, 64), (1, 5, 70), (3, 90, 80)], ids=str)
@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.6, 1.5, 3.0, (0.0, 3.0)], ids=str)
def test_blur_is_that_of_scipy(size: tuple[int, int, int], sigma: degradations.Range) -> None:
    """Border included, and kernels wider than the image; each image with its own sigma and radius."""
    clean = images(size, 12)
    image, _, severity = degradations.GaussianBlur(sigma)(clean, keys(12))
    for one, blurred, drawn in zip(clean.double().numpy(), image.numpy(), severity.tolist(), strict=True):
        expected = [ndimage.gaussian_filter(plane, drawn, mode="reflect", truncate=4) for plane in one]
        np.testing.assert_allclose(blurred, expected, atol=1e-6, rtol=0)


def test_blur_of_sigma_zero_changes_nothing() -> None:
    clean = images((1, 28, 28))
    assert torch.equal(degradations.GaussianBlur(0)(clean, keys()).image, clean)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_blur_keeps_the_mean(size: tuple[int, int, int], sigma: float) -> None:
    """Mirrored borders lose nothing, so that every image keeps its mean."""
    clean = images(size)
    image = degradations.GaussianBlur(sigma)(clean, keys()).image
    torch.testing.assert_close(image.mean((2, 3)), clean.mean((2, 3)), atol=1e-6, rtol=0)


def test_blur_in_double_precision() -> None:
    clean = images((3, 37, 53)).double()
    image = degradations.GaussianBlur(1.5)(clean, keys()).image.numpy()
    expected = ndimage.gaussian_filter(clean.numpy(), (0, 0, 1.5, 1.5), mode="reflect", truncate=4)
    np.testing.assert_allclose(image, expected, atol=1e-12)


def test_noise_has_its_sigma_and_no_mean() -> None:
    clean = images((3, 37, 53), 20)
    image, _, severity = degradations.GaussianNoise((0.05, 0.5))(clean, keys(20))
    noise = (image - clean).flatten(1)
    count = noise.shape[1]
    z_sigma = (noise.std(1) / severity - 1) * (2 * count) ** 0.5
    z_mean = noise.mean(1) / severity * count**0.5
    assert z_sigma.abs().max() < 4
    assert z_mean.abs().max() < 4
    assert image.min() < 0, "noise is not clipped"
    assert abs(torch.corrcoef(torch.stack([noise.flatten(), clean.flatten()]))[0, 1]) < 4 / noise.numel() ** 0.5


@pytest.mark.parametrize(("amount", "salt"), [(0.05, 0.5), (0.3, 0.2), (1.0, 0.5), (0.5, 1.0), (0.5, 0.0)])
def test_salt_and_pepper_are_counted(amount: float, salt: float) -> None:
    clean = torch.full((20, 3, 40, 50), 0.5)
    image = degradations.SaltPepper(amount, salt)(clean, keys(20)).image
    count = image.numel()
    for value, share in ((1, amount * salt), (0, amount * (1 - salt)), (0.5, 1 - amount)):
        margin = 4 * (count * share * (1 - share)) ** 0.5
        assert abs((image == value).sum() - count * share) <= margin
    assert ((image == 0) | (image == 1) | (image == 0.5)).all()


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
def test_missing_pixels_are_counted(fraction: float) -> None:
    severity = degradations.MissingPixels(fraction)(images((1, 28, 28)), keys()).severity
    count = COUNT * 28 * 28
    assert abs(severity.sum() * 784 - count * fraction) <= 4 * (count * fraction * (1 - fraction)) ** 0.5


@pytest.mark.parametrize(
    "operator",
    [degradations.MissingPixels(1.0), degradations.MissingBox(1.0), degradations.MissingStrokes(40, 1.0)],
    ids=lambda operator: type(operator).__name__,
)
def test_one_pixel_is_always_known(operator: degradations.Missing) -> None:
    mask = operator(images((1, 8, 8)), keys()).mask
    assert (mask.sum((1, 2, 3)) >= 1).all()
    assert (mask.sum((1, 2, 3)) == 1).any()
    assert len(mask.flatten(1).argmax(1).unique()) > 5, "the key chooses it"


@at_each_size
def test_missing_box_is_one_box_anywhere(size: tuple[int, int, int]) -> None:
    clean = images(size)[:1].expand(500, -1, -1, -1)
    hole = degradations.MissingBox(0.4)(clean, keys(500)).mask.squeeze(1) == 0
    height, width = round(0.4 * size[1]), round(0.4 * size[2])
    assert (hole.any(2).sum(1) == height).all()
    assert (hole.any(1).sum(1) == width).all()
    assert (hole.sum((1, 2)) == height * width).all()
    top, left = hole.any(2).int().argmax(1), hole.any(1).int().argmax(1)
    assert (top.min(), top.max()) == (0, size[1] - height)
    assert (left.min(), left.max()) == (0, size[2] - width)


def test_missing_half() -> None:
    clean = images((3, 37, 53))
    holes = {}
    for side in ("left", "right", "top", "bottom"):
        holes[side] = degradations.MissingHalf(side)(clean, keys()).mask[0, 0] == 0
    for side, (rows, columns) in {
        "left": (slice(None), slice(0, 26)),
        "right": (slice(None), slice(27, 53)),
        "top": (slice(0, 18), slice(None)),
        "bottom": (slice(19, 37), slice(None)),
    }.items():
        assert holes[side][rows, columns].all()
        assert holes[side].sum() == holes[side][rows, columns].numel()
    drawn = degradations.MissingHalf("any")(clean[:1].expand(400, -1, -1, -1), keys(400)).mask.squeeze(1) == 0
    shares = [(drawn == hole).flatten(1).all(1).float().mean() for hole in holes.values()]
    assert sum(shares) == pytest.approx(1)
    assert all(abs(share - 0.25) < 0.1 for share in shares)


@pytest.mark.parametrize("side", [8, 28, 64])
def test_strokes_miss_about_a_quarter_at_every_size(side: int) -> None:
    clean = torch.zeros(300, 1, side, side)
    severity = degradation("missing_strokes")(clean, keys(300)).severity
    assert 0.2 < severity.mean() < 0.35
    assert severity.min() > 0.02
    assert severity.max() < 0.75


def test_strokes_are_connected_and_independent() -> None:
    """One stroke is one piece, and other strokes leave it where it is."""
    clean = torch.zeros(50, 1, 100, 80)
    one = degradations.MissingStrokes(1)(clean, keys(50)).mask.squeeze(1).numpy() == 0
    many = degradations.MissingStrokes(5)(clean, keys(50)).mask.squeeze(1).numpy() == 0
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
    missing._paint(known, start, end, radius)
    hole = known == 0
    pixels = torch.cartesian_prod(torch.arange(37.0), torch.arange(53.0))
    points = torch.lerp(start.unsqueeze(1), end.unsqueeze(1), torch.linspace(0, 1, 1000).view(1, -1, 1))
    distance = torch.cdist(pixels, points).amin(2).view(COUNT, 37, 53)
    clear = (distance - radius.view(-1, 1, 1)).abs() > 0.01
    assert torch.equal(hole[clear], (distance <= radius.view(-1, 1, 1))[clear])
    assert clear.float().mean() > 0.99


# Chain and OneOf


def steps(**others: degradations.Degradation) -> dict[str, degradations.Degradation]:
    return {"noise": degradations.GaussianNoise((0.0, 0.3)), **others}


def test_a_new_step_changes_no_other_draws() -> None:
    clean = images((3, 37, 53))
    alone = degradations.Chain(steps())(clean, keys())
    first = degradations.Chain({"blur": degradations.GaussianBlur((0.5, 2)), **steps()})(clean, keys())
    blurred = degradations.Chain({"blur": degradations.GaussianBlur((0.5, 2))})(clean, keys())
    torch.testing.assert_close(first.image - blurred.image, alone.image - clean, atol=1e-6, rtol=0)
    last = degradations.Chain(steps(missing=degradations.MissingPixels(0.5)))(clean, keys())
    known = last.mask.expand_as(clean) == 1
    assert torch.equal(last.image[known], alone.image[known])
    renamed = degradations.Chain({"grain": degradations.GaussianNoise((0.0, 0.3))})(clean, keys())
    assert not torch.equal(renamed.severity, alone.severity)


def test_chain_multiplies_masks_and_takes_the_first_range() -> None:
    clean = images((1, 28, 28))
    pixels, half = degradations.MissingPixels(0.5), degradations.MissingHalf("left")
    both = degradations.Chain({"pixels": pixels, "half": half, **steps()})
    _, mask, severity = both(clean, keys())
    expected = pixels(clean, keyed.fold(keys(), "pixels")).mask * half(clean, keys()).mask
    assert torch.equal(mask, expected)
    assert torch.equal(severity, degradations.Chain(steps())(clean, keys()).severity)
    assert both.level == (0.0, 0.3)
    assert both.makes_holes
    constant = degradations.Chain({"blur": degradations.GaussianBlur(2), "noise": degradations.GaussianNoise(0.1)})
    assert (constant(clean, keys()).severity == 2).all()
    assert not constant.makes_holes


def test_one_of_chooses_by_weight_and_by_key() -> None:
    clean = images((1, 8, 8))[:1].expand(2000, -1, -1, -1)
    choices = {
        "none": degradations.Identity(),
        "noise": degradations.GaussianNoise(0.1),
        "missing": degradations.MissingPixels(0.5),
        "never": degradations.GaussianBlur(9),
    }
    weights = {"none": 1, "noise": 2, "missing": 5, "never": 0}
    operator = degradations.OneOf(choices, weights)
    image, mask, severity = operator(clean, keys(2000))
    holes = (mask == 0).flatten(1).any(1)
    noisy = severity == 0.1
    shares = {"noise": noisy, "missing": holes, "none": (image == clean).flatten(1).all(1)}
    for name, chosen in shares.items():
        share = weights[name] / 8
        assert abs(chosen.float().mean() - share) < 4 * (share * (1 - share) / 2000) ** 0.5
    assert (sum(chosen.int() for chosen in shares.values()) == 1).all()
    expected = choices["noise"](clean[noisy], keyed.fold(keys(2000)[noisy], "noise"))
    assert torch.equal(image[noisy], expected.image)
    part = operator(clean[:7], keys(2000)[:7])
    assert all(torch.equal(a, b[:7]) for a, b in zip(part, (image, mask, severity), strict=True))
    assert operator.makes_holes


def test_one_of_without_weights_is_fair() -> None:
    choices = {"left": degradations.MissingHalf("left"), "right": degradations.MissingHalf("right")}
    mask = degradations.OneOf(choices)(images((1, 8, 8))[:1].expand(1000, -1, -1, -1), keys(1000)).mask
    assert 0.43 < mask[:, 0, 0, 0].mean() < 0.57


# Mistakes


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: degradations.GaussianNoise(-0.1), "sigma"),
        (lambda: degradations.GaussianNoise([0.3, 0.1]), "sigma"),
        (lambda: degradations.GaussianNoise([0.1, 0.2, 0.3]), "sigma"),
        (lambda: degradations.GaussianNoise("much"), "sigma"),
        (lambda: degradations.GaussianNoise(None), "sigma"),
        (lambda: degradations.GaussianNoise(float("nan")), "sigma"),
        (lambda: degradations.GaussianNoise(float("inf")), "sigma"),
        (lambda: degradations.GaussianNoise(True), "sigma"),
        (lambda: degradations.SaltPepper(1.1), "amount"),
        (lambda: degradations.SaltPepper(0.1, salt=2), "salt"),
        (lambda: degradations.SaltPepper(0.1, salt=[0, 1]), "salt"),
        (lambda: degradations.GaussianBlur((-1, 1)), "sigma"),
        (lambda: degradations.MissingPixels(1.5), "fraction"),
        (lambda: degradations.MissingPixels(0.5, fill="black"), "fill"),
        (lambda: degradations.MissingBox([0.5, 2]), "size"),
        (lambda: degradations.MissingHalf("middle"), "side"),
        (lambda: degradations.MissingStrokes(1.5), "count"),
        (lambda: degradations.MissingStrokes(-1), "count"),
        (lambda: degradations.MissingStrokes(3, width=2), "width"),
        (lambda: degradations.MissingStrokes(3, length=-1), "length"),
        (lambda: degradations.Chain({}), "steps"),
        (lambda: degradations.OneOf({}), "choices"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"b": 1}), "weights"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"a": 0}), "weights"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"a": -1}), "weights.a"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(make, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name} [^\n]+\.$"):
        make()


def test_notebook_needs_neither_lightning_nor_hydra() -> None:
    code = "import sys, recon.degradations; print(*{'lightning', 'hydra', 'omegaconf'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
