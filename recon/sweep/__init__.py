"""A sweep: many runs from one command (`-m`), each in a process of its own and a folder named by what varies.

In one process, Lightning's DDP children would start the whole sweep again, a second job would train on fewer devices
than it says, and one that crashes would take the others along (Lightning issues 11300 and 2727).
"""

from __future__ import annotations

from collections.abc import Sequence

from recon.errors import InputError
from recon.sweep.job import Collected, Job
from recon.sweep.machine import Machine, cores, gpus
from recon.sweep.pool import Pool
from recon.sweep.state import State
from recon.sweep.table import Display, show_failed


def run_sweep(collected: Collected, program: str, arguments: Sequence[str]) -> int:
    """Run the jobs of a sweep that are not done yet; returns the exit status.

    Args:
        collected: what Hydra composed.
        program: the path of run.py.
        arguments: the command line as typed.

    Returns:
        0 when all jobs are done, 1 when some failed, 128 + the signal that ended it.

    Raises:
        InputError: something cannot be right; nothing was begun.
    """
    sweep = collected.sweep
    if sweep["jobs"] is not None and sweep["jobs"] < 1:
        raise InputError(f"sweep.jobs: {sweep['jobs']} jobs at a time are none; set it to 1 or more")
    state = State(collected.folder, arguments)
    jobs = collected.jobs()
    for job in jobs:
        state.place(job)
    machine = Machine(sweep["jobs"], gpus(), cores())
    _introduce(state, jobs, machine)
    with Display(jobs) as display:
        pool = Pool(program, machine, state, sweep["retry"], display.show)
        stopped = pool.run(Listed(jobs))
    state.write(ended=True)
    show_failed(jobs)
    print(f"sweep: {state.folder}", flush=True)
    if stopped:
        print("error: interrupted; the same command goes on with what is missing", flush=True)
        return stopped
    return 0 if all(job.status == "ok" for job in jobs) else 1


class Listed:
    """A source of jobs that are all known."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._left = [job for job in jobs if job.status == "waiting"]

    def next(self) -> Job | None:
        """The next that is not done."""
        return self._left.pop(0) if self._left else None

    def ended(self, job: Job) -> None:
        """Nothing hangs on it."""


def _introduce(state: State, jobs: Sequence[Job], machine: Machine) -> None:
    """Say in a line or two what is to be done, where and how much of it is done already."""
    if (line := state.greeting()) is not None:
        print(line)
    done = sum(job.status == "ok" for job in jobs)
    where = f"{len(machine.gpus)} GPUs" if machine.gpus else f"{len(machine.cores)} CPU cores"
    at_a_time = min(machine.room, max(1, len(jobs) - done))
    print(f"sweep: {len(jobs)} jobs, {done} of them done before; {at_a_time} at a time on {where}", flush=True)
