"""Configurations that older versions of recon recorded, in today's terms; it imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recon.runs.reading import Unreadable, read_yaml

# Classes that have moved, by the name in older configurations.
MOVED: dict[str, str] = {
    "recon.data.sources.Digits": "recon.data.tasks.digits.Digits",
    "recon.data.sources.MNIST": "recon.data.tasks.mnist.MNIST",
    "recon.data.sources.FashionMNIST": "recon.data.tasks.mnist.FashionMNIST",
    "recon.data.sources.CIFAR10": "recon.data.tasks.cifar10.CIFAR10",
    "recon.data.sources.Photos": "recon.data.tasks.photos.Photos",
    "recon.data.folder.Folder": "recon.data.tasks.folder.Folder",
    "recon.data.shards.WebDataset": "recon.data.tasks.webdataset.WebDataset",
}


def read_recorded(path: Path) -> dict[str, Any]:
    """Read the `config.yaml` of a run folder, in today's terms; raises as `read_yaml`."""
    try:
        return modernised(read_yaml(path))
    except RecursionError as error:
        raise Unreadable("it is nested too deep") from error


def modernised(config: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration as today's recon would have recorded it; one of today's is unchanged."""
    renamed: dict[str, Any] = _renamed(config)
    return renamed


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(target := value.get("_target_"), str):
            value = {**value, "_target_": MOVED.get(target, target)}
        return {key: _renamed(inner) for key, inner in value.items()}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value
