"""The data path against the classic per-sample data set, kornia and its own limit; each degradation on its own.

Variants alternate in one process at one thread and are compared by CPU time, medians of several rounds; only those with
workers, whose CPU time is not this process's, by wall time.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose, choices
from damage import images, keys
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recon import keyed
from recon.config.construct import construct
from recon.data.store import ImageStore, PairLoader
from recon.degradations import (
    Chain,
    Contrast,
    Degradation,
    GaussianBlur,
    GaussianNoise,
    Identity,
    MissingBox,
    MissingPixels,
    PoissonNoise,
    Quantise,
    SaltPepper,
    SpeckleNoise,
    fused,
)  # fmt: skip
from recon.degradations.batch import degrade_bytes
from recon.training.allocator import keep_freed_memory

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

BATCH = 256
ROUNDS = 7
SHAPES = {"MNIST": (1, 28, 28), "CIFAR": (3, 32, 32)}
SIGMA, AMOUNT, BOX = 0.1, 0.05, 0.25
OURS: dict[str, Degradation] = {
    "noise": GaussianNoise(SIGMA),
    "composed": Chain({"blur": GaussianBlur(1.0), "salt_pepper": SaltPepper(AMOUNT), "box": MissingBox(BOX)}),
}
# The least to hold: times the classic data set, times the better of it with 0 and 2 workers, times kornia, share of the
# limit of only gathering and making float.
LEAST = {
    ("MNIST", "noise"): (20, 12, 1.7, 0.11),
    ("CIFAR", "noise"): (8, 5, 1.7, 0.09),
    ("MNIST", "composed"): (10, 0, 2.5, 0.0),
    ("CIFAR", "composed"): (7, 0, 2.5, 0.0),
}


@lru_cache
def pixels(name: str) -> np.ndarray:
    """Real pixels of the set's shape: 4,096 patches of photographs, uint8."""
    return images(SHAPES[name], 4096).mul(255).round().to(torch.uint8).numpy()


class Classic(Dataset[tuple[Tensor, Tensor, int]]):
    """What a tutorial writes: one image at a time by Pillow and NumPy, collated by the DataLoader."""

    def __init__(self, name: str, damage: str) -> None:
        self.images = pixels(name).transpose(0, 2, 3, 1).squeeze()
        self.damage = damage

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        image = Image.fromarray(self.images[index])
        clean = np.asarray(image, np.float32) / 255
        if self.damage == "noise":
            degraded = clean + np.random.normal(0, SIGMA, clean.shape)
        else:
            degraded = np.asarray(image.filter(ImageFilter.GaussianBlur(1)), np.float32) / 255
            place = np.random.random(degraded.shape)
            degraded[place < AMOUNT / 2] = 0
            degraded[place > 1 - AMOUNT / 2] = 1
            height, width = int(BOX * image.height), int(BOX * image.width)
            top, left = np.random.randint(image.height - height + 1), np.random.randint(image.width - width + 1)
            degraded[top : top + height, left : left + width] = 0
        return self.to_tensor(degraded), self.to_tensor(clean), -1

    @staticmethod
    def to_tensor(image: np.ndarray) -> Tensor:
        image = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(image, np.float32))


def classic(name: str, damage: str, workers: int) -> Iterator[Any]:
    return iter(DataLoader(Classic(name, damage), BATCH, shuffle=True, num_workers=workers, drop_last=True))


def kornia(name: str, damage: str) -> Iterator[Any]:
    """The same store and shuffling, with kornia's operators on the batch."""
    from kornia import augmentation

    if damage == "noise":
        operator = augmentation.RandomGaussianNoise(0.0, SIGMA, p=1.0)
    else:
        operator = augmentation.AugmentationSequential(
            augmentation.RandomGaussianBlur((9, 9), (1.0, 1.0), p=1.0),
            augmentation.RandomSaltAndPepperNoise((AMOUNT, AMOUNT), p=1.0),
            augmentation.RandomErasing((BOX**2, BOX**2), (1.0, 1.0), p=1.0),
        )
    for pair in ours(name, Identity()):
        yield operator(pair.clean), pair.clean


