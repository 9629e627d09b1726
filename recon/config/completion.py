"""Tab completion beyond Hydra's: the runs that keys such as `run=` can name, and the user's own choices."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from recon import runs
from recon.config.conf import folders_of

# The keys that name runs, with the checkpoints that a run must have for each.
_KEYS = {"run": "[blp]*.ckpt", "init_from": "[blp]*.ckpt", "model.judge": "[blp]*.ckpt", "resume": "[lp]*.ckpt",
         "runs": ""}  # fmt: skip


def is_asked(arguments: Sequence[str]) -> bool:
    """Return whether a shell asks how its command line, the variable COMP_LINE, can be completed."""
    return bool({"-sc", "--shell-completion"} & set(arguments)) and any(word.startswith("query=") for word in arguments)


def with_own_folder(arguments: list[str]) -> list[str]:
    """Add the user's folder of configuration files in the line to complete, whose choices are to be completed too."""
    *own, _ = folders_of(os.environ.get("COMP_LINE", "").split())
    return [*(word for folder in own[:1] for word in ("--config-dir", str(folder.expanduser()))), *arguments]


def run_names() -> list[str] | None:
    """Return the completions of the last word of the line; None where it names no run."""
    key, equals, typed = os.environ.get("COMP_LINE", "").rpartition(" ")[2].partition("=")
    if not equals or key not in _KEYS:
        return None
    folders = sorted(record.parent for record in Path("outputs").rglob("environment.json"))
    paths = [str(folder) for folder in folders if not _KEYS[key] or any((folder / "checkpoints").glob(_KEYS[key]))]
    ends = [runs.short_name(path, paths) for path in paths]
    names = dict.fromkeys([*(["last", "best"] if _KEYS[key] else []), *ends, *paths])
    # The shell expands what it is given, and a folder of a stranger's may be called $(…).
    return [f"{key}={name}" for name in names if name.startswith(typed) and re.fullmatch(r"[\w./+=,-]+", name)]
