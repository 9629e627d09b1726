"""Laws that hold for every file of conf/degradation, and for the ways to combine them."""

import inspect
import subprocess
import sys
from functools import lru_cache

import pytest
import torch
from conftest import ROOT, choices
from damage import COUNT, SIZES, images, keys
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from torch import Tensor

from recon import degradations, keyed
from recon.degradations import base
from recon.errors import InputError

# What needs files of the user's is tested with the files, in test_missing.py and tests/data/test_pairs.py.
NAMES = [
    name for name in choices("degradation") if "???" not in (ROOT / "conf/degradation" / f"{name}.yaml").read_text()
]


@lru_cache
def degradation(name: str) -> degradations.Degradation:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return instantiate(compose(f"degradation/{name}")).degradation


def parts(operator: degradations.Degradation) -> list[degradations.Degradation]:
    """The operators that a combination is made of."""
    inner = {**getattr(operator, "steps", {}), **getattr(operator, "choices", {})}
    then = [operator.then] if getattr(operator, "then", None) else []
    return [operator, *(part for one in [*inner.values(), *then] for part in parts(one))]


each = pytest.mark.parametrize("name", NAMES)
at_each_size = pytest.mark.parametrize("size", SIZES, ids=str)
batches = some.tuples(some.sampled_from([1, 3]), some.integers(1, 40), some.integers(1, 40), some.integers(1, 5))


def assert_lawful(operator: degradations.Degradation, clean: Tensor, seed: int = 0) -> None:
    """The result has the shape, the type and the values that a pair promises."""
    before = clean.clone()
    count, channels, height, width = clean.shape
    image, mask, severity = operator(clean, keys(count, seed))
    smaller = (-(-height // operator.scale), -(-width // operator.scale))
    assert image.shape == (count, channels, *smaller)
    assert mask.shape == (count, 1, height, width)
    assert severity.shape == (count,)
    assert image.dtype == mask.dtype == clean.dtype
    assert severity.dtype == torch.float32
    assert image.isfinite().all()
    assert severity.isfinite().all()
    assert ((mask == 0) | (mask == 1)).all()
    assert operator.makes_holes or (mask == 1).all()
    assert torch.equal(clean, before), "the clean images stay unchanged"


# Laws


@each
@settings(max_examples=12, deadline=None)
@given(batch=batches, seed=some.integers(0, 2**31), precision=some.sampled_from([torch.float32, torch.float64]))
def test_any_images(name: str, batch: tuple[int, int, int, int], seed: int, precision: torch.dtype) -> None:
    channels, height, width, count = batch
    assert_lawful(degradation(name), images((channels, height, width), count).to(precision), seed)


@each
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 1, 7), (1, 512, 512), (3, 301, 512)], ids=str)
def test_extreme_sizes(name: str, size: tuple[int, int, int]) -> None:
    assert_lawful(degradation(name), images(size, 1))


@each
@at_each_size
def test_every_image_keeps_a_known_pixel(name: str, size: tuple[int, int, int]) -> None:
    operator = degradation(name)
    mask = operator(images(size), keys()).mask
    assert (mask.flatten(1).sum(1) > 0).all()
    assert operator.makes_holes == bool((mask == 0).any())


@each
def test_double_precision_is_kept(name: str) -> None:
    clean = images((3, 37, 53))
    image, mask, _ = degradation(name)(clean.double(), keys())
    assert image.dtype == mask.dtype == torch.float64
    # An operator that rounds may round the two differently in a few places.
    difference = (image - degradation(name)(clean, keys()).image).abs()
    assert difference.flatten().kthvalue(int(0.98 * difference.numel())).values < 1e-5


@each
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_only_at_the_end(name: str, precision: torch.dtype) -> None:
    clean = images((3, 28, 28)).to(precision)
    whole, half = degradation(name)(clean.float(), keys()), degradation(name)(clean, keys())
    assert torch.equal(half.image, whole.image.to(precision))
    assert torch.equal(half.mask.float(), whole.mask)
    assert torch.equal(half.severity, whole.severity)


