"""What a restored picture gains, estimated without the clean one: right, also where the noise grows with the light."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import data_root
from PIL import Image
from skimage.data import astronaut
from torch import Tensor

from recon.restore.gain import Gain, compression_gain, denoising_gain
from recon.restore.mend import Settings, runner
from recon.restore.noise import Noise, noise_of
from recon.restore.picture import decoded
from recon.restore.plan import Wishes, plan
from recon.restore.weights import Weights, load_weights, restorers

DENOISERS = [name for name in restorers() if name.startswith("denoise_")]


def gaussian(image: Tensor, sigma: float, seed: int) -> Tensor:
    return image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def poisson(image: Tensor, peak: float, seed: int) -> Tensor:
    return torch.poisson(image * peak, generator=torch.Generator().manual_seed(seed)) / peak


def saved(image: Tensor) -> Tensor:
    """An image as a file holds it: 8 bits, and nothing beyond black and white."""
    return (image.clamp(0, 1) * 255).round() / 255


def read(path: Path, channels: int) -> Tensor:
    """A picture (C,H,W) in [0,1]."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.float32)
    return torch.from_numpy(values.reshape(*values.shape[:2], channels) / 255).movedim(2, 0).contiguous()


def estimated(noisy: Tensor, clean: Tensor, weights: Weights) -> tuple[Gain, float]:
    """The estimate, and what is gained in truth."""
    net = runner(weights, Settings(tile=None))
    with torch.inference_mode():
        restored = net(noisy[None])[0]
    if noisy.min() >= 0 and noisy.max() <= 1:
        restored = restored.clamp(0, 1)
    errors = [float((image - clean).square().mean()) for image in (noisy, restored)]
    return denoising_gain(noisy, net), 10 * math.log10(errors[0] / errors[1])


def photograph(channels: int) -> Tensor:
    """A photograph, halved so that nothing of its own noise is left."""
    picture = Image.fromarray(astronaut()).convert("L" if channels == 1 else "RGB").reduce(2)
    values = np.asarray(picture, np.float32).reshape(picture.height, picture.width, channels)
    return torch.from_numpy(values / 255).movedim(2, 0).contiguous()


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("sigma", [15 / 255, 50 / 255])
@pytest.mark.parametrize("is_saved", [False, True])
def test_the_gain_on_gaussian_noise_is_estimated(name: str, sigma: float, is_saved: bool) -> None:
    weights = load_weights(name)
    clean = photograph(weights.about.facts["channels"])
    noisy = gaussian(clean, sigma, 1)
    gain, true = estimated(saved(noisy) if is_saved else noisy, clean, weights)
    assert gain.decibels == pytest.approx(true, abs=2.5 * gain.error)
    assert gain.sigma == pytest.approx([sigma] * len(clean), rel=0.06 if is_saved else 0.03)


def test_a_line_of_levels_is_found_where_black_and_white_are_cut_off() -> None:
    light = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None]
    noise = Noise(0.002, 0.02, True)
    values = (light + noise.seen(light).bias).expand(-1, 16)
    seen = noise.seen(values)
    found = noise_of(seen.variance, torch.zeros_like(values), values, True)
    assert (found.black, found.white) == pytest.approx((0.002, 0.02), rel=0.02)


