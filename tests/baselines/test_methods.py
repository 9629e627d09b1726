"""Each classical method is what scikit-image makes of the same image with the documented parameters."""

import sys
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import restoration
from skimage.data import astronaut, camera
from torch import Tensor

from recon import keyed, metrics
from recon.baselines import METHODS
from recon.baselines.denoising import BM3D, TotalVariation, estimated
from recon.degradations import (
    BoxBlur,
    Chain,
    DefocusBlur,
    Degradation,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    KernelBlur,
    MissingBox,
    MissingPixels,
    MotionBlur,
    PoissonNoise,
)
from recon.degradations.blur import Blur
from recon.errors import InputError
from recon.pair import Pair

SIGMA = 25 / 255
TURNED = KernelBlur([[0, 0, 1], [0, 3, 2], [1, 1, 0]])
FITTING: dict[str, Degradation] = {
    **dict.fromkeys(("identity", "median", "bilateral", "nlm", "wavelet", "tv"), GaussianNoise(SIGMA)),
    **dict.fromkeys(("wiener", "richardson_lucy"), GaussianBlur(1.2)),
    **dict.fromkeys(("biharmonic", "mean_fill"), MissingPixels(0.3)),
    "bicubic": Downsample(2, "bicubic_matlab"),
}


def grey(height: int = 48, width: int = 51, top: int = 100) -> Tensor:
    """Real images, (1,1,H,W)."""
    return torch.from_numpy(camera()[top : top + height, 150 : 150 + width].copy()).float()[None, None] / 255


def colour(height: int = 40, width: int = 35) -> Tensor:
    crop = astronaut()[60 : 60 + height, 180 : 180 + width].copy()
    return torch.from_numpy(crop).float().permute(2, 0, 1)[None] / 255


def damaged(clean: Tensor, damage: Degradation, first: int = 0) -> Pair:
    index = torch.arange(first, first + len(clean))
    degraded = damage(clean, keyed.keys(0, "test", 0, index))
    return Pair(degraded.image, clean, degraded.mask, torch.full_like(index, -1), index, degraded.severity)


def restored(name: str, pair: Pair, damage: Degradation) -> Tensor:
    method = METHODS[name]()
    method.prepare_for(damage)
    return method(pair)


def array(image: Tensor) -> np.ndarray:
    """Convert (1,C,H,W) to (H,W) or (H,W,C) float64."""
    return np.squeeze(image[0].double().permute(1, 2, 0).numpy())


def test_each_method_has_a_damage_that_it_fits() -> None:
    assert FITTING.keys() | {"bm3d"} == METHODS.keys()


# Against direct calls --------------------------------------------------------------------------------------------


def by_median(image: np.ndarray) -> np.ndarray:
    return ndimage.median_filter(image, size=(3, 3, 1)[: image.ndim])


def by_nlm(image: np.ndarray) -> np.ndarray:
    # The rows of the published table for sigma 25: 15 < 25 <= 30 for grey, 25 <= 25 for colour.
    side, strength, axis = (5, 0.40, None) if image.ndim == 2 else (3, 0.55, -1)
    return restoration.denoise_nl_means(image, side, 10, strength * SIGMA, sigma=SIGMA, channel_axis=axis)


def by_wavelet(image: np.ndarray) -> np.ndarray:
    axis = None if image.ndim == 2 else -1
    # 2·15 <= side < 4·15: the symlet of 16 taps fits once.
    return restoration.denoise_wavelet(image, sigma=SIGMA, wavelet="sym8", wavelet_levels=1, channel_axis=axis)


def by_tv(image: np.ndarray) -> np.ndarray:
    """The result of the weight, of many, whose estimated risk is least."""
    axis = None if image.ndim == 2 else -1
    signs = np.random.default_rng(0).choice([-1.0, 1.0], image.shape if image.ndim == 3 else (*image.shape, 1))
    signs = signs.reshape(image.shape)

    def smoothed(noisy: np.ndarray, weight: float) -> np.ndarray:
        return restoration.denoise_tv_chambolle(noisy, weight, eps=0, max_num_iter=30, channel_axis=axis)

    def risk(weight: float) -> float:
        result, moved = smoothed(image, weight), smoothed(image + SIGMA / 10 * signs, weight)
        return float(np.mean((result - image) ** 2) + 2 * SIGMA**2 * np.mean(signs * (moved - result)) / (SIGMA / 10))

    return smoothed(image, min(np.linspace(0.2, 1.5, 53) * SIGMA, key=risk))


