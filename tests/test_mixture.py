"""A Gaussian mixture on an autoencoder's codes: draws of its law, decoded as codes are, measured as generated sets."""

import csv
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Compose, Typed
from PIL import Image

from recon import keyed
from recon.actions.train import train
from recon.codes.mixture import CodeMixture
from recon.codes.of_run import with_images
from recon.data.loader import Loader
from recon.errors import InputError
from recon.generated import Generator
from recon.modules.autoencoding import AutoencodingModule

WORDS = {
    "plain": ("model=autoencoder", "model.net.latent_dim=8", "trainer.max_epochs=25"),
    "whole": ("model=autoencoder", "model/quantiser=scalar", "model.net.latent_dim=8", "trainer.max_epochs=8"),
    "large": ("model=autoencoder", "model.net.latent_dim=257", "trainer.max_epochs=1"),
}


@pytest.fixture(scope="module")
def runs(compose: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Autoencoders of digits with real, quantised and large codes."""
    folder = tmp_path_factory.mktemp("runs")
    for name, words in WORDS.items():
        train(compose(*words, *QUICK[3:]), folder / name, {})
    return folder


def loaded(runs: Path, name: str, compose: Compose) -> tuple[AutoencodingModule, Loader]:
    module, data = with_images({**compose(*WORDS[name], *QUICK[3:]), "run": str(runs / name)})
    assert isinstance(module, AutoencodingModule)
    return module, data.training_images()


@pytest.mark.parametrize("components", [1, 4])
def test_codes_are_drawn_by_the_law_of_the_mixture(components: int, runs: Path, compose: Compose) -> None:
    """Its mean and covariance follow from those of its components; of one they are those of the training codes."""
    module, loader = loaded(runs, "plain", compose)
    made = CodeMixture(module, loader, components)
    drawn = made.latents(keyed.keys(0, "test", 0, torch.arange(40_000))).double()
    codes = torch.cat([module.encode(pair.clean) for pair in loader]).detach().double()
    scale = codes.std(0)
    assert float(((drawn.mean(0) - codes.mean(0)) / scale).abs().max()) < 0.03
    assert float(((drawn.T.cov() - codes.T.cov()) / (scale[:, None] * scale)).abs().max()) < 0.06
    # Not only as one Gaussian of these moments: the training codes are likelier by more components.
    if components > 1:
        one = CodeMixture(module, loader, 1)
        assert likelihood(made, codes) > likelihood(one, codes) + 0.3
        assert likelihood(made, drawn) == pytest.approx(likelihood(made, codes), abs=0.4)


def likelihood(made: CodeMixture, codes: torch.Tensor) -> float:
    shares = torch.diff(made._ends, prepend=made._ends.new_zeros(1))
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(shares),
        torch.distributions.MultivariateNormal(made._means, scale_tril=made._factors),
    )
    return float(law.log_prob(codes).mean())


def test_images_do_not_depend_on_batches_and_strips_are_straight(runs: Path, compose: Compose) -> None:
    module, loader = loaded(runs, "whole", compose)
    made = CodeMixture(module, loader, 4)
    maker = Generator(made, None, 1.0, 3)
    assert torch.equal(maker.samples(70)[:5], maker.samples(5))
    start, end = maker.latents(2)
    strip = maker.strips(1, 5)
    for step in range(5):
        code = module.quantised(torch.lerp(start, end, step / 4)[None]).code  # type: ignore[union-attr]
        with torch.no_grad():
            torch.testing.assert_close(strip[step], module.decode(code, 8, 8)[0].clamp(0, 1), atol=1e-5, rtol=0)


def test_what_cannot_be_fitted_is_refused(runs: Path, compose: Compose) -> None:
    with pytest.raises(InputError, match="components: 5000 are more than there are training images"):
        CodeMixture(*loaded(runs, "plain", compose), 5000)
    with pytest.raises(InputError, match="its code has 257 numbers, and a mixture needs a code of one size, at most"):
        CodeMixture(*loaded(runs, "large", compose), 2)


def test_the_command_generates_and_measures(runs: Path, typed: Typed) -> None:
    found = {}
    for components in (1, 30):
        words = (f"components={components}", "judge=auto", f"output=made{components}.png", "n=30")
        status, output, errors = typed("action=generate", f"run={runs / 'plain'}", *words)
        assert status == 0, errors
        with open(f"made{components}_measured.csv") as file:
            found[components] = {row["measure"]: row for row in csv.DictReader(file)}
        assert "generated [95 % interval]" in output
    distances = [float(found[components]["fd"]["value"]) for components in (1, 30)]
    print(found)
    assert distances[1] < 0.8 * distances[0]
    assert float(found[30]["coverage"]["low"]) > float(found[1]["coverage"]["high"])
    with Image.open("made1.png") as picture:
        assert picture.size[0] > 100
    for show in ("strips", "directions", "walk"):
        status, _, errors = typed("action=generate", f"run={runs / 'plain'}", f"show={show}", "n=3", "steps=4")
        assert status == 0, errors
    run = f"run={runs / 'plain'}"
    for wrong, said in (
        (("truncation=0.5",), "truncation: a code of an autoencoder is no noise"),
        (("labels=[3]",), "labels: an autoencoder's codes are drawn of all classes"),
        (("show=grid",), "show: an autoencoder's codes are drawn of all classes"),
        (("components=0",), "components: 0 is out of range"),
        ((f"judge={runs / 'plain'}",), "is no run of model=classifier"),
    ):
        assert said in typed.refused("action=generate", run, *wrong)