@pytest.mark.parametrize("light", [0.0, 0.05, 0.4, 1.0])
def test_what_is_cut_off_is_known(light: float) -> None:
    noise = Noise(0.01, 0.04, True)
    draws = torch.randn(1_000_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values = (light + float(noise.variance(torch.tensor(light))) ** 0.5 * draws).clamp(0, 1)
    seen = noise.seen(values.mean()[None])
    assert float(seen.variance) == pytest.approx(float(values.var()), rel=0.01)
    assert float(seen.light) == pytest.approx(light, abs=2e-3)
    assert float(seen.bias) == pytest.approx(float(values.mean()) - light, abs=2e-3)


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("peak", [30, 300])
def test_noise_that_grows_with_the_light_is_estimated_as_well(name: str, peak: float) -> None:
    """Taken for noise of one level, it makes the estimate of photographs 1.2 dB wrong on average."""
    weights = load_weights(name)
    clean = photograph(weights.about.facts["channels"])
    gain, true = estimated(poisson(clean, peak, 1), clean, weights)
    assert gain.decibels == pytest.approx(true, abs=max(0.7, 2.5 * gain.error))
    assert gain.sigma == pytest.approx((clean.mean((1, 2)) / peak).sqrt().tolist(), rel=0.2)


@pytest.mark.parametrize("name", DENOISERS)
def test_a_picture_of_one_value_or_of_one_pixel_gains_nothing(name: str) -> None:
    weights = load_weights(name)
    channels = weights.about.facts["channels"]
    for image in (torch.full((channels, 40, 50), 0.5), torch.full((channels, 1, 1), 0.2)):
        gain = denoising_gain(image, runner(weights, Settings()))
        assert math.isfinite(gain.decibels)
        assert max(gain.sigma) < 2 / 255


@pytest.mark.parametrize("name", [name for name in restorers() if name.startswith("jpeg_")])
@pytest.mark.parametrize("quality", [10, 30, 70])
def test_the_gain_on_jpeg_is_estimated(name: str, quality: int) -> None:
    """That of a picture at its own size that was compressed again would be 8 dB."""
    weights = load_weights(name)
    clean = photograph(weights.about.facts["channels"])
    values = (clean * 255).round().to(torch.uint8).movedim(0, 2).numpy()
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0] if len(clean) == 1 else values).save(buffer, "JPEG", quality=quality)
    decompressed = np.asarray(Image.open(buffer), np.float32).reshape(values.shape) / 255
    damaged, net = torch.from_numpy(decompressed).movedim(2, 0), runner(weights, Settings())
    with torch.inference_mode():
        restored = net(damaged[None])[0].clamp(0, 1)
    errors = [float((image - clean).square().mean()) for image in (damaged, restored)]
    found = compression_gain(damaged, quality, net)
    assert found.decibels == pytest.approx(10 * math.log10(errors[0] / errors[1]), abs=2.5 * found.error)


def test_a_compressed_colour_picture_is_repaired_and_a_clean_one_left() -> None:
    """Fine detail must not pass for noise: then what JPEG did would stay."""
    picture, buffers = Image.fromarray(astronaut()).reduce(2), (io.BytesIO(), io.BytesIO())
    picture.save(buffers[0], "JPEG", quality=15)
    picture.save(buffers[1], "PNG")
    compressed, clean = (plan(decoded(buffer.getvalue()), Wishes()) for buffer in buffers)
    assert compressed.weights is not None
    assert compressed.weights.about.purpose == "jpeg"
    assert clean.weights is None


@pytest.mark.slow
@pytest.mark.parametrize("is_saved", [False, True])
@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_on_bsd68_the_estimate_is_right_on_average(sigma: int, is_saved: bool) -> None:
    """0.15 dB, of the mean of the images: of one it cannot be right, as its noise has an energy of its own."""
    files = sorted((data_root() / "bsd68").rglob("*.png"))
    if not files:
        pytest.skip(f"no bsd68 below {data_root()} (set RECON_DATA)")
    weights, gaps = load_weights("denoise_gray"), []
    for seed, file in enumerate(files):
        clean = read(file, 1)
        noisy = gaussian(clean, sigma / 255, seed)
        gain, true = estimated(saved(noisy) if is_saved else noisy, clean, weights)
        gaps.append(gain.decibels - true)
    print(f"{np.mean(gaps):+.3f} dB, of one image {np.mean(np.abs(gaps)):.3f}")
    assert abs(np.mean(gaps)) <= 0.15


@pytest.mark.slow
def test_of_a_hundred_clean_photographs_at_most_one_is_touched() -> None:
    files = sorted((data_root() / "open-photos").rglob("*.webp"))[:100]
    if len(files) < 100:
        pytest.skip(f"no open-photos below {data_root()} (set RECON_DATA)")
    touched = []
    for file in files:
        with Image.open(file) as picture:
            small = picture.convert("RGB")
            small.thumbnail((400, 400), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "PNG")
        chosen = plan(decoded(buffer.getvalue()), Wishes())
        if chosen.weights is not None:
            touched.append(f"{file.name}: {chosen.seen}, {chosen.why}")
    assert len(touched) <= 1, touched
