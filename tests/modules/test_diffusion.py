"""Flow and diffusion: a net that tells the truth leads to the image, whatever the steps."""

import pytest
import torch
from conftest import Compose, Typed
from torch import nn

from recon import build
from recon.modules.diffusion import DiffusionModule, FlowModule
from recon.pair import Pair

KINDS = {"flow": FlowModule, "diffusion": DiffusionModule}


class Oracle(nn.Module):
    """What a perfect net tells where all images are one and the same, with another one for no label."""

    num_classes = 2

    def __init__(self, module: FlowModule, image: torch.Tensor) -> None:
        super().__init__()
        self.module, self.image, self.asked = module, image, []

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.asked.append((float(time[0]), int(label[0])))
        image = self.image.expand_as(x) * (1 if int(label[0]) >= 0 else -1)
        # The noise that x has at this time follows from x and the image; the module says what is to be told of both.
        t = time.view(-1, 1, 1, 1)
        one, none = torch.ones(1), torch.zeros(1)
        of_image, of_noise = self.module.mixed(one, none, t)[0], self.module.mixed(none, one, t)[0]
        return self.module.mixed(image, (x - of_image * image) / of_noise, t)[1]


def module(kind: str, compose: Compose, *words: str) -> FlowModule:
    config = compose(f"model={kind}", "task=digits", "accelerator=cpu", *words)
    task = build.task(config)
    made = build.module(config, task, build.degradation(config, task))
    assert isinstance(made, KINDS[kind])
    return made.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_net_that_tells_the_truth_leads_to_the_image(kind: str, steps: int, compose: Compose) -> None:
    made = module(kind, compose, f"model.steps={steps}", "model.ema=0")
    image = torch.linspace(-0.9, 0.9, 64).view(1, 1, 8, 8)
    made.net = Oracle(made, image)
    found = made.from_latents(made.latents(torch.arange(3)), torch.tensor([0, 1, 1]))
    torch.testing.assert_close(found, ((image + 1) / 2).expand(3, -1, -1, -1), atol=1e-5, rtol=0)
    assert [asked for asked, _ in made.net.asked] == pytest.approx([step / steps for step in range(steps)])


@pytest.mark.parametrize("kind", KINDS)
def test_at_time_0_there_is_noise_and_at_time_1_the_image(kind: str, compose: Compose) -> None:
    made = module(kind, compose)
    image, noise = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 8, 8)
    for time, wanted in ((0.0, noise), (1.0, image)):
        mixed, told = made.mixed(image, noise, torch.full((2, 1, 1, 1), time))
        torch.testing.assert_close(mixed, wanted)
        torch.testing.assert_close(made.advanced(mixed, told, time, 1.0), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_leads_away_from_what_has_no_label(kind: str, compose: Compose) -> None:
    """The image with a label is the negative of that without: guidance of 2 goes three times as far."""
    made = module(kind, compose, "model.guidance=2", "model.steps=1", "model.ema=0")
    image = torch.full((1, 1, 8, 8), 0.2)
    made.net = Oracle(made, image)
    found = made.from_latents(torch.zeros(1, 64), torch.tensor([1]))
    torch.testing.assert_close(found, torch.full_like(found, (0.6 + 1) / 2), atol=1e-5, rtol=0)
    assert {label for _, label in made.net.asked} == {1, -1}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_error_of_what_is_told(kind: str, compose: Compose) -> None:
    made = module(kind, compose, "model.ema=0")
    clean = torch.full((4, 1, 8, 8), 0.75)
    made.net = Oracle(made, torch.full((1, 1, 8, 8), 0.5))
    pair = Pair.of(clean, label=torch.tensor([0, 1, 0, 1]))
    torch.testing.assert_close(made.step(pair).loss, torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model.guidance=2", "model.net.conditional=false"], "this model uses no labels; leave it at 1"),
        (["model.guidance=2", "model.drop_label=0"], "hides no labels in training"),
        (["model.guidance=2", "task=photos"], "this model uses no labels"),
        (["model.steps=0"], "steps: 0 is out of range"),
        (["model.drop_label=1.5"], "drop_label: 1.5 is out of range"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], reason: str, typed: Typed) -> None:
    assert reason in typed.refused("model=flow", "task=digits", *words)
