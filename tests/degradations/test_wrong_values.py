"""Any value of any key makes an operator that works within seconds, or one sentence that names the key."""

import copy
import math
import os
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, choices
from damage import keys
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor

from recon import degradations
from recon.config.construct import construct
from recon.degradations import fused
from recon.degradations.base import Degradation, Degraded, within
from recon.errors import InputError
from recon.training.trial import try_degradation

VALUES: list[Any] = [
    -1, 0, 1, 3, 1e-300, 0.5, 25, 1e9, 10**9, 1e300, math.nan, math.inf, -math.inf, "x", "", [2, 1], [-1, 1], [0.1],
    [1, 2, 3], [[0, 1], [0, 1]], ["a", "b"], [0, 1e300], [0, math.nan], [], {}, None, True, [True, False],
]  # fmt: skip
SIZES = [(1, 8, 8), (1, 28, 28), (3, 33, 17), (1, 1, 1), (3, 1, 7)]
SECONDS = 4  # of processor time; seldom more than 0.2, but a machine may be slow


def leaves(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All keys below a node but `_target_`, with their paths."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key != "_target_":
            yield (*path, key)
            yield from leaves(value, (*path, key))


def changed(node: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    node = inner = copy.deepcopy(node)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return node


def node_of(name: str, folder: Path) -> dict[str, Any]:
    """The YAML of a degradation, with files where it needs some."""
    node: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/degradation" / f"{name}.yaml"))
    if name == "missing_file":
        Image.fromarray(np.eye(40, dtype=bool)).save(folder / "mask.png")
        node["path"] = str(folder / "mask.png")
    if name == "file":
        node["path"] = str(folder)
    return node


def refusal(node: dict[str, Any]) -> str | None:
    """Return the error of a node, or None where it works at all sizes that it takes, with finite values."""
    try:
        operator: Degradation = construct(node, "degradation")
    except InputError as error:
        return str(error)
    for size in SIZES:
        try:
            operator.check_shape(size)
        except InputError as error:
            unfit = str(within("degradation", error))
            if not re.match(r"degradation\.[\w.]*(scale|size|path): ", unfit):
                return f"wrong sentence about a size: {unfit}"
            continue
        if not isinstance(operator, degradations.FromFiles):
            image, _, severity = operator(torch.full((2, *size), 0.4), keys(2))
            if not (image.isfinite().all() and severity.isfinite().all()):
                return "values that are no finite numbers"
    return None


@pytest.mark.parametrize("name", choices("degradation"))
def test_any_value_of_any_key(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, seen = node_of(name, tmp_path), set()
    monkeypatch.setattr(fused._form, "wanted", False)  # it is compiled once on a machine, which takes longer
    for path in leaves(node):
        if path[-3:] in seen:  # a YAML repeats some nodes, as by `*sensor`
            continue
        seen.add(path[-3:])
        for value in VALUES:
            start = time.process_time()
            sentence = refusal(changed(node, path, value))
            assert time.process_time() - start < SECONDS, (path, value)
            if sentence is None:
                continue
            assert re.fullmatch(r"degradation[\w.]*: [^\n]{5,250}", sentence), (path, value, sentence)
            assert "Error" not in sentence
            # A value that suits by itself may not suit another key, which then is named before it.
            assert f"degradation.{'.'.join(path)}: ".startswith(sentence.partition(":")[0]) or path[-1] in sentence, (
                path,
                sentence,
            )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sigma": 25}, "sigma: levels are in [0,1], where 25/255 is 0.098; give 0.098"),
        (
            {"sigma": [15, 50]},
            "sigma: levels are in [0,1], where 15/255 is 0.0588 and 50/255 is 0.196; give [0.0588,0.196]",
        ),
        ({"sigma": 1e300}, "sigma: 1e+300 does not fit; give a number from 0 to 1"),
        ({"sigma": [0.3, 0.1]}, "sigma: [0.3, 0.1] does not fit; give a number from 0 to 1, or a range [low,high] of "
                                "two such numbers"),
    ],
)  # fmt: skip
def test_the_error_for_levels_of_255_has_the_value_to_type(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    assert refusal(node_of("noise", tmp_path) | change) == f"degradation.{says}"
    steps = {"noise": node_of("noise", tmp_path) | change}
    assert refusal(node_of("mixed", tmp_path) | {"steps": steps}) == f"degradation.steps.noise.{says}"


def test_a_fraction_of_255_is_the_number() -> None:
    node = {"_target_": "recon.degradations.noise.GaussianNoise", "sigma": "25/255"}
    assert construct(node, "degradation").level == (25 / 255, 25 / 255)
    assert construct({**node, "sigma": ["5/255", "50/255"]}, "degradation").level == (5 / 255, 50 / 255)


@pytest.mark.parametrize("name", choices("degradation"))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_images_of_no_finite_numbers_come_to_an_end(name: str, value: float, tmp_path: Path) -> None:
    operator: Degradation = construct(node_of(name, tmp_path), "degradation")
    if isinstance(operator, degradations.FromFiles):
        return
    clean = torch.full((3, 3, 9, 10), 0.4)
    clean[1, :, 4] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of casting such numbers to bytes
        image, mask, _ = operator(clean, keys(3))
    assert image[0].isfinite().all()
    assert image[2].isfinite().all()
    assert ((mask == 0) | (mask == 1)).all()


# Classes of the user's own


class Own(Degradation):
    """Returns its images; each class below has one fault."""

    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        """See `Degradation`."""
        return Degraded(clean, torch.ones_like(clean[:, :1]), torch.zeros(len(keys)))


class Failing(Own):
    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        return {}["sigma"]


class Bare(Own):
    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        return clean


class Small(Own):
    scale = 2


class Nan(Own):
    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        return super().degrade(clean / 0 * 0, keys)


class Holes(Own):
    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        mask = torch.ones_like(clean[:, :1])
        mask[..., 0] = 0
        return Degraded(clean, mask, torch.zeros(len(keys)))


class Grey(Own):
    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        return Degraded(clean, clean[:, :1], torch.zeros(len(keys)))


class Level(Own):
    def degrade(self, clean: Tensor, keys: Tensor) -> Any:
        return Degraded(clean, torch.ones_like(clean[:, :1]), 0.5)


class Shape(Own):
    def check_shape(self, shape: tuple[int, int, int]) -> None:
        _, _ = shape


@pytest.mark.parametrize(
    ("operator", "says"),
    [
        (Failing(), r"Failing fails on an image of shape \(1, 8, 8\) \(KeyError: 'sigma'\); correct this class"),
        (degradations.Chain({"own": Failing()}), "Failing fails on .*"),
        (degradations.Sometimes(Shape(), 0.5), "Shape fails on .*ValueError.*"),
        (Bare(), "Bare gives a Tensor instead of .*Degraded.*"),
        (Small(), r"Small gives torch.float32 of \(1, 1, 8, 8\) as image where floats of \(1, 1, 4, 4\) are due;.*"),
        (Nan(), "Nan gives values that are no finite numbers as image .*"),
        (Holes(), "Holes makes holes and does not set makes_holes; .*"),
        (Grey(), "Grey gives a mask of other values than 0 and 1; .*"),
        (Level(), "Level gives float as severity where .*"),
    ],
)
def test_an_own_class_that_goes_wrong_is_named(operator: Degradation, says: str) -> None:
    with pytest.raises(InputError) as caught:
        try_degradation(operator, (1, 8, 8))
    assert re.fullmatch(says, str(caught.value)), caught.value
    try_degradation(Own(), (1, 8, 8))


# Untrusted files


def test_a_kernel_s_header_is_not_believed(tmp_path: Path) -> None:
    """Nor is a pipe waited for, a large image decoded, or PostScript run."""
    for name, size in (("short.npy", 128), ("sparse.npy", 99999 * 99999 * 8 + 128)):
        with (tmp_path / name).open("wb") as file:
            header = {"descr": "<f8", "fortran_order": False, "shape": (99999, 99999)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(size)
    os.mkfifo(tmp_path / "pipe.npy")
    np.save(tmp_path / "large.npy", np.ones((403, 3)))
    np.save(tmp_path / "many.npy", np.broadcast_to(np.ones((1, 1), np.int8), (2, 4097, 4097))[:, :4097, :1])
    Image.new("1", (5001, 5001)).save(tmp_path / "large.png")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 3\n")
    (tmp_path / "folder.npy").mkdir()
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match=r"^kernel: [^\n]+; give [^\n]+$"):
            degradations.KernelBlur(path)


def test_letters_that_would_take_all_memory_are_refused() -> None:
    operator = degradations.MissingText([0.5, 1.0])
    operator.check_shape((1, 64, 64))
    uses = (lambda: operator.check_shape((1, 2048, 3000)), lambda: operator(torch.zeros(1, 1, 2048, 3000), keys(1)))
    for use in uses:
        with pytest.raises(InputError, match=r"^size: letters of 2048 pixels take more than 128 MB; give less [^\n]+$"):
            use()
