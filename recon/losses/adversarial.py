"""Losses of generative adversarial networks, and the penalty of a critic."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from recon.losses.pixel import wide


class AdversarialLoss:
    """The two losses of a generative adversarial network; logits (B,) to losses (B,).

    >>> Wasserstein().generator(torch.ones(1)).item()
    -1.0
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of the discriminator for the logits of clean and of generated images."""
        raise NotImplementedError

    def generator(self, fake: Tensor) -> Tensor:
        """Return the loss of the generator for the logits of generated images."""
        raise NotImplementedError


class Minimax(AdversarialLoss):
    """Goodfellow et al. (2014), with the generator's non-saturating form.

    >>> round(Minimax().generator(torch.zeros(1)).item(), 4)
    0.6931
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return F.softplus(-wide(real)) + F.softplus(wide(fake))

    def generator(self, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return F.softplus(-wide(fake))


class Hinge(AdversarialLoss):
    """Lim & Ye (2017).

    >>> Hinge().discriminator(torch.ones(1), -torch.ones(1)).item()
    0.0
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return (B,)."""
        return F.relu(1 - wide(real)) + F.relu(1 + wide(fake))

    def generator(self, fake: Tensor) -> Tensor:
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

    def generator(self, fake: Tensor) -> Tensor:
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

    def generator(self, fake: Tensor) -> Tensor:
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
