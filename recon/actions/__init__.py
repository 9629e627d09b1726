"""What a run does: `action=train`, `action=evaluate`."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import InputError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Groups whose choice on the command line replaces the run's own when a finished run is worked on.
_REPLACEABLE = ("task", "degradation")


def act(config: DictConfig) -> None:
    """Carry out the action of a composed configuration."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = list(hydra.overrides.task)
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if "hydra" not in group}
    _quiet()
    from omegaconf import OmegaConf

    resolved: Any = OmegaConf.to_container(config, resolve=True)
    about = {"overrides": overrides, "choices": choices}
    try:
        if resolved["action"] == "train":
            from recon.actions.train import train

            train(resolved, folder, about)
        elif resolved["action"] == "evaluate":
            from recon.actions.evaluate import evaluate

            evaluate(of_run(resolved, overrides), folder, about)
        else:
            raise InputError(f"action={resolved['action']}: there is no such action; choose action=train|evaluate")
    except InputError:
        # Nothing was begun where nothing was written.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def of_run(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Take the configuration of the run that `run=` names, with what the command line says otherwise.

    A group that was chosen anew (`degradation=noise`) replaces the run's whole, a single key
    (`degradation.sigma=0.3`) only itself. What concerns this machine, not the model, is never taken from the run.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    from recon.checkpoint import read_config

    if not config["run"]:
        raise InputError("run: action=evaluate needs a run folder; add run=outputs/<day>/<run>")
    recorded = read_config(Path(config["run"]))
    here = {key: config[key] for key in ("action", "run", "data", "logger", "accelerator")}
    merged: Any = OmegaConf.create({**recorded, **here, "trainer": config["trainer"]})
    merged.trainer.precision = recorded["trainer"]["precision"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    for override in parsed:
        if override.key_or_group in _REPLACEABLE:
            merged[override.key_or_group] = config[override.key_or_group]
    for override in parsed:
        if "." in override.key_or_group and not override.is_delete():
            OmegaConf.update(merged, override.key_or_group, override.value(), force_add=True)
    taken: Any = OmegaConf.to_container(merged)
    return {str(key): value for key, value in taken.items()}


def _quiet() -> None:
    """Silence what Lightning says of itself at each start, which is neither about the run nor to be acted on."""
    import lightning.pytorch  # noqa: F401  its import sets the levels

    # A warning is for the person who started the run: without the line of code that gave it.
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    # Lightning 2.6 calls a pytree class of torch 2.13 in a way that will go (Lightning issue 21373).
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
