"""Losses of generative adversarial networks, and the penalties of a critic."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.losses.pixel import wide
from recon.ranges import require_share


class AdversarialLoss:
    """The two losses of a generative adversarial network; logits (B,) to losses (B,).

    >>> Wasserstein().generator(torch.ones(1)).item()
    -1.0
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of the discriminator for the logits of clean and of generated images."""
        raise NotImplementedError

    pairs: ClassVar[bool] = False  # whether the generator's loss depends on the logits of clean images too

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the loss of the generator for the logits of generated images and, where it `pairs`, of clean ones."""
        raise NotImplementedError


class Minimax(AdversarialLoss):
    """Goodfellow et al. (2014), with the generator's non-saturating form.

    >>> round(Minimax().generator(torch.zeros(1)).item(), 4)
    0.6931

    Args:
        smoothing: how far below 1 the discriminator's target for clean images is (Salimans et al. 2016), in [0,1).
        saturating: the paper's first form of the generator's loss, whose gradient vanishes where it loses.

    Raises:
        InputError: a smoothing out of its range.
    """

    def __init__(self, smoothing: float = 0.0, saturating: bool = False) -> None:
        require_share("smoothing", smoothing)
        self.smoothing, self.saturating = smoothing, saturating

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        real = wide(real)
        seen = F.softplus(-real) if not self.smoothing else F.softplus(-real) + self.smoothing * real
        return seen + F.softplus(wide(fake))

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return (B,)."""
        return -F.softplus(wide(fake)) if self.saturating else F.softplus(-wide(fake))


class Relativistic(AdversarialLoss):
    """Which of two images is the clean one (Jolicoeur-Martineau 2019; paired as Huang et al., "R3GAN", NeurIPS 2024).

    With both penalties `r1` and `r2` it converges locally, which the others do not.

    >>> loss = Relativistic()
    >>> torch.equal(loss.generator(torch.ones(1), torch.zeros(1)), loss.discriminator(torch.ones(1), torch.zeros(1)))
    True
    """

    pairs: ClassVar[bool] = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return F.softplus(wide(fake) - wide(real))

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return (B,)."""
        assert real is not None, "this loss compares generated images with clean ones"
        return F.softplus(wide(real) - wide(fake))


class Hinge(AdversarialLoss):
    """Lim & Ye (2017).

    >>> Hinge().discriminator(torch.ones(1), -torch.ones(1)).item()
    0.0
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return F.relu(1 - wide(real)) + F.relu(1 + wide(fake))

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return (B,)."""
        return -wide(fake)


class LeastSquares(AdversarialLoss):
    """Mao et al. (2017), with the targets 0 and 1.

    >>> LeastSquares().generator(torch.zeros(1)).item()
    0.5
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return 0.5 * (wide(real) - 1).square() + 0.5 * wide(fake).square()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return (B,)."""
        return 0.5 * (wide(fake) - 1).square()


class Wasserstein(AdversarialLoss):
    """Arjovsky et al. (2017); the critic also needs `gradient_penalty`.

    >>> Wasserstein().discriminator(torch.ones(1), torch.zeros(1)).item()
    -1.0
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return wide(fake) - wide(real)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return (B,)."""
        return -wide(fake)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Penalty of a critic whose gradient between real and generated images is not of norm 1 (Gulrajani et al. 2017).

    >>> image = torch.zeros(1, 1, 1, 1)
    >>> gradient_penalty(lambda x: 3 * x.sum((1, 2, 3)), image, image, torch.zeros(1)).item()
    4.0

    Args:
        critic: from images (B,C,H,W) to one logit each; it must not mix the images of a batch, as batch norm does.
        real: (B,C,H,W).
        fake: (B,C,H,W).
        mix: (B,) in [0,1]; the gradient is taken at mix · real + (1 - mix) · fake.

    Returns:
        The scalar mean of (norm - 1)², differentiable in the critic's parameters only.
    """
    real, fake = wide(real.detach()), wide(fake.detach())
    between = fake.lerp(real.to(fake.dtype), mix.view(-1, 1, 1, 1).to(fake.dtype)).requires_grad_()
    (gradient,) = torch.autograd.grad(wide(critic(between)).sum(), between, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return (norm - 1).square().mean()


def gradient_square(critic: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """The squared norm of a critic's gradient at images (B,C,H,W), (B,) (Mescheder et al. 2018).

    Half of its mean times a weight is the penalty R1 at clean images and R2 at generated ones.

    >>> gradient_square(lambda x: 3 * x.sum((1, 2, 3)), torch.zeros(2, 1, 1, 2)).tolist()
    [18.0, 18.0]

    Args:
        critic: from images to one logit each; it must not mix the images of a batch, as batch norm does.
        image: where the gradient is taken.

    Returns:
        (B,), differentiable in the critic's parameters only.
    """
    image = wide(image.detach()).requires_grad_()
    (gradient,) = torch.autograd.grad(wide(critic(image)).sum(), image, create_graph=True)
    return gradient.square().sum((1, 2, 3))
