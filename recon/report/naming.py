"""What entries of a leaderboard are called: by what sets each apart from the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recon.report.elements import cut
from recon.report.run import Run, part
from recon.runs import RunFolder

# Choices that are named first, in this order; they explain most of the keys below them.
_CHOICES = (
    "model/net", "model", "degradation", "task", "optimizer", "scheduler", "augment", "experiment", "accelerator",
)  # fmt: skip
_PARTS = ("test", "train", "val", "valid", "validation", "images", "clean", "data")  # folders of many data sets
_RANGES = ("degradation.", "augment.")  # whose pairs of numbers are ranges; those of a net are its widths
_AT_MOST = 5  # choices and keys in a label, beside the net


class Name(NamedTuple):
    """The label of an entry, and its values of the parameters that vary among the entries."""

    label: str
    values: dict[str, str]


def choice(folder: RunFolder, group: str) -> str:
    """Return the choice of a group by its word, else by its class; "" where there is none."""
    choices = folder.environment.get("choices")
    if isinstance(choices, dict) and choices.get(group):
        return cut(choices[group])
    if group == "model/net" and isinstance(method := part(folder.config, "model").get("method"), str):
        return cut(method)  # a classical method takes the place of a net
    node: Any = folder.config
    for name in group.split("/"):
        node = node.get(name) if isinstance(node, dict) else None
    target = node.get("_target_") if isinstance(node, dict) else None
    return cut(str(target).rsplit(".", 1)[-1]) if target else ""


def data(folder: RunFolder) -> str:
    """Name the test images: by their folder where they are files, else by the task; "" where neither is known."""
    if folder.test_set:
        return cut(folder.test_set)
    task = part(folder.config, "task")
    source = task.get("test") or task.get("path")
    words = re.split(r"[/\\]", source) if isinstance(source, str) else []
    named = [word for word in words if re.search(r"\w", word) and not set("*?[{") & set(word)]
    parts = named[-2:] if named and named[-1].lower() in _PARTS else named[-1:]
    return cut("/".join(parts)) if parts else choice(folder, "task")


def protocol(folder: RunFolder) -> str:
    """Name the protocol of the numbers; "" for the plain one."""
    name = choice(folder, "protocol")
    return "" if name in ("plain", "Protocol") else name


def degradation(folder: RunFolder) -> str:
    """Name a degradation with its levels: "noise (sigma 0.05 to 0.5)"."""
    name = choice(folder, "degradation") or "an unknown damage"
    named = [f"{key} {level}" for key, level in levels(folder).items()]
    return f"{name} ({', '.join(named)})" if named else name


def levels(folder: RunFolder) -> dict[str, str]:
    """Return the levels of a degradation by their keys: {"sigma": "0.05 to 0.5"}; the first says how strong it is."""
    return {
        key: cut(as_text(level))
        for key, level in part(folder.config, "degradation").items()
        if isinstance(level, int | float | list) and not isinstance(level, bool)
    }


def as_text(value: Any, ranges: bool = True) -> str:
    """Write a value of a configuration in words: two numbers as "0.1 to 0.5" where they are a range, as of a damage."""
    if ranges and isinstance(value, list) and len(value) == 2 and all(type(end) in (int, float) for end in value):
        return f"{as_text(value[0])} to {as_text(value[1])}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(as_text(entry, ranges) for entry in value) + "]"
    if value is None or isinstance(value, bool):
        return {True: "on", False: "off", None: "none"}[value]
    return str(value)


def names(runs: Sequence[Run], flats: Sequence[Mapping[str, Any]] | None = None) -> list[Name]:
    """Name entries, each given by one of its runs and, if they are not the run's own, its keys.

    A parameter that always varies together with those already named adds nothing to a label and is left out; if it was
    typed it is among the values, as it may be what makes the difference.
    """
    columns, typed = _columns(runs, flats or [run.flat for run in runs])
    varied = {key: values for key, values in columns.items() if len(set(values)) > 1}
    chosen: list[str] = []
    for key, values in varied.items():
        groups: dict[tuple[str, ...], set[str]] = {}
        for index, value in enumerate(values):
            groups.setdefault(tuple(varied[name][index] for name in chosen), set()).add(value)
        if any(len(group) > 1 for group in groups.values()):
            chosen.append(key)
    shared = {key for key in typed & varied.keys() if all(varied[key])}  # what some lack comes with another choice
    nets = columns.get("model/net") or columns.get("model") or [""] * len(runs)
    named, seen = [], Counter[str]()
    for index, (run, net) in enumerate(zip(runs, nets, strict=True)):
        words = [net, *[_words(key, varied[key][index], chosen) for key in chosen if key != "model/net"][:_AT_MOST]]
        label = " · ".join(filter(None, words)) or run.name
        seen[label] += 1
        numbered = f"{label} ({seen[label]})" if seen[label] > 1 else label
        named.append(Name(numbered, {key: varied[key][index] for key in varied if key in chosen or key in shared}))
    return named


def _columns(runs: Sequence[Run], flats: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[str]], set[str]]:
    """The values of all choices, then the method of shrinking, then all keys, typed ones first; and which these are."""
    columns = {group: values for group in _CHOICES if any(values := [choice(run.trained, group) for run in runs])}
    overrides = [word for run in runs for word in run.trained.environment.get("overrides", [])]
    typed = {str(word).split("=", 1)[0].lstrip("+") for word in overrides}
    keys = {key for flat in flats for key in flat}
    for key in sorted(keys, key=lambda key: (key != "method", key not in typed, key)):
        ranges = key.startswith(_RANGES)
        columns[key] = [as_text(flat[key], ranges) if key in flat else "" for flat in flats]
    return columns, typed


def _words(key: str, value: str, chosen: Sequence[str]) -> str:
    if "." in key:
        return f"{short(key, chosen)} {cut(value)}" if value else ""
    if key == "degradation":
        return f"trained on {value}"
    return value if key in _CHOICES or not value else f"{key} {cut(value)}"


def short(key: str, among: Sequence[str]) -> str:
    """Shorten a key to its last word, with the one before it where others end alike."""
    words = key.split(".")
    last = 2 if sum(other.split(".")[-1] == words[-1] for other in among) > 1 else 1
    shortened = " ".join(words[-last:]).replace("_", " ")
    return f"trained on {shortened}" if words[0] == "degradation" else shortened
