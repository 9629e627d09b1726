"""Signs of the health of an adversarial training, read every few steps from what it computes anyway."""

from __future__ import annotations

import math
from dataclasses import dataclass

EVERY = 25  # steps between two looks


@dataclass(frozen=True)
class Signs:
    """What is read at one look.

    Attributes:
        step: of the training.
        real, fake: the mean logits of clean and of generated images.
        spread: the standard deviation of both about their means.
        certain: the mean sign of the logits of clean images, less those of generated ones where a loss pairs them.
        generator_gradient, discriminator_gradient: the norms.
        diversity: the standard deviation within classes of a fixed batch of generated images, over that of clean ones.
        held_out: how far the logits of held-out clean images lie from those of the training images towards those of
            generated ones: 0 not at all, 1 all the way; NaN before the first validation.
        followed: the share of generated images that a judge recognises as their label, at the latest validation, or
            NaN.
        covered: the coverage at the latest validation, or NaN.
    """

    step: int
    real: float
    fake: float
    spread: float
    certain: float
    generator_gradient: float
    discriminator_gradient: float
    diversity: float
    held_out: float = math.nan
    followed: float = math.nan
    covered: float = math.nan
