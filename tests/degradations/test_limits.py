"""Every number of every degradation: it works at once on images of any size, or one sentence names it."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, choices, data_root
from omegaconf import OmegaConf
from PIL import Image

from recon import keyed
from recon.config.construct import construct
from recon.degradations.base import Degradation
from recon.degradations.resample import resize
from recon.errors import InputError

VALUES = (
    -1, 0, 1e-300, 1e9, 10**9, 1e300, math.nan, math.inf, "x", [2, 1], [0.1], [0.1, 0.2, 0.3], [], None, True, [-1, 1],
    {"a": 1},
)  # fmt: skip
NAMES = [name for name in choices("degradation") if name not in ("file", "missing_file", "kernel_blur")]


@pytest.mark.parametrize("name", NAMES)
def test_any_value_works_or_is_refused_by_name(name: str) -> None:
    node: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "degradation" / f"{name}.yaml"))
    for key in node:
        if key == "_target_" or isinstance(node[key], dict):
            continue
        for value in VALUES:
            begun, said = time.monotonic(), key
            try:
                made: Degradation = construct({**node, key: value}, "degradation")
                for shape in ((1, 8, 8), (3, 28, 28), *([] if name == "downsample" else [(1, 1, 1)]), (3, 33, 17)):
                    made.check_shape(shape)
                    image = made(torch.rand(1, *shape), keyed.keys(0, "x", 0, torch.zeros(1, dtype=torch.int64))).image
                    assert image.isfinite().all(), (key, value)
            except InputError as error:
                said = str(error)
            assert key in said, (key, value, said)
            assert time.monotonic() - begun < 5, (key, value)


def test_levels_as_others_count_them_are_told() -> None:
    node = {"_target_": "recon.degradations.noise.GaussianNoise", "sigma": 25}
    with pytest.raises(InputError, match=r"levels are in \[0,1\]: 25/255 is 0\.098"):
        construct(node, "degradation")
    assert construct({**node, "sigma": "25/255"}, "degradation").level == (25 / 255, 25 / 255)
    assert construct({**node, "sigma": ["5/255", "50/255"]}, "degradation").level == (5 / 255, 50 / 255)


def test_a_kernel_that_its_file_says_is_huge_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "k.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (10**5, 10**5)})
        file.truncate(10**5 * 10**5 * 8 + 128)
    with pytest.raises(InputError, match="kernel cannot be read"):
        construct({"_target_": "recon.degradations.blur.KernelBlur", "kernel": str(tmp_path / "k.npy")}, "degradation")


def by_the_definition(image: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's imresize of uint8 by its definition, pixel by pixel: rows first, rounded after each pass."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    for _ in range(2):  # down the columns, then along the rows
        side = image.shape[0]
        size = -(-side // scale)
        out = np.zeros((size, image.shape[1]))
        for row in range(size):
            centre = (row + 0.5) * scale - 0.5
            reach = range(math.floor(centre - 2 * scale), math.ceil(centre + 2 * scale) + 1)
            weights = [cubic((place - centre) / scale) for place in reach]
            for place, weight in zip(reach, weights, strict=True):
                mirrored = place % (2 * side)
                out[row] += weight / sum(weights) * image[min(mirrored, 2 * side - 1 - mirrored)]
        image = np.clip(np.floor(out + 0.5 + 1e-9), 0, 255).T
    return image


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_published_low_resolution_sets_are_met(scale: int) -> None:
    folder = data_root() / "set5"
    if not folder.is_dir():
        pytest.skip("no Set5 in data.root")
    paths = sorted(folder.glob("*.bmp"))[:2]
    assert paths
    for path in paths:
        grey = np.asarray(Image.open(path).convert("RGB"))[:60, :72, 1].astype(np.float64)
        small = resize(
            torch.tensor(grey / 255).float()[None, None],
            (-(-60 // scale), -(-72 // scale)),
            "bicubic_matlab_uint8",
            float(scale),
        )
        found = (small[0, 0] * 255).round().numpy()
        difference = np.abs(found - by_the_definition(grey, scale))
        assert difference.max() <= 1
        assert (difference == 0).mean() >= 0.997
