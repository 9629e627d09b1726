"""Where a run ran: versions, machine, git."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


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
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),  # GiB
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


def _processor() -> str:
    """Return the model of the processor where Linux tells it, else what kind it is."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, models), platform.processor() or platform.machine())


def _git() -> dict[str, Any] | None:
    """The commit of the code and whether it was changed since; None outside a checkout."""

    def ask(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None
