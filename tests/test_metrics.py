"""Metrics against scikit-image, scikit-learn and plain loops."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from skimage import data
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from recon import metrics
from recon.measures import ROWS
from recon.metrics import classification, confusion, images, mse, psnr, ssim


def photographs(height: int, width: int, count: int = 4) -> Tensor:
    """Crops of a colour photograph, (count,3,height,width) in [0,1]."""
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    tops = torch.linspace(0, 512 - height, count).int().tolist()
    return torch.stack([image[:, top : top + height, 512 - width - top // 9 :][..., :width] for top in tops])


def noisy(clean: Tensor, sigma: float = 0.1) -> Tensor:
    return clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))


def skimage_ssim(image: Tensor, clean: Tensor) -> np.ndarray:
    x, y = image.double().clamp(0, 1).numpy(), clean.double().clamp(0, 1).numpy()
    convention = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1}
    return np.array([structural_similarity(a, b, channel_axis=0, **convention) for a, b in zip(x, y, strict=True)])


def loop_ssim(image: np.ndarray, clean: np.ndarray, taps: int) -> float:
    """SSIM of one channel in float64, window by window, from the definition."""
    place = np.arange(taps) - taps // 2
    weight = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for top in range(image.shape[0] - taps + 1):
        for left in range(image.shape[1] - taps + 1):
            x, y = (a[top : top + taps, left : left + taps] for a in (image, clean))
            mx, my = (weight * x).sum(), (weight * y).sum()
            vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
            cov = (weight * (x - mx) * (y - my)).sum()
            structure = (2 * cov + 9e-4) / (vx + vy + 9e-4)
            values.append((2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4) * structure)
    return float(np.mean(values))


class TestPsnr:
    @pytest.mark.parametrize("sigma", [0.001, 0.1, 0.5])
    def test_agrees_with_scikit_image(self, sigma: float):
        clean = photographs(60, 70)
        image = noisy(clean, sigma)
        for value, error, x, y in zip(psnr(image, clean), mse(image, clean), image, clean, strict=True):
            x, y = x.double().clamp(0, 1).numpy(), y.double().numpy()
            assert value.item() == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), abs=1e-4)
            assert error.item() == pytest.approx(mean_squared_error(y, x), rel=1e-5)

    def test_is_capped_for_equal_images(self):
        clean = photographs(8, 8)
        assert psnr(clean, clean).tolist() == [100] * 4

    def test_clamps_both_images(self):
        clean = photographs(8, 8, 1)
        assert psnr(torch.full_like(clean, 7.0), torch.full_like(clean, 1.0)).item() == 100
        assert mse(torch.full_like(clean, -3.0), torch.full_like(clean, 2.0)).item() == 1

    def test_mask_counts_only_its_pixels(self):
        clean = photographs(20, 30, 3)
        image = noisy(clean)
        mask = torch.zeros(3, 1, 20, 30)
        mask[0, :, 3:9, 5:25] = 1
        mask[1] = 1
        image[0, :, 10:] = math.nan
        value = psnr(image, clean, mask)
        assert value[0].item() == pytest.approx(psnr(image[:1, :, 3:9, 5:25], clean[:1, :, 3:9, 5:25]).item(), abs=1e-4)
        assert value[1].item() == pytest.approx(psnr(image, clean)[1].item(), abs=1e-4)
        assert value[2].isnan()

    def test_one_image_gives_a_scalar(self):
        clean = photographs(20, 30, 2)
        image, mask = noisy(clean), torch.zeros(2, 1, 20, 30)
        mask[..., :9] = 1
        for measure in (psnr, ssim, mse):
            value = measure(image[1], clean[1])
            assert value.shape == ()
            assert value == measure(image, clean)[1]
        assert psnr(image[1], clean[1], mask[1]) == psnr(image, clean, mask)[1]
        with pytest.raises(ValueError, match="one shape"):
            psnr(image[0], clean)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("measure", [psnr, ssim, mse])
    @pytest.mark.parametrize("size", [(20, 30), (70, 80)])
    @pytest.mark.parametrize("at", [0, 1])
    def test_an_image_with_a_value_that_is_not_finite_gives_nan(self, measure, value: float, size, at: int):
        """Clamping would make 0 or 1 of an infinity, and a plausible number of the image."""
        pair = [noisy(photographs(*size, 3)), photographs(*size, 3)]
        expected = measure(*pair)
        pair[at][1, 2, 7, 5] = value
        found = measure(*pair)
        assert found.isnan().tolist() == [False, True, False]
        assert torch.equal(found[[0, 2]], expected[[0, 2]])

    def test_refuses_to_broadcast(self):
        with pytest.raises(ValueError, match="one shape"):
            psnr(torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8))


class TestSsim:
    # Both blurs, both sides of the border between them, and heights just under, at and over a tile of rows.
    @pytest.mark.parametrize(
        "size", [(11, 11), (28, 28), (32, 64), (64, 65), (80, 11), (137, 70), (138, 70), (139, 70), (300, 200)]
    )
    @pytest.mark.parametrize("sigma", [0.01, 0.2])
    def test_agrees_with_scikit_image(self, size: tuple[int, int], sigma: float):
        clean = photographs(*size)
        image = noisy(clean, sigma)
        np.testing.assert_allclose(ssim(image, clean).numpy(), skimage_ssim(image, clean), rtol=0, atol=1e-6)

    def test_agrees_with_scikit_image_on_a_whole_photograph(self):
        clean = photographs(512, 512, 1)
        image = noisy(clean)
        np.testing.assert_allclose(ssim(image, clean).numpy(), skimage_ssim(image, clean), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("size", [28, 90])
    def test_keeps_its_digits_on_flat_images(self, size: int):
        x, y = torch.rand(50, 2, 1, 1, 1, generator=torch.Generator().manual_seed(0)).unbind(1)
        value = ssim(x.expand(-1, 1, size, size), y.expand(-1, 1, size, size))
        x, y = x.double().flatten(), y.double().flatten()
        torch.testing.assert_close(value.double(), (2 * x * y + 1e-4) / (x * x + y * y + 1e-4), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("size", "taps"), [((8, 8), 7), ((10, 12), 9), ((9, 70), 9), ((3, 5), 3), ((2, 2), 1), ((13, 15), 11)]
    )
    def test_small_images_shrink_the_window(self, size: tuple[int, int], taps: int):
        clean = photographs(*size, 2)
        image = noisy(clean)
        x, y = image.double().clamp(0, 1).numpy(), clean.double().numpy()
        expected = [np.mean([loop_ssim(x[i, c], y[i, c], taps) for c in range(3)]) for i in range(2)]
        np.testing.assert_allclose(ssim(image, clean).numpy(), expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("size", [32, 96])
    def test_is_float32_under_autocast_and_for_any_memory_format(self, size: int):
        clean = photographs(size, size)
        image = noisy(clean)
        expected, expected_psnr = ssim(image, clean), psnr(image, clean)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(ssim(image, clean), expected)
            assert torch.equal(psnr(image, clean), expected_psnr)
        channels_last = image.to(memory_format=torch.channels_last)
        torch.testing.assert_close(ssim(channels_last, clean), expected, rtol=0, atol=1e-6)
        half = image.bfloat16()
        assert torch.equal(ssim(half, clean), ssim(half.float(), clean))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    @pytest.mark.parametrize("size", [48, 96])
    def test_is_float32_whatever_the_default_dtype(self, size: int, dtype: torch.dtype):
        clean = photographs(size, size + 1, 2)
        image = noisy(clean, 0.02)
        images._band.cache_clear()
        torch.set_default_dtype(dtype)
        try:
            for some in (image, image.to(dtype)):  # neither the net's type nor what the cache holds since then matters
                found = ssim(some, clean)
                assert found.dtype == torch.float32
                np.testing.assert_allclose(found.numpy(), skimage_ssim(some, clean), rtol=0, atol=1e-6)
        finally:
            torch.set_default_dtype(torch.float32)
        np.testing.assert_allclose(ssim(image, clean).numpy(), skimage_ssim(image, clean), rtol=0, atol=1e-6)

    def test_is_exact_when_fast_matrix_products_are_allowed(self, monkeypatch: pytest.MonkeyPatch):
        clean = photographs(32, 32)
        image = noisy(clean)
        expected = ssim(image, clean)

        def refuse(*_: object) -> Tensor:
            raise AssertionError("a matrix product may be bfloat16 here")

        monkeypatch.setattr(images, "_matmul_blur", refuse)
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
        torch.testing.assert_close(ssim(image, clean), expected, rtol=0, atol=1e-6)

    def test_many_planes_are_tiled(self):
        clean = photographs(28, 28, 100)
        image = noisy(clean)
        one_by_one = torch.cat([ssim(image[i : i + 1], clean[i : i + 1]) for i in range(100)])
        torch.testing.assert_close(ssim(image, clean), one_by_one, rtol=0, atol=1e-6)

    def test_leaves_its_arguments_alone_and_takes_an_empty_batch(self):
        clean = photographs(70, 70)
        image = noisy(clean)
        copies = image.clone(), clean.clone()
        ssim(image, clean), psnr(image, clean), mse(image, clean)
        assert torch.equal(image, copies[0])
        assert torch.equal(clean, copies[1])
        assert ssim(image[:0], clean[:0]).shape == (0,)


class TestClassification:
    @pytest.mark.parametrize("present", [4, 6])
    def test_agrees_with_scikit_learn(self, present: int):
        """Also where classes occur in neither, only in the labels, or only in the predictions."""
        generator = torch.Generator().manual_seed(present)
        label = torch.randint(present, (200,), generator=generator)
        other = torch.randint(1, 5, (200,), generator=generator)
        prediction = torch.where(torch.rand(200, generator=generator) < 0.6, label, other)
        scores = classification(prediction, label, 7)
        macro = {"average": "macro", "zero_division": 0}
        truth = {
            "accuracy": sklearn.metrics.accuracy_score(label, prediction),
            "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(label, prediction),
            "precision": sklearn.metrics.precision_score(label, prediction, **macro),
            "recall": sklearn.metrics.recall_score(label, prediction, **macro),
            "f1": sklearn.metrics.f1_score(label, prediction, **macro),
            "f1_weighted": sklearn.metrics.f1_score(label, prediction, average="weighted", zero_division=0),
        }
        assert scores == pytest.approx(truth, abs=1e-12)
        counts = confusion(prediction, label, 7)
        assert counts.dtype == torch.int64
        np.testing.assert_array_equal(counts, sklearn.metrics.confusion_matrix(label, prediction, labels=range(7)))

    @pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
    def test_scores_that_are_not_finite_predict_no_class_and_count_as_wrong(self, score: float):
        logits = torch.eye(3)[torch.tensor([0, 1, 2, 0])]
        logits[3, 1] = score
        prediction = metrics.predicted(logits)
        assert prediction.tolist() == [0, 1, 2, -1]
        scores = classification(prediction, torch.tensor([0, 1, 2, 0]), 3)
        assert scores["accuracy"] == 0.75
        assert scores["recall"] == pytest.approx((0.5 + 1 + 1) / 3)
        assert confusion(prediction, torch.tensor([0, 1, 2, 0]), 3).tolist() == torch.eye(3).int().tolist()

    def test_images_without_label_do_not_count(self):
        scores = classification(torch.tensor([0, 1, 1]), torch.tensor([0, -1, 1]), 2)
        assert len(scores) == 6
        assert set(scores.values()) == {1}
        assert all(map(math.isnan, classification(torch.tensor([0]), torch.tensor([-1]), 2).values()))


def test_every_classification_score_has_its_convention():
    stated = {name for name, row in ROWS.items() if row.convention}
    assert set(classification(torch.tensor([0]), torch.tensor([0]), 2)) <= stated
    assert {"psnr", "psnr_degraded", "psnr_hole", "ssim", "mse"} <= stated
