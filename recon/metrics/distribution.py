"""How two sets of images differ as distributions, in the features of a net: (N,D) each.

All are computed in float64. Sets of different sizes are compared, but a measure that is biased in the number of images
(the Fréchet distance, coverage) says something only beside another at the same number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recon.errors import InputError

_BLOCK = 1024  # rows of a matrix of distances or kernels that are computed at a time


def frechet(real: Tensor, fake: Tensor) -> Tensor:
    """The Fréchet distance of two Gaussians with the mean and covariance of the sets (Dowson & Landau 1982).

    Of Inception's features it is the FID (Heusel et al. 2017). It is biased upwards by about the trace of the
    covariances divided by the number of images.

    >>> points = torch.randn(100, 3)
    >>> abs(frechet(points, points)) < 1e-9, frechet(points, points + 2).round(decimals=6).item()
    (tensor(True), 12.0)

    Args:
        real: (N,D).
        fake: (M,D).

    Returns:
        A scalar, at least 0.
    """
    (mean, covariance), (other_mean, other_covariance) = _moments(real), _moments(fake)
    root = _root(covariance)
    # The eigenvalues of the product of both covariances, of which the root is asked, without its imaginary rounding.
    cross = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp_min(0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + covariance.trace() + other_covariance.trace() - 2 * cross
    return torch.clamp(distance, min=0)


def kernel_distance(real: Tensor, fake: Tensor) -> Tensor:
    """The squared maximum mean discrepancy by the kernel (x·y/D + 1)³, unbiased (Bińkowski et al. 2018, KID).

    Its expectation for equal distributions is 0, so that about half of such values are negative.

    Args:
        real: (N,D), N at least 2.
        fake: (M,D), M at least 2.
    """
    real, fake = real.double(), fake.double()
    _require(2, real, fake)
    within = [(_kernel_sum(x, x) - _kernel(x, x, diagonal=True).sum()) / (len(x) * (len(x) - 1)) for x in (real, fake)]
    return within[0] + within[1] - 2 * _kernel_sum(real, fake) / (len(real) * len(fake))


class Support(NamedTuple):
    """How two sets cover each other, each a scalar in [0,1] but density, which may be more.

    Attributes:
        precision: the share of generated images within the reach of a real one (Kynkäänniemi et al. 2019).
        recall: the share of real images within the reach of a generated one.
        density: in the reach of how many real images a generated one lies, divided by k (Naeem et al. 2020); 1 for
            equal distributions.
        coverage: the share of real images with a generated one in their reach; see `expected_coverage`.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def support(real: Tensor, fake: Tensor, k: int = 5) -> Support:
    """Tell how two sets cover each other; the reach of an image is the distance to its k-th neighbour in its own set.

    Args:
        real: (N,D), N above k.
        fake: (M,D), M above k.
        k: how many neighbours reach.
    """
    return Support(*(values.mean() for values in support_of_each(real, fake, k)))


def support_of_each(real: Tensor, fake: Tensor, k: int = 5) -> Support:
    """Return what `support` is the means of, with its arguments.

    Returns:
        Precision and density of each generated image (M,), recall and coverage of each real one (N,).
    """
    real, fake = real.double(), fake.double()
    _require(k + 1, real, fake)
    of_real, of_fake = _reach(real, k), _reach(fake, k)
    inside, covered, reached = (torch.zeros(len(x), dtype=torch.float64, device=x.device) for x in (fake, real, real))
    for start in range(0, len(real), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distance = _distances(real[rows], fake)
        within = distance < of_real[rows, None]
        inside += within.sum(0)
        covered[rows] = within.any(1).double()
        reached[rows] = (distance < of_fake).any(1).double()
    return Support((inside > 0).double(), reached, inside / k, covered)


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    """The coverage that is expected of so many images of equal distributions (Naeem et al. 2020).

    >>> round(expected_coverage(1500, 1500), 4), round(expected_coverage(1500, 750), 4)
    (0.9689, 0.8688)
    """
    missed = 1.0
    for neighbour in range(1, k + 1):
        missed *= (real - neighbour) / (real + fake - neighbour)
    return 1 - missed


def vendi(features: Tensor) -> Tensor:
    """How many different images there are in effect: the exponential of the entropy of similarities (Friedman 2023).

    Similarity is the cosine of the features.

    >>> vendi(torch.eye(4)).round(decimals=6).item(), vendi(torch.ones(4, 3)).round(decimals=6).item()
    (4.0, 1.0)

    Args:
        features: (N,D).
    """
    x = torch.nn.functional.normalize(features.double(), dim=1)
    # The similarities (N,N) have the eigenvalues of this smaller matrix, and zeros.
    share = torch.linalg.eigvalsh(x.mT @ x if x.shape[1] < len(x) else x @ x.mT).clamp_min(0) / len(x)
    effective: Tensor = torch.special.entr(share).sum().exp()
    return effective


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.double()
    _require(2, x)
    return x.mean(0), torch.cov(x.mT).view(x.shape[1], x.shape[1])


def _root(matrix: Tensor) -> Tensor:
    """Return the square root of a symmetric matrix whose negative eigenvalues are rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.mT
    return root


def _kernel(x: Tensor, y: Tensor, diagonal: bool = False) -> Tensor:
    product: Tensor = (x * y).sum(1) if diagonal else x @ y.mT
    return (product / x.shape[1] + 1).pow(3)


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([_kernel(part, y).sum() for part in x.split(_BLOCK)]).sum()


def _reach(x: Tensor, k: int) -> Tensor:
    """Return the distance of each row to its k-th neighbour, itself left out: (N,)."""
    closest = [_distances(part, x).topk(k + 1, 1, largest=False, sorted=False).values for part in x.split(_BLOCK)]
    return torch.cat(closest).amax(1)


def nearest(x: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance of each row (N,D) to the nearest of others (M,D), and the index of that: (N,) each.

    The search is in float32, which takes half the time, relative to the mean of the others, which keeps differences
    exact enough; the distance is that in float64.
    """
    mean = among.double().mean(0)
    others = (among.double() - mean).float()
    squares = others.square().sum(1)
    parts = (x.double() - mean).float().split(_BLOCK)
    index = torch.cat([torch.addmm(squares, part, others.mT, alpha=-2).argmin(1) for part in parts])
    distance = torch.linalg.vector_norm(x.double() - among[index].double(), dim=1)
    return distance, index


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Return Euclidean distances (N,M), those of equal rows 0 but for rounding."""
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")


def _require(least: int, *sets: Tensor) -> None:
    for x in sets:
        if x.ndim != 2 or len(x) < least:
            raise InputError(f"features: they are of {tuple(x.shape)}; give (N,D) of at least {least} images")
