"""The facts of the images that a net is built from: plain numbers, which are saved with its weights."""

from collections.abc import Callable, Mapping
from typing import Any

from recon.data.task import Task
from recon.degradations.base import Degradation

FACTS = frozenset({"channels", "in_channels", "image_size", "scale", "num_classes"})
_WORDS: dict[str, Callable[[Any], str]] = {
    "channels": lambda count: f"{({1: 'grey', 3: 'colour'}).get(count, f'{count}-channel')} images",
    "image_size": lambda size: f"images of {'×'.join(map(str, size))}",
    "num_classes": lambda count: f"images of {count} classes",
}


def plain(facts: object) -> dict[str, Any]:
    """Return the facts of a checkpoint as far as they are plain numbers: it may be damaged, or a stranger's."""
    if not isinstance(facts, Mapping):
        return {}
    sides = facts.get("image_size")
    numbers = {name: value for name, value in facts.items() if type(value) is int}
    has_size = isinstance(sides, list | tuple) and len(sides) == 2 and all(type(side) is int for side in sides)
    return {**numbers, **({"image_size": tuple(sides)} if has_size and sides is not None else {})}


def facts_of(kind: Any, task: Task, degradation: Degradation, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the images that a net for a module is built from: plain numbers, saved with its weights.

    Args:
        kind: the class of the module, whose `settings` are the node `model` of the configuration.
        task: the images.
        degradation: their damage.
        settings: see `kind`.
    """
    channels, *sides = task.shape
    if degradation.scale > 1:
        # The loader cuts clean images to whole multiples of the degraded ones.
        unit = 1 if kind.sees_degraded_size else degradation.scale
        sides = [side // degradation.scale * unit for side in sides]
    return {
        "channels": channels,
        "in_channels": kind.in_channels(channels, settings),
        "image_size": tuple(sides),
        "scale": degradation.scale,
        "num_classes": task.num_classes,
    }


def difference(trained: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return in which way the images that a net was trained on differ from others; None where they do not."""
    for name, in_words in _WORDS.items():
        before, after = trained.get(name), now.get(name)
        if None not in (before, after) and before != after:
            return f"it was trained on {in_words(before)}, and these are {in_words(after)}"
    return None
