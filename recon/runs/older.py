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
    "recon.modules.adversarial.GANModule": "recon.modules.gan.GANModule",
    "recon.modules.autoencoding.VAEModule": "recon.modules.vae.VAEModule",
}


def read_recorded(path: Path) -> dict[str, Any]:
    """Read the `config.yaml` of a run folder, in today's terms; raises as `read_yaml`."""
    try:
        return modernised(read_yaml(path))
    except RecursionError as error:
        raise Unreadable("it is nested too deep") from error


# The values of `action` and `logger.kind`, which were words once, as classes.
_ACTIONS = {"train": "recon.actions.train.Train", "evaluate": "recon.actions.evaluate.Evaluate"}
_LOGGERS = {
    "auto": "recon.dashboards.wandb.Auto", "wandb": "recon.dashboards.wandb.WandB", "none": None,
    "tensorboard": "recon.dashboards.tensorboard.TensorBoard", "csv": "recon.dashboards.csv.CSV",
}  # fmt: skip


def modernised(config: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration as today's recon would have recorded it; one of today's is unchanged."""
    config = _renamed(config)
    if isinstance(action := config.get("action"), str) and action in _ACTIONS:
        # Each action has keys of its own now.
        others = ("runs", "list", "run" if action == "train" else "init_from")
        config = {key: value for key, value in config.items() if key not in others}
        config["action"] = {"_target_": _ACTIONS[action]}
    if "degradation" in config:  # before there were protocols, images were measured as the plain one does
        config = {"protocol": {"_target_": "recon.metrics.protocol.Protocol"}, **config}
    logger = config.get("logger")
    if isinstance(logger, dict) and isinstance(kind := logger.get("kind"), str) and kind in _LOGGERS:
        rest = {key: value for key, value in logger.items() if key != "kind"}
        config["logger"] = {"_target_": _LOGGERS[kind], **rest}
    return config


def _renamed(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(target := value.get("_target_"), str):
            value = {**value, "_target_": MOVED.get(target, target)}
        return {key: _renamed(inner) for key, inner in value.items()}
    return [_renamed(inner) for inner in value] if isinstance(value, list) else value