@pytest.mark.parametrize("clean", [grey(), colour()], ids=["grey", "colour"])
@pytest.mark.parametrize(
    ("name", "direct", "tolerance"),
    [("median", by_median, 1e-7), ("nlm", by_nlm, 1e-6), ("wavelet", by_wavelet, 1e-6), ("tv", by_tv, 0.01)],
)
def test_denoising_is_the_direct_call(
    name: str, direct: Callable[[np.ndarray], np.ndarray], tolerance: float, clean: Tensor
) -> None:
    damage = GaussianNoise(SIGMA)
    pair = damaged(clean, damage)
    assert np.abs(array(restored(name, pair, damage)) - direct(array(pair.degraded))).max() < tolerance


def test_the_bilateral_filter_is_its_definition() -> None:
    """scikit-image 0.26 is no truth here: its table of distances has (n+1)² entries and is read in rows of n."""
    damage = GaussianNoise(SIGMA)
    pair = damaged(colour(9, 7), damage)
    found, image = array(restored("bilateral", pair, damage)), array(pair.degraded)
    framed = np.pad(image, ((5, 5), (5, 5), (0, 0)), "symmetric")
    for y in range(9):
        for x in range(7):
            window = framed[y : y + 11, x : x + 11]
            place = (np.mgrid[-5:6, -5:6] ** 2).sum(0)
            value = ((window - image[y, x]) ** 2).mean(2)
            weight = np.exp(-place / (2 * 1.8**2) - value / (2 * (2 * SIGMA) ** 2))[..., None]
            assert found[y, x] == pytest.approx((weight * window).sum((0, 1)) / weight.sum(), abs=1e-5)


def test_the_risk_of_total_variation_finds_nearly_the_best_weight() -> None:
    damage = GaussianNoise(SIGMA)
    pair = damaged(grey(96, 96), damage)
    image = pair.degraded[0].double().permute(1, 2, 0).numpy()
    weights = np.linspace(0.2, 1.5, 27) * SIGMA
    results = [torch.from_numpy(TotalVariation.smoothed(image, w)).float().permute(2, 0, 1)[None] for w in weights]
    best = max(float(metrics.psnr(result, pair.clean)) for result in results)
    assert float(metrics.psnr(restored("tv", pair, damage), pair.clean)) > best - 0.1


@pytest.mark.parametrize("clean", [grey(), colour()], ids=["grey", "colour"])
def test_biharmonic_is_the_direct_call_and_keeps_what_is_known(clean: Tensor) -> None:
    damage = MissingPixels(0.3)
    pair = damaged(clean, damage)
    axis = None if clean.shape[1] == 1 else -1
    holes = pair.mask[0, 0].numpy() == 0
    direct = restoration.inpaint_biharmonic(array(pair.degraded), holes, channel_axis=axis)
    found = restored("biharmonic", pair, damage)
    assert np.abs(array(found) - direct).max() < 1e-6
    known = pair.mask.expand_as(clean) > 0
    assert torch.equal(found[known], clean[known])


def test_richardson_lucy_is_the_direct_call() -> None:
    damage = GaussianBlur(1.0)
    pair = damaged(grey(), damage)
    kernel = damage.kernel(1.0).numpy()
    framed = np.pad(array(pair.degraded), 18, "symmetric")
    direct = restoration.richardson_lucy(framed, kernel, 30, clip=False)[18:-18, 18:-18]
    assert np.abs(array(restored("richardson_lucy", pair, damage)) - direct).max() < 1e-6


