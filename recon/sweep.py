"""A sweep runs every job in a process of its own.

In one process, Lightning's DDP children would start the whole sweep again, a second job would train on fewer devices
than it says, and one that crashes would take the others along (Lightning issues 11300 and 2727).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from recon.errors import JobFailed

if TYPE_CHECKING:
    from hydra.conf import HydraConf

# What would make a job believe that it is one rank of its parent's training.
_RANK_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")


def run_job(hydra: HydraConf) -> None:
    """Run one job of a multirun as `python run.py <its overrides>`, in a folder named by them.

    Raises:
        JobFailed: Hydra goes on with the other jobs and the sweep ends with this.
    """
    overrides = list(hydra.overrides.task)
    varied = [override for override in overrides if override.split("=", 1)[0] in _swept_keys()]
    name = re.sub(r"[^\w.-]+", "-", "_".join(varied)).strip("-") or "job"
    folder = Path(hydra.sweep.dir).absolute() / f"{hydra.job.num}_{name[:120]}"
    environment = {name: value for name, value in os.environ.items() if name not in _RANK_VARIABLES}
    command = [sys.executable, sys.argv[0], *overrides, f"hydra.run.dir='{folder}'", "hydra.mode=RUN"]
    finished = subprocess.run(command, env=environment, check=False)
    if finished.returncode:
        raise JobFailed(f"job {hydra.job.num} ({' '.join(overrides)}) ended with status {finished.returncode}")


def _swept_keys() -> set[str]:
    """The keys that the command line gives several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(words)
    return {override.get_key_element() for override in parsed if override.is_sweep_override()}