def randn(name: str) -> Iterator[Any]:
    for pair in ours(name, Identity()):
        yield torch.addcmul(pair.clean, torch.randn_like(pair.clean), torch.tensor(SIGMA)), pair.clean


def limit(name: str) -> Iterator[Any]:
    """Nothing but gathering shuffled images and making them float."""
    store = store_of(name)
    for index in keyed.permutation(0, "order", 0, len(store)).split(BATCH):
        yield store.gather(index).float().div_(255)


def ours(name: str, degradation: Degradation) -> Iterator[Any]:
    return iter(PairLoader(store_of(name), "train", BATCH, degradation))


def by_torch(name: str, degradation: Degradation) -> Iterator[Any]:
    """Ours without the fused form."""
    with fused.only(False):
        yield from ours(name, degradation)


@lru_cache
def store_of(name: str) -> ImageStore:
    return ImageStore.from_arrays(pixels(name))


def rate(variant: Callable[[], Iterator[Any]], clock: Callable[[], float]) -> float:
    """Images a second of one pass; the iterator, and with it the workers, starts before the clock does."""
    batches = variant()
    start, count = clock(), 0
    for batch in batches:
        count += len(batch[0]) if isinstance(batch, tuple | list) else len(batch)
    return count / (clock() - start)


def compare(variants: dict[str, tuple[Callable[[], Iterator[Any]], Callable[[], float]]]) -> dict[str, float]:
    """Median rates of interleaved rounds, after one that is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS + 1):
        for name, (variant, clock) in variants.items():
            rates[name].append(rate(variant, clock))
    return {name: statistics.median(found[1:]) for name, found in rates.items()}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    keep_freed_memory()  # as a run does; all variants profit
    fused.load()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("damage", OURS)
@pytest.mark.parametrize("name", SHAPES)
def test_pairs_per_second(name: str, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    cpu, wall = time.process_time, time.perf_counter
    variants = {
        "recon": (lambda: ours(name, OURS[damage]), cpu),
        "the torch form": (lambda: by_torch(name, OURS[damage]), cpu),
        "classic": (lambda: classic(name, damage, 0), cpu),
        "classic, 2 workers": (lambda: classic(name, damage, 2), wall),
        "kornia": (lambda: kornia(name, damage), cpu),
        "gather + float": (lambda: limit(name), cpu),
    }
    if damage == "noise":
        variants["torch.randn"] = (lambda: randn(name), cpu)
    rates = compare(variants)
    mine = rates.pop("recon")
    with capsys.disabled():
        print(f"\n{name} {damage}: {mine / 1e3:.0f}k pairs/s", end="")
        for other, found in rates.items():
            print(f"; {mine / found:.3g} × {other} ({found / 1e3:.3g}k)", end="")
    times_classic, times_best, times_kornia, share = LEAST[name, damage]
    assert mine >= times_classic * rates["classic"]
    assert mine >= times_best * max(rates["classic"], rates["classic, 2 workers"])
    assert mine >= times_kornia * rates["kornia"]
    assert mine >= share * rates["gather + float"]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_keyed_normals(shape: tuple[int, int, int], capsys: pytest.CaptureFixture[str]) -> None:
    some, generator = keys(BATCH), torch.Generator().manual_seed(0)
    cpu = time.process_time
    rates = compare(
        {
            "keyed": (lambda: (keyed.normal(some, shape) for _ in range(20)), cpu),
            "randn": (lambda: (torch.randn(BATCH, *shape, generator=generator) for _ in range(20)), cpu),
        }
    )
    with capsys.disabled():
        print(f"\nnormals {shape}: {rates['keyed'] / rates['randn']:.2f} × torch.randn", end="")
    assert rates["keyed"] >= 2.2 * rates["randn"]


# VmHWM and not getrusage, whose peak a child inherits from its parent.
PEAK = """
import sys
import torch
from benchmarks.test_data import OURS
from damage import images, keys

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

