"""What a degradation is, and how degradations are combined."""

import math
import re
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.degradations.levels import Range
from recon.errors import InputError
from recon.ranges import require_number

_MOST_PARTS = 100  # of a combination; each costs a pass over the images


class Degraded(NamedTuple):
    """What a degradation makes of a batch of clean images.

    Attributes:
        image: (B,C,H,W) float, nominally in [0,1] and not clipped.
        mask: (B,1,H,W) float, 1 where the pixel is known and 0 in a hole.
        severity: (B,) float, the drawn level in the degradation's own unit (sigma, fraction missing, ...).
    """

    image: Tensor
    mask: Tensor
    severity: Tensor


class Degradation(ABC):
    """A stateless operator that damages clean images, each by its own key.

    Attributes:
        makes_holes: whether the mask may hold zeros.
        level: the two ends of the parameter that sets the severity; equal when it is constant.
        scale: how many times smaller than the clean image the degraded one is.
        examples: the parameter that sets the severity, with a mild, a medium and a strong value to show; None where
            there is no single such parameter.
    """

    makes_holes: bool = False
    level: tuple[float, float] = (0.0, 0.0)
    scale: int = 1
    examples: ClassVar[tuple[str, Sequence[Range]] | None] = None

    def __call__(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Degrade images by their keys.

        Args:
            clean: (B,C,H,W) float in [0,1]; half precision is worked on in float32 and rounded at the end.
            keys: (B,) int64, see `recon.keyed.keys`.

        Raises:
            InputError: these are no such images or keys.
        """
        if clean.ndim != 4 or not clean.is_floating_point():
            raise InputError(
                f"clean must be (B,C,H,W) floats in [0,1], not {clean.dtype} of shape {tuple(clean.shape)}: "
                "unsqueeze a single image, divide bytes by 255."
            )
        if keys.shape != clean.shape[:1] or keys.dtype != torch.int64:
            raise InputError(
                f"keys must be {len(clean)} int64 numbers, one for each image, not {keys.dtype} of shape "
                f"{tuple(keys.shape)}: make them with recon.keyed.keys."
            )
        if torch.is_autocast_enabled(clean.device.type):
            # It is meant for nets; the damage is the same with and without it.
            with torch.autocast(clean.device.type, enabled=False):
                return self(clean, keys)
        if clean.dtype not in (torch.float16, torch.bfloat16):
            return self.degrade(clean, keys)
        image, mask, severity = self.degrade(clean.float(), keys)
        return Degraded(image.to(clean.dtype), mask.to(clean.dtype), severity)

    @abstractmethod
    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Degrade clean images (B,C,H,W) float32 or float64 in [0,1], left as they are, by their keys (B,) int64."""

    def check_shape(self, shape: tuple[int, int, int]) -> None:  # noqa: B027  most take any shape
        """Raise InputError, before any work is done, if images (C,H,W) of this shape cannot be degraded."""


def draw(level: tuple[float, float], keys: Tensor, name: str) -> Tensor:
    """Give one number per key (B,): the constant, or a uniform draw between the ends on the stream `name`."""
    low, high = level
    if low == high:
        return torch.full((len(keys),), low, device=keys.device)
    return keyed.uniform(keyed.fold(keys, name)).mul_(high - low).add_(low).clamp_(low, high)


def draw_whole(level: tuple[float, float], keys: Tensor, name: str) -> Tensor:
    """Give one whole number per key (B,) int64, from low to high with equal chances, on the stream `name`."""
    low, high = map(int, level)
    return keyed.integers(keyed.fold(keys, name), high - low + 1).add_(low)


def per_image(values: Tensor, clean: Tensor) -> Tensor:
    """Shape one value per image (B,) so that it broadcasts over `clean`: (B,1,1,1) of its dtype."""
    return values.to(clean.dtype).view(-1, 1, 1, 1)


def all_known(clean: Tensor) -> Tensor:
    """Give the mask (B,1,H,W) of ones; a read-only view of a single number."""
    return clean.new_ones(()).expand(len(clean), 1, *clean.shape[2:])


def part(name: str, value: Degradation) -> Degradation:
    """Give the degradation that is a part of another; raises InputError, which names `name`, if it is none."""
    if not isinstance(value, Degradation):
        raise InputError(f"{name}: {reprlib.repr(value)} is no degradation; give one with its _target_")
    return value


def _named_parts(name: str, values: Mapping[str, Degradation]) -> dict[str, Degradation]:
    if not isinstance(values, Mapping) or not 1 <= len(values) <= _MOST_PARTS:
        raise InputError(f"{name}: {reprlib.repr(values)} does not fit; name from 1 to {_MOST_PARTS} degradations")
    return {str(key): part(f"{name}.{key}", value) for key, value in values.items()}


def check_shape(operator: Degradation, key: str, shape: tuple[int, int, int]) -> None:
    """Ask a part of a combination about images (C,H,W); `key` stands before the parameter that its sentence names."""
    try:
        operator.check_shape(shape)
    except InputError as error:
        raise within(key, error) from error


def within(key: str, error: InputError) -> InputError:
    """Put the key of a degradation before the parameter that its sentence names, or before the sentence."""
    sentence = str(error)
    named = re.match(r"[\w.]+: ", sentence)
    return InputError(f"{key}.{sentence}" if named else f"{key}: {sentence}")


class Identity(Degradation):
    """Leave the images as they are; severity 0."""

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Give the clean images back, see `Degradation`."""
        return Degraded(clean, all_known(clean), torch.zeros(len(keys), device=keys.device))


class Chain(Degradation):
    """Apply degradations one after another.

    Each draws on the stream of its own name, so that adding one changes no other's draws. The mask is the product of
    all masks, at the size of the clean image. The severity is that of the first step whose level is a range, or of the
    first step if all are constant.

    Args:
        steps: the degradations by name, in order.

    Raises:
        InputError: there is no step, or one is no degradation.
    """

    def __init__(self, steps: Mapping[str, Degradation]) -> None:
        self.steps = _named_parts("steps", steps)
        self.makes_holes = any(step.makes_holes for step in self.steps.values())
        self.scale = math.prod(step.scale for step in self.steps.values())
        varying = [name for name, step in self.steps.items() if step.level[0] < step.level[1]]
        self._leading = next(iter(varying or self.steps))
        self.level = self.steps[self._leading].level

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Apply all steps, see `Degradation`."""
        image, mask, severity = clean, None, torch.empty(0)
        for name, step in self.steps.items():
            image, step_mask, step_severity = step(image, keyed.fold(keys, name))
            if step.makes_holes:
                if step_mask.shape[2:] != clean.shape[2:]:
                    # A pixel of a smaller image stands for all those of the clean one that it lies over.
                    step_mask = F.interpolate(step_mask, size=clean.shape[2:], mode="nearest-exact")
                mask = step_mask if mask is None else mask * step_mask
            severity = step_severity if name == self._leading else severity
        return Degraded(image, all_known(clean) if mask is None else mask, severity)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Ask each step about the shape that reaches it, see `Degradation`."""
        channels, height, width = shape
        for name, step in self.steps.items():
            check_shape(step, f"steps.{name}", (channels, height, width))
            height, width = -(-height // step.scale), -(-width // step.scale)


class OneOf(Degradation):
    """Apply to each image one degradation, chosen by its key; mask and severity are those of the chosen one.

    Args:
        choices: the degradations by name; each draws on the stream of its own name.
        weights: how often each is chosen, by the same names; they need not sum to 1. None means equally often.

    Raises:
        InputError: there is no choice, the weights do not fit the choices, or these give images of several sizes.
    """

    def __init__(self, choices: Mapping[str, Degradation], weights: Mapping[str, float] | None = None) -> None:
        self.choices = _named_parts("choices", choices)
        weights = dict.fromkeys(self.choices, 1.0) if weights is None else weights
        if not isinstance(weights, Mapping) or set(map(str, weights)) != set(self.choices):
            raise InputError(f"weights: {reprlib.repr(weights)} does not fit; weigh each of {', '.join(self.choices)}")
        for name, weight in weights.items():
            require_number(f"weights.{name}", weight)
        by_name = {str(name): float(weight) for name, weight in weights.items()}
        amounts = [by_name[name] for name in self.choices]
        if not sum(amounts):
            raise InputError("weights: all are 0; give at least one choice a weight above 0")
        scales = {name: choice.scale for name, choice in self.choices.items()}
        if len(set(scales.values())) > 1:
            raise InputError(
                f"choices: they make images of several sizes, smaller by {scales}; let all make one, as upsample does"
            )
        self.scale = next(iter(scales.values()))
        self._weights = amounts
        self.makes_holes = any(choice.makes_holes for choice in self.choices.values())
        levels = [choice.level for choice in self.choices.values()]
        self.level = min(low for low, _ in levels), max(high for _, high in levels)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Apply the chosen degradations, see `Degradation`."""
        chosen = keyed.choice(keyed.fold(keys, "choice"), self._weights)
        parts, places = [], []
        for place, (name, choice) in enumerate(self.choices.items()):
            rows = (chosen == place).nonzero().squeeze(1)
            if len(rows) or not len(keys):
                parts.append(choice(clean.index_select(0, rows), keyed.fold(keys.index_select(0, rows), name)))
                places.append(rows)
        back = torch.cat(places).argsort()
        image, mask, severity = (torch.cat(fields).index_select(0, back) for fields in zip(*parts, strict=True))
        return Degraded(image, mask, severity)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Ask each choice, see `Degradation`."""
        for name, choice in self.choices.items():
            check_shape(choice, f"choices.{name}", shape)


class Sometimes(OneOf):
    """Apply a degradation to some images, chosen by their keys, and leave the others as they are with severity 0.

    Args:
        degradation: what may be applied; it does not change the size of images.
        probability: how often, in [0,1].
    """

    def __init__(self, degradation: Degradation, probability: float) -> None:
        require_number("probability", probability, 0, 1)
        if part("degradation", degradation).scale != 1:
            raise InputError("degradation: it makes images smaller and others not; let it keep their size")
        self.degradation = degradation
        super().__init__(
            {"apply": degradation, "leave": Identity()}, {"apply": probability, "leave": 1.0 - probability}
        )

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Ask the degradation, see `Degradation`."""
        check_shape(self.degradation, "degradation", shape)
