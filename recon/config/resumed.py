"""Resume a run: its recorded configuration, and what the command line may change of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.actions.base import kind_of
from recon.config.check import hints_of
from recon.config.recorded import ask_about_network, read_config
from recon.errors import InputError
from recon.runs import RunFolder
from recon.runs.fingerprint import code_version, data_version

# What may be changed on resume, as it cannot change the result; `trainer.max_epochs` is checked separately.
_RESUMABLE = (
    "resume", "allow_network", "data", "logger", "checkpoint", "sweep", "hydra", "trainer.enable_progress_bar",
)  # fmt: skip


def of_resumed(config: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take the configuration of the run that `resume=` names; the command line may change what changes no result.

    The number of threads becomes the run's, as sums are taken in another order with another one.

    Args:
        config: what Hydra composed of the command line.
        overrides: the command line's own.

    Returns:
        The configuration, and the entries of `environment.json`: those from before, and that the run was resumed.

    Raises:
        InputError: there is no such run, or a key would change the result; the difference is shown.
    """
    import torch

    folder = Path(config["resume"])
    recorded, environment = read_config(folder, "resume"), RunFolder(folder).environment
    if environment.get("status") == "ok" and not RunFolder(folder).has_checkpoint:
        raise InputError(
            f"resume: {folder} has ended and kept its best weights alone; start a new run with init_from={folder}"
        )
    ask_about_network(recorded, overrides, config["allow_network"], "resume")
    if (composed_for := kind_of(config)) is not kind_of(recorded):  # its own keys mean nothing to another action
        config = {key: value for key, value in config.items() if key not in hints_of(composed_for)}
    taken = _with_changes(config, recorded, overrides, folder)
    if environment.get("status") == "ok" and taken["trainer"]["max_epochs"] == recorded["trainer"]["max_epochs"]:
        # One that its steps or its time ended has epochs left, and more of them would change nothing.
        is_whole = RunFolder(folder).epochs >= recorded["trainer"]["max_epochs"] and not _spans(recorded)
        longer = "raise trainer.max_epochs to train on" if is_whole else f"start a new run with init_from={folder}"
        raise InputError(f"resume: {folder} has ended; {longer}, or test it again with action=evaluate run={folder}")
    torch.set_num_threads(int(environment.get("threads") or torch.get_num_threads()))
    return taken, _with_resumption(environment, taken)


def _with_changes(
    config: Mapping[str, Any], recorded: dict[str, Any], overrides: list[str], folder: Path
) -> dict[str, Any]:
    """Return a recorded configuration with what the command line may change; raises InputError for anything else."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    merged: Any = OmegaConf.create({**config, **recorded, "resume": str(folder)})
    merged.trainer = {**config["trainer"], **recorded["trainer"]}
    composed, before = OmegaConf.create(dict(config)), OmegaConf.create(recorded)
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group.replace("/", ".")
        said, was = (OmegaConf.select(place, key) for place in (composed, before))
        if said == was or key == "resume":
            continue
        if key == "trainer.max_epochs":
            _check_longer(folder, recorded, said)
        elif key.split(".")[0] not in _RESUMABLE and key not in _RESUMABLE:
            raise InputError(
                f"{key}: {override.input_line} would change the result of {folder} (there it is {was!s:.80}); leave "
                f"it out, or start a new run from its weights with init_from={folder}"
            )
        OmegaConf.update(merged, key, said, force_add=True)
    taken: Any = OmegaConf.to_container(merged)
    return {str(key): value for key, value in taken.items()}


def _with_resumption(environment: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `environment.json` that stay, with this resumption added."""
    from recon.console import say

    lasting = ("overrides", "choices", "command", "started", "seconds")
    kept: dict[str, Any] = {key: value for key, value in environment.items() if key in lasting}
    now = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": [Path(sys.argv[0]).name, *sys.argv[1:]]}
    kept["resumed"] = [*environment.get("resumed", []), now]
    if environment.get("code") != code_version():
        say("resume: the code has changed since this run began; it may end otherwise than it would have")
        kept["code"] = ""  # an empty version matches no job of a sweep
    if environment.get("data") not in (None, data_version(config)):
        say("resume: the images have changed since this run began; it may end otherwise than it would have")
        kept["data"] = ""
    return kept


def _spans(recorded: Mapping[str, Any]) -> str:
    """Return the class of a schedule that spans the whole training; "" for any other."""
    schedule = str(recorded["scheduler"].get("_target_", "")).rsplit(".", 1)[-1]
    return schedule if schedule in ("OneCycleLR", "CosineAnnealingLR") else ""


def _check_longer(folder: Path, recorded: dict[str, Any], epochs: Any) -> None:
    """Raise InputError where another number of epochs would have changed those that are done, or nothing at all."""
    begun = recorded["trainer"]["max_epochs"]
    spans = [f"the learning rate of {schedule} spans"] if (schedule := _spans(recorded)) else []
    if isinstance(recorded["task"].get("crop"), list):
        spans.append("the rising sides of task.crop span")
    if recorded.get("curriculum"):
        spans.append("the levels of curriculum span")
    if spans:
        raise InputError(
            f"trainer.max_epochs: {spans[0]} the whole training, so one of another length is another run; leave it "
            "out, or start a new run with init_from"
        )
    if not isinstance(epochs, int) or epochs < begun:
        raise InputError(
            f"trainer.max_epochs: {epochs} is less than the {begun} that the run began with; give more, or leave it out"
        )
    if RunFolder(folder).status == "ok" and (trained := RunFolder(folder).epochs) < begun:
        raise InputError(
            f"trainer.max_epochs: {folder} ended after {trained} of {begun} epochs, by early_stopping, max_steps "
            "or max_time, so that more epochs change nothing; start a new run with init_from"
        )
