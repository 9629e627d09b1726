"""Learning from smaller images, from the command line's words to the record of the run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose
from damage import images, keys
from looking import found_in

from recon import metrics
from recon.actions.train import train
from recon.data.loader import make_pair
from recon.degradations.resample import Downsample
from recon.errors import InputError
from recon.filters.resize import resize
from recon.losses import MSE
from recon.measures import measure
from recon.modules.restoration import RestorationModule
from recon.nets.edsr import EDSR
from recon.pair import Pair
from recon.training.options import Training

QUICK = (
    "trainer.max_steps=1",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_progress_bar=false",
    "accelerator=cpu",
    "logger=none",
    "task=digits",
    "task.batch_size=8",
    "degradation=downsample",
)
SMALL = "degradation.upsample=null"


def take_one_step(config: dict[str, Any], folder: Path) -> dict[str, float]:
    train(config, folder, {})
    record: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    assert json.loads((folder / "environment.json").read_text())["status"] == "ok"
    assert (folder / "checkpoints" / "best.ckpt").exists()
    return record


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_edsr_enlarges_digits(scale: int, compose: Compose, tmp_path: Path) -> None:
    """Digits of 8×8 are cut to 6×6 where they become three times smaller."""
    config = compose("model=restoration", "model/net=edsr", *QUICK, SMALL, f"degradation.scale={scale}")
    record = take_one_step(config, tmp_path)
    # One step away from where it begins: at Pillow's enlargement, MATLAB's but for the border.
    assert record["test/psnr"] == pytest.approx(record["test/psnr_degraded"], abs=1)
    assert 0 < record["test/ssim_degraded"] < 1
    assert (tmp_path / "images" / "test.png").stat().st_size > 0


@pytest.mark.parametrize("accelerator", ["cpu_bf16", "auto"])
def test_on_other_accelerators(accelerator: str, compose: Compose, tmp_path: Path) -> None:
    quick = [override for override in QUICK if not override.startswith("accelerator")]
    config = compose("model=restoration", "model/net=edsr", *quick, SMALL, f"accelerator={accelerator}")
    record = take_one_step(config, tmp_path)
    assert record["test/psnr"] == pytest.approx(record["test/psnr_degraded"], abs=1)


def test_with_noise_at_low_resolution(compose: Compose, tmp_path: Path) -> None:
    noise = "degradation.then={_target_: recon.degradations.noise.GaussianNoise, sigma: 0.1}"
    plain = take_one_step(compose("model=restoration", "model/net=edsr", *QUICK, SMALL), tmp_path / "plain")
    noisy = take_one_step(compose("model=restoration", "model/net=edsr", *QUICK, SMALL, noise), tmp_path / "noisy")
    assert noisy["test/psnr_degraded"] < plain["test/psnr_degraded"] - 0.3


@pytest.mark.parametrize("net", ["unet", "dncnn", "edsr"])
def test_any_net_restores_what_was_enlarged_again(net: str, compose: Compose, tmp_path: Path) -> None:
    record = take_one_step(compose("model=restoration", f"model/net={net}", *QUICK), tmp_path)
    assert record["test/psnr"] > 0
    assert record["test/psnr_degraded"] > 10


@pytest.mark.parametrize("size", [SMALL, "degradation.upsample=nearest"])
def test_a_classifier_sees_what_there_is(size: str, compose: Compose, tmp_path: Path) -> None:
    record = take_one_step(compose("model=classifier", "model/net=cnn", *QUICK, size), tmp_path)
    assert 0 <= record["test/accuracy"] <= 1


@pytest.mark.parametrize("model", ["model=autoencoder", "model=vae", "model=gan"])
def test_other_models_learn_from_what_was_enlarged_again(model: str, compose: Compose, tmp_path: Path) -> None:
    assert any(name.startswith("test/") for name in take_one_step(compose(model, *QUICK), tmp_path))


@pytest.mark.parametrize(
    "model",
    [
        ["model=restoration", "model/net=unet"],
        ["model=restoration", "model/net=dncnn"],
        ["model=autoencoder"],
        ["model=vae"],
        ["model=inpainting"],
    ],
    ids=" ".join,
)
def test_a_net_that_does_not_enlarge_says_so(model: list[str], compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^degradation: it makes images 2 times smaller.*edsr") as caught:
        train(compose(*model, *QUICK, SMALL), tmp_path, {})
    assert "\n" not in str(caught.value)


def test_images_smaller_than_scale_say_so(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^degradation.scale: \d+ would leave .* give at most 8$"):
        train(compose("model=restoration", "model/net=edsr", *QUICK, SMALL, "degradation.scale=9"), tmp_path, {})


def module(scale: int) -> RestorationModule:
    net = EDSR(in_channels=3, channels=3, scale=scale, blocks=1, width=4, residual_scale=1.0)
    training = Training(torch.optim.Adam, torch.optim.lr_scheduler.ConstantLR, 0, 0.0, 0.0)
    return RestorationModule(net, training, MSE()).eval()


def pair(scale: int, upsample: str | None = None) -> Pair:
    pixels = images((3, 37, 53), 4).mul(255).round().byte()
    index = torch.arange(4)
    return make_pair(pixels, index, index, keys(4), None, Downsample(scale, "bicubic_matlab", upsample))


@pytest.mark.parametrize("scale", [2, 3])
def test_a_smaller_image_is_judged_by_its_enlargement(scale: int) -> None:
    small, large = pair(scale), pair(scale, "bicubic_matlab")
    assert small.clean.shape[2:] == (37 // scale * scale, 53 // scale * scale)
    whole = Pair(resize(small.degraded, small.clean.shape[2:], "bicubic_matlab"), *small[1:])
    for autocast in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            columns = module(scale).input_metrics(small)
        assert torch.equal(columns["psnr_degraded"], metrics.psnr(whole.degraded, small.clean))
        assert torch.equal(columns["ssim_degraded"], metrics.ssim(whole.degraded, small.clean))
    assert "enlarged as MATLAB's imresize" in measure("psnr_degraded").convention
    same = module(1).input_metrics(large)
    assert torch.equal(same["psnr_degraded"], metrics.psnr(large.degraded, large.clean))


def test_pictures_stand_side_by_side() -> None:
    from recon.runs.draw import grid, pixels
    from recon.runs.tiles import enlarged

    small = pair(3)
    with torch.no_grad():
        columns = module(3).pictures(small)
    assert len({column.shape for column in columns.values()}) == 1
    assert torch.equal(columns["degraded"][..., 1::3, 1::3], small.degraded)
    arrays = {"index": small.index.numpy(), **{name: pixels(images) for name, images in columns.items()}}
    sheet = np.asarray(grid(arrays))
    assert found_in(sheet, enlarged(arrays["clean"][0], 3)) == 1
