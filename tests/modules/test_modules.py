"""What the modules promise, on real digits."""

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose, trained_models
from lightning.pytorch import Trainer

from recon import build
from recon.data.store import PairLoader
from recon.errors import InputError
from recon.modules.base import Module
from recon.runs.checkpoint import load

QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "accelerator": "cpu",
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 2,
}


def built(config: dict[str, Any]) -> tuple[Module, Any]:
    """The module and data of a configuration, from the same initial weights each time."""
    torch.manual_seed(0)
    task = build.task(config)
    degradation = build.degradation(config, task)
    module = build.module(config, task, degradation)
    return module, build.data(config, task, degradation, module)


def fitted(config: dict[str, Any], **trainer: Any) -> tuple[Module, Trainer]:
    module, data = built(config)
    made = Trainer(**{**QUIET, "max_epochs": 1, **trainer})
    made.fit(module, datamodule=data)
    return module, made


def weights(module: Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.net.parameters()])


@pytest.mark.parametrize("model", trained_models())
def test_validation_numbers_do_not_change_with_the_batch_size(model: str, compose: Compose) -> None:
    config = compose(f"model={model}", "task=digits")
    summaries = []
    for batch_size in (7, 180):
        config["task"]["batch_size"] = batch_size
        module, data = built(config)
        Trainer(**QUIET).validate(module, datamodule=data, verbose=False)
        summaries.append(module.summary)
    assert summaries[0].keys() == summaries[1].keys()
    for name, value in summaries[0].items():
        assert value == pytest.approx(summaries[1][name], rel=1e-5, abs=1e-6), name


def test_validation_numbers_do_not_change_with_the_order(compose: Compose) -> None:
    module, data = built(compose("model=restoration", "task=digits"))
    Trainer(**QUIET).validate(module, datamodule=data, verbose=False)
    in_order, columns = module.summary, module.results
    loader: PairLoader = data.val_dataloader()
    loader._groups = [group.flip(0) for group in reversed(loader._groups)]
    Trainer(**QUIET).validate(module, loader, verbose=False)
    assert torch.equal(columns["index"], module.results["index"])
    for name, value in in_order.items():
        assert value == pytest.approx(module.summary[name], rel=1e-5), name


@pytest.mark.parametrize("model", trained_models())
def test_training_twice_gives_the_same_weights(model: str, compose: Compose) -> None:
    config = compose(f"model={model}", "task=digits")
    one, other = (fitted(config, max_steps=3)[0] for _ in range(2))
    assert torch.equal(weights(one), weights(other))


@pytest.mark.parametrize("model", trained_models())
def test_training_lowers_the_loss(model: str, compose: Compose) -> None:
    config = compose(f"model={model}", "task=digits", "scheduler=constant")
    module, data = built(config)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = Trainer(**QUIET, max_epochs=2)
    trainer.validate(module, datamodule=data, verbose=False)
    untrained = module.summary["val/loss"]
    trainer.fit(module, datamodule=data)
    assert any(not torch.equal(before[name], value) for name, value in module.state_dict().items() if name in before)
    # Two players: neither's loss need fall. Nor that of Neighbor2Neighbor, of whose second term the target moves.
    if model not in ("gan", "self_supervised"):
        assert module.summary["val/loss"] < untrained


