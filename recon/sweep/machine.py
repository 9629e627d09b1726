"""This machine's GPUs and CPU cores for jobs, found without torch and without initialising CUDA."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import Any

from recon.sweep.job import devices


def gpus() -> list[str]:
    """Return the GPUs that a run of this process would see, as CUDA_VISIBLE_DEVICES names them."""
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed
    named = [name.strip() for name in visible.split(",")]
    # CUDA ignores all names after -1.
    return named[: named.index("-1")] if "-1" in named else [name for name in named if name]


def cores() -> list[int]:
    """Return the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass
class Place:
    """The GPUs of one job and its share of the CPU cores."""

    gpus: list[str]
    cores: list[int]


@dataclass
class Machine:
    """Shares GPUs and cores out among jobs.

    Args:
        jobs: how many run at a time; None: one for each GPU, one on a machine without.
        gpus: as CUDA_VISIBLE_DEVICES names them.
        cores: the numbers of the CPU cores.
    """

    jobs: int | None
    gpus: list[str]
    cores: list[int]
    taken: dict[int, Place] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.room = self.jobs or max(1, len(self.gpus))

    def take(self, trainer: dict[str, Any]) -> Place | None:
        """Take a place for a run with these settings of the trainer; returns None while none is free."""
        free = [number for number in range(self.room) if number not in self.taken]
        if not free:
            return None
        chosen: list[str] = []
        if self.gpus and trainer["accelerator"] in ("auto", "gpu", "cuda"):
            load = {gpu: sum(gpu in place.gpus for place in self.taken.values()) for gpu in self.gpus}
            most = -(-self.room // len(self.gpus))  # jobs that share one GPU
            open_ = sorted((gpu for gpu in self.gpus if load[gpu] < most), key=lambda gpu: load[gpu])
            wanted = min(devices(trainer, len(self.gpus)), len(self.gpus))
            if len(open_) < wanted:
                return None
            chosen = open_[:wanted]
        number = free[0]
        share = self.cores[number :: self.room] or [self.cores[number % len(self.cores)]]
        self.taken[number] = Place(chosen, share)
        return self.taken[number]

    def give_back(self, place: Place) -> None:
        """Free a place."""
        self.taken = {number: other for number, other in self.taken.items() if other is not place}
