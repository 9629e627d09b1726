"""Looking at the health of an adversarial training, and returning to where it was healthy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from recon.console import say
from recon.health import ADVICE, EVERY, HEALTHY, STATES, Signs, sign_of, state_after
from recon.ranges import require_whole

BETWEEN = 20 * EVERY  # steps between two checkpoints to return to
RATE, PENALTY = 0.25, 2.0  # what a return multiplies the learning rates and the penalties by
FIRST_PENALTY = 0.1  # R1, where there was no penalty and the discriminator can have one


class Relapse(Exception):
    """A training is no longer healthy, and asks to be taken up again where it was.

    Attributes:
        change: what is to be changed in the checkpoint that it returns to, see `change`.
    """

    def __init__(self, change: dict[str, Any]) -> None:
        super().__init__(change["events"][-1]["state"])
        self.change = change


class Health:
    """The looks at a training so far and what they say.

    Args:
        rollback: whether an unhealthy training returns to its last healthy checkpoint, with lower learning rates and
            stronger penalties.
        rollbacks: how often it may.

    Attributes:
        signs: what was read at each look.
        pointers: what each look pointed to.
        state: one of `recon.health.STATES`.
        events: the returns so far: "step" at which the training was in "state", and the step that it went "back" to.
        rate: what the learning rates have been multiplied by.
        kept: the step of the latest checkpoint to return to, or None.
        at_validation: the signs that only a validation gives, of the latest one.
        reference: how clean images of a class differ.

    Raises:
        InputError: a number out of its range.
    """

    def __init__(self, rollback: bool = False, rollbacks: int = 3) -> None:
        require_whole("rollbacks", rollbacks, 0, 100)
        self.rollbacks = rollbacks if rollback else 0
        self.signs: list[Signs] = []
        self.pointers: list[str] = []
        self.state = HEALTHY
        self.events: list[dict[str, Any]] = []
        self.rate = 1.0
        self.kept: int | None = None
        self.at_validation: dict[str, float] = {}
        self.reference = Reference()

    def look(self, signs: Signs) -> bool:
        """Take note of a look; returns whether the state has changed, which is said in a line."""
        self.signs.append(signs)
        self.pointers.append(sign_of(self.signs))
        before, self.state = self.state, state_after(self.state, self.pointers)
        if self.state == before:
            return False
        say(f"health: {self.state} at step {signs.step:,}" + (f": {ADVICE[self.state]}" if self.is_ill else ""))
        return True

    @property
    def is_ill(self) -> bool:
        """Whether the training is in any other state than healthy."""
        return self.state != HEALTHY

    def require_health(self, penalties: Mapping[str, float], can_be_penalised: bool, state: str = "") -> None:
        """Raise Relapse where the training is ill, or in another `state` that is given, and may return."""
        state = state or self.state
        if state == HEALTHY or not self.can_return or self.kept is None:
            return
        stronger = {name: weight * PENALTY for name, weight in penalties.items()}
        if can_be_penalised and not any(stronger.values()):
            stronger["r1"] = FIRST_PENALTY
        step = self.signs[-1].step if self.signs else self.kept
        event = {"step": step, "state": state, "back": self.kept, "rate": self.rate * RATE, **stronger}
        raise Relapse({"events": [*self.events, event], "rate": event["rate"], "penalties": stronger})

    @property
    def can_return(self) -> bool:
        """Whether the training may still return, and has a checkpoint to return to."""
        return self.kept is not None and self._returns_left > 0

    @property
    def _returns_left(self) -> int:
        return self.rollbacks - len(self.events)

    def asks_for_checkpoint(self, step: int) -> bool:
        """Return whether a checkpoint to return to is due before a step, and take note that it is written."""
        is_well = not self.is_ill and self.pointers[-1:] in ([], [HEALTHY])
        due = self._returns_left > 0 and is_well and (self.kept is None or step - self.kept >= BETWEEN)
        self.kept = step if due else self.kept
        return due

    def scalars(self) -> dict[str, float]:
        """Return the state and the signs of the latest look, for dashboards."""
        signs = asdict(self.signs[-1])
        finite = {f"health/{name}": value for name, value in signs.items() if name != "step" and math.isfinite(value)}
        return {"health/state": float(STATES.index(self.state)), **finite}

    def rows(self) -> list[dict[str, Any]]:
        """Return each look as a row of a table of numbers; the state is its number in `STATES`."""
        states, state = [], HEALTHY
        for count in range(len(self.pointers)):
            state = state_after(state, self.pointers[: count + 1])
            states.append(STATES.index(state))
        return [{**asdict(signs), "state": state} for signs, state in zip(self.signs, states, strict=True)]

    @property
    def returns(self) -> list[dict[str, Any]]:
        """The events as rows of a table of numbers."""
        return [{**event, "state": STATES.index(event["state"])} for event in self.events]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {
            "signs": [asdict(signs) for signs in self.signs],
            "reference": [self.reference.total, self.reference.count],
            **{name: getattr(self, name) for name in _SAVED},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state of `state_dict`; an older one has the signs alone."""
        self.signs = [Signs(**signs) for signs in state["signs"]]
        self.pointers = [sign_of(self.signs[: count + 1]) for count in range(len(self.signs))]
        if "reference" in state:
            self.reference.total, self.reference.count = state["reference"]
        for name in _SAVED & state.keys():
            setattr(self, name, state[name])