@pytest.mark.parametrize("model", trained_models())
def test_checkpoints_hold_tensors_and_plain_values_only(model: str, compose: Compose, tmp_path: Path) -> None:
    _, trainer = fitted(compose(f"model={model}", "task=digits"), max_steps=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt")["state_dict"]


def test_inpainting_keeps_known_pixels_exactly(compose: Compose) -> None:
    module, data = built(compose("model=inpainting", "task=digits", "degradation=missing_box"))
    pair = next(iter(data.test_dataloader()))
    image = module.eval()(pair.degraded, pair.mask)
    known = pair.mask.expand_as(image) > 0
    assert torch.equal(image[known], pair.clean[known])
    assert not torch.equal(image[~known], pair.degraded[~known])


def test_psnr_in_the_hole_counts_the_hole_alone(compose: Compose) -> None:
    module, data = built(compose("model=inpainting", "task=digits", "degradation=missing_box"))
    pair = next(iter(data.test_dataloader()))
    image = module.eval()(pair.degraded, pair.mask).detach()
    found = module.image_metrics(image, pair)["psnr_hole"]
    for n in range(4):
        hole = pair.mask[n, 0] == 0
        error = (image[n, 0][hole].clamp(0, 1) - pair.clean[n, 0][hole]).square().mean()
        assert float(found[n]) == pytest.approx(float(-10 * error.log10()), abs=1e-3)


def test_the_mean_fill_is_the_mean_of_the_known_pixels(compose: Compose) -> None:
    module, data = built(compose("model=inpainting", "task=digits", "degradation=missing_half"))
    pair = next(iter(data.test_dataloader()))
    found = module.input_metrics(pair)["psnr_hole_mean"]
    hole = pair.mask[0, 0] == 0
    error = (pair.clean[0, 0][~hole].mean() - pair.clean[0, 0][hole]).square().mean()
    assert float(found[0]) == pytest.approx(float(-10 * error.log10()), abs=1e-3)


def test_vae_terms_add_up_and_evaluation_shows_the_mean(compose: Compose) -> None:
    module, data = built(compose("model=vae", "task=digits", "model.beta=3"))
    pair = next(iter(data.test_dataloader()))
    outcome = module.eval().step(pair)
    assert torch.allclose(outcome.loss, outcome.terms["reconstruction"] + 3 * outcome.terms["divergence"])
    assert torch.equal(outcome.image, module.net.decode(module.net.encode(pair.degraded)[0]))
    assert torch.equal(module.step(pair).loss, outcome.loss), "an evaluation draws the same codes each time"
    module.train()
    module.trainer = Trainer(**QUIET)
    assert not torch.equal(module.step(pair).image, outcome.image)


def test_the_loss_of_an_evaluated_vae_is_the_bound(compose: Compose) -> None:
    """It estimates the expectation over codes, here taken from torch's own normals; that of the mean code is less."""
    module, trainer = fitted(compose("model=vae", "task=digits", "model.net.latent_dim=16"), max_epochs=10)
    module.eval()
    pairs = list(trainer.datamodule.test_dataloader())
    with torch.no_grad():
        found = torch.cat([module.step(pair).terms["reconstruction"] for pair in pairs]).mean()
        expected, of_mean = [], []
        generator = torch.Generator().manual_seed(0)
        for pair in pairs:
            mean, log_variance = module.net.encode(pair.clean)
            for codes, scale in ((expected, 1.0), (of_mean, 0.0)):
                noise = torch.randn(50, *mean.shape, generator=generator)
                image = module.net.decode((mean + scale * (log_variance / 2).exp() * noise).flatten(0, 1))
                clean = pair.clean.expand(50, *pair.clean.shape).flatten(0, 1)
                codes.append(module.pixel_loss(image, clean).sum((1, 2, 3)))
    drawn, at_mean = torch.cat(expected).mean(), torch.cat(of_mean).mean()
    assert found == pytest.approx(float(drawn), rel=0.02)
    assert at_mean < drawn - 3 * abs(found - drawn)


def test_the_average_is_used_by_evaluation_only_once_it_was_updated(compose: Compose) -> None:
    config = compose("model=classifier", "task=digits", "model.ema=0.9")
    module, _ = built(config)
    assert module.eval().active_net is module.net
    trained, _ = fitted(config, max_steps=5)
    assert int(trained.average.n_averaged) == 5
    assert trained.eval().active_net is trained.average.module
    assert trained.train().active_net is trained.net


def test_the_average_follows_its_recurrence(compose: Compose) -> None:
    config = compose("model=classifier", "task=digits", "model.ema=0.9")
    seen = []
    module, data = built(config)
    note = module.on_train_batch_end

    def spy(*arguments: Any) -> None:
        seen.append(weights(module).clone())
        note(*arguments)

    module.on_train_batch_end = spy  # type: ignore[method-assign]
    Trainer(**QUIET, max_epochs=1, max_steps=3).fit(module, datamodule=data)
    expected = seen[0]
    for updates, step in enumerate(seen[1:], 1):
        decay = min(0.9, (1 + updates) / (10 + updates))  # a short training forgets its initial weights
        expected = decay * expected + (1 - decay) * step
    average = torch.cat([weight.flatten() for weight in module.average.module.parameters()])
    assert torch.allclose(average, expected, atol=1e-6)


def test_l1_penalty_shrinks_the_weights(compose: Compose) -> None:
    plain, _ = fitted(compose("model=autoencoder", "task=digits"), max_steps=20)
    shrunk, _ = fitted(compose("model=autoencoder", "task=digits", "model.l1=0.01"), max_steps=20)
    assert weights(shrunk).abs().sum() < 0.9 * weights(plain).abs().sum()


@pytest.mark.parametrize("model", ["restoration", "gan"])
def test_a_loss_that_is_not_finite_stops_with_step_and_learning_rate(model: str, compose: Compose) -> None:
    module, data = built(compose(f"model={model}", "task=digits"))
    take = module.note
    calls = []

    def poisoned(**terms: torch.Tensor) -> None:
        calls.append(1)
        take(**{name: term * float("nan") if len(calls) == 7 else term for name, term in terms.items()})

    module.note = poisoned  # type: ignore[method-assign]
    with pytest.raises(
        InputError, match=r"not finite at step 7 with learning rate 0\.\d+; .*checkpoints written before are kept"
    ):
        Trainer(**QUIET, max_epochs=1).fit(module, datamodule=data)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("cosine", lambda step: 0.5e-3 * (1 + math.cos(math.pi * step / 10))), ("constant", lambda step: 1e-3)],
)
@pytest.mark.parametrize("model", ["classifier", "gan"])
def test_schedules_follow_their_law(model: str, scheduler: str, expected: Any, compose: Compose) -> None:
    config = compose(f"model={model}", "task=digits", f"scheduler={scheduler}", "optimizer=adam")
    module, data = built(config)
    rates = []
    note = module.on_train_batch_end

    def spy(*arguments: Any) -> None:
        note(*arguments)
        rates.append(module.trainer.optimizers[0].param_groups[0]["lr"])

    module.on_train_batch_end = spy  # type: ignore[method-assign]
    Trainer(**QUIET, max_epochs=1, limit_train_batches=10).fit(module, datamodule=data)
    assert len(rates) == 10
    assert rates == pytest.approx([expected(step) for step in range(1, 11)], abs=1e-9)


