"""What a run does is an action: a class here or in the user's own package, and a file in `conf/action/`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from recon.config.conf import command
from recon.config.construct import find_class
from recon.errors import InputError

# Keys that every action takes.
_ALWAYS = ("action", "hydra")


class Action:
    """What a run does.

    The parameters of `__init__` are the action's own keys of the configuration, flat as they are typed
    (`action=evaluate run=outputs/…`); its YAML holds their defaults.

    Attributes:
        needs_run: whether it works on the trained model of the run folder that its key `run` names. Its configuration
            is then that of the run, with the overrides of the command line.
        leaves_a_record: whether it has a run folder of its own, which can be resumed and reported.
        imports_torch: whether it needs torch and Lightning; the others answer at once.
        takes: the other keys and groups that it uses, by their first word; None for all.
        refuses: the keys and groups that contradict it, though it takes their first word.
        refusal: why those are refused.
    """

    needs_run: ClassVar[bool] = False
    leaves_a_record: ClassVar[bool] = True
    imports_torch: ClassVar[bool] = True
    takes: ClassVar[tuple[str, ...] | None] = None
    refuses: ClassVar[tuple[str, ...]] = ()
    refusal: ClassVar[str] = "it does not use it"

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> object:
        """Carry it out.

        Args:
            config: the resolved configuration.
            folder: the run folder.
            about: what `environment.json` records besides, such as the overrides.
        """
        raise NotImplementedError


def kind_of(config: dict[str, Any]) -> type[Action]:
    """Return the class of a configuration's action; raises InputError where it names none."""
    node = config.get("action")
    if not isinstance(node, dict) or "_target_" not in node:
        raise InputError(f"action: {node!r} is no action; write action=<name>, one of those in `{command()} --help`")
    kind: type[Action] = find_class(node["_target_"], "action")
    return kind


def check_overrides(kind: type[Action], own: Sequence[str], overrides: Sequence[str], name: str) -> None:
    """Raise InputError where the command line gives a key that an action does not use.

    Args:
        kind: the class of the action.
        own: its own keys.
        overrides: those of the command line.
        name: as it is typed.
    """
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        root = re.split(r"[./@]", key)[0]
        if kind.takes is not None and root not in (*kind.takes, *own, *_ALWAYS):
            raise InputError(f"{key}: action={name} does not use it; leave it out")
        if key in kind.refuses:
            raise InputError(f"{key}: {kind.refusal}; leave out {override}")
