"""Whether an adversarial training is healthy, from what it computes anyway; and what to change where it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

EVERY = 25  # steps between two looks
_FIRST = 8  # looks before anything is said: at the start all signs are odd
_WINDOW = 5  # looks whose median counts

REMEDIES = {
    "diverging": "lower optimizer.lr, or add model.r1=0.1 (with model.net.norm=none)",
    "collapsing": "add model.r1 or model.gradient_penalty, or lower model.discriminator_rate",
    "stalling": "balance the players: raise or lower model.discriminator_rate, or choose model/loss=hinge",
    "over-fitting": "add model.augment=[shift,cutout] model.augment_target=0.6, or take more images",
}


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


class Health:
    """The looks at a training so far, and what they say.

    Attributes:
        signs: of each look.
        states: what each says: "healthy", or a key of `REMEDIES`.
    """

    def __init__(self) -> None:
        self.signs: list[Signs] = []
        self.states: list[str] = []

    def look(self, signs: Signs) -> str:
        """Add a look; returns the state."""
        self.signs.append(signs)
        self.states.append(self._state())
        return self.states[-1]

    def _median(self, name: str) -> float:
        values = [getattr(signs, name) for signs in self.signs[-_WINDOW:]]
        return median(values) if all(map(math.isfinite, values)) else math.nan

    def _state(self) -> str:
        return "healthy"

    def rows(self) -> list[dict[str, Any]]:
        """Return each look as a row of a table."""
        return [{**asdict(signs), "state": state} for signs, state in zip(self.signs, self.states, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"signs": [asdict(signs) for signs in self.signs], "states": list(self.states)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of `state_dict`."""
        self.signs, self.states = [Signs(**signs) for signs in state["signs"]], list(state["states"])