# What rounds or counts has no gradient.
STEPPED = {"jpeg", "webp", "noise_jpeg", "double_jpeg", "quantise", "poisson", "low_light", "real_world", "corruption",
           "edges"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name not in STEPPED])
@pytest.mark.parametrize("size", [(1, 28, 28), (3, 70, 66)], ids=str)
def test_gradients_pass(name: str, size: tuple[int, int, int]) -> None:
    """Methods that restore by the gradient of the data term differentiate the damage."""
    clean = images(size, 3).clone().requires_grad_()
    image = degradation(name)(clean, keys(3)).image
    assert torch.equal(image.detach(), degradation(name)(clean.detach(), keys(3)).image)
    image.square().sum().backward()
    assert clean.grad is not None
    assert clean.grad.isfinite().all()
    assert (clean.grad != 0).any()


@each
def test_autocast_changes_nothing(name: str) -> None:
    clean = images((3, 28, 28))
    plain = degradation(name)(clean, keys())
    with torch.autocast("cpu", torch.bfloat16):
        cast = degradation(name)(clean, keys())
    assert all(torch.equal(*fields) for fields in zip(plain, cast, strict=True))


@each
@at_each_size
def test_same_bits_for_any_batch_and_order(name: str, size: tuple[int, int, int]) -> None:
    operator, clean = degradation(name), images(size)
    whole = operator(clean, keys())
    for part in (1, 5):
        pieces = [operator(*piece) for piece in zip(torch.split(clean, part), torch.split(keys(), part), strict=True)]
        for field, split in zip(whole, zip(*pieces, strict=True), strict=True):
            assert torch.equal(field, torch.cat(split))
    order = keyed.permutation(0, "order", 0, COUNT)
    for field, shuffled in zip(whole, operator(clean[order], keys()[order]), strict=True):
        assert torch.equal(field[order], shuffled)


@each
def test_same_bits_for_any_number_of_threads(name: str) -> None:
    operator, clean = degradation(name), images((3, 61, 64))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = operator(clean, keys())
        torch.set_num_threads(2)
        two = operator(clean, keys())
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*fields) for fields in zip(one, two, strict=True))


@each
@at_each_size
def test_keys_decide(name: str, size: tuple[int, int, int]) -> None:
    """The same picture degrades alike under one key; under other keys it does, but for what has no randomness."""
    operator = degradation(name)
    clean = images(size)[:1].expand(COUNT, -1, -1, -1)
    one, again, other = operator(clean, keys()), operator(clean, keys()), operator(clean, keys(seed=1))
    assert all(torch.equal(*fields) for fields in zip(one, again, strict=True))
    alike = torch.stack([(one.image[0] == image).all() for image in torch.cat([one.image[1:], other.image])])
    random = any("Noise" in type(part).__name__ or part.level[0] < part.level[1] for part in parts(operator))
    if random and min(size[1:]) > 8:
        assert alike.float().mean() < 0.35


@each
@at_each_size
def test_severity_lies_in_its_range(name: str, size: tuple[int, int, int]) -> None:
    operator = degradation(name)
    _, mask, severity = operator(images(size), keys())
    if operator.makes_holes:
        torch.testing.assert_close(severity, 1 - mask.mean((1, 2, 3)))
        return
    low, high = operator.level
    tolerance = 1e-6 * max(1, high)
    assert severity.min() >= low - tolerance
    assert severity.max() <= high + tolerance
    if low < high:
        assert severity.std() > 0.1 * (high - low)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("missing")])
@at_each_size
def test_known_pixels_are_untouched(name: str, size: tuple[int, int, int]) -> None:
    operator, clean = degradation(name), images(size)
    image, mask, _ = operator(clean, keys())
    hole = (mask == 0).expand_as(clean)
    assert torch.equal(image[~hole], clean[~hole])
    filled = getattr(operator, "fill", 0.0)  # 0 is that of each choice of missing_mixed
    assert (image[hole] == filled).all()
    assert torch.equal(operator(image, keys()).image, image), "the same holes again change nothing"


