"""What a degradation is, and how degradations are combined."""

import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from recon import keyed
from recon.degradations import fused
from recon.degradations.levels import Range, within
from recon.errors import InputError
from recon.ranges import require_number

_MOST_PARTS = 100  # of a combination; each costs a pass over the images


class Degraded(NamedTuple):
    """The result of degrading a batch of clean images.

    >>> Degraded(clean, torch.ones(2, 1, 4, 4), torch.zeros(2)).severity
    tensor([0., 0.])

    Attributes:
        image: (B,C,H,W) float, nominally in [0,1] and not clipped.
        mask: (B,1,H,W) float, 1 where the pixel is known and 0 in a hole.
        severity: (B,) float, the drawn level in the degradation's own unit (sigma, fraction missing, ...).
    """

    image: Tensor
    mask: Tensor
    severity: Tensor

    @classmethod
    def of(cls, made: fused.Result) -> "Degraded":
        """Return what a pass of the fused form made."""
        return cls(made.image, all_known(made.image) if made.mask is None else made.mask, made.severity)


class Degradation(ABC):
    """A stateless operator that damages clean images, each by its own key.

    >>> class Darker(Degradation):
    ...     def degrade(self, clean, keys):
    ...         return Degraded(clean / 2, all_known(clean), torch.full((len(keys),), 0.5))
    >>> Darker()(clean, keys).image.amax()
    tensor(0.5000)
    >>> Darker()(clean[0], keys[:1]).image.equal(Darker()(clean, keys).image[0])
    True

    Attributes:
        makes_holes: whether the mask may hold zeros.
        gaussian: whether it adds white Gaussian noise alone, unclipped, whose sigma is the severity.
        level: the two ends of the parameter that sets the severity; equal when it is constant.
        scale: how many times smaller than the clean image the degraded one is.
        examples: the parameter that sets the severity, with a mild, a medium and a strong value to show; None where
            there is no single such parameter.
    """

    makes_holes: bool = False
    gaussian: ClassVar[bool] = False
    level: tuple[float, float] = (0.0, 0.0)
    scale: int = 1
    examples: ClassVar[tuple[str, Sequence[Range]] | None] = None

    def __call__(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Degrade images by their keys.

        Args:
            clean: (B,C,H,W) float in [0,1]; half precision is computed in float32 and rounded at the end. A single
                image (C,H,W) with its key gives the fields of a single one.
            keys: (B,) int64, see `recon.keyed.keys`.

        Raises:
            InputError: the images or the keys are of another shape or type.
        """
        if clean.ndim == 3 and keys.numel() == 1:
            return Degraded(*(field[0] for field in self(clean[None], keys.reshape(1))))
        if clean.ndim != 4 or not clean.is_floating_point():
            raise InputError(
                f"clean must be (B,C,H,W) floats in [0,1], not {clean.dtype} of shape {tuple(clean.shape)}: "
                "give a single image one key, divide bytes by 255."
            )
        if keys.shape != clean.shape[:1] or keys.dtype != torch.int64:
            raise InputError(
                f"keys must be {len(clean)} int64 numbers, one for each image, not {keys.dtype} of shape "
                f"{tuple(keys.shape)}: make them with recon.keyed.keys."
            )
        if torch.is_autocast_enabled(clean.device.type):
            # Autocast is for nets; degradations run in full precision.
            with torch.autocast(clean.device.type, enabled=False):
                return self(clean, keys)
        if clean.dtype not in (torch.float16, torch.bfloat16):
            return self._in_best_form(clean, keys)
        image, mask, severity = self._in_best_form(clean.float(), keys)
        return Degraded(image.to(clean.dtype), mask.to(clean.dtype), severity)

    @abstractmethod
    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Degrade clean images (B,C,H,W) float32 or float64 in [0,1], left unchanged, by their keys (B,) int64."""

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Return what the fused form does to images (C,H,W) by their keys (B,), of operators that have one."""
        raise NotImplementedError

    @property
    def fuses(self) -> bool:
        """Return whether there is a fused form, see `plan`."""
        return type(self).plan is not Degradation.plan

    def _in_best_form(self, clean: Tensor, keys: Tensor) -> Degraded:
        if not self.fuses or clean.device.type != "cpu" or torch.compiler.is_compiling():
            return self.degrade(clean, keys)
        if fused.takes(clean):
            return Degraded.of(fused.degrade(self.plan, keys, clean)[1])
        with fused.counted():
            return self.degrade(clean, keys)

    def check_shape(self, shape: tuple[int, int, int]) -> None:  # noqa: B027  most take any shape
        """Raise InputError, before any image is read, if images (C,H,W) of this shape cannot be degraded."""


def draw(level: tuple[float, float], keys: Tensor, name: str) -> Tensor:
    """Return one number per key (B,): the constant, or a uniform draw between the ends on the stream `name`.

    >>> draw((0.5, 0.5), keys, "sigma")
    tensor([0.5000, 0.5000])
    """
    low, high = level
    if low == high:
        return torch.full((len(keys),), low, device=keys.device)
    return keyed.uniform(keyed.fold(keys, name)).mul_(high - low).add_(low).clamp_(low, high)


def draw_whole(level: tuple[float, float], keys: Tensor, name: str) -> Tensor:
    """Return one whole number per key (B,) int64, from low to high with equal chances, on the stream `name`.

    >>> draw_whole((1, 8), keys, "bits")
    tensor([4, 1])
    """
    low, high = map(int, level)
    if low == high:
        return torch.full((len(keys),), low, device=keys.device)
    return keyed.integers(keyed.fold(keys, name), high - low + 1).add_(low)


def per_image(values: Tensor, clean: Tensor) -> Tensor:
    """Shape one value per image (B,) so that it broadcasts over `clean`: (B,1,1,1) of its dtype.

    >>> (clean * per_image(torch.tensor([0.0, 1.0]), clean)).sum((1, 2, 3))
    tensor([ 0.0000, 12.1290])
    """
    return values.to(clean.dtype).view(-1, 1, 1, 1)


def all_known(clean: Tensor) -> Tensor:
    """Return the mask (B,1,H,W) of ones; a read-only view of a single number.

    >>> all_known(clean).shape
    torch.Size([2, 1, 4, 4])
    """
    return clean.new_ones(()).expand(len(clean), 1, *clean.shape[2:])


def part(name: str, value: Degradation) -> Degradation:
    """Return a degradation that is a part of another; raises InputError, which names `name`, for anything else.

    >>> part("then", Identity()).scale
    1
    """
    if not isinstance(value, Degradation):
        raise InputError(f"{name}: {reprlib.repr(value)} is no degradation; give one with its _target_")
    return value


def _named_parts(name: str, values: Mapping[str, Degradation]) -> dict[str, Degradation]:
    if not isinstance(values, Mapping) or not 1 <= len(values) <= _MOST_PARTS:
        raise InputError(f"{name}: {reprlib.repr(values)} does not fit; name from 1 to {_MOST_PARTS} degradations")
    return {str(key): part(f"{name}.{key}", value) for key, value in values.items()}


def check_shape(operator: Degradation, key: str, shape: tuple[int, int, int]) -> None:
    """Check images (C,H,W) for a part of a combination; `key` is put before the parameter that an error names.

    >>> check_shape(Identity(), "then", (1, 4, 4))
    """
    try:
        operator.check_shape(shape)
    except InputError as error:
        raise within(key, error) from error


class Identity(Degradation):
    """Leave the images unchanged; severity 0.

    >>> torch.equal(Identity()(clean, keys).image, clean)
    True
    """

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Return the clean images, see `Degradation`."""
        return Degraded(clean, all_known(clean), torch.zeros(len(keys), device=keys.device))

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Do nothing, see `Degradation`."""
        return fused.Plan([])


class Chain(Degradation):
    """Apply degradations one after another.

    Each draws on the stream of its own name, so that adding one changes no other's draws. The mask is the product of
    all masks, at the size of the clean image. The severity is that of the first step whose level is a range, or of the
    first step if all are constant.

    >>> Chain({"first": Identity(), "second": Identity()})(clean, keys).severity
    tensor([0., 0.])

    Args:
        steps: the degradations by name, in order.
    """

    def __init__(self, steps: Mapping[str, Degradation]) -> None:
        self.steps = _named_parts("steps", steps)
        self.makes_holes = any(step.makes_holes for step in self.steps.values())
        self.scale = math.prod(step.scale for step in self.steps.values())
        varying = [name for name, step in self.steps.items() if step.level[0] < step.level[1]]
        self._leading = next(iter(varying or self.steps))
        self.level = self.steps[self._leading].level
        runs = [dict(run) for _, run in groupby(self.steps.items(), lambda item: item[1].fuses)]
        self._passes = list(map(Chain, runs)) if len(runs) > 1 else []  # of steps with a fused form, one pass

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Apply all steps, see `Degradation`."""
        image, mask, severity = clean, None, torch.empty(0)
        for names, step, own in self._parts(keys):
            image, step_mask, step_severity = step(image, own)
            if step.makes_holes:
                if step_mask.shape[2:] != clean.shape[2:]:
                    # A pixel of a smaller image stands for all those of the clean one that it covers.
                    step_mask = F.interpolate(step_mask, size=clean.shape[2:], mode="nearest-exact")
                mask = step_mask if mask is None else mask * step_mask
            severity = step_severity if self._leading in names else severity
        return Degraded(image, all_known(clean) if mask is None else mask, severity)

    def _parts(self, keys: Tensor) -> list[tuple[Collection[str], Degradation, Tensor]]:
        """Return what is applied in turn: the names of its steps, itself, its keys."""
        if self._passes:
            return [(one.steps, one, keys) for one in self._passes]
        return [((name,), step, keyed.fold(keys, name)) for name, step in self.steps.items()]

    @property
    def fuses(self) -> bool:
        """Return whether all steps have a fused form, see `Degradation`."""
        return all(step.fuses for step in self.steps.values())

    def plan(self, keys: Tensor, shape: fused.Shape) -> fused.Plan:
        """Join the plans of all steps, see `Degradation`."""
        plans = {name: step.plan(keyed.fold(keys, name), shape) for name, step in self.steps.items()}
        before = list(plans.values())[: list(plans).index(self._leading)]
        leading = sum(len(plan.steps) for plan in before) + plans[self._leading].leading
        return fused.Plan([step for plan in plans.values() for step in plan.steps], leading)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check each step for the shape that reaches it, see `Degradation`."""
        channels, height, width = shape
        for name, step in self.steps.items():
            check_shape(step, f"steps.{name}", (channels, height, width))
            height, width = -(-height // step.scale), -(-width // step.scale)


class OneOf(Degradation):
    """Apply to each image one degradation, chosen by its key; mask and severity are those of the chosen one.

    >>> OneOf({"none": Identity(), "same": Identity()}, {"none": 0.9, "same": 0.1})(clean, keys).severity
    tensor([0., 0.])

    Args:
        choices: the degradations by name, all of one scale; each draws on the stream of its own name.
        weights: how often each is chosen, by the same names; they need not sum to 1. None means equally often.
    """

    def __init__(self, choices: Mapping[str, Degradation], weights: Mapping[str, float] | None = None) -> None:
        self.choices = _named_parts("choices", choices)
        weights = dict.fromkeys(self.choices, 1.0) if weights is None else weights
        if not isinstance(weights, Mapping) or set(map(str, weights)) != set(self.choices):
            raise InputError(f"weights: {reprlib.repr(weights)} does not fit; weigh each of {', '.join(self.choices)}")
        for name, weight in weights.items():
            require_number(f"weights.{name}", weight)
        by_name = {str(name): float(weight) for name, weight in weights.items()}
        self._weights = [by_name[name] for name in self.choices]
        if not sum(self._weights):
            raise InputError("weights: all are 0; give at least one choice a weight above 0")
        scales = {name: choice.scale for name, choice in self.choices.items()}
        if len(set(scales.values())) > 1:
            raise InputError(
                f"choices: they make images of several sizes, smaller by {scales}; let all make one, as upsample does"
            )
        self.scale = next(iter(scales.values()))
        self.makes_holes = any(choice.makes_holes for choice in self.choices.values())
        levels = [choice.level for choice in self.choices.values()]
        self.level = min(low for low, _ in levels), max(high for _, high in levels)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Apply the chosen degradations, see `Degradation`."""
        chosen = keyed.choice(keyed.fold(keys, "choice"), self._weights)
        parts, indices = [], []
        for number, (name, choice) in enumerate(self.choices.items()):
            index = (chosen == number).nonzero().squeeze(1)
            if len(index) or not len(keys):
                parts.append(choice(clean.index_select(0, index), keyed.fold(keys.index_select(0, index), name)))
                indices.append(index)
        back = torch.cat(indices).argsort()
        image, mask, severity = (torch.cat(fields).index_select(0, back) for fields in zip(*parts, strict=True))
        return Degraded(image, mask, severity)

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Check each choice, see `Degradation`."""
        for name, choice in self.choices.items():
            check_shape(choice, f"choices.{name}", shape)


class Sometimes(OneOf):
    """Apply a degradation to some images, chosen by their keys, and leave the others unchanged with severity 0.

    >>> torch.equal(Sometimes(Identity(), 0.5)(clean, keys).image, clean)
    True

    Args:
        degradation: the one to apply; it does not change the size of images.
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
        """Check the degradation, see `Degradation`."""
        check_shape(self.degradation, "degradation", shape)
