"""Where a run ran: versions, machine, git."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def environment(**known: Any) -> dict[str, Any]:
    """Describe where a run ran: versions, machine, git, command and start."""
    from importlib.metadata import version

    import torch

    packages = ("recon-images", "torch", "lightning", "hydra-core", "omegaconf", "torchmetrics", "wandb", "numpy")
    return {
        "status": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version_or_none(version, name) for name in packages},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())],
        "git": _git(),
        **known,
    }


def _version_or_none(version: Any, name: str) -> str | None:
    try:
        return str(version(name))
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return None


def _git() -> dict[str, Any] | None:
    """The commit of the code and whether it was changed since; None outside a checkout."""

    def ask(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None
