"""What to call a configuration: by what sets it apart from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recon.report.gather import Configuration
    from recon.runs import RunFolder

# Choices that are named first, in this order; they explain most of the keys below them.
_CHOICES = (
    "model/net",
    "model",
    "degradation",
    "task",
    "optimizer",
    "scheduler",
    "augment",
    "experiment",
    "accelerator",
)
_AT_MOST = 4  # further keys in a label
_LONGEST = 80  # letters of a value that is shown


def part(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A group of a configuration; empty where there is none."""
    found = config.get(key)
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested keys with points; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def choice(folder: RunFolder, group: str) -> str:
    """What was chosen of a group, by the word that was typed, else by the class that it stands for."""
    choices = folder.environment.get("choices")
    if isinstance(choices, dict) and choices.get(group):
        return cut(choices[group])
    node: Any = folder.config
    for name in group.split("/"):
        node = node.get(name) if isinstance(node, dict) else None
    target = node.get("_target_") if isinstance(node, dict) else None
    return cut(str(target).rsplit(".", 1)[-1]) if target else ""


def degradation(folder: RunFolder) -> str:
    """Name a degradation with its levels: "noise (sigma 0.05 to 0.5)"."""
    name = choice(folder, "degradation") or "an unknown damage"
    levels = [
        f"{key} {cut(value(level))}"
        for key, level in part(folder.config, "degradation").items()
        if isinstance(level, int | float | list) and not isinstance(level, bool)
    ]
    return f"{name} ({', '.join(levels)})" if levels else name


def value(what: Any) -> str:
    """Write a value as one would say it: a range of two numbers "0.1 to 0.5"."""
    if isinstance(what, list) and len(what) == 2 and all(type(n) in (int, float) for n in what):
        return f"{value(what[0])} to {value(what[1])}"
    if isinstance(what, float):
        return f"{what:g}"
    if isinstance(what, list):
        return "[" + ", ".join(map(value, what)) + "]"
    if what is None or isinstance(what, bool):
        return {True: "on", False: "off", None: "none"}[what]
    return str(what)


def cut(text: str, longest: int = _LONGEST) -> str:
    """Leave out the end of a text that is longer than anybody reads."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def give(configurations: Sequence[Configuration]) -> None:
    """Give configurations of one problem their labels, and the values of the parameters that vary among them.

    A key that always goes with those already named says nothing new and is left out.
    """
    columns = _columns(configurations)
    varied = {key: told for key, told in columns.items() if len(set(told)) > 1}
    chosen: list[str] = []
    for key, told in varied.items():
        groups: dict[tuple[str, ...], set[str]] = {}
        for place in range(len(configurations)):
            groups.setdefault(tuple(varied[k][place] for k in chosen), set()).add(told[place])
        if any(len(values) > 1 for values in groups.values()):
            chosen.append(key)
    for place, found in enumerate(configurations):
        found.values = {key: varied[key][place] for key in chosen}
        net = columns.get("model/net", columns.get("model", [""] * len(configurations)))[place]
        words = [net] if net else []
        words += [_said(key, varied[key][place], chosen) for key in chosen if key != "model/net"][: _AT_MOST + 1]
        found.label = " · ".join(filter(None, words)) or found.runs[0].name
    _tell_apart(configurations)


def _columns(configurations: Sequence[Configuration]) -> dict[str, list[str]]:
    """The values of all choices, then of all keys, those that somebody typed first."""
    columns: dict[str, list[str]] = {}
    for group in _CHOICES:
        told = [choice(found.runs[0].trained, group) for found in configurations]
        if any(told):
            columns[group] = told
    typed = {
        str(word).split("=", 1)[0].lstrip("+")
        for found in configurations
        for word in _words(found.runs[0].trained.environment.get("overrides"))
    }
    keys = {key for found in configurations for key in found.flat}
    for key in sorted(keys, key=lambda key: (key not in typed, key)):
        columns[key] = [value(found.flat[key]) if key in found.flat else "" for found in configurations]
    return columns


def _words(what: Any) -> list[str]:
    return [str(word) for word in what] if isinstance(what, list) else []


def _said(key: str, told: str, chosen: Sequence[str]) -> str:
    if "." not in key:
        if key == "degradation":
            return f"trained on {told}"
        return told if key in _CHOICES else f"{key} {cut(told)}"
    return f"{short(key, chosen)} {cut(told)}" if told else ""


def short(key: str, among: Sequence[str]) -> str:
    """The last word of a key, with the one before it where others end alike."""
    words = key.split(".")
    last = 2 if sum(other.split(".")[-1] == words[-1] for other in among) > 1 else 1
    said = " ".join(words[-last:]).replace("_", " ")
    return f"trained on {said}" if words[0] == "degradation" else said


def _tell_apart(configurations: Sequence[Configuration]) -> None:
    """Number those that are called the same all the same."""
    seen: dict[str, int] = {}
    for found in configurations:
        seen[found.label] = seen.get(found.label, 0) + 1
        if seen[found.label] > 1:
            found.label += f" ({seen[found.label]})"
