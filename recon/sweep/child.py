"""The job's side: a process that runs one job of a sweep and ends with it."""

from __future__ import annotations

import atexit
import importlib.util
import json
import multiprocessing
import os
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
from recon.runs import action_of

# The mistake in a configuration, and the metric that its model monitors with "min" or "max".
Seen = tuple[str | None, tuple[str, str] | None]
_GRACE = 60.0  # seconds that a run has to save and end, before it is killed


@dataclass(frozen=True)
class Order:
    """What a forked process is to do.

    Args:
        program: the path of run.py.
        arguments: what would be typed behind it.
        log: the file that takes all output.
        directory: the working directory.
        environment: all environment variables.
        cores: the CPU cores to run on.
        threads: how many threads torch takes.
    """

    program: str
    arguments: list[str]
    log: Path
    directory: Path
    environment: dict[str, str]
    cores: list[int]
    threads: int


def work(order: Order) -> None:
    """Be `python run.py <arguments>` in a process forked from the server; ends with its status."""
    os.setsid()
    with open(order.log, "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(order.directory)
    os.environ.clear()
    os.environ.update(order.environment)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order.cores)
    import torch

    torch.set_num_threads(order.threads)
    _take_rank()
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_with(parent.is_alive)
    sys.argv = [order.program, *order.arguments]
    try:
        status = _load(order.program).main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    # multiprocessing leaves out what a command does at its end, such as closing W&B.
    atexit._run_exitfuncs()
    sys.exit(status)


def _take_rank() -> None:
    """Tell Lightning, which was imported before this process had one, its rank."""
    from lightning.fabric.utilities import rank_zero as fabric
    from lightning.pytorch.utilities import rank_zero as pytorch

    for module in (fabric, pytorch):
        module.rank_zero_only.rank = int(os.environ.get("LOCAL_RANK", "0"))


def look_over(configs: list[dict[str, Any]], environment: dict[str, str], channel: Connection) -> None:
    """Check configurations as each job will, which needs torch; sends what it sees."""
    os.environ.clear()
    os.environ.update(environment)
    from recon import build

    found: list[Seen] = []
    made: dict[str, Seen] = {}  # what is equal but for the seed is built once
    for config in configs:
        key = json.dumps({**config, "seed": isinstance(config["seed"], int)}, sort_keys=True, default=str)
        if key not in made or action_of(config) != "train":
            try:
                monitored = build.check(config)
                made[key] = (None, monitored)
            except InputError as error:
                made[key] = (str(error), None)
        found.append(made[key])
    channel.send(found)


def _load(program: str) -> Any:
    spec = importlib.util.spec_from_file_location("run", program)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run"] = module
    spec.loader.exec_module(module)
    return module


def end_with(alive: Callable[[], bool]) -> None:
    """Look once a second, in a thread, whether the parent lives; without it save, if possible, and end."""

    def watch() -> None:
        while alive():
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