def test_a_plateau_lowers_the_rate_when_the_metric_no_longer_improves(compose: Compose) -> None:
    config = compose(
        "model=classifier", "task=digits", "scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5",
        "optimizer=sgd", "optimizer.lr=1e-6",
    )  # fmt: skip
    _, trainer = fitted(config, max_epochs=3, limit_train_batches=1)
    # Accuracy does not move at this rate: the second and the third epoch are each no better than the first.
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.25e-6)


def test_one_cycle_knows_the_number_of_steps(compose: Compose) -> None:
    module, _ = fitted(compose("model=classifier", "task=digits", "scheduler=one_cycle"), limit_train_batches=5)
    scheduler = module.trainer.lr_scheduler_configs[0].scheduler
    assert scheduler.total_steps == 5
    assert scheduler._schedule_phases


def test_modules_are_not_changed_by_a_copy_of_their_configuration(compose: Compose) -> None:
    config = compose("model=inpainting", "task=digits")
    before = copy.deepcopy(config)
    built(config)
    assert config == before


def test_optimizers_arrive_as_partials(compose: Compose) -> None:
    module, _ = built(compose("model=classifier", "optimizer=momentum", "optimizer.lr=0.25"))
    assert isinstance(module.options.optimizer, partial)
    assert module.options.optimizer.keywords["lr"] == 0.25
    assert module.options.optimizer.keywords["momentum"] == 0.9
