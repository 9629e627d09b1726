"""Published figures, reached by recon's own evaluation under the literature's protocols."""

import numpy as np
import pytest
import torch
from conftest import ROOT, data_root

from recon import build
from recon.actions.evaluate import test as evaluated

REFERENCE = ROOT.parent / "shared" / "reference"


@pytest.fixture
def figures(compose, tmp_path):
    """Test a model by the whole path of an evaluation; its weights are as given, or those it begins with."""

    def measure(*overrides, weights=None):
        config = compose(
            f"data.root={data_root()}", "task=bsd400", "model=restoration", "task.validation=1", *overrides
        )
        module, data, trainer, _ = build.run(config, tmp_path)
        if weights is not None:
            module.net.load_state_dict(weights)
        return evaluated(trainer, module, data, tmp_path)

    return measure


def authors(sigma):
    """Return the weights of DnCNN's authors, by the names of recon's net."""
    path = REFERENCE / f"dncnn_s{sigma}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    arrays = np.load(path)
    return {
        f"noise.{2 * layer}.{name}": torch.from_numpy(arrays[f"{letter}{layer}"])
        for layer in range(17)
        for name, letter in (("weight", "w"), ("bias", "b"))
    }


def need(*names):
    for name in names:
        if not (data_root() / name).is_dir():
            pytest.skip(f"{data_root() / name} is not there")


# Zhang et al. 2017; twelve images and one draw of noise are worth 0.05 dB, 68 images 0.02 dB.
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("sigma", "set12", "bsd68"), [(15, 32.86, 31.73), (25, 30.44, 29.23), (50, 27.18, 26.23)])
def test_the_weights_of_dncnns_authors_have_their_published_figures(figures, sigma, set12, bsd68):
    need("train400", "set12", "bsd68")
    reached = figures(
        "model/net=dncnn", "model.net.batch_norm=false", f"degradation.sigma={sigma}/255",
        "degradation=noise", "task.test=[bsd68,set12]", "protocol=denoising", weights=authors(sigma),
    )  # fmt: skip
    assert reached["set12/psnr"] == pytest.approx(set12, abs=0.05)
    assert reached["bsd68/psnr"] == pytest.approx(bsd68, abs=0.02)
    # Stein's estimate knows the clean images as little as the net does.
    assert reached["bsd68/psnr_sure"] == pytest.approx(reached["bsd68/psnr"], abs=0.1)


def test_steins_estimate_is_near_the_true_psnr_of_three_photographs(figures, tmp_path):
    """Of one photograph it is off by some tenths of a decibel: its own standard error here is 0.3 dB."""
    need("train400", "set12")
    (tmp_path / "three").mkdir()
    for name in ("01", "02", "03"):
        (tmp_path / "three" / f"{name}.png").symlink_to(data_root() / "set12" / f"{name}.png")
    reached = figures(
        "model/net=dncnn", "model.net.batch_norm=false", "degradation.sigma=25/255", "degradation=noise",
        f"task.test=[{tmp_path}/three]", weights=authors(25),
    )  # fmt: skip
    assert reached["three/psnr_sure"] == pytest.approx(reached["three/psnr"], abs=0.3)
    assert reached["three/psnr"] - reached["three/psnr_degraded"] > 9


@pytest.mark.parametrize(
    ("scale", "published"), [(2, 33.66), pytest.param(3, 30.39, marks=pytest.mark.slow), (4, 28.42)]
)
def test_bicubic_enlargement_of_set5_has_its_published_figures(figures, scale, published):
    need("open-photos", "set5")
    reached = figures(
        "task=open_photos", "task.test=[set5]", "model/net=edsr", "degradation=downsample",
        "degradation.method=bicubic_matlab_uint8", "degradation.upsample=null", f"degradation.scale={scale}",
        "protocol=super_resolution", "model.net.blocks=1", "model.net.width=4",
    )  # fmt: skip
    assert reached["set5/psnr_degraded"] == pytest.approx(published, abs=0.03)


@pytest.mark.parametrize(
    ("quality", "published"),
    [(10, 27.82), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((20, 30.12), (30, 31.48), (40, 32.43)))],
)
def test_jpeg_on_classic5_has_its_published_figures(figures, quality, published):
    need("train400", "classic5")
    reached = figures(
        "task.test=[classic5]", "degradation=jpeg", f"degradation.quality={quality}", "protocol=jpeg",
        "model/net=dncnn", "model.net.depth=2", "model.net.width=1",
    )  # fmt: skip
    assert reached["classic5/psnr_degraded"] == pytest.approx(published, abs=0.05)
