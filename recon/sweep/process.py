"""Starting the processes of a job: forked from a server that has imported everything."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

import recon
from recon.sweep import child
from recon.sweep.child import Order, Seen
from recon.sweep.job import Job, devices
from recon.sweep.machine import Machine, Place

# What would make a job believe that it is one rank of its parent's training.
_RANK_VARIABLES = (
    *("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
)


class Process(Protocol):
    """A job that was started."""

    def status(self) -> int | None:
        """Its exit status, negative when a signal ended it; None while it runs."""

    def send(self, signal_number: int) -> None:
        """Send a signal to it and to the processes that it started."""


class Launcher(Protocol):
    """Starts jobs somewhere.

    Args:
        room: how many run at a time.
        goes_on_for_free: does a job that was interrupted from outside go on without counting as tried again?
    """

    room: int
    goes_on_for_free: bool

    def start(self, job: Job, arguments: list[str], log: Path) -> Process | None:
        """Start `run.py <arguments>` for a job; None while there is no place for it."""

    def attach(self, job: Job) -> Process | None:
        """Find a job at work that an earlier sweep started; None where there is none."""

    def ended(self, process: Process) -> None:
        """Let others have the place of a job."""


class Here:
    """Starts jobs on this machine.

    Args:
        program: the path of run.py.
        machine: gives each job its place.
    """

    goes_on_for_free = False

    def __init__(self, program: str, machine: Machine) -> None:
        self.program = program
        self.machine = machine
        self.room = machine.room
        self._places: dict[Process, Place] = {}

    def start(self, job: Job, arguments: list[str], log: Path) -> Process | None:
        """Fork a job from the server, once for each of its devices."""
        trainer = job.config["trainer"]
        if (place := self.machine.take(trainer)) is None:
            return None
        count = devices(trainer, len(place.gpus))
        process: Process = (
            Group(self.program, arguments, log, place, count)
            if count > 1
            else Forked(self.program, arguments, log, place, len(place.cores), {})
        )
        self._places[process] = place
        return process

    def attach(self, job: Job) -> Process | None:
        """A job of this machine ends with its sweep."""
        return None

    def ended(self, process: Process) -> None:
        """Let others have its GPUs and cores."""
        self.machine.give_back(self._places.pop(process))


class Forked:
    """A process forked from the server: it starts within a fraction of a second."""

    def __init__(
        self, program: str, arguments: list[str], log: Path, place: Place, threads: int, more: dict[str, str]
    ) -> None:
        environment = _environment(place) | more
        order = Order(program, arguments, log, Path.cwd(), environment, place.cores, threads)
        self._process = _server().Process(target=child.work, args=(order,))
        with _server_environment():
            self._process.start()

    def status(self) -> int | None:
        """Its exit status."""
        return self._process.exitcode

    def send(self, signal_number: int) -> None:
        """Send a signal to its process group."""
        assert self._process.pid is not None
        _send(self._process.pid, signal_number)


class Group:
    """A job on several devices: a process for each, forked with the variables by which Lightning knows its rank.

    Left to itself, Lightning starts a fresh command for each further device when the first has imported everything.
    """

    grace = 10.0  # seconds that the others may take to see that one has failed

    def __init__(self, program: str, arguments: list[str], log: Path, place: Place, count: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "NODE_RANK": "0"}
        threads = max(1, len(place.cores) // count)
        self._ranks = [
            Forked(program, arguments, log, place, threads, {**shared, "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]
        self._failed: int | None = None  # the status of the first that failed
        self._killed_at = 0.0

    def status(self) -> int | None:
        """The exit status of the first that failed, or 0; None while one runs."""
        found = [rank.status() for rank in self._ranks]
        failed = next((status for status in found if status), None)
        if self._failed is None and failed is not None:
            self._failed, self._killed_at = failed, time.monotonic() + self.grace
        if None not in found:
            return self._failed or 0
        if self._failed is not None and time.monotonic() > self._killed_at:
            self.send(signal.SIGKILL)
        return None

    def send(self, signal_number: int) -> None:
        """Send a signal to the groups of all its processes."""
        for rank in self._ranks:
            if rank.status() is None:
                rank.send(signal_number)


def look_over(configs: list[dict[str, Any]]) -> list[Seen]:
    """Check configurations in a process that has torch; returns the mistake in each and what its model monitors."""
    context = _server()
    receiving, sending = context.Pipe(duplex=False)
    with _server_environment():
        process = context.Process(target=child.look_over, args=(configs, dict(os.environ), sending))
        process.start()
    sending.close()
    try:
        found: list[Seen] = receiving.recv()
    except EOFError:
        raise RuntimeError("the process that checks the jobs has died; its words are above") from None
    process.join()
    return found


def _send(pid: int, signal_number: int) -> None:
    for send in (os.killpg, os.kill):  # a process that was just forked has no group yet
        with contextlib.suppress(ProcessLookupError):
            send(pid, signal.Signals(signal_number))
            return


def _environment(place: Place) -> dict[str, str]:
    """The environment of a job."""
    environment = {name: value for name, value in os.environ.items() if name not in _RANK_VARIABLES}
    environment["RECON_PROGRESS"] = "1"
    if place.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(place.gpus)
    return environment


def start_server() -> None:
    """Begin to import what the jobs need, while others go on with something else."""
    from multiprocessing.forkserver import ensure_running

    _server()
    with _server_environment():
        ensure_running()


def _server() -> ForkServerContext:
    _shorten_sockets()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recon.sweep.server"])
    return context


def _shorten_sockets() -> None:
    """Put multiprocessing's sockets into a short folder where TMPDIR is too long for their names (108 bytes)."""
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None and len(os.fsencode(tempfile.gettempdir())) > 60:
        config["tempdir"] = folder = tempfile.mkdtemp(prefix="recon-", dir="/tmp")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


@contextlib.contextmanager
def _server_environment() -> Iterator[None]:
    """What the server starts with; each job replaces it by its own."""
    wanted = {
        # It must find recon wherever it is started.
        "PYTHONPATH": os.pathsep.join([str(Path(recon.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        "OPENBLAS_NUM_THREADS": "1",  # NumPy would start threads at its import
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # is there a GPU? without touching CUDA
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
