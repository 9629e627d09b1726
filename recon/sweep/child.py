"""The job's side: a process that runs one job of a sweep, or checks the configurations of all."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from recon.errors import InputError

_GRACE = 60.0  # seconds that a run has to save and end, before it is killed


# The metric that the model of each configuration monitors, with "min" or "max"; None where it has none.
Checked = list[tuple[str, str] | None]


@dataclass(frozen=True)
class JobSpec:
    """What a forked process runs: the program at a path with its arguments; all output goes to `log`."""

    program: str
    arguments: list[str]
    log: Path
    directory: Path
    environment: dict[str, str]
    cores: list[int]
    threads: int  # of torch


def work(spec: JobSpec) -> None:
    """Run a program with its arguments in a process forked from the server, and exit with its status."""
    os.setsid()
    with open(spec.log, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(spec.directory)
    os.environ.clear()
    os.environ.update(spec.environment)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec.cores)
    import torch

    from recon.training.lightning import take_rank

    torch.set_num_threads(spec.threads)
    take_rank()
    parent = multiprocessing.parent_process()
    assert parent is not None
    _end_without(parent.is_alive)
    sys.argv = [spec.program, *spec.arguments]
    status: int | str | None = 0
    try:
        runpy.run_path(spec.program, run_name="__main__")
    except SystemExit as error:
        status = error.code
    # multiprocessing does not run the atexit handlers, such as that of W&B.
    atexit._run_exitfuncs()
    sys.exit(status)


def _end_without(is_alive: Callable[[], bool]) -> None:
    """Ask once a second, in a thread, whether the parent is alive; without it save, if possible, and end."""

    def watch() -> None:
        while is_alive():
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def check_configs(configs: list[dict[str, Any]]) -> Checked:
    """Check configurations as each job will, without its images; raises InputError with the first mistake."""
    from recon import build

    checked: dict[str, tuple[str, str] | None] = {}
    # Those that differ only in the seed are built once.
    keys = [json.dumps({**one, "seed": isinstance(one["seed"], int)}, sort_keys=True, default=str) for one in configs]
    for key, config in zip(keys, configs, strict=True):
        if key not in checked:
            checked[key] = build.check(config)
    return [checked[key] for key in keys]


def send_checked(configs: list[dict[str, Any]], environment: dict[str, str], channel: Connection) -> None:
    """Check configurations in a process forked from the server, and send the result or the InputError."""
    os.environ.clear()
    os.environ.update(environment)
    try:
        channel.send(check_configs(configs))
    except InputError as error:
        channel.send(error)
