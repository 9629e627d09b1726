"""Working on a finished run: its own configuration, with what the command line says otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from recon.errors import InputError

# Groups whose choice on the command line replaces the run's own.
_REPLACEABLE = ("task", "degradation")


def choices_of(arguments: list[str]) -> list[str]:
    """Tell the group choices of the run that `run=` names, as overrides, where the arguments do not choose anew.

    With them Hydra composes a configuration in which the run's own keys exist, so that `degradation.sigma=0.3` can be
    said of a run without repeating `degradation=noise`.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    if given.get("action", "train") == "train" or "run" not in given:
        return []
    try:
        choices: dict[str, str] = json.loads((Path(given["run"]) / "environment.json").read_text())["choices"]
    except (OSError, ValueError, KeyError):
        return []  # of_run says what is wrong with the folder
    groups = (*_REPLACEABLE, "model", "model/net")
    # What a stranger's folder calls a choice must not reach Hydra as anything else.
    named = {group: choices.get(group) or "" for group in groups if group not in given}
    return [f"{group}={choice}" for group, choice in named.items() if re.fullmatch(r"\w+", choice)]


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
    here = {key: config[key] for key in ("action", "run", "list", "data", "logger", "accelerator")}
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
