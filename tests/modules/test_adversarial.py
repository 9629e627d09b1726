"""Two players: every loss, the count of steps, clipping, who learns from what."""

from typing import Any

import pytest
import torch
from conftest import Compose
from lightning.pytorch import Trainer
from test_modules import QUIET, built, fitted

from recon.errors import InputError

GAN = ("model=gan", "task=digits")
OPPOSED = ["inpainting", "vae"]  # models that have a discriminator where `adversarial` is above 0


@pytest.mark.parametrize("loss", ["minimax", "hinge", "least_squares", "wasserstein"])
@pytest.mark.parametrize("penalty", [0, 10])
@pytest.mark.parametrize("conditional", [True, False])
def test_every_loss_trains_both_players(loss: str, penalty: int, conditional: bool, compose: Compose) -> None:
    config = compose(
        *GAN, f"model.loss={loss}", f"model.gradient_penalty={penalty}", f"model.net.conditional={conditional}",
        f"model.net.norm={'none' if penalty else 'batch'}",
    )  # fmt: skip
    module, data = built(config)
    before = {name: weight.clone() for name, weight in module.net.named_parameters()}
    Trainer(**QUIET, max_epochs=1, max_steps=3).fit(module, datamodule=data)
    moved = {
        name.split(".")[0] for name, weight in module.net.named_parameters() if not torch.equal(weight, before[name])
    }
    assert moved == {"generator", "discriminator"}
    assert all(weight.isfinite().all() for weight in module.net.parameters())


@pytest.mark.parametrize(
    "overrides", [GAN, *((f"model={model}", "task=digits", "model.adversarial=0.01") for model in OPPOSED)]
)
def test_max_steps_counts_batches_not_optimisers(overrides: tuple[str, ...], compose: Compose) -> None:
    module, data = built(compose(*overrides))
    steps = []
    note = module.on_train_batch_end

    def spy(*arguments: Any) -> None:
        steps.append(module.trainer.global_step)
        note(*arguments)

    module.on_train_batch_end = spy  # type: ignore[method-assign]
    Trainer(**QUIET, max_epochs=5, max_steps=10).fit(module, datamodule=data)
    assert steps == list(range(1, 11))


@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1", "r2"])
def test_a_penalty_refuses_batch_norm(penalty: str, compose: Compose) -> None:
    with pytest.raises(InputError, match=rf"model\.{penalty}.*model\.net\.norm=none"):
        built(compose(*GAN, f"model.{penalty}=1", "model.net.norm=batch"))


def test_several_discriminator_steps_for_one_of_the_generator(compose: Compose) -> None:
    module, data = built(compose(*GAN, "model.discriminator_steps=3"))
    taken: list[int] = []
    minimise = module.minimise
    module.minimise = lambda loss, player: (taken.append(player), minimise(loss, player))  # type: ignore[func-returns-value]
    Trainer(**QUIET, max_epochs=1, max_steps=2).fit(module, datamodule=data)
    assert taken == [1, 1, 1, 0] * 2


def test_the_clip_bounds_every_gradient(compose: Compose) -> None:
    module, data = built(compose(*GAN))
    module.clip_norm = 1e-3
    norms = []
    clip = module.clip_gradients

    def spy(optimizer: Any, *arguments: Any) -> None:
        clip(optimizer, *arguments)
        gradients = [w.grad for group in optimizer.param_groups for w in group["params"] if w.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))

    module.clip_gradients = spy  # type: ignore[method-assign]
    Trainer(**QUIET, max_epochs=1, max_steps=2).fit(module, datamodule=data)
    assert len(norms) == 4
    assert max(norms) <= 1.001e-3


def test_a_player_learns_only_from_its_own_loss(compose: Compose) -> None:
    module, _ = built(compose(*GAN))
    generator, discriminator = module.nets()
    module.only(1)
    assert not any(weight.requires_grad for weight in generator.parameters())
    assert all(weight.requires_grad for weight in discriminator.parameters())


def test_the_average_is_of_the_generator_and_makes_the_samples(compose: Compose) -> None:
    module, _ = fitted(compose(*GAN, "model.ema=0.5"), max_steps=4)
    assert int(module.average.n_averaged) == 4
    keys, label = torch.arange(5), torch.arange(5)
    module.eval()
    averaged = module.generate(keys, label)
    module.average = None
    assert not torch.equal(averaged, module.generate(keys, label))


def test_samples_are_in_range_and_follow_keys(compose: Compose) -> None:
    module, _ = built(compose(*GAN))
    module.eval()
    images = module.generate(torch.arange(6), torch.arange(6)).detach()
    assert images.shape == (6, 1, 8, 8)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert torch.equal(images, module.generate(torch.arange(6), torch.arange(6)))
    assert not torch.equal(images, module.generate(torch.arange(6) + 1, torch.arange(6)))


@pytest.mark.parametrize("model", OPPOSED)
def test_the_adversarial_term_trains_net_and_discriminator(model: str, compose: Compose) -> None:
    module, data = built(compose(f"model={model}", "task=digits", "model.adversarial=0.01"))
    before = {name: weight.clone() for name, weight in module.named_parameters()}
    Trainer(**QUIET, max_epochs=1, max_steps=2).fit(module, datamodule=data)
    moved = {name.split(".")[0] for name, weight in module.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {"net", "discriminator"}


@pytest.mark.parametrize("model", OPPOSED)
def test_without_the_term_there_is_no_discriminator(model: str, compose: Compose) -> None:
    module, _ = built(compose(f"model={model}", "task=digits"))
    assert module.automatic_optimization
    assert not any(name.startswith("discriminator") for name, _ in module.named_parameters())
