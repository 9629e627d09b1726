"""Losses of the elements of images, what combines and averages them, and penalties."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.errors import InputError
from recon.ranges import require_number


def wide(x: Tensor) -> Tensor:
    """Convert to float32; float64 stays.

    >>> wide(torch.ones(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x if x.dtype == torch.float64 else x.float()


class PixelLoss:
    """The difference of images (B,C,H,W) from clean ones: one value per element, (B,C,H,W), or per image, (B,).

    >>> per_image(L1()(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.5)))
    tensor([0.5000])
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Compare images with clean ones."""
        raise NotImplementedError


class L1(PixelLoss):
    """The absolute error of every element.

    >>> L1()(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)).item()
    0.5
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        return (wide(image) - wide(clean)).abs()


class MSE(PixelLoss):
    """The squared error of every element.

    >>> MSE()(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)).item()
    0.25
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        return (wide(image) - wide(clean)).square()


class Charbonnier(PixelLoss):
    """The smooth absolute error √(d² + epsilon²) of every element (Charbonnier et al. 1994).

    >>> Charbonnier(epsilon=3.0)(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 4.0)).item()
    5.0

    Args:
        epsilon: above 0; 1e-3 in Lai et al. (2017).
    """

    def __init__(self, epsilon: float = 1e-3) -> None:
        require_number("epsilon", epsilon, least=1e-12)
        self.epsilon = epsilon

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        return ((wide(image) - wide(clean)).square() + self.epsilon**2).sqrt()


class BCE(PixelLoss):
    """The binary cross-entropy in nats of every element, for images in [0,1] such as a sigmoid gives.

    >>> round(BCE()(torch.full((1, 1, 1, 1), 0.5), torch.ones(1, 1, 1, 1)).item(), 4)
    0.6931
    """

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        # Autocast refuses this function on CUDA because of the logarithm near 0 and 1.
        image = wide(image)
        with torch.autocast(image.device.type, enabled=False):
            return F.binary_cross_entropy(image, clean.to(image.dtype), reduction="none")


class Gaussian(PixelLoss):
    """The negative log-density in nats of every element, normal about the image with standard deviation `sigma`.

    >>> round(Gaussian(sigma=1.0)(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)).item(), 4)
    1.4189

    Args:
        sigma: above 0.
    """

    def __init__(self, sigma: float = 0.1) -> None:
        require_number("sigma", sigma, least=1e-4)
        self.sigma = sigma

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        difference = (wide(image) - wide(clean)) / self.sigma
        return difference.square() / 2 + math.log(self.sigma * math.sqrt(2 * math.pi))


class DiscretisedLogistic(PixelLoss):
    """The negative log-probability in nats of every element as one of 256 values, logistic about the image.

    0 and 255 have the tails beyond them (Kingma et al. 2016; Salimans et al., "PixelCNN++", 2017).

    >>> round(DiscretisedLogistic(scale=1e-4)(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)).item(), 4)
    0.0

    Args:
        scale: of the logistic distribution, in image values; above 0.
    """

    def __init__(self, scale: float = 0.05) -> None:
        require_number("scale", scale, least=1e-4)
        self.scale = scale

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W)."""
        clean = (wide(clean) * 255).round() / 255
        difference, half = clean - wide(image), 0.5 / 255
        upper, lower = (difference + half) / self.scale, (difference - half) / self.scale
        # log(σ(u) - σ(l)) = log σ(u) + log σ(-l) + log(1 - exp(l - u)), which keeps its digits far from the image.
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + math.log(-math.expm1(-2 * half / self.scale))
        return -torch.where(
            clean < half, F.logsigmoid(upper), torch.where(clean > 1 - half, F.logsigmoid(-lower), inside)
        )


class Sum(PixelLoss):
    """A weighted sum of losses: one value per element where all its terms have one, else per image.

    >>> Sum([L1(), MSE()], [1.0, 2.0])(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)).item()
    1.0

    Args:
        terms: at least one.
        weights: one for each term, at least 0.
    """

    def __init__(self, terms: Sequence[PixelLoss], weights: Sequence[float]) -> None:
        if not terms or len(terms) != len(weights):
            raise InputError(f"weights: there are {len(weights)} for {len(terms)} terms; give one for each term")
        for weight in weights:
            require_number("weights", weight)
        self.terms, self.weights = list(terms), list(weights)

    def __call__(self, image: Tensor, clean: Tensor) -> Tensor:
        """Return (B,C,H,W), or (B,)."""
        values = [term(image, clean) for term in self.terms]
        if any(value.ndim == 1 for value in values):
            values = [per_image(value) for value in values]
        return torch.stack([weight * value for weight, value in zip(self.weights, values, strict=True)]).sum(0)


def per_image(loss: Tensor) -> Tensor:
    """Average a pixel loss (B,C,H,W) over each image; one that is (B,) already stays.

    >>> per_image(torch.ones(2, 3, 4, 4)).tolist()
    [1.0, 1.0]
    """
    return loss.mean((1, 2, 3)) if loss.ndim > 1 else loss


def hole_weighted(loss: Tensor, mask: Tensor, hole_weight: float) -> Tensor:
    """Average a pixel loss over each image, where a hole pixel counts `hole_weight` times as much as a known one.

    >>> hole_weighted(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]]), 3.0).item()
    0.75

    Args:
        loss: (B,C,H,W), one value per element; a loss (B,) of whole images knows no holes and stays as it is.
        mask: (B,1,H,W), 1 where the pixel is known and 0 in a hole.
        hole_weight: 1 gives the plain mean.

    Returns:
        (B,), divided by the sum of the weights, so that the size of the holes does not scale it.
    """
    loss, mask = wide(loss), wide(mask)
    if loss.ndim == 1:
        return loss
    weight = (mask + hole_weight * (1 - mask)).expand_as(loss)
    return (loss * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, diag exp(log_variance)) from N(0, I) (Kingma & Welling 2014, appendix B).

    >>> kl_to_standard_normal(torch.ones(1, 4), torch.zeros(1, 4)).item()
    2.0

    Args:
        mean: (B,D) or (B,...), summed over everything but the batch.
        log_variance: as `mean`.

    Returns:
        (B,) in nats.
    """
    mean, log_variance = wide(mean), wide(log_variance)
    # expm1(v) keeps the digits that exp(v) - 1 loses where the variance is near 1.
    return 0.5 * (log_variance.expm1() - log_variance + mean.square()).flatten(1).sum(1)


def l1_penalty(parameters: Iterable[Tensor]) -> Tensor:
    """Sum of the absolute values of all `parameters` (at least one): a scalar.

    >>> l1_penalty([torch.tensor([-1.0, 2.0])]).item()
    3.0
    """
    return torch.stack([wide(parameter).abs().sum() for parameter in parameters]).sum()
