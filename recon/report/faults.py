"""Which parts of a run's record cannot be read, and why."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from recon.report.elements import cut
from recon.runs import RunFolder
from recon.runs.reading import Unreadable, read_object, read_yaml


def faults(folder: RunFolder) -> dict[str, str]:
    """Return the damaged parts of a record, each with the reason; opens only the files that read as empty."""
    damaged = {}
    for name, content in (
        ("environment.json", folder.environment),
        ("config.yaml", folder.config),
        ("metrics.json", folder.metrics),
    ):
        path = folder.path / name
        # A run that did not end has no numbers.
        if not content and (os.path.lexists(path) or name == "config.yaml" or folder.status == "ok"):
            damaged[name] = why_unreadable(path) or "nothing in it is what recon writes"
    if folder.damaged_measures:
        names = cut(", ".join(folder.damaged_measures))
        damaged['"measures" of metrics.json'] = f"its entry of {names} is damaged" if names else "it is no JSON object"
    return damaged


def sentences(damaged: Mapping[str, str]) -> list[str]:
    """Write faults as sentences."""
    return [f"{name} cannot be read: {why}" for name, why in sorted(damaged.items())]


def reason(error: OSError | Unreadable) -> str:
    """Say in a clause why a file could not be read."""
    if isinstance(error, FileNotFoundError):
        return "it is missing"
    return str(error.strerror or "it may not be read").lower() if isinstance(error, OSError) else str(error)


def why_unreadable(path: Path) -> str:
    """Say in a clause why a record cannot be read; "" where it can."""
    try:
        (read_yaml if path.suffix == ".yaml" else read_object)(path)
    except (OSError, Unreadable) as error:
        return reason(error)
    return ""
