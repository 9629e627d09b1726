"""What a run does: `action=train`, `action=evaluate`, `action=report`, `action=list`."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config.recorded import check_words
from recon.errors import InputError, Interrupted
from recon.runs import RunFolder
from recon.streams import printable
from recon.training import interrupt
from recon.training.allocator import keep_freed_memory

if TYPE_CHECKING:
    from omegaconf import DictConfig


ACTIONS = ("train", "evaluate", "report", "list")


def act(config: DictConfig) -> None:
    """Carry out the action of a composed configuration."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = [override for override in hydra.overrides.task if override in sys.argv]
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if "hydra" not in group}
    from omegaconf import OmegaConf

    resolved: Any = OmegaConf.to_container(config, resolve=True)
    if resolved["action"] not in ACTIONS:
        remove_empty(folder)
        raise InputError(f"action={resolved['action']}: there is no such action; choose action={'|'.join(ACTIONS)}")
    try:
        check_words(resolved["action"] if not resolved["resume"] else "resume", overrides)
    except InputError:
        remove_empty(folder)
        raise
    if resolved["action"] in ("report", "list"):
        _only_read(resolved, folder)
        return
    about: dict[str, Any] = {"overrides": overrides, "choices": choices}
    try:
        _quiet()
        keep_freed_memory()
        with interrupt.handled():
            _act(resolved, folder, about, overrides)
    except BaseException as error:
        remove_empty(folder)  # nothing was begun where nothing was written
        if isinstance(error, Interrupted):
            error.saved = RunFolder(folder).has_checkpoint
        raise


def remove_empty(folder: Path) -> None:
    """Remove the run folder that Hydra has made, and above it what is empty of `outputs/<day>`."""
    outputs = Path.cwd() / "outputs"
    above = [parent for parent in folder.parents if parent == outputs or outputs in parent.parents]
    for empty in (folder, folder.parent, *above):
        with suppress(OSError):  # it is not empty, or not there
            if empty != Path.cwd():
                empty.rmdir()


def _only_read(config: dict[str, Any], folder: Path) -> None:
    """Carry out an action on runs that are there already: it needs no torch and leaves no run folder of its own."""
    from recon.actions.report import report, show

    remove_empty(folder)
    (report if config["action"] == "report" else show)(config)


def _act(config: dict[str, Any], folder: Path, about: dict[str, Any], overrides: list[str]) -> None:
    from recon.config.recorded import of_resumed, of_run

    if config["resume"]:
        config, about = of_resumed(config, overrides)
    if config["action"] == "train":
        from recon.actions.train import train

        train(config, folder, about)
    else:
        from recon.actions.evaluate import evaluate

        evaluate(config if config["resume"] else of_run(config, overrides), folder, about)


def _quiet() -> None:
    """Silence what Lightning says of itself at each start, which is neither about the run nor to be acted on."""
    import lightning.pytorch  # noqa: F401  its import sets the levels

    # A warning is for the person who started the run: without the line of code that gave it.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {printable(message)}\n"
    # Lightning 2.6 calls a pytree class of torch 2.13 in a way that will go.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    # The module logs at the end of every epoch too, however short.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # The loaders begin with the batch that they are told to (recon/callbacks.py).
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
