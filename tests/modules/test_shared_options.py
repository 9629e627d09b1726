"""What all modules share holds for every module: two steps with an option end elsewhere than without."""

from typing import Any

import pytest
import torch
from conftest import Compose, trained_models
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision.amp import MixedPrecision
from test_modules import QUIET, built

from recon.modules.base import Module

# Every model, and once more those that optimise by hand only when told to.
MODELS = [
    *((model, {}) for model in trained_models()),
    *((model, {"adversarial": 0.1}) for model in ("inpainting", "vae")),
]
models = pytest.mark.parametrize(("model", "more"), MODELS, ids=[f"{model} {more or ''}" for model, more in MODELS])


def begun(compose: Compose, model: str, **options: Any) -> tuple[Module, Any]:
    config = compose(f"model={model}", "optimizer=sgd", "scheduler=constant", "task=digits", "task.batch_size=16")
    config["model"] |= {"ema": 0.0, **options}
    config["optimizer"] |= {"lr": 0.01, "fused": False}
    return built(config)


def trained(compose: Compose, model: str, options: dict[str, Any], steps: int = 2, **trainer: Any) -> Module:
    module, data = begun(compose, model, **options)
    if not module.automatic_optimization:
        module.clip_norm = trainer.pop("gradient_clip_val", None)
    Trainer(**{**QUIET, "max_steps": steps, "limit_val_batches": 0, **trainer}).fit(module, datamodule=data)
    return module


def weights(module: Module) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in module.averaged_net.parameters()])


@models
def test_the_l1_penalty(model: str, more: dict[str, Any], compose: Compose) -> None:
    """Each of two steps takes off its share of the sign of every weight, beside what the loss does."""
    before = weights(begun(compose, model, **more)[0])
    plain, penalised = (trained(compose, model, {**more, "l1": l1}) for l1 in (0.0, 0.01))
    difference = (weights(plain) - weights(penalised)) * before.sign()
    large = before.abs() > 0.05  # these keep their sign
    assert int(large.sum()) > 50
    assert float(difference[large].median()) == pytest.approx(2 * 0.01 * 0.01, rel=0.1)
    # What is reported is the loss alone.
    losses = [float(module.trainer.callback_metrics["train/loss"]) for module in (plain, penalised)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@models
def test_the_average_of_weights(model: str, more: dict[str, Any], compose: Compose) -> None:
    module = trained(compose, model, {**more, "ema": 0.5})
    assert module.average is not None
    assert int(module.average.n_averaged) == 2
    assert module.eval().active_net is module.average.module
    averaged = torch.cat([weight.flatten() for weight in module.average.module.parameters()])
    assert not torch.equal(averaged, weights(module))


@models
@pytest.mark.parametrize("how", ["norm", "value"])
def test_clipping_by_norm_and_by_value(how: str, model: str, more: dict[str, Any], compose: Compose) -> None:
    """With plain gradient descent a step is the clipped gradient times the rate."""
    before = weights(begun(compose, model, **more)[0])
    module = trained(compose, model, more, 1, gradient_clip_val=1e-4, gradient_clip_algorithm=how)
    step = (weights(module) - before) / 0.01
    assert float(step.norm() if how == "norm" else step.abs().max()) == pytest.approx(1e-4, rel=0.05)


def test_the_bound_is_that_of_the_gradient_not_of_the_scaled_loss(compose: Compose) -> None:
    """Autocast in float16 multiplies the loss so that gradients stay in its range."""
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    before = weights(begun(compose, "inpainting", adversarial=0.1)[0])
    module = trained(compose, "inpainting", {"adversarial": 0.1}, 1, gradient_clip_val=1e-4, plugins=[plugin])
    assert float((weights(module) - before).norm() / 0.01) == pytest.approx(1e-4, rel=0.05)
