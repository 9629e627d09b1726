"""Variational autoencoders against what has a closed form, and what their options do."""

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Compose, Typed
from lightning.pytorch import Trainer
from test_modules import QUIET, built, fitted
from torch import Tensor, nn

from recon import losses
from recon.actions.train import train
from recon.losses import DiscretisedLogistic, Gaussian
from recon.modules.vae import VAEModule
from recon.pair import Pair

SIGMA = 0.5


class LinearGaussian(nn.Module):
    """x = Wz + b + noise of SIGMA, whose posterior and likelihood are known; `wrong` widens the posterior."""

    latent_dim = 2

    def __init__(self, wrong: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(2, 4)
        self.wrong = wrong
        weights = self.up.weight.detach()
        # With orthogonal columns the posterior has no correlations, as the net's cannot.
        self.up.weight.data = torch.linalg.qr(weights).Q * torch.tensor([1.5, 0.7])
        self.precision = 1 + self.up.weight.detach().square().sum(0) / SIGMA**2

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x.flatten(1) - self.up.bias) @ self.up.weight / SIGMA**2 / self.precision
        return mean, (self.wrong - self.precision.log()).expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        return self.up(z).view(-1, 1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


@pytest.mark.parametrize(("wrong", "samples", "within"), [(0.0, 1, 1e-4), (0.7, 1, None), (0.7, 400, 0.02)])
def test_the_bounds_of_a_linear_gaussian_model(
    wrong: float, samples: int, within: float | None, compose: Compose
) -> None:
    """With the true posterior both bounds are the log-likelihood; with a wrong one they are above and near it."""
    options = built(compose("model=vae", "task=digits"))[0].options
    net = LinearGaussian(wrong)
    module = VAEModule(net, options, Gaussian(SIGMA), beta=1.0, importance_samples=samples).eval()
    module.trainer = Trainer(**QUIET)
    module.trainer.testing = True
    x = net.up(torch.randn(500, 2)).detach() + SIGMA * torch.randn(500, 4)
    pair = Pair.of(x.view(-1, 1, 2, 2))._replace(index=torch.arange(500))
    with torch.no_grad():
        outcome = module.step(pair)
    weight = net.up.weight.detach()
    law = torch.distributions.MultivariateNormal(net.up.bias, weight @ weight.T + SIGMA**2 * torch.eye(4))
    expected, bound = -law.log_prob(x), outcome.columns["bound_iwae"]
    if within is not None:
        assert float((bound - expected).abs().mean()) < 10 * within
        assert float((bound - expected).mean()) == pytest.approx(0, abs=within)
    else:  # the divergence of N(m, e^0.7 v) from N(m, v), for two numbers
        gap = 2 * 0.5 * (math.exp(0.7) - 1 - 0.7)
        assert float((outcome.loss - expected).mean()) == pytest.approx(gap, abs=0.2)
        assert float((bound - expected).mean()) == pytest.approx(gap, abs=0.2)
    if not wrong:
        assert float((outcome.loss - expected).mean()) == pytest.approx(0, abs=0.2)


def test_the_bound_of_a_test_does_not_change_with_the_batch_size(compose: Compose) -> None:
    found = []
    for batch in (7, 180):
        module, data = built(compose("model=vae", "task=digits", "model.importance_samples=5"))
        data.task.batch_size = batch
        Trainer(**QUIET).test(module, datamodule=data, verbose=False)
        found.append(module.summary)
    assert found[0]["test/bound_iwae"] == pytest.approx(found[1]["test/bound_iwae"], rel=1e-5)
    assert found[0]["test/bound_iwae"] < found[0]["test/loss"]


def test_beta_rises_over_the_steps_of_the_warm_up(compose: Compose) -> None:
    module, _ = built(compose("model=vae", "task=digits", "model.beta=2", "model.warm_up=10"))
    module.trainer = Trainer(**QUIET)
    weights = []
    for step in (0, 4, 9, 50):
        module.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
        weights.append(module.train()._weight())
    assert weights == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert module.eval()._weight() == 2


def test_free_bits_are_not_pushed(compose: Compose) -> None:
    module, _ = built(compose("model=vae", "task=digits", "model.free_bits=0.5"))
    divergences = torch.tensor([[0.1, 2.0], [0.3, 4.0]], requires_grad=True)
    pushed = module.train()._pushed(divergences)
    assert pushed.tolist() == pytest.approx([3.5, 3.5])
    pushed.mean().backward()
    assert divergences.grad.tolist() == [[0.0, 0.5], [0.0, 0.5]]
    assert module.eval()._pushed(divergences).tolist() == pytest.approx([2.1, 4.3])
    free, _ = fitted(compose("model=vae", "task=digits", "model.free_bits=1"), max_epochs=5)
    plain, _ = fitted(compose("model=vae", "task=digits"), max_epochs=5)
    assert free.summary["val/divergence"] > plain.summary["val/divergence"] + 1


def test_binarised_pixels_are_black_and_white_by_chance(compose: Compose) -> None:
    module, data = built(compose("model=vae", "task=digits", "model.binarised=true"))
    pair = next(iter(data.test_dataloader()))
    seen = []
    module.pixel_loss = lambda image, clean: seen.append(clean) or losses.BCE()(image, clean)
    module.eval().step(pair)
    module.step(pair)
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(seen[0], seen[1]), "fixed in evaluation"
    grey = (pair.clean - 0.5).abs() < 0.1
    assert float(seen[0][grey].mean()) == pytest.approx(0.5, abs=0.05)
    assert "dynamic binarisation" in module.rows["loss"].convention


def test_a_conditional_vae_makes_what_it_is_told(compose: Compose, tmp_path: Path) -> None:
    """A classifier recognises its samples as their labels, far more often than by chance."""
    words = [word for word in QUICK if "max_steps" not in word]
    judge = tmp_path / "judge"
    train(compose("model=classifier", "trainer.max_epochs=3", *words), judge, {})
    config = compose("model=vae", "model.net.conditional=true", "trainer.max_epochs=20", f"model.judge={judge}")
    module, _ = fitted(config, max_epochs=20)
    label = torch.arange(10).repeat(20)
    with torch.no_grad():
        images = module.eval().generate(torch.arange(200) * 7919, label)
    assert float(module.options.recognised(images, label)["recognised"].mean()) > 0.7


def test_the_discretised_logistic_sums_to_one_over_the_256_values() -> None:
    values = (torch.arange(256) / 255).double().view(256, 1, 1, 1)
    for scale in (1e-4, 0.003, 0.05, 2.0):
        loss = DiscretisedLogistic(scale)
        for mean in (0.0, 0.4321, 1.3):
            probability = (-loss(torch.full_like(values, mean), values)).exp()
            assert float(probability.sum()) == pytest.approx(1.0, abs=1e-6)
    image = torch.full((1, 1, 1, 1), 0.9, requires_grad=True)
    DiscretisedLogistic(1e-3)(image, torch.zeros(1, 1, 1, 1)).sum().backward()
    assert float(image.grad) == pytest.approx(1e3, rel=1e-3), "the slope far away is that of the tail"


def test_the_gaussian_is_the_density_of_torch() -> None:
    image, clean = torch.rand(2, 1, 3, 3), torch.rand(2, 1, 3, 3)
    expected = -torch.distributions.Normal(image, 0.2).log_prob(clean)
    torch.testing.assert_close(Gaussian(0.2)(image, clean), expected)


def test_a_run_says_of_what_pixels_its_bounds_are(typed: Typed) -> None:
    folder = typed.tmp_path / "run"
    words = ("model=vae", "model.binarised=true", "model.importance_samples=2", f"hydra.run.dir={folder}", *QUICK)
    assert typed(*words)[0] == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "2 codes for each image" in metrics["convention"]["bound_iwae"]
    assert "dynamic binarisation" in metrics["convention"]["loss"]
    assert "choose degradation=none" in typed.refused(*words, "degradation=noise")


def test_who_learns_from_what_in_a_vae_gan(compose: Compose) -> None:
    """As in Larsen et al. (2016): deceiving teaches the decoder alone, the discriminator's features the encoder too."""
    module, data = built(compose("model=vae", "task=digits", "model.adversarial=0.1"))
    assert module.monitor is None, "the latest weights count, as a GAN's do"
    pair = next(iter(data.test_dataloader()))
    outcome, fake = module.contested(pair)
    assert fake.shape == (2 * len(pair.clean), *pair.clean.shape[1:])
    torch.testing.assert_close(fake[: len(pair.clean)], outcome.image)
    module.only(0)
    encoder, decoder = (list(part.parameters()) for part in (module.net.encoder, module.net.decoder))

    def taught(loss: Tensor) -> list[bool]:
        players = (encoder, decoder, [*module.discriminator.parameters()])
        gradients = [torch.autograd.grad(loss, some, retain_graph=True, allow_unused=True) for some in players[:2]]
        assert not any(weight.requires_grad for weight in players[2])
        return [any(part is not None and bool(part.any()) for part in of) for of in gradients]

    assert taught(module.adversarial.generator(module._logits(fake, pair)).mean()) == [False, True]
    (features,) = module.matched(outcome, pair).values()
    assert taught(features) == [True, True]
    seen = module._features(torch.cat([outcome.image, pair.clean]), pair.label.repeat(2)).chunk(2)
    assert float(features) == pytest.approx(float((seen[0] - seen[1]).square().mean()), rel=1e-5)
    scores = module.discriminator.score(seen[1])
    torch.testing.assert_close(scores.squeeze(1), module.judged(module.discriminator, pair.clean, pair.label))
