"""The examples in the docstrings of the plain-torch parts are true, and each public function and class has one."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import recon
from recon import keyed

PARTS = (
    "keyed",
    "pair",
    "filters",
    "degradations",
    "metrics.images",
    "metrics.classes",
    "metrics.sure",
    "losses.blind",
    "nets",
)
# Contracts are type hints and trials of nets, which their own tests call; what is compiled is tested by its bits.
WITHOUT = ("nets.contracts", "degradations.compiled")


def modules() -> list[ModuleType]:
    paths = [(part, importlib.import_module(f"recon.{part}")) for part in PARTS]
    names = [
        f"{part}.{found.name}"
        for part, module in paths
        for found in pkgutil.iter_modules(getattr(module, "__path__", []))
    ] + [part for part, module in paths if not hasattr(module, "__path__")]
    return [importlib.import_module(f"{recon.__name__}.{name}") for name in names if name not in WITHOUT]


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__.partition(".")[2])
def test_examples_of(module: ModuleType, tmp_path: Path) -> None:
    """They use torch, keyed and the images, keys and mask of recon/degradations, besides the module's own names."""
    torch.manual_seed(0)
    clean = torch.linspace(0, 1, 32).view(2, 1, 4, 4)
    keys = keyed.keys(0, "example", 0, torch.arange(2))
    mask_file = tmp_path / "mask.png"
    Image.fromarray(np.arange(4)[None].repeat(4, 0) < 2).save(mask_file)
    given = {"torch": torch, "keyed": keyed, "clean": clean, "keys": keys, "mask_file": mask_file}
    runner = doctest.DocTestRunner()
    tests = doctest.DocTestFinder(exclude_empty=False).find(module, module.__name__, globs={**given, **vars(module)})
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    shown = {test.name.removeprefix(f"{module.__name__}.") for test in tests if test.examples}
    public = {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isroutine(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert public <= shown, f"without an example: {sorted(public - shown)}"
