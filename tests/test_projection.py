"""The latent of an image is found: what a model made, it makes again."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, Compose, Typed
from PIL import Image

from recon import build
from recon.actions.train import train
from recon.errors import InputError
from recon.projection import project

KINDS = {"gan": ["model=gan"], "vae": ["model=vae"], "autoencoder": ["model=autoencoder"], "flow": ["model=flow"]}


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    for name, words in KINDS.items():
        steps = 100 if name == "gan" else 2  # an image must depend on its latent
        train(compose(*words, *QUICK, f"trainer.max_steps={steps}"), folder / name, {})
    return {name: folder / name for name in KINDS}


def test_what_a_gan_made_it_makes_again(runs: dict[str, Path]) -> None:
    module = build.trained(runs["gan"])
    image = module.generate(torch.tensor([5]), torch.tensor([7]))[0]  # type: ignore[operator]
    start, end = project(module, image, steps=1), project(module, image, steps=300)
    assert end.psnr > start.psnr + 3
    assert end.label in range(10)
    assert end.z.shape == (module.net.latent_dim,)


@pytest.mark.parametrize("kind", ["vae", "autoencoder"])
def test_a_code_is_better_than_that_of_the_encoder(kind: str, runs: dict[str, Path]) -> None:
    module = build.trained(runs[kind])
    image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    code, found = project(module, image, steps=0), project(module, image, steps=100)
    assert found.psnr > code.psnr
    assert found.label == -1


def test_a_model_without_a_latent_and_an_image_of_another_size_are_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"FlowModule has no latent .*; choose a run of model=gan\|vae\|autoencoder"):
        project(build.trained(runs["flow"]), torch.rand(1, 8, 8))
    with pytest.raises(InputError, match=r"input: the image is of \(3, 9, 8\), and the model makes \(1, 8, 8\)"):
        project(build.trained(runs["gan"]), torch.rand(3, 9, 8))


def test_the_command_writes_a_picture_and_the_latent(typed: Typed, runs: dict[str, Path]) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save("digit.png")
    words = ("action=project", f"run={runs['vae']}", "accelerator=cpu", "input=digit.png", "steps=3")
    status, output, errors = typed(*words)
    assert status == 0, errors
    assert "digit.png is scaled to 8×8 pixels" in output
    assert " dB; projected.png and projected.npz" in output
    with Image.open("projected.png") as picture:
        assert picture.width > 100
    with np.load("projected.npz") as arrays:
        assert arrays["z"].ndim == 1
    for wrong, reason in (
        ("output=a.jpg", "written as .png"),
        ("input=none.png", "none.png"),
        ("steps=-1", "steps: -1"),
    ):
        assert reason in typed.refused(*words, wrong)
