"""The fused form of operators: a batch in one compiled pass, image by image, with the bits of the torch form.

The torch form of an operator, its `degrade`, is the reference, and what runs on other devices, in double precision,
under autograd and without numba. An operator with a fused form also returns its `plan`; `recon.degradations.compiled`
carries plans out. Nothing there computes what two compilers may round differently: normal numbers come from the table
of `recon.keyed`, and products and sums are never contracted.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from recon import keyed

# The kinds of steps.
NOISE, SPECKLE, UNIFORM, SALT_PEPPER, POISSON, QUANTISE, CONTRAST, PIXELS, BOX, BLUR = range(10)

Shape: TypeAlias = tuple[int, int, int]

_VALUES = 3  # numbers of an image that a step has at least
_STREAMS = 3  # draws that it may have
_PATIENCE = 1.0  # seconds that the torch form takes in all before the fused one is loaded, which takes as long
_PER_THREAD = 1 << 16  # values of a batch that are worth a thread


class Step(NamedTuple):
    """What is done to a batch by one operator.

    >>> Step(NOISE, keys, ["noise"], [torch.full((2,), 0.1)], torch.full((2,), 0.1)).kind
    0

    Attributes:
        kind: one of the numbers above.
        keys: (B,) int64.
        streams: the names of its draws.
        values: of each image, (B,) each, or all (V,B); their meaning by kind: see `recon.degradations.compiled`.
        severity: (B,) float32, or None for the share of the pixels that are missing.
    """

    kind: int
    keys: Tensor
    streams: Sequence[str]
    values: Sequence[Tensor] | Tensor
    severity: Tensor | None


class Plan(NamedTuple):
    """Steps, one after another, and the index of the one whose severity counts.

    >>> Plan([]).leading
    0
    """

    steps: Sequence[Step]
    leading: int = 0


class Result(NamedTuple):
    """What a plan made: the image (B,C,H,W), the product of the masks (B,1,H,W) or None, and the severity (B,).

    >>> Result(clean, None, torch.zeros(2)).severity
    tensor([0., 0.])
    """

    image: Tensor
    mask: Tensor | None
    severity: Tensor


class _Form:
    """The compiled function, loaded when it is worth it."""

    def __init__(self) -> None:
        self.run: Callable[..., None] | None = None
        self.spent = 0.0  # seconds in the torch form
        self.wanted = find_spec("numba") is not None
        self.pool: tuple[int, ThreadPoolExecutor] | None = None  # with the process that it belongs to


_form = _Form()


def load() -> bool:
    """Load the fused form now, or compile it, once on a machine; returns whether there is one.

    >>> load() in (True, False)
    True
    """
    if _form.run is None and _form.wanted:
        _form.wanted = False
        try:
            _form.run = _compiled()
        except Exception as error:  # of numba: another NumPy, no folder to write to; the torch form does the same
            print(f"the fused data path cannot be used ({error}); everything works without", file=sys.stderr)
    return _form.run is not None


@contextlib.contextmanager
def only(fused: bool) -> Iterator[None]:
    """Use the fused form at once, or not at all; for tests and measurements.

    >>> with only(False):
    ...     takes(clean)
    False
    """
    before = _form.run, _form.wanted
    if fused:
        load()
    else:
        _form.run, _form.wanted = None, False
    try:
        yield
    finally:
        if not fused:
            _form.run, _form.wanted = before


def takes(images: Tensor) -> bool:
    """Return whether the fused form is loaded and can take images: bytes or float32 on the CPU, without gradients.

    >>> takes(clean.double())
    False
    """
    return (
        _form.run is not None
        and type(images) is Tensor
        and images.device.type == "cpu"
        and images.dtype in (torch.float32, torch.uint8)
        and images.numel() > 0
        and not (images.requires_grad and torch.is_grad_enabled())
    )


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Count the time of the torch form where there is a fused one, which is loaded when it would have paid.

    >>> with counted():
    ...     float(clean[0, 0, 0, 0])
    0.0
    """
    if not _form.wanted:
        yield
        return
    start = time.perf_counter()
    yield
    _form.spent += time.perf_counter() - start
    if _form.spent > _PATIENCE:
        load()


