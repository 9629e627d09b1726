"""Distances of distributions against closed forms and independent implementations."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.metrics import pairwise_distances
from sklearn.metrics.pairwise import polynomial_kernel

from recon.errors import InputError
from recon.metrics.distribution import expected_coverage, frechet, kernel_distance, support, vendi


def normal(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_frechet_distance_of_two_gaussians() -> None:
    """Of N(0,I) and N(m,s²I): |m|² + D(1 - s)², as far as 200,000 points tell."""
    real, fake = normal(200_000, 3, 0), 2 * normal(200_000, 3, 1) + torch.tensor([1.0, 0.0, -2.0])
    assert float(frechet(real, fake)) == pytest.approx(5 + 3, rel=0.01)
    assert float(frechet(real, real)) < 1e-9


def test_the_frechet_distance_is_that_of_scipys_root() -> None:
    real, fake = normal(50, 8, 0) @ normal(8, 8, 2), normal(60, 8, 1) + 0.3
    a, b = real.numpy(), fake.numpy()
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    wanted = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert float(frechet(real, fake)) == pytest.approx(wanted, rel=1e-9)


def test_fewer_images_than_features_give_a_number_all_the_same() -> None:
    assert math.isfinite(frechet(normal(5, 30, 0), normal(7, 30, 1)))


def test_the_kernel_distance_is_scikit_learns_kernel_and_0_on_average() -> None:
    real, fake = normal(1500, 6, 0), normal(1100, 6, 1) * 1.1
    inner = []
    for x in (real.numpy(), fake.numpy()):
        kernel = polynomial_kernel(x, degree=3, gamma=1 / 6, coef0=1)
        inner.append((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)))
    cross = polynomial_kernel(real.numpy(), fake.numpy(), degree=3, gamma=1 / 6, coef0=1).mean()
    assert float(kernel_distance(real, fake)) == pytest.approx(sum(inner) - 2 * cross, rel=1e-9)
    equal = [float(kernel_distance(normal(60, 6, 2 * seed), normal(60, 6, 2 * seed + 1))) for seed in range(200)]
    assert min(equal) < 0 < max(equal)
    assert abs(np.mean(equal)) < 3 * np.std(equal) / math.sqrt(len(equal))


@pytest.mark.parametrize(("count", "k", "size"), [(1500, 5, 64), (750, 5, 64), (1500, 3, 8)])
def test_density_and_coverage_of_equal_distributions(count: int, k: int, size: int) -> None:
    real, fake = normal(1500, size, 0), normal(count, size, 1)
    found = support(real, fake, k)
    assert float(found.coverage) == pytest.approx(expected_coverage(1500, count, k), abs=0.02)
    assert float(found.density) == pytest.approx(1, abs=0.08)


def test_precision_recall_density_and_coverage_by_their_definitions() -> None:
    real, fake, k = normal(300, 4, 0), normal(250, 4, 1) * 0.7 + 0.2, 5
    a, b = real.numpy(), fake.numpy()
    reach_a, reach_b = (np.sort(pairwise_distances(x), axis=1)[:, k] for x in (a, b))
    distance = pairwise_distances(a, b)
    wanted = (
        (distance < reach_a[:, None]).any(0).mean(), (distance < reach_b[None]).any(1).mean(),
        (distance < reach_a[:, None]).sum(0).mean() / k, (distance < reach_a[:, None]).any(1).mean(),
    )  # fmt: skip
    np.testing.assert_allclose([float(value) for value in support(real, fake, k)], wanted)


def test_one_image_over_and_over_is_of_no_recall() -> None:
    real = normal(500, 8, 0)
    found = support(real, real[:1].repeat(500, 1) + 1e-6 * normal(500, 8, 1))
    assert float(found.recall) < 0.01
    assert float(found.coverage) < 0.05


def test_vendi_counts_what_is_different() -> None:
    assert float(vendi(torch.eye(7))) == pytest.approx(7)
    assert float(vendi(torch.eye(7).repeat(3, 1))) == pytest.approx(7)
    assert float(vendi(torch.ones(9, 4))) == pytest.approx(1)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match="at least 6 images"):
        support(normal(5, 3, 0), normal(50, 3, 1))
