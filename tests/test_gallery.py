"""The galleries: every degradation from mild to strong, and examples of what recon makes."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, choices
from looking import found_in
from omegaconf import OmegaConf
from PIL import Image

from recon.config.construct import find_class
from recon.runs.tiles import columns


def script(name: str) -> Any:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gallery = script("gallery")


def test_every_degradation_is_in_the_picture() -> None:
    found = dict(gallery.entries())
    left_out = {
        name for name in choices("degradation") if "???" in (ROOT / f"conf/degradation/{name}.yaml").read_text()
    }
    assert set(found) == set(choices("degradation")) - left_out
    photograph = gallery.subjects()[0]
    for name, pictures in found.items():
        assert [len(picture) for picture in pictures] == [3, 3, 3, 1, 1, 1], name
        assert name == "none" or any(
            (picture != photograph[0]).any() for picture in pictures[:3] if picture.shape[1] == 112
        )
    sheet = gallery.draw()
    assert sheet.width > 1000
    assert len(sheet.getcolors(1 << 24)) > 1000


def varied() -> list[str]:
    """What has a parameter from mild to strong; larger letters cover as much, and are only harder to fill."""
    nodes = {name: OmegaConf.load(gallery.CONF / f"{name}.yaml") for name in choices("degradation")}
    classes = {name: find_class(node._target_, "degradation") for name, node in nodes.items()}
    return [name for name, found in classes.items() if found.examples and name != "missing_text"]


@pytest.mark.parametrize("name", varied())
def test_examples_go_from_mild_to_strong(name: str) -> None:
    """The squared error of a photograph rises from the first example to the last."""
    node = OmegaConf.to_container(OmegaConf.load(gallery.CONF / f"{name}.yaml"))
    photograph = gallery.subjects()[0]
    errors = [
        float((picture - photograph[0]).square().mean()) for picture in gallery.at_three_severities(node, photograph)
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_the_pages_show_small_pictures_that_are_there() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "gallery.md"):
        shown = re.findall(r"!\[([^]]*)\]\(([^)]*)\)", page.read_text())
        assert shown
        for words, path in shown:
            assert len(words) > 10, "what cannot be seen is told"
            assert (page.parent / path).stat().st_size <= 200 << 10, path
            if path.endswith(".svg"):
                width = re.search(r'viewBox="0 0 ([\d.]+) ', (page.parent / path).read_text())
                assert width is not None
                assert float(width[1]) <= 1500
                continue
            with Image.open(page.parent / path) as picture:
                assert picture.width <= 1500


def test_a_picture_of_the_pages_is_made_of_run_folders(made: Path) -> None:
    pictures = script("pictures")
    runs = [made / "sweep" / "unet-1", made / "classifiers" / "1"]
    sheet = np.asarray(pictures.stacked([pictures.drawn(f"{run}:5,2") for run in runs]))
    for run in runs:
        with np.load(run / "images" / "samples.npz") as arrays:
            tiles = columns({name: arrays[name] for name in arrays}, 14, limit=1.0)["degraded"]
        assert [found_in(sheet, tile) for tile in tiles] == [row in (2, 5) for row in range(8)]
    with pytest.raises(SystemExit, match=r"no images/samples\.npz"):
        pictures.drawn(str(ROOT))