def test_wiener_leaves_a_residual_like_the_noise() -> None:
    """Where the blur is periodic: the direct call with the balance for which ‖K·result − image‖² is N·sigma²."""
    blur = KernelBlur([[0, 0, 1], [0, 3, 2], [1, 1, 0]], boundary="circular")
    damage = Chain({"blur": blur, "noise": GaussianNoise(0.05)})
    pair = damaged(grey(), damage)
    found, image, kernel = array(restored("wiener", pair, damage)), array(pair.degraded), blur.kernel(0).numpy()
    residual = ndimage.convolve(found, kernel, mode="wrap") - image
    assert residual.std() == pytest.approx(0.05, rel=1e-3)
    balances = np.geomspace(1e-4, 10, 2001)
    errors = [np.abs(restoration.wiener(image, kernel, b, clip=False) - found).max() for b in balances]
    assert min(errors) < 1e-3


@pytest.mark.parametrize(
    "blur",
    [
        GaussianBlur(1.5), GaussianBlur(2, ratio=0.4, angle=20), MotionBlur(7, angle=30), DefocusBlur(2.2), BoxBlur(3),
        TURNED,
    ],
    ids=lambda blur: type(blur).__name__,
)  # fmt: skip
def test_the_kernel_is_that_of_the_blur_and_undoing_it_gains(blur: Blur) -> None:
    pair = damaged(grey(80, 70), blur)
    kernel = blur.kernel(float(pair.severity)).numpy()
    direct = ndimage.convolve(array(pair.clean), kernel, mode="reflect")
    assert np.abs(direct - array(pair.degraded)).max() < 1e-6
    before = float(metrics.psnr(pair.degraded, pair.clean))
    for name in ("wiener", "richardson_lucy"):
        assert float(metrics.psnr(restored(name, pair, blur), pair.clean)) > before + 0.5, name


def test_a_drawn_blur_is_that_of_each_image() -> None:
    damage = GaussianBlur((0.8, 2.0))
    pair = damaged(torch.cat([grey(), grey(top=200)]), damage)
    together = restored("richardson_lucy", pair, damage)
    for number in range(2):
        blur = GaussianBlur(float(pair.severity[number]))
        one = Pair(*(field[number : number + 1] for field in pair))
        assert torch.allclose(restored("richardson_lucy", one, blur), together[number : number + 1], atol=1e-6)


def test_what_is_done_by_hand() -> None:
    noise, holes, smaller = GaussianNoise(SIGMA), MissingBox(0.3), Downsample(2, "bicubic_matlab")
    pair = damaged(colour(), noise)
    assert torch.equal(restored("identity", pair, noise), pair.degraded)
    pair = damaged(colour(), holes)
    found, known = restored("mean_fill", pair, holes), pair.mask[0, 0] > 0
    assert not known.all()
    for channel in range(3):
        assert torch.equal(found[0, channel][known], pair.clean[0, channel][known])
        assert torch.allclose(found[0, channel][~known], pair.clean[0, channel][known].mean())
    pair = damaged(grey(48, 52), smaller)
    assert restored("bicubic", pair, smaller).shape == pair.clean.shape
    nothing = pair._replace(degraded=pair.clean, mask=torch.zeros(1, 1, 48, 52))
    for name in ("mean_fill", "biharmonic"):
        assert (restored(name, nothing, holes) == 0.5).all()


def test_the_rows_of_non_local_means_end_where_the_paper_says() -> None:
    """A level that was rounded to float32 finds its own row."""
    levels = torch.tensor([15, 16, 30, 31, 45, 75, 100]) / 255
    rows = [METHODS["nlm"]().row(float(level), 1) for level in levels]
    assert [row[0] for row in rows] == [3, 5, 5, 7, 7, 9, 11]
    assert [row[1] for row in rows] == [10, 10, 10, 17, 17, 17, 17]
    assert [row[2] for row in rows] == [0.40, 0.40, 0.40, 0.35, 0.35, 0.35, 0.30]
    assert [METHODS["nlm"]().row(float(level), 3) for level in levels[[0, 2, 6]]] == [
        (3, 10, 0.55), (5, 17, 0.40), (7, 17, 0.35),
    ]  # fmt: skip


# What is known of the noise ----------------------------------------------------------------------------------------


