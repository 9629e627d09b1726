"""The fused form gives the bits of the torch form: every operator that has one, any batch, any number of threads."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from conftest import ROOT
from damage import COUNT, SIZES, images, keys
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from recon import keyed
from recon.degradations import (
    BoxBlur,
    Chain,
    Contrast,
    Degradation,
    Degraded,
    GaussianBlur,
    GaussianNoise,
    Identity,
    MissingBox,
    MissingPixels,
    MotionBlur,
    OneOf,
    PoissonNoise,
    Quantise,
    SaltPepper,
    SpeckleNoise,
    UniformNoise,
    fused,
)
from recon.degradations.batch import as_float, degrade_bytes

pytest.importorskip("numba")

OPERATORS: dict[str, Degradation] = {
    "identity": Identity(),
    "noise": GaussianNoise(0.1),
    "noise, a range": GaussianNoise((0.0, 0.5)),
    "no noise": GaussianNoise(0.0),
    "speckle": SpeckleNoise((0.1, 0.5)),
    "uniform": UniformNoise((0.0, 0.3)),
    "salt and pepper": SaltPepper((0.0, 1.0), 0.3),
    "all salt": SaltPepper(1.0, 1.0),
    "few photons": PoissonNoise((0.001, 11.0)),
    "many photons": PoissonNoise((12.0, 1e9)),
    "some photons": PoissonNoise(30),
    "quantise": Quantise((1, 8)),
    "contrast": Contrast((0.0, 2.0)),
    "contrast by channel": Contrast((0.0, 2.0), by_channel=True),
    "pixels": MissingPixels((0.0, 1.0)),
    "all pixels but one": MissingPixels(1.0),
    "pixels, filled": MissingPixels(0.5, fill=-0.3),
    "box": MissingBox((0.0, 1.0)),
    "box, filled": MissingBox(0.5, place="centre", fill=0.7),
    "all but one in a box": MissingBox(1.0),
    "blur": GaussianBlur(1.0),
    "blur, a range": GaussianBlur((0.0, 3.0), boundary="circular"),
    "blur, longer in one direction": GaussianBlur((0.5, 2.0), ratio=(0.2, 0.8), angle=90, boundary="zero"),
    "box blur": BoxBlur((1, 9), boundary="replicate"),
    "a blur wider than the image": BoxBlur(161),
    "no blur": GaussianBlur(0.0),
}
CHAINS: dict[str, Degradation] = {
    "noise, impulses, box": Chain(
        {"noise": GaussianNoise((0.0, 0.3)), "impulses": SaltPepper(0.1), "box": MissingBox((0.1, 0.5))}
    ),
    "two masks": Chain({"first": MissingPixels((0.2, 0.5)), "again": MissingPixels(0.2), "box": MissingBox(0.3)}),
    "all": Chain({name: operator for name, operator in OPERATORS.items() if "all" not in name}),
    "a chain in a chain": Chain(
        {"outer": Chain({"a": SaltPepper(0.1), "b": MissingBox((0.2, 0.4))}), "c": Quantise(2)}
    ),
    "only nothing": Chain({"one": Identity(), "other": Identity()}),
}
MIXED: dict[str, Degradation] = {
    "blur in between": Chain(
        {"noise": GaussianNoise(0.1), "holes": MissingPixels(0.2), "blur": MotionBlur(5),
         "impulses": SaltPepper((0.0, 0.1)), "box": MissingBox(0.25)}
    ),
    "one of": OneOf(
        {"noise": GaussianNoise(0.1), "blur": GaussianBlur(1.0), "moved": MotionBlur(5), "box": MissingBox((0.2, 0.5))}
    ),
}  # fmt: skip
ALL = OPERATORS | CHAINS | MIXED
each = pytest.mark.parametrize("operator", ALL.values(), ids=ALL)
at_each_size = pytest.mark.parametrize("size", [*SIZES, (3, 32, 32), (1, 1, 1), (1, 2, 2), (3, 1, 7)], ids=str)


def made(operator: Degradation, clean: Tensor, own: Tensor, in_one_pass: bool) -> Degraded:
    with fused.only(in_one_pass):
        return operator(clean, own)


def same(one: Degraded, other: Degraded) -> bool:
    """Equal to the bit; -0 is not 0 here."""
    pairs = zip(one, other, strict=True)
    return all(a.dtype == b.dtype and torch.equal(bits(a), bits(b)) for a, b in pairs)


def bits(values: Tensor) -> Tensor:
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return values.contiguous().view(sizes[values.element_size()])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[fused.Plan]:
    """The plans that the fused form carries out."""
    seen: list[fused.Plan] = []

    def watched(steps: Sequence[fused.Step], *rest: int) -> Any:
        seen.append(fused.Plan(steps))
        return before(steps, *rest)

    before: Callable[..., Any] = fused._gathered
    monkeypatch.setattr(fused, "_gathered", watched)
    return seen


@each
@at_each_size
@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_bits_of_the_torch_form(operator: Degradation, size: tuple[int, int, int], precision: torch.dtype) -> None:
    clean = images(size).to(precision)
    assert same(made(operator, clean, keys(), True), made(operator, clean, keys(), False))


@each
def test_any_batch_and_order(operator: Degradation) -> None:
    clean = images((3, 32, 32))
    whole = made(operator, clean, keys(), False)
    for part in (1, 5):
        pieces = zip(clean.split(part), keys().split(part), strict=True)
        joined = zip(*(made(operator, *piece, True) for piece in pieces), strict=True)
        assert same(Degraded(*map(torch.cat, joined)), whole)
    order = keyed.permutation(0, "order", 0, COUNT)
    turned = made(operator, clean[order], keys()[order], True)
    assert same(turned, Degraded(*(field[order] for field in whole)))


@each
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_threads(operator: Degradation, count: int) -> None:
    clean, some_keys = images((3, 61, 64), 40), keys(40)
    expected = made(operator, clean, some_keys, False)
    with threads(count):
        assert same(made(operator, clean, some_keys, True), expected)


@pytest.mark.parametrize("operator", (OPERATORS | CHAINS).values(), ids=OPERATORS | CHAINS)
@at_each_size
def test_bytes(operator: Degradation, size: tuple[int, int, int]) -> None:
    pixels = images(size).mul(255).round().to(torch.uint8)
    with fused.only(True):
        clean, damaged = degrade_bytes(operator, pixels, keys())
    assert torch.equal(clean, as_float(pixels))
    assert same(damaged, made(operator, as_float(pixels), keys(), False))


def test_each_byte_is_divided_alike() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    with fused.only(True):
        clean, _ = degrade_bytes(Identity(), pixels, keys(1))
    assert torch.equal(clean, pixels.float() / 255)


@settings(max_examples=60, deadline=None)
@given(
    operator=some.sampled_from(list((OPERATORS | CHAINS).values())),
    shape=some.tuples(some.integers(1, 5), some.sampled_from([1, 3]), some.integers(1, 40), some.integers(1, 40)),
    seed=some.integers(0, 2**31),
    stretch=some.sampled_from([1.0, -3.0, 40.0]),
)
def test_any_images(operator: Degradation, shape: tuple[int, int, int, int], seed: int, stretch: float) -> None:
    """Also far outside of [0,1], as a step of a chain meets them."""
    clean = images(shape[1:], shape[0]) * stretch
    own = keys(shape[0], seed)
    assert same(made(operator, clean, own, True), made(operator, clean, own, False))


def test_a_million_photons() -> None:
    """Counts of few photons pass through an exponential, which no two libraries round alike."""
    clean = torch.linspace(0, 1, 1 << 20).view(1, 1, 1024, 1024)
    operator = PoissonNoise(12)
    assert same(made(operator, clean, keys(1), True), made(operator, clean, keys(1), False))


@each
def test_clean_images_stay_unchanged(operator: Degradation) -> None:
    clean = images((3, 28, 28)).clone()
    made(operator, clean, keys(), True)
    assert torch.equal(clean, images((3, 28, 28)))


def test_views_are_degraded_like_copies() -> None:
    clean = images((3, 32, 32)).transpose(2, 3)
    assert not clean.is_contiguous()
    assert same(made(CHAINS["all"], clean, keys(), True), made(CHAINS["all"], clean.contiguous(), keys(), False))
    repeated = clean[:1].expand(COUNT, -1, -1, -1)
    assert same(made(CHAINS["all"], repeated, keys(), True), made(CHAINS["all"], repeated, keys(), False))


def test_no_images() -> None:
    for operator in ALL.values():
        found = made(operator, images((1, 28, 28))[:0], keys()[:0], True)
        assert found.image.shape == (0, 1, 28, 28)


def test_a_chain_makes_one_pass(used: list[fused.Plan]) -> None:
    for name, passes in {"noise, impulses, box": 1, "a chain in a chain": 1, "all": 1}.items():
        used.clear()
        made(CHAINS[name], images((1, 28, 28)), keys(), True)
        assert len(used) == passes, name
    used.clear()
    made(MIXED["blur in between"], images((1, 28, 28)), keys(), True)
    assert [len(plan.steps) for plan in used] == [2, 2]


def test_the_torch_form_where_no_other_can(used: list[fused.Plan]) -> None:
    clean = images((1, 28, 28))
    made(GaussianNoise(0.1), clean.double(), keys(), True)
    learned = clean.clone().requires_grad_()
    made(GaussianNoise(0.1), learned, keys(), True).image.sum().backward()
    assert learned.grad is not None
    assert not used


ALONE = """
import sys, torch
from recon.degradations import GaussianNoise, fused
{before}
clean, keys = torch.rand(64, 3, 32, 32), torch.arange(64)
first = GaussianNoise(0.1)(clean, keys).image
assert not fused.takes(clean)
fused._form.spent = {spent}
assert GaussianNoise(0.1)(clean, keys).image.equal(first)
assert fused.takes(clean) is {taken}
assert GaussianNoise(0.1)(clean, keys).image.equal(first)
"""


def alone(before: str, spent: float, taken: bool, home: str = "") -> subprocess.CompletedProcess[str]:
    code = ALONE.format(before=before, spent=spent, taken=taken)
    env = dict(os.environ) | ({"XDG_CACHE_HOME": home} if home else {})
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_it_is_loaded_when_the_torch_form_has_taken_as_long() -> None:
    assert (done := alone("", 0.0, False)).returncode == 0, done.stderr
    assert (done := alone("", 9.0, True)).returncode == 0, done.stderr


def test_without_numba_nothing_changes() -> None:
    done = alone("fused._form.wanted = False  # as `find_spec` finds none", 9.0, False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_numba_that_cannot_be_used_is_told_once() -> None:
    done = alone("sys.modules['numba'] = None", 9.0, False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the fused data path cannot be used") == 1


def test_where_nothing_can_be_written_nothing_changes(tmp_path: os.PathLike[str]) -> None:
    file = os.path.join(tmp_path, "file")
    open(file, "w").close()
    done = alone("", 9.0, False, home=file)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the fused data path cannot be used") == 1


def test_threads_after_a_fork() -> None:
    code = """
import numpy, os, torch
from recon.degradations import GaussianNoise, fused
torch.set_num_threads(2)
clean, keys = torch.rand(64, 3, 64, 64), torch.arange(64)
assert fused.load()
here = GaussianNoise(0.1)(clean, keys).image
child = os.fork()
if not child:
    found = GaussianNoise(0.1)(clean, keys).image
    os._exit(0 if numpy.array_equal(found.numpy(), here.numpy()) else 1)  # torch's own threads are gone
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)
