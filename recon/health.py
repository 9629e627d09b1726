"""Whether an adversarial training is healthy, by signs that are read every few steps; what to change if not.

It imports no torch, so that a report says the same of a run folder. How often it is right, and by which runs its limits
were chosen, stands in docs/generation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

EVERY = 25  # steps between two looks
HEALTHY = "healthy"
# By their numbers in `metrics.csv`.
STATES = (HEALTHY, "stalling", "diverging", "collapsing", "over-fitting")
ADVICE = {
    "stalling": "the generator no longer learns: check the labels, or bring optimizer.lr and model.discriminator_rate "
    "back to their defaults, or choose another model/loss",
    "diverging": "the players run away from each other: lower optimizer.lr, or add model.r1=0.5 with "
    "model.net.norm=none, or double it where it is there",
    "collapsing": "images of a class become alike: lower optimizer.lr or raise task.batch_size, or add model.r1=0.5 "
    "with model.net.norm=none, or double it where it is there",
    "over-fitting": "the discriminator knows the training images by heart: add model.augment=[shift,cutout] "
    "model.augment_target=0.6, or take more images",
}
_FIRST = 8  # looks before anything is said but that a number is not finite: at the start all signs are odd
_WINDOW = 5  # looks whose median counts
_PATIENCE = 4  # looks in a row that must agree before the state changes
_APART = 30.0  # between the mean logits: a logistic loss has no gradient left there
_WRONG = -3.0  # standard deviations by which clean images are taken for generated ones
_ALIKE = 0.25  # of the diversity of clean images
_FELL = 0.5  # of the greatest diversity so far: some nets begin with images that are all alike
_LONG = 40  # looks after which images that are still alike are no beginning
_LOST = 0.5  # of the best coverage so far
_SOME = 0.3  # coverage from which on its loss counts
_SEEN = 0.1  # coverage from which on images can be recognised as their label
_FOLLOWING = 1 / 3  # of the coverage: how far images that follow their labels are recognised at least
_KNOWN = 0.7  # of the way from training images to generated ones that held-out images lie


@dataclass(frozen=True)
class Signs:
    """What is read at one look.

    Attributes:
        step: of the training.
        real, fake: the mean logits of clean and of generated images.
        spread: the standard deviation of both about their means.
        certain: the mean sign of the logits of clean images, less those of generated ones where a loss pairs them.
        generator_gradient, discriminator_gradient: the norms.
        diversity: the standard deviation within classes of images of a fixed batch of noise, over that of clean ones;
            NaN before enough of these were seen.
        held_out: how far the logits of held-out clean images lie from those of the training images towards those of
            generated ones: 0 not at all, 1 all the way; NaN before the first validation.
        followed: how far generated images are recognised as their label by a judge, at the latest validation: 0 as by
            chance, 1 all of them; or NaN.
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


def sign_of(signs: Sequence[Signs]) -> str:
    """Return what the latest of the looks so far points to, one of `STATES`."""
    last = signs[-1]
    if not all(map(math.isfinite, (last.real, last.fake, last.spread))):
        return "diverging"
    if len(signs) <= _FIRST:
        return HEALTHY
    apart, spread = _typical(signs, "real") - _typical(signs, "fake"), _typical(signs, "spread")
    diversity, diverse = _typical(signs, "diversity"), _greatest(signs, "diversity")
    best = _greatest(signs, "covered")
    pointers = {
        "diverging": abs(apart) > _APART,
        "stalling": apart < _WRONG * spread
        or all(covered > _SEEN and followed < _FOLLOWING * covered for covered, followed in _validations(signs))
        or (diversity < _ALIKE and diverse < _ALIKE / _FELL and len(signs) > _LONG),
        "collapsing": (diversity < _ALIKE and diversity < _FELL * diverse)
        or (best > _SOME and last.covered < _LOST * best),
        "over-fitting": last.held_out > _KNOWN,
    }
    return next((state for state, points in pointers.items() if points), HEALTHY)


def state_after(state: str, pointers: Sequence[str]) -> str:
    """Return the state after a look: it changes when the latest looks agree.

    Args:
        state: before it.
        pointers: what each look so far points to, the latest last.
    """
    latest = pointers[-_PATIENCE:]
    return latest[-1] if len(latest) == _PATIENCE and len(set(latest)) == 1 else state


def _typical(signs: Sequence[Signs], name: str) -> float:
    values = [value for look in signs[-_WINDOW:] if math.isfinite(value := getattr(look, name))]
    return median(values) if values else math.nan


def _validations(signs: Sequence[Signs]) -> list[tuple[float, float]]:
    """Return what was covered and followed at the latest two validations; NaN where there were fewer."""
    found = [(signs[-1].covered, signs[-1].followed)]
    before = ((look.covered, look.followed) for look in reversed(signs))
    return [*found, next((each for each in before if each != found[0]), (math.nan, math.nan))]


def _greatest(signs: Sequence[Signs], name: str) -> float:
    return max((value for look in signs if math.isfinite(value := getattr(look, name))), default=math.nan)