torch.set_num_threads(1)
clean, some = images((3, 32, 32), 256), keys(256)
OURS[sys.argv[1]](clean[:8], some[:8])
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
OURS[sys.argv[1]](clean, some)
print((status("VmHWM") - before) / clean.nbytes)
"""


@pytest.mark.parametrize("damage", OURS)
def test_temporaries_of_a_batch(damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = ":".join(place for place in sys.path if place)
    command = [sys.executable, "-c", PEAK, damage]
    result = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONPATH": f"{path}:tests"})
    with capsys.disabled():
        print(f"\n{damage}: {float(result.stdout):.1f} × the batch at the peak, the degraded batch included", end="")
    assert float(result.stdout) <= 6


def throughput(degradation: Degradation, device: str, compiled: bool) -> float:
    """Pairs a second of one degradation on images that lie on the device already."""
    clean, some = images((3, 32, 32), BATCH).to(device), keys(BATCH).to(device)
    operator = torch.compile(degradation) if compiled else degradation
    sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    clock = time.perf_counter if device == "cuda" else time.process_time
    operator(clean, some)
    spent: list[float] = []
    while sum(spent) < 0.3 or len(spent) < 5:
        sync()
        start = clock()
        operator(clean, some)
        sync()
        spent.append(clock() - start)
    return BATCH / statistics.median(spent)


DEVICES = [
    pytest.param("cpu", False, id="cpu"),
    pytest.param("cuda", False, id="cuda", marks=pytest.mark.gpu),
    pytest.param("cuda", True, id="cuda compiled", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize(("device", "compiled"), DEVICES)
def test_each_degradation(device: str, compiled: bool, compose: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for the reader; on a GPU beside the rate at which it copies such a batch."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rates = {"copy of the batch": throughput(Copy(), device, compiled)}
    for name in choices("degradation"):
        config = compose("model=restoration", f"degradation={name}")["degradation"]
        if "???" not in str(config.values()):
            rates[name] = throughput(construct(config, "degradation"), device, compiled)
    with capsys.disabled():
        print(f"\npairs a second on {device}{', compiled' if compiled else ''}, {BATCH}×3×32×32:")
        for name, found in rates.items():
            print(f"  {name:<20} {found:>12,.0f}")


class Copy(Identity):
    """Copy the batch and do nothing else."""

    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        return super().degrade(clean.clone(), keys)


FUSED: dict[str, Degradation] = {
    "none": Identity(),
    "noise": GaussianNoise(SIGMA),
    "speckle": SpeckleNoise(SIGMA),
    "salt and pepper": SaltPepper(AMOUNT),
    "Poisson": PoissonNoise(30),
    "quantise": Quantise(3),
    "contrast": Contrast(0.5),
    "pixels": MissingPixels(0.5),
    "box": MissingBox(BOX),
    "noise, salt, box": Chain({"noise": GaussianNoise(SIGMA), "salt": SaltPepper(AMOUNT), "box": MissingBox(BOX)}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_fused_beside_torch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nanoseconds a value from bytes to the degraded batch: the least CPU time of alternating rounds."""
    pytest.importorskip("numba")
    clean, some = torch.from_numpy(pixels(name)[:BATCH]).contiguous(), keys(BATCH)
    for operator, degradation in FUSED.items():
        spent: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(10 * ROUNDS):
            for form, found in spent.items():
                with fused.only(form):
                    start = time.process_time()
                    degrade_bytes(degradation, clean, some)
                    found.append((time.process_time() - start) / clean.numel() * 1e9)
        mine, torchs = min(spent[True]), min(spent[False])
        with capsys.disabled():
            print(f"\n{name} {operator}: {mine:.2f} ns, {torchs / mine:.1f} × the torch form", end="")
        assert mine <= 1.2 * torchs


def test_threads_of_the_fused_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Wall time of one and two threads, which only a machine with two idle cores tells."""
    pytest.importorskip("numba")
    clean, some = torch.from_numpy(pixels("CIFAR")[:BATCH]).contiguous(), keys(BATCH)
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(10 * ROUNDS):
        for count, found in spent.items():
            torch.set_num_threads(count)
            start = time.perf_counter()
            degrade_bytes(FUSED["noise"], clean, some)
            found.append(time.perf_counter() - start)
    with capsys.disabled():
        print(f"\nnoise on two threads: {min(spent[1]) / min(spent[2]):.2f} × one", end="")