def degrade(plan: Callable[[Tensor, Shape], Plan], keys: Tensor, images: Tensor) -> tuple[Tensor, Result]:
    """Carry out what an operator plans, see `takes`.

    >>> with only(True):
    ...     degrade(lambda keys, shape: Plan([]), keys, clean)[0].equal(clean) if takes(clean) else True
    True

    Args:
        plan: makes the steps of keys (B,) and of the shape (C,H,W) of the images.
        keys: (B,) int64.
        images: (B,C,H,W) uint8, or float32, left unchanged.

    Returns:
        The images in float32, of bytes divided by 255, and what the plan made of them.
    """
    assert _form.run is not None
    count, area = len(images), images.shape[2] * images.shape[3]
    flat = images.contiguous().view(count, -1)
    clean = torch.empty(flat.shape, dtype=torch.float32) if images.dtype == torch.uint8 else flat
    steps, first = plan(keys, (images.shape[1], images.shape[2], images.shape[3]))
    makes_holes = any(step.severity is None for step in steps)
    image = torch.empty(flat.shape, dtype=torch.float32) if steps else clean
    mask = torch.empty((count, area if makes_holes else 0), dtype=torch.float32)
    known = np.zeros((len(steps), count), np.float32)
    pixels = flat.numpy() if images.dtype == torch.uint8 else np.empty((0, 0), np.uint8)
    arrays = (pixels, clean.numpy(), image.numpy(), mask.numpy(), known, *_gathered(steps, count, flat.shape[1]))
    _in_threads(count, flat.numel(), (area, images.shape[3]), arrays)
    clean = images if clean is flat else clean.view(images.shape)
    severity = torch.zeros(count)
    if steps:
        own = steps[first].severity
        severity = 1 - torch.from_numpy(known[first]) / area if own is None else own
    shaped = mask.view(count, 1, *images.shape[2:]) if makes_holes else None
    return clean, Result(image.view(images.shape) if steps else clean, shaped, severity)


def _gathered(steps: Sequence[Step], count: int, elements: int) -> tuple[np.ndarray, ...]:
    """Put the steps into arrays: kinds, keys, codes of streams, values, and the tables of `recon.keyed`."""
    kinds = np.array([step.kind for step in steps], np.int64)
    keys, codes = np.empty((len(steps), count), np.uint64), np.zeros((len(steps), _STREAMS), np.int64)
    values = np.zeros((len(steps), max([_VALUES, *(len(step.values) for step in steps)]), count), np.float32)
    for number, step in enumerate(steps):
        keys[number] = step.keys.numpy().view(np.uint64)
        codes[number, : len(step.streams)] = [keyed.code(name) for name in step.streams]
        if isinstance(step.values, Tensor):
            values[number, : len(step.values)] = step.values.numpy()
            continue
        for place, value in enumerate(step.values):
            values[number, place] = value.numpy()
    cpu = torch.device("cpu")
    hashes = keyed.element_hashes(elements, cpu).numpy().view(np.uint32)
    return kinds, keys, codes.view(np.uint64), values, hashes, keyed.normal_pairs(cpu).numpy().view(np.complex64)


def _in_threads(count: int, elements: int, size: tuple[int, int], arrays: tuple[np.ndarray, ...]) -> None:
    """Run parts of a batch in as many threads as torch uses; images do not depend on each other."""
    run = _form.run
    assert run is not None
    threads = max(1, min(torch.get_num_threads(), count, elements // _PER_THREAD))
    if threads == 1:
        run(0, count, *size, *arrays)
        return
    ends = [count * number // threads for number in range(threads + 1)]
    waiting = [_pool().submit(run, *part, *size, *arrays) for part in pairwise(ends[1:])]
    run(0, ends[1], *size, *arrays)
    for part in waiting:
        part.result()


def _pool() -> ThreadPoolExecutor:
    """Return this process's threads, which a fork does not have."""
    if _form.pool is None or _form.pool[0] != os.getpid():
        _form.pool = os.getpid(), ThreadPoolExecutor(thread_name_prefix="degrade")
    return _form.pool[1]


def _compiled() -> Callable[..., None]:
    """Import the compiled function; its machine code is kept in the user's cache folder."""
    import numba

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recon" / "numba"
    folder.mkdir(parents=True, exist_ok=True)
    sentence = "compiling the data path, once on this machine: about 10 s"
    told = threading.Timer(1.5, print, [sentence], {"file": sys.stderr, "flush": True})
    told.daemon = True
    told.start()
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
    try:
        from recon.degradations import compiled
    finally:
        settings.CACHE_DIR = before
        told.cancel()
    run: Callable[..., None] = compiled.degrade
    return run
