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
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Protocol

import recon
from recon.errors import InputError
from recon.sweep import child
from recon.sweep.child import Checked, JobSpec
from recon.sweep.job import Job, devices
from recon.sweep.machine import Machine, Place

# With these, a job would take itself for one rank of its parent's training.
_RANK_VARIABLES = (
    *("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED"),
    *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"),
)


class Process(Protocol):
    """A job that was started."""

    def status(self) -> int | None:
        """Return its exit status, negative when a signal ended it; None while it runs."""

    def send(self, signal_number: int) -> None:
        """Send a signal to it and to the processes that it started."""


class Launcher:
    """Base of what starts jobs somewhere.

    Attributes:
        room: how many run at a time.
        where: this number and the place, for the first line of a sweep.
        interruptions_are_free: an interrupted job resumes without counting as tried again.
    """

    room: int
    where: str
    interruptions_are_free = False

    def start(self, job: Job, arguments: list[str]) -> Process | None:
        """Start `run.py <arguments>` for a job; returns None while it has no place."""
        raise NotImplementedError

    def attach(self, job: Job) -> Process | None:
        """Return the running process of a job that an earlier sweep started, or None."""
        return None

    def ended(self, process: Process) -> None:
        """Free the place of a job."""


class LocalLauncher(Launcher):
    """Starts jobs on this machine.

    Args:
        program: the program of a job, by its path.
        flags: typed before the arguments of every job.
        machine: its GPUs and cores.
    """

    def __init__(self, program: str, flags: Sequence[str], machine: Machine) -> None:
        self.program, self.flags, self.machine = program, flags, machine
        self.room = machine.room
        devices_ = f"{len(machine.gpus)} GPUs" if machine.gpus else f"{len(machine.cores)} CPU cores"
        self.where = f"{machine.room} at a time on {devices_}"
        self._places: dict[Process, Place] = {}

    def start(self, job: Job, arguments: list[str]) -> Process | None:
        """Fork a job from the server, once for each of its devices."""
        trainer = job.config["trainer"]
        if (place := self.machine.take(trainer)) is None:
            return None
        count, arguments = devices(trainer, len(place.gpus)), [*self.flags, *arguments]
        process: Process = (
            Group(self.program, arguments, job.log, place, count)
            if count > 1
            else ForkedJob(self.program, arguments, job.log, place, len(place.cores), {})
        )
        self._places[process] = place
        return process

    def ended(self, process: Process) -> None:
        """Free its GPUs and cores."""
        self.machine.give_back(self._places.pop(process))


class ForkedJob:
    """A process forked from the server: it starts within a fraction of a second."""

    def __init__(
        self, program: str, arguments: list[str], log: Path, place: Place, threads: int, variables: dict[str, str]
    ) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _RANK_VARIABLES}
        environment |= {"RECON_PROGRESS": "1", **variables}
        if place.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(place.gpus)
        spec = JobSpec(program, arguments, log, Path.cwd(), environment, place.cores, threads)
        self._process = _server().Process(target=child.work, args=(spec,))
        with _server_environment():
            self._process.start()

    def status(self) -> int | None:
        """Return its exit status."""
        return self._process.exitcode

    def send(self, signal_number: int) -> None:
        """Send a signal to its process group."""
        assert self._process.pid is not None
        for send in (os.killpg, os.kill):  # a process that was just forked has no group yet
            with contextlib.suppress(ProcessLookupError):
                send(self._process.pid, signal_number)
                return


class Group:
    """A job on several devices: a process for each, forked with the variables by which Lightning knows its rank.

    Left to itself, Lightning starts a fresh command for each further device when the first has imported everything.
    """

    grace = 10.0  # seconds that the other ranks may take to end after one has failed

    def __init__(self, program: str, arguments: list[str], log: Path, place: Place, count: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "NODE_RANK": "0"}
        threads = max(1, len(place.cores) // count)
        self._ranks = [
            ForkedJob(program, arguments, log, place, threads, {**shared, "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]
        self._failed: int | None = None  # the status of the first that failed
        self._killed_at = 0.0

    def status(self) -> int | None:
        """Return the exit status of the first rank that failed, or 0; None while one runs."""
        statuses = [rank.status() for rank in self._ranks]
        failed = next((status for status in statuses if status), None)
        if self._failed is None and failed is not None:
            self._failed, self._killed_at = failed, time.monotonic() + self.grace
        if None not in statuses:
            return self._failed or 0
        if self._failed is not None and time.monotonic() > self._killed_at:
            self.send(signal.SIGKILL)
        return None

    def send(self, signal_number: int) -> None:
        """Send a signal to the process groups of all ranks."""
        for rank in self._ranks:
            if rank.status() is None:
                rank.send(signal_number)


def check_jobs(configs: list[dict[str, Any]]) -> Checked:
    """Check configurations in a process forked from the server; raises InputError with the first mistake."""
    context = _server()
    receiving, sending = context.Pipe(duplex=False)
    with _server_environment():
        process = context.Process(target=child.send_checked, args=(configs, dict(os.environ), sending))
        process.start()
    sending.close()
    try:
        checked: Checked | InputError = receiving.recv()
    except EOFError:
        raise RuntimeError("the process that checks the jobs has died; its output is above") from None
    process.join()
    if isinstance(checked, InputError):
        raise checked
    return checked


def start_server() -> None:
    """Start the server, which imports what the jobs need; does not wait for it."""
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
    """Set the variables that the server starts with; each job replaces them by its own."""
    before = dict(os.environ)
    # The server must find recon wherever it is started.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(recon.__file__).parents[1]), before.get("PYTHONPATH", "")])
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy would start threads when imported
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # looks for a GPU without initialising CUDA
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
