"""Tab completion beyond Hydra's: the runs that keys such as `run=` can name, and the user's own choices."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from recon import runs
from recon.config.conf import folders_of

# The keys that name one trained run.
_OF_TRAINED = ("run", "init_from", "model.judge", "model.teacher", "model.loss.features", "resume")


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
    if not equals or key not in (*_OF_TRAINED, "runs"):
        return None
    found = sorted(record.parent for record in Path("outputs").rglob("environment.json"))
    if key in _OF_TRAINED:
        found = [path for path in runs.trained() if key != "resume" or runs.RunFolder(path).has_checkpoint]
    paths = [str(path) for path in found]
    ends = [runs.short_name(path, paths) for path in paths]
    names = dict.fromkeys([*(["last", "best"] if key in _OF_TRAINED else []), *ends, *paths])
    # The shell expands what it is given, and a folder of a stranger's may be called $(…).
    return [f"{key}={name}" for name in names if name.startswith(typed) and re.fullmatch(r"[\w./+=,-]+", name)]
