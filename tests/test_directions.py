"""Directions of a generator: those of a known one are found, and every kind that has some draws them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Typed
from PIL import Image
from test_generated import KINDS, runs  # noqa: F401
from torch import Tensor, nn

from recon import keyed
from recon.directions import directions, pictured
from recon.generated import Generator

SPREADS = torch.tensor([5.0, 3.0, 1.0, 0.5])


class Stretched(nn.Module):
    """A generator whose first features are its noise, stretched by `SPREADS`, beside a large constant of the class.

    Of 2x2 pixels, the first is bright or dark by the first feature, for a judge to see.
    """

    facts = {"num_classes": 2, "channels": 1, "image_size": (2, 2)}  # noqa: RUF012
    device = torch.device("cpu")
    class_names = ("dark", "bright")

    def __init__(self, judge: Any = None) -> None:
        super().__init__()
        self.first = nn.Linear(6, 4, bias=False)
        self.first.weight.data = torch.cat([torch.diag(SPREADS), 100 * torch.ones(4, 2)], 1)
        self.options = SimpleNamespace(judge=judge, looked_at=lambda image: (judge(image), None))
        self.active_net = self

    def latents(self, keys: Tensor) -> Tensor:
        return keyed.normal(keys, (4,))

    def from_latents(self, z: Tensor, label: Tensor) -> Tensor:
        features = self.first(torch.cat([z, nn.functional.one_hot(label, 2).float()], 1))
        classless = features - 100
        return (classless / 20 + 0.5).clamp(0, 1).view(-1, 1, 2, 2)


def test_the_directions_of_a_known_generator_are_found() -> None:
    maker = Generator(Stretched(), None, 1.0, 0)  # type: ignore[arg-type]
    found = directions(maker, 3)
    for number in range(3):
        axis = nn.functional.one_hot(torch.tensor(number), 4).float()
        torch.testing.assert_close(found.z[number].abs(), axis, atol=0.1, rtol=0)
    torch.testing.assert_close(found.share, (SPREADS**2 / (SPREADS**2).sum())[:3], atol=0.03, rtol=0)
    assert found.names == ["direction 1", "direction 2", "direction 3"]
    again = directions(maker, 3)
    assert torch.equal(found.z, again.z)


def test_a_direction_is_named_by_what_the_judge_sees() -> None:
    def judge(image: Tensor) -> Tensor:
        bright = image[:, 0, 0, 0] - 0.5
        return torch.stack([-9 * bright, 9 * bright], 1)

    maker = Generator(Stretched(judge), None, 1.0, 0)  # type: ignore[arg-type]
    first, second = directions(maker, 2).names
    assert first in ("direction 1: more like bright, less like dark", "direction 1: more like dark, less like bright")
    assert second == "direction 2: seen as the same"


def test_a_strip_goes_through_the_image_itself() -> None:
    maker = Generator(Stretched(), None, 1.0, 0)  # type: ignore[arg-type]
    arrays = pictured(maker, directions(maker, 2), 5)
    assert [name for name in arrays if name not in ("index", "title")] == ["-3.0", "-1.5", "+0.0", "+1.5", "+3.0"]
    np.testing.assert_array_equal(arrays["+0.0"][..., 0], (255 * maker.samples(2)[:, 0]).round().byte().numpy())
    assert (arrays["-3.0"] != arrays["+3.0"]).any(axis=(1, 2, 3)).all()
    assert arrays["title"][0].startswith("direction 1 (7")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_has_a_latent_draws_them(kind: str, typed: Typed, runs: Any) -> None:  # noqa: F811
    words = ("action=generate", f"run={runs[kind]}", "show=directions", "accelerator=cpu")
    if kind in ("flow", "diffusion"):
        assert "show: images of flow and diffusion follow from their noise by many steps" in typed.refused(*words)
        return
    status, output, errors = typed(*words, "n=2", "steps=3")
    assert status == 0, errors
    assert "direction 1" in output
    with Image.open("generated_directions.png") as picture:
        assert picture.width > 3 * 56
    with np.load("generated_directions.npz") as arrays:
        assert arrays["z"].shape[0] == 2
        assert arrays["share"].shape == (2,)
    assert "directions; give no more" in typed.refused(*words, "n=5000")
