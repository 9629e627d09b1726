"""The words of a command line, made ready for Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from recon.config.conf import choices, read_choice
from recon.errors import InputError

# The choices of hydra/launcher= that run each job of a sweep in a process of its own.
LAUNCHERS = ("parallel", "submitit")

# A path below a home folder where a value, or an entry of a list, begins.
_BELOW_HOME = re.compile(r"(?<![^=,\[:\s])~[^,\[\]{}'\"]*")
# Keys whose value is a text that may hold what Hydra would read as grammar: "photo (1).jpg", "{name}.png", "#ff00ff".
_TEXTS = frozenset({"input", "output", "mask", "mask_color"})
# What Hydra reads as another thing than a text, and then takes for no choice of a group.
_NO_TEXT = re.compile(r"true|false|nan|[-+]?(inf|[\d._]+(e[-+]?\d+)?)", re.IGNORECASE)


def readable(arguments: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Return words as Hydra can read them: with the home folder for `~`, file names and choices in quotes.

    So `input=photo (1).jpg` needs no quotes of Hydra's, and `debug=true` chooses what `debug='true'` does. Shells
    replace a `~` only where a word begins with it, and Hydra reads none.

    Of an action that compares runs, `run=a,b,c` is `run=a beside=[b,c]`: Hydra would take it for a sweep.

    Args:
        arguments: the command line as typed.
        folders: those of configuration files.
    """
    return _beside([_readable(word, folders) for word in arguments], folders)


def _readable(word: str, folders: Sequence[Path]) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return word
    if key.startswith("-") or not key:
        return f"{key}={os.path.expanduser(value)}"
    if key in _TEXTS and not value.startswith(("[", "'", '"')):
        return f"{key}={quoted(os.path.expanduser(value))}"
    if _NO_TEXT.fullmatch(value) and choices(key.lstrip("+"), folders):
        return f"{key}='{value.lower()}'"
    return f"{key}={_BELOW_HOME.sub(lambda found: _at_home(found[0]), value)}"


def _beside(words: list[str], folders: Sequence[Path]) -> list[str]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    typed = {word.partition("=")[0]: word for word in words}
    if "," not in typed.get("run", "") or {"-m", "--multirun"} & set(words):
        return words
    if "beside" not in (read_choice("action", typed.get("action", "").partition("=")[2], folders) or {}):
        return words
    try:
        run = OverridesParser.create().parse_override(typed["run"])
    except HydraException:  # it says so itself
        return words
    if not run.is_sweep_override():
        return words
    first, *others = run.sweep_string_iterator()
    more = typed.get("beside", "beside=").partition("=")[2].removeprefix("[").removesuffix("]")
    kept = [f"run={first}" if word == typed["run"] else word for word in words if word != typed.get("beside")]
    return [*kept, f"beside=[{','.join([*others, *([more] if more else [])])}]"]


def _at_home(path: str) -> str:
    expanded = os.path.expanduser(path.rstrip())
    return path if expanded == path.rstrip() else quoted(expanded)


def of_each_run(arguments: Sequence[str], folders: Sequence[Path]) -> list[list[str]]:
    """Split the command line of a sweep that evaluates several runs into one for each of them.

    Each run has choices of its own, with which Hydra must compose its jobs.

    Raises:
        InputError: the launcher runs the jobs at once, in this process.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = {word.partition("=")[0]: word for word in arguments}
    action = typed.get("action", "").partition("=")[2]
    if not {"-m", "--multirun"} & set(arguments) or "run" not in (read_choice("action", action, folders) or {}):
        return [list(arguments)]
    run = OverridesParser.create().parse_override(typed.get("run", "run=null"))
    if not run.is_sweep_override():
        return [list(arguments)]
    if typed.get("hydra/launcher", "").partition("=")[2] not in ("", *LAUNCHERS):
        raise InputError(
            f"{typed['hydra/launcher']}: it evaluates one run; choose hydra/launcher={'|'.join(LAUNCHERS)}"
        )
    each = [f"run={value}" for value in run.sweep_string_iterator()]
    return [[one if word == typed["run"] else word for word in arguments] for one in each]


def as_typed(words: Sequence[str], typed: Sequence[str]) -> list[str]:
    """Return those of the words that Hydra composed whose keys were typed, without what was added for it."""
    keys = {key_of(word) for word in typed}
    return [word for word in words if key_of(word) in keys]


def key_of(word: str) -> str:
    """Return the key of an override.

    >>> key_of("++trainer.max_epochs=3")
    'trainer.max_epochs'
    """
    return word.lstrip("+~").partition("=")[0]


def quoted(value: str) -> str:
    """Write a value so that Hydra reads it as it is."""
    if re.fullmatch(r"[\w./-]+", value, re.ASCII):
        return value
    # Hydra reads a backslash as itself, but before a quote or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"
