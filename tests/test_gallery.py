"""The gallery shows every degradation, each from mild to strong."""

import importlib.util

import pytest
from conftest import ROOT, choices
from omegaconf import OmegaConf

from recon.config.construct import find_class

spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
assert spec
assert spec.loader
gallery = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gallery)


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
