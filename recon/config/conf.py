"""Where the configuration's files are, and what starts recon; it imports nothing heavy."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).absolute().parents[1]
# In the repository conf/ lies beside the package, in an installed wheel inside it.
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"


def choices(group: str, folders: Sequence[Path] = (CONF,)) -> dict[str, Path]:
    """Return the choices of a group, such as "model/net", with their files; those of earlier folders win."""
    files = [path for folder in folders for path in sorted((folder / group).glob("*.yaml"))]
    return {path.stem: path for path in reversed(files)}


def groups(folders: Sequence[Path] = (CONF,)) -> list[str]:
    """Return the groups of choices, such as "model/net", in alphabetical order."""
    files = ((folder, path) for folder in folders for path in folder.glob("*/**/*.yaml"))
    return sorted({path.parent.relative_to(folder).as_posix() for folder, path in files})


def read_choice(group: str, name: str, folders: Sequence[Path] = (CONF,)) -> dict[str, Any] | None:
    """Read the file of a choice; None where there is no such choice."""
    import yaml

    path = choices(group, folders).get(name)
    return None if path is None else yaml.safe_load(path.read_text("utf-8")) or {}


def program() -> str:
    """Return what starts recon, as this process or the sweep that it is a job of was started: "python run.py"."""
    name = Path(sys.argv[0]).name
    typed = {"recon": "recon", "__main__.py": "python -m recon"}.get(name, "python run.py")
    return os.environ.get("RECON_COMMAND", typed)


def command() -> str:
    """Return how a command of this user begins: the program, with what makes it find code and choices of their own."""
    trust = os.environ.get("RECON_TRUST")
    flags = [word for folder in folders_of(sys.argv[1:])[:-1] for word in ("--config-dir", str(folder))]
    return " ".join([*([f"RECON_TRUST={shlex.quote(trust)}"] if trust else []), program(), *map(shlex.quote, flags)])


def folders_of(arguments: Sequence[str]) -> list[Path]:
    """Return the folders of configuration files for a command line: the user's own by `--config-dir`, then recon's."""
    typed = list(arguments)
    given = [typed[index + 1] for index, word in enumerate(typed[:-1]) if word in ("--config-dir", "-cd")]
    given += [word.partition("=")[2] for word in typed if word.startswith("--config-dir=")]
    return [*(Path(folder) for folder in given), CONF]
