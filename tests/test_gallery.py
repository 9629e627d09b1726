"""The catalogue shows every degradation, each from mild to strong."""

import pytest
import torch
from conftest import ROOT, choices

from recon import gallery


def test_every_degradation_is_in_the_picture() -> None:
    found = dict(gallery.rows())
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


@pytest.mark.parametrize("name", choices("degradation"))
def test_examples_go_from_mild_to_strong(name: str) -> None:
    """The squared error of a photograph rises from the first example to the last."""
    from omegaconf import OmegaConf

    from recon import build

    node = OmegaConf.to_container(OmegaConf.load(gallery.CONF / f"{name}.yaml"))
    if "???" in str(node):
        pytest.skip("needs files of the user's")
    operator = build.construct(node, "degradation")
    photograph = gallery.subjects()[0]
    if not operator.examples or operator.scale > 1 or name == "missing_text":
        pytest.skip("no single parameter to vary, an image of another size, or larger letters that cover as much")
    errors = [float((picture - photograph[0]).square().mean()) for picture in gallery.three(node, photograph)]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]
    assert torch.isfinite(torch.tensor(errors)).all()