_SAVED = {"pointers", "state", "events", "rate", "kept", "at_validation"}


def change(checkpoint: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Put what a `Relapse` asks for into the checkpoint that a training returns to, in place: its loops stay exact."""
    health = checkpoint["health"]
    factor = wanted["rate"] / health["rate"]
    health |= wanted
    for optimizer in checkpoint["optimizer_states"]:
        for group in optimizer["param_groups"]:
            group |= {key: group[key] * factor for key in ("lr", "initial_lr", "max_lr", "min_lr") if key in group}
    for schedule in checkpoint["lr_schedulers"]:
        for key in ("base_lrs", "_last_lr", "min_lrs"):
            if key in schedule:
                schedule[key] = [rate * factor for rate in schedule[key]]


class Reference:
    """How clean images of a class differ, by the first batches.

    Attributes:
        total: the squared distances from the means of the classes, over the pixels.
        count: of the images less that of their classes.
    """

    enough = 64

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0.0

    @property
    def is_whole(self) -> bool:
        """Whether there were enough images."""
        return self.count >= self.enough

    def add(self, total: float, count: float) -> None:
        """Take what `within` says of a batch into account."""
        self.total, self.count = self.total + total, self.count + count

    def compared(self, images: Tensor, label: Tensor) -> Tensor:
        """Return the standard deviation of generated images within classes over that of clean ones, NaN without."""
        total, count = within(images, label)
        if not self.is_whole or not self.total:
            return total.new_tensor(math.nan)
        return (total / count.clamp_min(1) / (self.total / self.count)).sqrt()


def within(images: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean squared distances of pixels of images (B,C,H,W) from their class's mean, summed, and B - K."""
    x = images.float().flatten(1)
    total, classes = x.new_zeros(()), label.unique()
    for one in classes:
        of_class = x[label == one]
        total = total + (of_class - of_class.mean(0)).square().sum()
    return total / x.shape[1], total.new_tensor(float(len(x) - len(classes)))


def held_out(known: float, real: float, fake: float) -> float:
    """Return how far the mean logit of held-out clean images lies from that of known ones towards generated ones."""
    return (known - real) / (known - fake) if known > fake else math.nan


def read(real: Tensor, fake: Tensor, pairs: bool) -> list[Tensor]:
    """Read the logits (B,) of clean and of generated images: the means, their spread, and how certain they are."""
    real, fake = real.detach().float(), fake.detach().float()
    spread = torch.cat([real - real.mean(), fake - fake.mean()]).std()
    return [real.mean(), fake.mean(), spread, (real - fake if pairs else real).sign().mean()]
