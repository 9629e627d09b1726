"""Models that see no clean images, on real photographs by whole runs."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose
from PIL import Image
from skimage import data as photographs
from test_modules import built

from recon.actions.evaluate import evaluate
from recon.actions.train import train
from recon.config.construct import find_class
from recon.errors import InputError
from recon.losses import Neighbor2Neighbor, Noise2Void, SureLoss
from recon.modules.deep_image_prior import DeepImagePriorModule, Restored, _window
from recon.pair import Pair

METHODS = {"neighbor2neighbor": Neighbor2Neighbor, "noise2void": Noise2Void, "sure": SureLoss}


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three crops of a photograph: one to train on, one to validate, one to test."""
    folder = tmp_path_factory.mktemp("crops")
    for number, (top, left) in enumerate([(100, 200), (60, 220), (230, 100)]):
        Image.fromarray(photographs.camera()[top : top + 32, left : left + 32]).save(folder / f"{number}.png")
    return folder


def refusal(config: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        built(config)
    return str(caught.value)


# Self-supervised ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_clean_images_do_not_reach_the_loss(method: str, compose: Compose) -> None:
    module, data = built(compose("model=self_supervised", f"model.method={method}", "task=digits"))
    assert type(module.blind_loss) is METHODS[method]
    pair = next(iter(data.train_dataloader()))
    other = pair._replace(clean=torch.rand_like(pair.clean))
    module.eval()
    with torch.no_grad():
        assert torch.equal(module.step(pair).loss, module.step(other).loss)
        assert module.step(pair).image is not None
    assert (module.monitor, module.mode) == ("val/loss", "min")


@pytest.mark.parametrize("method", ["neighbor2neighbor", "noise2void"])
def test_each_epoch_draws_anew_and_each_evaluation_alike(method: str, compose: Compose) -> None:
    module, data = built(compose("model=self_supervised", f"model.method={method}", "task=digits"))
    pair = next(iter(data.train_dataloader()))
    with torch.no_grad():
        module.net.eval()
        losses = []
        for epoch in (0, 1):
            module.__dict__["_trainer"] = type("Trainer", (), {"current_epoch": epoch})()
            losses.append([module.step(pair).loss, module.eval().step(pair).loss])
            module.train()
            module.net.eval()
    assert not torch.equal(losses[0][0], losses[1][0])
    assert torch.equal(losses[0][1], losses[1][1])


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_chosen_by_an_estimate_of_the_true_error(method: str, compose: Compose) -> None:
    """By the loss of Neighbor2Neighbor an early, blurring net would be chosen."""
    module, data = built(compose("model=self_supervised", f"model.method={method}", "degradation.sigma=0.1"))
    pair = next(iter(data.val_dataloader()))
    with torch.no_grad():
        outcome = module.eval().step(pair)
    assert outcome.image is not None
    true = float((outcome.image - pair.clean).square().mean())
    chance = 0.1**2 * (2 / pair.clean.numel()) ** 0.5
    assert float(outcome.loss.mean()) == pytest.approx(true, abs=4 * chance + 0.02 * true)


def test_without_the_level_of_the_noise_neighbours_are_predicted_and_nothing_else(compose: Compose) -> None:
    method = "model.method=neighbor2neighbor"
    module, _ = built(compose("model=self_supervised", method, "degradation=poisson", "task=digits"))
    assert isinstance(module.validation_loss, Neighbor2Neighbor)
    assert (module.blind_loss.gamma, module.validation_loss.gamma) == (2.0, 0.0)


def test_what_cannot_be_learned_is_refused(compose: Compose) -> None:
    said = refusal(compose("model=self_supervised", "model.method=sure", "degradation=poisson", "task=digits"))
    assert said == (
        "model.method: sure needs Gaussian noise of known sigma alone; choose degradation=noise, or "
        "model.method=neighbor2neighbor|noise2void for other noise of mean 0"
    )
    said = refusal(compose("model=self_supervised", "model.method=n2n", "task=digits"))
    assert said == "model.method: 'n2n' is unknown; choose model.method=neighbor2neighbor|noise2void|sure"
    for model in ("self_supervised", "deep_image_prior"):
        smaller = ["degradation=downsample", "degradation.upsample=null", "degradation.scale=2", "model/net=edsr"]
        said = refusal(compose(f"model={model}", *smaller, "task=digits"))
        assert said.startswith("degradation: it makes images 2 times smaller, ")


def test_the_estimate_is_recorded_in_the_test_of_known_gaussian_noise_alone(compose: Compose, tmp_path: Path) -> None:
    short = ("task=digits", "trainer.max_steps=1", "trainer.limit_test_batches=1", "trainer.enable_progress_bar=false",
             "accelerator=cpu", "logger=none", "model.net.widths=[8,16]")  # fmt: skip
    for damage, is_there in (("noise", True), ("poisson", False)):
        train(compose("model=restoration", f"degradation={damage}", *short), tmp_path / damage, {})
        record = json.loads((tmp_path / damage / "metrics.json").read_text())
        assert ("test/psnr_sure" in record) == is_there
        assert "val/psnr_sure" not in record
        assert "val/psnr" in record


# Deep image prior ---------------------------------------------------------------------------------------------------


def restored(compose: Compose, crops: Path, folder: Path, *words: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Fit a small net to the one test image; returns the metrics and the image's row."""
    small = ("model/net=unet", "model.net.widths=[16,32]", "trainer.enable_progress_bar=false", "logger=none")
    config = compose("model=deep_image_prior", "task=folder", f"task.path={crops}", "accelerator=cpu", *small, *words)
    train(config, folder, {})
    with open(folder / "per_image.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    return json.loads((folder / "metrics.json").read_text()), row


def test_a_photograph_is_denoised_by_a_net_fitted_to_it_alone(
    compose: Compose, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("degradation.sigma=0.2", "model.steps=400", "model.patience=100", "optimizer.lr=0.01")
    record, row = restored(compose, crops, tmp_path / "one", *words)
    assert record["test/psnr"] > record["test/psnr_degraded"] + 4
    assert record["test/psnr_sure"] == pytest.approx(record["test/psnr"], abs=2)  # of 1,024 values
    assert 0 < float(row["fitted_steps"]) < 400
    said = capsys.readouterr().out
    assert f"image 0: restored after {float(row['fitted_steps']):.0f} steps, PSNR by SURE " in said
    assert said.count("restored after") == 1  # the pictures show what the test made
    assert not any(name.startswith(("val/", "train/", "cost/latency")) for name in record)
    with np.load(tmp_path / "one" / "images" / "samples.npz") as arrays:
        assert {"degraded", "restored", "clean"} <= set(arrays)


def test_a_run_without_training_is_evaluated_like_any_other(compose: Compose, crops: Path, tmp_path: Path) -> None:
    first, _ = restored(compose, crops, tmp_path / "run", "model.steps=20")
    words = ("task=folder", f"task.path={crops}", "logger=none", "accelerator=cpu", "trainer.enable_progress_bar=false")
    words = (*words, "action=evaluate", f"run={tmp_path / 'run'}", "model.net.widths=[16,32]", "model.steps=20")
    evaluate(compose("model=deep_image_prior", *words), tmp_path / "again", {})
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert {name: again[name] for name in ("test/psnr", "test/psnr_sure", "images")} == {
        name: first[name] for name in ("test/psnr", "test/psnr_sure", "images")
    }


def test_holes_are_filled_from_the_known_pixels(compose: Compose, crops: Path, tmp_path: Path) -> None:
    record, row = restored(compose, crops, tmp_path, "degradation=missing", "model.steps=250", "optimizer.lr=0.01")
    with np.load(tmp_path / "images" / "samples.npz") as arrays:
        clean = arrays["clean"] / 255
    assert record["test/psnr_hole"] > -10 * np.log10(clean.var()) + 4  # than holes filled with the mean
    assert float(row["fitted_steps"]) == 250
    assert "test/psnr_sure" not in record


def test_fresh_weights_are_those_of_the_net_in_another_order(compose: Compose) -> None:
    module, _ = built(compose("model=deep_image_prior", "task=digits"))
    assert isinstance(module, DeepImagePriorModule)
    assert not find_class("recon.modules.deep_image_prior.DeepImagePriorModule", "model").trains
    keys = module.keys(Pair.of(torch.zeros(2, 1, 8, 8)), "image")
    one, again, other = (module._fresh(key) for key in (keys[:1], keys[:1], keys[1:]))
    for began, a, b, c in zip(*(net.parameters() for net in (module.net, one, again, other)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.flatten().sort().values, began.flatten().sort().values)
        assert began.ndim == 1 or not (torch.equal(a, began) or torch.equal(a, c))


def test_a_fit_depends_on_the_image_and_its_key_alone(compose: Compose) -> None:
    config = compose("model=deep_image_prior", "task=digits", "model.steps=30", "model.net.widths=[4,8]")
    module, data = built(config)
    pair = next(iter(data.test_dataloader()))
    several, alone = Pair(*(part[:3] for part in pair)), Pair(*(part[2:3] for part in pair))
    module.eval()
    with torch.inference_mode():
        first = module.step(several)
        module._done.clear()
        second = module.step(alone)
    assert first.image is not None
    assert second.image is not None
    assert torch.equal(first.image[2:], second.image)
    assert torch.equal(first.columns["psnr_sure"][2:], second.columns["psnr_sure"])
    other = alone._replace(index=alone.index + 1)
    with torch.inference_mode():
        assert not torch.equal(module.predict(other), second.image)


def test_a_window_shows_its_part_of_what_was_restored() -> None:
    whole, image = torch.rand(1, 20, 30), torch.rand(1, 20, 30)
    found = _window(whole, Restored(image, 5, 0.1), whole[:, 3:11, 7:19])
    assert found is not None
    assert torch.equal(found.image, image[:, 3:11, 7:19])
    assert _window(whole, Restored(image, 5, 0.1), torch.rand(1, 8, 8)) is None
    assert _window(whole, Restored(image, 5, 0.1), torch.rand(1, 40, 40)) is None