@each
def test_the_default_is_no_extreme(name: str) -> None:
    """A default damages real images, and leaves something to restore from."""
    clean = images((3, 64, 64))
    operator = degradation(name)
    if operator.scale > 1:
        pytest.skip("smaller images cannot be compared")
    error = (operator(clean, keys()).image - clean).square().mean()
    assert error == 0 if name == "none" else 1e-5 < error < clean.square().mean()


@each
def test_examples_are_values_of_a_parameter_from_mild_to_strong(name: str) -> None:
    operator = degradation(name)
    if operator.examples is not None:
        parameter, values = operator.examples
        assert parameter in inspect.signature(type(operator)).parameters
        assert len(values) == 3


@pytest.mark.gpu
@each
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_does_the_same(name: str) -> None:
    """Draws are equal to the bit; what passes through float arithmetic, to rounding."""
    clean = images((3, 37, 53))
    here, there = degradation(name)(clean, keys()), degradation(name)(clean.cuda(), keys().cuda())
    difference = (there.image.cpu() - here.image).abs().flatten()
    assert difference.kthvalue(int(0.98 * len(difference))).values < 1e-4
    assert (there.mask.cpu() == here.mask).float().mean() > 0.999
    torch.testing.assert_close(there.severity.cpu(), here.severity)


def test_levels_are_uniform_and_hang_on_their_names() -> None:
    sigma, amount = (base.draw((2.0, 5.0), keys(2000), name) for name in ("sigma", "amount"))
    assert stats.kstest(sigma.numpy(), "uniform", (2, 3)).pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack([sigma, amount]))[0, 1]) < 4 / 2000**0.5
    unnamed = keyed.uniform(keys(2000))
    assert abs(torch.corrcoef(torch.stack([sigma, unnamed]))[0, 1]) < 4 / 2000**0.5
    assert (base.draw((2.0, 2.0), keys(5), "sigma") == 2).all()


# Chain, OneOf and Sometimes


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


def test_sometimes_applies_with_its_probability() -> None:
    clean = images((1, 8, 8))[:1].expand(2000, -1, -1, -1)
    noise = degradations.GaussianNoise(0.1)
    image, mask, severity = degradations.Sometimes(noise, 0.3)(clean, keys(2000))
    applied = severity > 0
    assert abs(applied.float().mean() - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5
    assert torch.equal(image[~applied], clean[~applied])
    assert (image[applied] != clean[applied]).flatten(1).any(1).all()
    assert (mask == 1).all()
    never, always = (degradations.Sometimes(noise, p)(clean, keys(2000)).severity for p in (0, 1))
    assert (never == 0).all()
    assert (always > 0).all()


# Mistakes


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: degradations.Chain({}), "steps"),
        (lambda: degradations.OneOf({}), "choices"),
        (lambda: degradations.Chain({"a": "noise"}), "steps.a"),
        (lambda: degradations.Chain([degradations.Identity()]), "steps"),
        (lambda: degradations.Chain(dict.fromkeys(range(101), degradations.Identity())), "steps"),
        (lambda: degradations.Sometimes(degradations.Downsample(2), 0.5), "degradation"),
        (lambda: degradations.Downsample(2, then="noise"), "then"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"a": 1e300}), "weights.a"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"b": 1}), "weights"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"a": 0}), "weights"),
        (lambda: degradations.OneOf({"a": degradations.Identity()}, {"a": -1}), "weights.a"),
        (lambda: degradations.Sometimes(degradations.Identity(), 1.5), "probability"),
        (lambda: degradations.Sometimes(degradations.Identity(), -0.1), "probability"),
        (lambda: degradations.Identity()(torch.zeros(8, 8), keys(1)), "clean"),
        (lambda: degradations.Identity()(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), keys(1)), "clean"),
        (lambda: degradations.Identity()(torch.zeros(2, 1, 8, 8), keys(1)), "keys"),
        (lambda: degradations.Identity()(torch.zeros(1, 1, 8, 8), keys(1).float()), "keys"),
    ],
)
def test_a_mistake_raises_one_sentence(make, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}(:| must) [^\n]+$"):
        make()


def test_notebook_needs_neither_lightning_nor_hydra() -> None:
    code = "import sys, recon.degradations; print(*{'lightning', 'hydra', 'omegaconf'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
