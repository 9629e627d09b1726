"""Restoration: the map of the noise, and a judge of what is recognised."""

import json
from pathlib import Path

import pytest
import torch
from conftest import QUICK, Compose, Typed

import recon
from recon import build
from recon.actions.train import train
from recon.errors import InputError
from recon.pair import Pair

MAP = ("model=restoration", "model.noise_map=true", "degradation=noise")


def module(compose: Compose, *overrides: str):
    config = compose("task=digits", *MAP, *overrides)
    task = build.task(config)
    return build.module(config, task, build.degradation(config, task))


@pytest.mark.parametrize("net", ["dru", "ffdnet", "dncnn", "unet", "nafnet"])
def test_a_net_sees_the_level_in_one_more_channel(net: str, compose: Compose) -> None:
    made = module(compose, f"model/net={net}").eval()
    first = next(layer for layer in made.net.modules() if isinstance(layer, torch.nn.Conv2d))
    blind = next(layer for layer in module(compose, f"model/net={net}", "model.noise_map=false").net.modules()
                 if isinstance(layer, torch.nn.Conv2d))  # fmt: skip
    assert first.in_channels == 2 * blind.in_channels
    pair = Pair.of(torch.rand(2, 1, 8, 8))
    for parameter in made.parameters():  # the last layers begin at zero
        torch.nn.init.normal_(parameter, std=0.2)
    low, high = (made.predict(pair._replace(severity=torch.full((2,), level))) for level in (0.05, 0.5))
    assert low.shape == pair.clean.shape
    assert not torch.allclose(low, high)


def test_the_map_is_the_level_of_each_image(compose: Compose) -> None:
    made, seen = module(compose, "model/net=dncnn", "model.net.depth=2"), []
    made.net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pair = Pair.of(torch.rand(3, 1, 8, 8))._replace(severity=torch.tensor([0.1, 0.2, 0.3]))
    made.step(pair)
    assert torch.equal(seen[0][:, :1], pair.degraded)
    assert torch.equal(seen[0][:, 1], pair.severity.view(3, 1, 1).expand(3, 8, 8))


def test_a_map_without_noise_is_refused(typed: Typed) -> None:
    said = typed.refused("task=digits", "model=restoration", "model.noise_map=true", "degradation=blur")
    assert "model.noise_map" in said
    assert "degradation=noise" in said


def test_a_loaded_model_asks_for_the_level(compose: Compose, tmp_path) -> None:
    train(compose("task=digits", *MAP, "model/net=dncnn", "model.net.depth=2", *QUICK), tmp_path, {})
    model, image = recon.load(tmp_path), torch.rand(1, 8, 8)
    assert model(image, sigma=0.1).shape == image.shape
    with pytest.raises(InputError, match=r"sigma=25/255"):
        model(image)
    train(compose("task=digits", "model=restoration", "model/net=dncnn", *QUICK), tmp_path / "blind", {})
    with pytest.raises(InputError, match="leave it out"):
        recon.load(tmp_path / "blind")(image, sigma=0.1)


def test_a_judge_tells_what_is_recognised_before_and_after(typed: Typed) -> None:
    seeing = ("task=digits", "model=classifier", "model/net=lenet", "hydra.run.dir=outputs/day/seeing")
    assert typed(*seeing, *(word for word in QUICK if "max_steps" not in word), "trainer.max_epochs=12")[0] == 0
    restoring = ("task=digits", "model=restoration", "model.net.widths=[4]", "degradation.sigma=0.4", *QUICK)
    status, output, errors = typed(*restoring, "model.judge=seeing", "hydra.run.dir=outputs/day/restoring")
    assert status == 0, errors
    record = json.loads(Path("outputs/day/restoring/metrics.json").read_text())
    assert record["test/recognised_clean"] > record["test/recognised_degraded"]
    assert 0 <= record["test/recognised"] <= 1
    assert "recognised, %" in output, "the table of gains"
    assert "labels" in typed.refused("task=photos", "model=restoration", "model.judge=seeing", *QUICK)
    assert "recognises by itself" in typed.refused("task=digits", "model=classifier", "model.judge=seeing", *QUICK)
    assert "model.judge" in typed.refused("task=digits", "model=restoration", "model.judge=restoring", *QUICK)
