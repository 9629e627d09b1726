"""Each precision trains, validates, tests and draws each model, or is refused before any work."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Compose, slow_if, trained_models
from test_modules import built

from recon import build, metrics
from recon.actions.train import train
from recon.errors import InputError

SHORT = (
    "task=digits", "task.batch_size=8", "trainer.max_steps=2", "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1", "trainer.enable_progress_bar=false", "accelerator=cpu", "logger=none",
)  # fmt: skip


def record_of(model: str, precision: str, compose: Compose, folder: Path) -> dict[str, Any]:
    # With the adversarial term a model has all that it has without.
    more = ["model.adversarial=0.1"] if model in ("inpainting", "vae") else []
    more += ["model.net.latent_dim=16"] if model == "vae" else []
    eps = ["+optimizer.eps=1e-4"]
    train(compose(f"model={model}", *more, *eps, f"trainer.precision={precision}", "model.ema=0", *SHORT), folder, {})
    assert (folder / "images" / "test.png").stat().st_size > 0
    assert torch.get_default_dtype() == torch.float32
    record: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return record


@pytest.mark.parametrize(
    ("precision", "model"),
    [
        *(slow_if(model in ("diffusion", "flow"), "16-true", model) for model in trained_models()),
        ("bf16-true", "gan"),
        ("64-true", "gan"),
        ("64-true", "vae"),
    ],
)
def test_every_precision_trains_tests_and_draws(precision: str, model: str, compose: Compose, tmp_path: Path) -> None:
    record = record_of(model, precision, compose, tmp_path)
    assert all(value is not None for value in record.values())


def test_every_precision_measures_alike(compose: Compose, tmp_path: Path) -> None:
    expected, found = (record_of("vae", some, compose, tmp_path / some) for some in ("32-true", "bf16-true"))
    assert found["images"] == expected["images"]
    for name in ("psnr_degraded", "ssim_degraded"):  # of the images as they came
        assert found[f"test/{name}"] == expected[f"test/{name}"]
    for name in ("loss", "reconstruction", "divergence", "psnr", "ssim", "mse"):
        assert found[f"test/{name}"] == pytest.approx(expected[f"test/{name}"], rel=0.03), name


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=gan", "trainer.precision=bf16-true"], r"model\.ema: .*set model\.ema=0, or .*precision=bf16-mixed"),
        (["model=vae", "model.ema=0.9", "trainer.precision=16-true"], r"model\.ema: .*"),
        (["model=vae", "trainer.precision=16-true"], r"optimizer\.eps: .* 1e-08 is 0, .*; add \+optimizer\.eps=1e-4.*"),
        (["model=self_supervised", "model.method=sure", "trainer.precision=bf16-true"],
         r"model\.method: sure needs float32, .*; choose trainer\.precision=bf16-mixed, or another method"),
        (["model=gan", "model.ema=0", "model.gradient_penalty=10", "model.net.norm=none", "trainer.precision=16-true"],
         r"model\.gradient_penalty: .*choose trainer\.precision=bf16-true or 32-true"),
    ],
)  # fmt: skip
def test_what_would_go_wrong_in_half_precision_is_refused(
    overrides: list[str], said: str, compose: Compose, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        build.run(compose("task=digits", "accelerator=cpu", "logger=none", *overrides), tmp_path)
    assert re.fullmatch(said, str(caught.value))
    assert not list(tmp_path.iterdir())


def test_the_divergence_of_a_bfloat16_vae_is_that_of_its_codes(compose: Compose) -> None:
    module, data = built(compose("model=vae", "task=digits"))
    pair = next(iter(data.test_dataloader()))
    module.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = module.step(pair).terms["divergence"]
        mean, log_variance = (part.double() for part in module.net.encode(pair.degraded))
    truth = 0.5 * (log_variance.expm1() - log_variance + mean.square()).sum(1)
    torch.testing.assert_close(found.double(), truth, rtol=1e-3, atol=0)


def test_a_restored_image_is_measured_against_the_clean_one_as_it_is(compose: Compose) -> None:
    """Half-precision nets give rounded images; the clean ones beside them are not rounded too."""
    module, data = built(compose("model=restoration", "task=digits"))
    pair = next(iter(data.test_dataloader()))
    rounded = pair.clean.bfloat16()
    found = module.image_metrics(rounded, pair)["psnr"]
    error = (rounded.double() - pair.clean.double()).square().mean((1, 2, 3))
    torch.testing.assert_close(found.double(), (-10 * error.log10()).clamp(max=100), rtol=1e-4, atol=0)
    assert math.isclose(float(metrics.psnr(pair.clean, pair.clean).min()), 100)


def test_gradients_are_clipped_under_bfloat16_with_a_fused_optimiser(compose: Compose, tmp_path: Path) -> None:
    """Lightning refuses that, though bfloat16 scales nothing."""
    ends = {}
    for fused in ("true", "false"):
        words = ("model=restoration", "model/net=dncnn", "model.net.depth=3", "optimizer=adamw", "scheduler=constant")
        config = compose(*words, "trainer.gradient_clip_val=1e-9", f"accelerator.fused={fused}",
                         "trainer.precision=bf16-mixed", "optimizer.weight_decay=0", *SHORT)  # fmt: skip
        ends[fused] = train(config, tmp_path / fused, {})["test/loss"]
        unclipped = {**config, "trainer": {**config["trainer"], "gradient_clip_val": None}}
        ends[f"{fused}, unclipped"] = train(unclipped, tmp_path / f"{fused} unclipped", {})["test/loss"]
    assert ends["true"] == pytest.approx(ends["false"], rel=1e-4)
    assert ends["true"] != pytest.approx(ends["true, unclipped"], rel=1e-4)