def test_sigma_is_the_level_of_noise_and_estimated_for_other_damage() -> None:
    clean, wavelet = torch.cat([grey(), grey(top=200)]), METHODS["wavelet"]()
    drawn = GaussianNoise((0.02, 0.2))
    pair = damaged(clean, drawn)
    wavelet.prepare_for(drawn)
    assert wavelet.sigmas(pair) == pytest.approx(pair.severity.tolist())
    poisson = PoissonNoise(30)
    pair = damaged(clean, poisson)
    wavelet.prepare_for(poisson)
    direct = [restoration.estimate_sigma(array(image[None])) for image in pair.degraded]
    assert wavelet.sigmas(pair) == pytest.approx(direct)
    # Images that nobody has damaged, as those given to a loaded model, have no level within the range.
    wavelet.prepare_for(drawn)
    pair = Pair.of(damaged(clean, GaussianNoise(0.1)).degraded)
    assert wavelet.sigmas(pair) == pytest.approx([0.1, 0.1], rel=0.2)


def test_no_noise_changes_nothing() -> None:
    assert estimated(np.full((9, 9, 1), 0.3)) == 0
    none = GaussianNoise(0)
    pair = damaged(grey(), none)
    for name in ("nlm", "wavelet", "tv"):
        assert torch.equal(restored(name, pair, none), pair.clean), name


# Batches and sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FITTING)
def test_an_image_does_not_depend_on_the_others(name: str) -> None:
    damage = FITTING[name]
    pair = damaged(torch.cat([grey(32, 34, top) for top in (60, 130, 200)]), damage)
    together = restored(name, pair, damage)
    for order in ([2, 0, 1], [1], [0, 2]):
        some = restored(name, Pair(*(field[order] for field in pair)), damage)
        assert torch.equal(some, together[order]), order


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 1, 7), (3, 2, 3), (1, 5, 5), (3, 33, 30)], ids=str)
def test_any_size_works(name: str, shape: tuple[int, int, int]) -> None:
    damage, clean = FITTING[name], colour(40, 40)[:, : shape[0], : shape[1], : shape[2]]
    if name == "bicubic":
        clean = clean.repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = restored(name, damaged(clean, damage), damage)
    assert found.shape == clean.shape
    assert found.isfinite().all()


# Refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "damage", "said"),
    [
        (("median", "nlm", "identity", "wiener", "biharmonic"), Downsample(2), "keeps the size of images"),
        (("bicubic",), GaussianNoise(0.1), "enlarges images, and this degradation leaves them their size"),
        (("biharmonic", "mean_fill"), GaussianNoise(0.1), "fills holes and this degradation makes none"),
        (("wiener", "richardson_lucy"), GaussianNoise(0.1), "needs a blur that is known"),
        (("wiener",), MotionBlur(9), "degradation.angle: it is drawn for each image"),
        (("wiener", "richardson_lucy"), GaussianBlur(1, boundary="zero"), "degradation.boundary=zero"),
        (("wiener",), Chain({"blur": GaussianBlur(1), "holes": MissingPixels(0.1)}), "needs a blur that is known"),
    ],
)  # fmt: skip
def test_a_damage_that_does_not_fit_is_refused_in_a_sentence(
    names: Iterable[str], damage: Degradation, said: str
) -> None:
    for name in names:
        with pytest.raises(InputError, match=rf"^model\.method: {name} [^\n]*{said}[^\n]*$"):
            METHODS[name]().prepare_for(damage)


def test_bm3d_asks_for_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"^model\.method: bm3d needs its authors' package.*non-commercial"):
        BM3D().prepare_for(GaussianNoise(0.1))


def test_bm3d_where_it_is_installed() -> None:
    pytest.importorskip("bm3d", reason="its licence is for non-commercial use alone, so that recon never installs it")
    damage = GaussianNoise(SIGMA)
    for clean in (grey(), colour()):
        pair = damaged(clean, damage)
        before = float(metrics.psnr(pair.degraded, clean))
        assert float(metrics.psnr(restored("bm3d", pair, damage), clean)) > before + 4
