"""Carrying out the action of a composed configuration, around which folder, signals and warnings are cared for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.actions.base import Action, check_overrides, kind_of
from recon.config.check import check_node, hints_of
from recon.config.conf import folders_of, read_choice
from recon.config.recorded import choices_of_run, of_run
from recon.config.resolved import resolved
from recon.config.resumed import of_resumed
from recon.config.words import as_typed
from recon.errors import InputError, Interrupted
from recon.runs import RunFolder
from recon.training import interrupt
from recon.training.allocator import keep_freed_memory
from recon.training.quick import quick_imports

if TYPE_CHECKING:
    from omegaconf import DictConfig


def act(config: DictConfig) -> None:
    """Carry out the action of a composed configuration."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    overrides = as_typed(hydra.overrides.task, sys.argv)
    choices = {group: choice for group, choice in hydra.runtime.choices.items() if "hydra" not in group}
    about: dict[str, Any] = {"overrides": overrides, "choices": choices}
    try:
        values = resolved(config)
        if (several := _loggers(hydra.overrides.task)) and choices.get("debug") != "true":
            found = (read_choice("logger", name, folders_of(sys.argv[1:])) or {} for name in several)
            values["logger"]["_target_"] = [node.get("_target_") for node in found]
            choices["logger"] = ",".join(several)
        with quick_imports():
            kind = kind_of(values)
        if not values["resume"]:
            check_overrides(kind, list(hints_of(kind)), overrides, choices["action"])
        _carry_out(kind, values, folder, about)
    except BaseException as error:
        remove_empty(folder)  # nothing was begun where nothing was written
        if isinstance(error, Interrupted):
            error.saved = RunFolder(folder).has_checkpoint
        raise


def _loggers(overrides: Sequence[str]) -> list[str]:
    """Return the choices of `logger=[…]`, whose files Hydra would merge into one; none where it has one choice."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    values = [override.value() for override in OverridesParser.create().parse_overrides([*overrides])
              if override.key_or_group == "logger"]  # fmt: skip
    return values[-1] if values and isinstance(values[-1], list) else []


def make(kind: type[Action], config: dict[str, Any]) -> Action:
    """Make an action with its own keys of a configuration; raises InputError for wrong ones."""
    hints = hints_of(kind)
    own = {name: config[name] for name in hints if name in config}
    check_node(own, hints, "")
    return kind(**own)


def _carry_out(kind: type[Action], config: dict[str, Any], folder: Path, about: dict[str, Any]) -> None:
    if not kind.leaves_a_record:
        remove_empty(folder)
    if not kind.imports_torch:
        make(kind, config)(config, folder, about)
        return
    with quick_imports():
        from recon.training.lightning import quieten

    quieten()
    keep_freed_memory()
    with interrupt.handled():
        if config["resume"]:
            config, about = of_resumed(config, about["overrides"])
            kind = kind_of(config)
            if not kind.leaves_a_record:
                raise InputError(f"resume: {folder} holds nothing that can be resumed; choose another folder")
        elif kind.needs_run:
            about["choices"] = choices_of_run(Path(config["run"] or ""), about)
            config = of_run(config, about["overrides"])
        make(kind, config)(config, folder, about)


def remove_empty(folder: Path) -> None:
    """Remove the run folder that Hydra has made, and above it what is empty of `outputs/<day>`."""
    outputs = Path.cwd() / "outputs"
    above = [parent for parent in folder.parents if parent == outputs or outputs in parent.parents]
    for empty in (folder, folder.parent, *above):
        with suppress(OSError):  # it is not empty, or not there
            if empty != Path.cwd():
                empty.rmdir()
