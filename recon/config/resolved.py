"""The plain values of what Hydra composed, checked as far as that needs no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.config.check import check_plain
from recon.config.conf import CONF, choices, folders_of, read_choice
from recon.errors import InputError
from recon.ranges import fraction

if TYPE_CHECKING:
    from omegaconf import DictConfig


def resolved(config: DictConfig, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the plain values of a configuration: no interpolation, `~` or name of a user's own loss is left in it.

    A name of the user's own is replaced by what it stands for, as the record of a run must do without their files.

    Args:
        config: what Hydra composed, without Hydra's own node.
        folders: those of configuration files; those of this command line where none are given.

    Raises:
        InputError: a value that cannot be right.
    """
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(config, resolve=True)
    values: dict[str, Any] = {str(key): _at_home(value) for key, value in plain.items()}
    values["degradation"] = with_numbers(values["degradation"])
    check_plain(values)
    for key in ("loss", "adversarial_loss"):
        if key in values["model"]:
            values["model"][key] = _whole_loss(values["model"][key], key, folders or folders_of(sys.argv[1:]))
    return values


def with_numbers(value: Any) -> Any:
    """Replace fractions such as "25/255" in a degradation by numbers, so that all who read its levels find numbers."""
    if isinstance(value, dict):
        # The path of a file may look like a fraction.
        return {
            key: inner if key in ("path", "test", "kernel") else with_numbers(inner) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [with_numbers(inner) for inner in value]
    number = fraction(value) if isinstance(value, str) else None
    return value if number is None else number


def _at_home(value: Any) -> Any:
    """Replace `~/` at the start of every text by the home folder."""
    if isinstance(value, dict):
        return {key: _at_home(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_at_home(inner) for inner in value]
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def _whole_loss(loss: Any, key: str, folders: Sequence[Path]) -> Any:
    """Replace the names of the user's own losses by their nodes; raises InputError for a name that there is not."""
    if isinstance(loss, dict) and isinstance(loss.get("terms"), list):
        return {**loss, "terms": [_whole_loss(term, f"{key}.terms", folders) for term in loss["terms"]]}
    if not isinstance(loss, str) or loss in choices("model/loss", (CONF,)):
        return loss
    if (node := read_choice("model/loss", loss, folders)) is None:
        known = "|".join(sorted(choices("model/loss", folders)))
        raise InputError(f"model.{key}: {loss!r} is no choice of model/loss; choose one of {known}")
    return node
