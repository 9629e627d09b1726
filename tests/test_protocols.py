"""The protocols of the literature, against definitions of others and by hand."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.data import astronaut, camera

from recon.degradations import JPEG as Compress
from recon.errors import InputError
from recon.metrics import psnr
from recon.metrics.protocol import JPEG, Denoising, Protocol, SuperResolution, luma, psnr_b, rounded
from recon.pair import Pair

GREY = torch.from_numpy(camera()[100:196, 200:320].copy()).float()[None, None] / 255
RGB = torch.from_numpy(astronaut()[40:136, 180:300].copy()).permute(2, 0, 1).float()[None] / 255


def test_outputs_are_rounded_to_8_bit():
    noisy = GREY + 0.1 * torch.randn(GREY.shape, generator=torch.Generator().manual_seed(0))
    seen, clean = Denoising().seen(noisy, GREY)
    assert torch.equal((seen * 255).round() / 255, seen)
    assert torch.equal(clean, GREY)
    bytes_ = np.rint(noisy.numpy().astype(np.float64).clip(0, 1) * 255)
    error = ((bytes_ - camera()[100:196, 200:320]) ** 2).mean()
    assert psnr(seen, clean).item() == pytest.approx(10 * math.log10(255**2 / error), abs=1e-4)
    assert torch.equal(Protocol().seen(noisy, GREY)[0], noisy)


def test_luma_is_that_of_scikit_image_and_the_border_is_left_out():
    expected = np.rint(rgb2ycbcr(astronaut()[40:136, 180:300])[..., 0])
    assert np.array_equal((luma(RGB)[0, 0] * 255).round().numpy(), expected)
    protocol = SuperResolution()
    protocol.check(3, 4)
    image = RGB.clone()
    image[..., :4, :] = 0  # nothing of the border counts
    seen, clean = protocol.seen(image, RGB)
    assert seen.shape == (1, 1, 88, 112)
    assert torch.equal(seen, clean)


def blocking(image, block=8):
    """The blocking effect factor by loops, after the paper's equations (12) to (17)."""
    height, width = image.shape
    at, others = [], []
    for row in range(height):
        for column in range(width - 1):
            (at if (column + 1) % block == 0 else others).append((image[row, column] - image[row, column + 1]) ** 2)
    for column in range(width):
        for row in range(height - 1):
            (at if (row + 1) % block == 0 else others).append((image[row, column] - image[row + 1, column]) ** 2)
    rough, smooth = np.mean(at), np.mean(others)
    return math.log2(block) / math.log2(min(height, width)) * (rough - smooth) if rough > smooth else 0.0


@pytest.mark.parametrize("quality", [5, 20])
def test_psnr_b_is_that_of_its_definition(quality):
    degraded = Compress(quality)(GREY, torch.tensor([3])).image
    image, clean = rounded(degraded), GREY
    error = float((image - clean).double().square().mean()) + blocking(image[0, 0].double().numpy())
    assert psnr_b(image, clean).item() == pytest.approx(-10 * math.log10(error), abs=1e-3)
    assert psnr_b(image, clean) < psnr(image, clean)


def test_psnr_b_of_an_image_without_blocks_is_its_psnr():
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    assert torch.allclose(psnr_b(ramp * 0.9, ramp), psnr(ramp * 0.9, ramp))
    assert psnr_b(ramp * math.nan, ramp).isnan()
    assert psnr_b(ramp[..., :4, :4] * 0.9, ramp[..., :4, :4]).isfinite()  # smaller than a block


@pytest.mark.parametrize(
    ("protocol", "channels", "scale", "said"),
    [
        (SuperResolution(), 1, 2, "luma of colour images, and these are grey"),
        (SuperResolution(), 3, 1, r"set protocol\.border=2"),
        (Denoising(), 1, 2, "compares images of one size"),
        (JPEG(), 1, 2, "compares images of one size"),
        (JPEG(), 3, 1, "measures grey images"),
    ],
)
def test_a_protocol_that_does_not_fit_is_refused(protocol, channels, scale, said):
    with pytest.raises(InputError, match=said):
        protocol.check(channels, scale)


def test_an_image_within_its_border_is_refused():
    protocol = SuperResolution(border=4)
    protocol.check(3, 1)
    with pytest.raises(InputError, match=r"protocol\.border: 4 pixels at each side leave nothing"):
        protocol.seen(RGB[..., :8, :8], RGB[..., :8, :8])


def test_no_two_protocols_have_one_convention():
    names = ("psnr", "ssim", "mse")
    plain = {row.name: row.convention for row in Protocol().rows}
    assert plain == {}
    said = [
        {row.name: row.convention for row in protocol.rows} for protocol in (Denoising(), SuperResolution(), JPEG())
    ]
    for name in names:
        assert len({rows[name] for rows in said}) == 3
        assert all("no 8-bit rounding" not in rows[name] and "no border" not in rows[name] for rows in said)
    assert "psnr_b" in said[2]


def test_pairs_of_a_module_are_measured_by_its_protocol(compose):
    from recon import build

    config = compose("task=digits", "model=restoration", "degradation=noise", "protocol=denoising")
    task = build.task(config)
    module = build.module(config, task, build.degradation(config, task))
    image = GREY + 0.001
    measured = module.image_metrics(image, Pair.of(image, GREY))
    assert torch.equal(measured["psnr"], psnr(rounded(image), GREY))
    assert not torch.equal(measured["psnr"], psnr(image, GREY))
