"""What training minimises: pixel losses, adversarial losses and penalties, in plain torch.

All are computed in float32, or float64 where that is what they are given: differences of numbers near each other, as
those of half-precision nets, would lose their digits, and sums over images would overflow.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.errors import InputError

_T = TypeVar("_T")

PixelLoss = Callable[[Tensor, Tensor], Tensor]


def wide(x: Tensor) -> Tensor:
    """Give the same numbers in float32, or float64 where they are that."""
    return x if x.dtype == torch.float64 else x.float()


def _l1(image: Tensor, clean: Tensor) -> Tensor:
    return (wide(image) - wide(clean)).abs()


def _mse(image: Tensor, clean: Tensor) -> Tensor:
    return (wide(image) - wide(clean)).square()


def _charbonnier(image: Tensor, clean: Tensor) -> Tensor:
    return ((wide(image) - wide(clean)).square() + 1e-3**2).sqrt()


def _bce(image: Tensor, clean: Tensor) -> Tensor:
    # Autocast refuses this function on CUDA because of the logarithm near 0 and 1.
    image = wide(image)
    with torch.autocast(image.device.type, enabled=False):
        return F.binary_cross_entropy(image, clean.to(image.dtype), reduction="none")


_PIXEL_LOSSES: dict[str, PixelLoss] = {"l1": _l1, "mse": _mse, "charbonnier": _charbonnier, "bce": _bce}


def pixel_loss(name: str) -> PixelLoss:
    """Choose the loss of every element; `.mean()` or `hole_weighted` makes it a scalar.

    Args:
        name: "l1", "mse", "charbonnier" (Charbonnier et al. 1994, epsilon 1e-3 as in Lai et al. 2017), or "bce",
            the binary cross-entropy in nats of images in [0,1] such as a sigmoid gives.

    Returns:
        A function of image (B,C,H,W) and clean (B,C,H,W) that returns (B,C,H,W).

    Raises:
        InputError: the name is unknown.
    """
    return _choose(_PIXEL_LOSSES, name, "pixel loss")


def hole_weighted(loss: Tensor, mask: Tensor, hole_weight: float) -> Tensor:
    """Mean over each image of a pixel loss in which a hole pixel counts `hole_weight` times as much as a known one.

    Args:
        loss: (B,C,H,W), one value per element.
        mask: (B,1,H,W), 1 where the pixel is known and 0 in a hole.
        hole_weight: 1 gives the plain mean.

    Returns:
        (B,), divided by the sum of the weights, so that the size of the holes does not scale it.
    """
    loss, mask = wide(loss), wide(mask)
    weight = (mask + hole_weight * (1 - mask)).expand_as(loss)
    return (loss * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, diag exp(log_variance)) from N(0, I) (Kingma & Welling 2014, appendix B).

    Args:
        mean: (B,D) or (B,...), summed over everything but the batch.
        log_variance: as `mean`.

    Returns:
        (B,) in nats.
    """
    mean, log_variance = wide(mean), wide(log_variance)
    # Not exp(v) - 1, which loses its digits where the variance is near 1.
    return 0.5 * (log_variance.expm1() - log_variance + mean.square()).flatten(1).sum(1)


class Adversarial(NamedTuple):
    """The two losses of a generative adversarial network.

    Attributes:
        discriminator: from the logits of real and of generated images, (B,) each, to (B,).
        generator: from the logits (B,) of generated images to (B,).
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


_ADVERSARIAL = {
    "minimax": Adversarial(
        lambda real, fake: F.softplus(-wide(real)) + F.softplus(wide(fake)),
        lambda fake: F.softplus(-wide(fake)),
    ),
    "hinge": Adversarial(
        lambda real, fake: F.relu(1 - wide(real)) + F.relu(1 + wide(fake)),
        lambda fake: -wide(fake),
    ),
    "least_squares": Adversarial(
        lambda real, fake: 0.5 * (wide(real) - 1).square() + 0.5 * wide(fake).square(),
        lambda fake: 0.5 * (wide(fake) - 1).square(),
    ),
    "wasserstein": Adversarial(
        lambda real, fake: wide(fake) - wide(real),
        lambda fake: -wide(fake),
    ),
}


def adversarial(kind: str) -> Adversarial:
    """Choose the losses of discriminator and generator.

    Args:
        kind: "minimax" (Goodfellow et al. 2014, the generator's non-saturating form), "hinge" (Lim & Ye 2017),
            "least_squares" (Mao et al. 2017, targets 0 and 1) or "wasserstein" (Arjovsky et al. 2017; the critic
            also needs `gradient_penalty`).

    Raises:
        InputError: the kind is unknown.
    """
    return _choose(_ADVERSARIAL, kind, "adversarial loss")


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Penalty of a critic whose gradient between real and generated images is not of norm 1 (Gulrajani et al. 2017).

    Args:
        critic: from images (B,C,H,W) to one logit each; it must not mix the images of a batch, as batch norm does.
        real: (B,C,H,W).
        fake: (B,C,H,W).
        mix: (B,) in [0,1], where between fake (0) and real (1) the gradient is taken.

    Returns:
        The scalar mean of (norm - 1)², differentiable in the critic's parameters only.
    """
    real, fake = wide(real.detach()), wide(fake.detach())
    between = fake.lerp(real.to(fake.dtype), mix.view(-1, 1, 1, 1).to(fake.dtype)).requires_grad_()
    (gradient,) = torch.autograd.grad(wide(critic(between)).sum(), between, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norm - 1).square().mean()


def l1_penalty(parameters: Iterable[Tensor]) -> Tensor:
    """Sum of the absolute values of all `parameters` (at least one): a scalar."""
    return torch.stack([wide(parameter).abs().sum() for parameter in parameters]).sum()


def _choose(choices: dict[str, _T], name: str, what: str) -> _T:
    if name not in choices:
        raise InputError(f"unknown {what} '{name}': choose one of {', '.join(choices)}")
    return choices[name]
