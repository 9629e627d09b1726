"""Where the numbers and images are mirrored: W&B, TensorBoard, CSV or nowhere. The run folder is the truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_only

from recon.console import say
from recon.errors import InputError

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from PIL.Image import Image


def make(
    kind: str, folder: Path, config: dict[str, Any], project: str, group: str | None, name: str | None, tags: list[str]
) -> Logger | None:
    """Make the logger that the user chose.

    Args:
        kind: "auto" (W&B when logged in or WANDB_MODE is set, otherwise none; a line says which), "wandb",
            "tensorboard", "csv" or "none".
        folder: the run folder, where loggers keep their files.
        config: the resolved configuration, for dashboards.
        project: the W&B project.
        group: the W&B group, or None.
        name: the W&B run's name, or None for that of the folder.
        tags: the W&B run's tags.
    """
    if kind == "auto":
        kind = "wandb" if os.environ.get("WANDB_MODE") or _logged_in() else "none"
        say(f"logger: {kind} (logger=wandb|tensorboard|csv|none chooses)")
    if kind == "wandb":
        return _wandb(folder, config, project)
    if kind == "tensorboard":
        return _tensorboard(folder)
    if kind == "csv":
        return _csv(folder)
    return None


def _csv(folder: Path) -> Logger:
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(folder, name="csv", version="")


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(folder, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise InputError("logger: TensorBoard is not installed; pip install 'recon[tensorboard]'") from error


def _wandb(folder: Path, config: dict[str, Any], project: str) -> Logger:
    """Log as WANDB_MODE says, else online with a key and offline without."""
    from lightning.pytorch.loggers import WandbLogger
    from wandb import Settings

    offline = (os.environ.get("WANDB_MODE") or ("online" if _logged_in() else "offline")) == "offline"
    if offline:
        say(f"logger: W&B is offline; upload later with: wandb sync {folder}/wandb/offline-run-*")
    # Without the bound a machine without network waits 100 s for the first answer.
    settings = Settings(init_timeout=15, silent=True, x_disable_stats=offline)
    return WandbLogger(
        project=project, name=folder.name, save_dir=folder, offline=offline, config=config, settings=settings
    )


def log_image(logger: Logger, name: str, image: Image, step: int) -> None:
    """Show an image in a logger that can."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    if isinstance(logger, WandbLogger):
        logger.log_image(name, [image], step=step)
    elif isinstance(logger, TensorBoardLogger):
        import numpy

        logger.experiment.add_image(name, numpy.asarray(image), step, dataformats="HWC")


@rank_zero_only
def finish(logger: Logger | None, metrics: Mapping[str, float], failed: bool) -> None:
    """Close a logger with the run's metrics; a W&B run ends with the exit code of the run."""
    from lightning.pytorch.loggers import WandbLogger

    if isinstance(logger, WandbLogger):
        logger.experiment.summary.update(dict(metrics))
        logger.experiment.finish(exit_code=int(failed))
    elif logger is not None:
        logger.finalize("failed" if failed else "success")


def _logged_in() -> bool:
    """Is there a W&B key in the environment or in the file that `wandb login` writes?"""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc
    from urllib.parse import urlparse

    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        known = netrc.netrc(os.environ.get("NETRC") or os.path.expanduser("~/.netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return host in known or "api.wandb.ai" in known or "api.forge.coreweave.com" in known
