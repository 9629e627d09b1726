"""A sweep: many runs from one command (`-m`), each in a process of its own and a folder named by what varies.

In one process, Lightning's DDP children would start the whole sweep again, a second job would train on fewer devices
than it says, and one that crashes would take the others along (Lightning issues 11300 and 2727).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recon.config.conf import CONF
from recon.errors import InputError
from recon.runs.files import write_text
from recon.sweep.child import Seen
from recon.sweep.job import Collected, Job
from recon.sweep.machine import Machine, cores, gpus
from recon.sweep.pool import Pool, fresh
from recon.sweep.process import Here, Launcher, look_over
from recon.sweep.state import State, read
from recon.sweep.table import Display, show_failed

if TYPE_CHECKING:
    from recon.sweep.search import Search


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
    state = State(collected.folder, arguments)
    try:
        with state.held():
            return _run(collected, program, state)
    except InputError:
        state.tidy()
        raise


def _run(collected: Collected, program: str, state: State) -> int:
    """Run the jobs of a sweep whose folder is this process's alone."""
    sweep = collected.sweep
    _check(sweep)
    search = make_search(collected, state) if "sampler" in sweep else None
    source = search or Listed(collected, state)
    launcher, where = make_launcher(collected, program)
    _introduce(state, search, where)
    if sweep["slurm"]["dry_run"] and isinstance(source, Listed):
        return write_scripts(launcher, source, state, collected.flags)
    state.write()  # so that the same command, typed again, finds this sweep
    with Display(state.jobs) as display:
        pool = Pool(launcher, state, sweep["retry"], display.show, search.hopeless if search else None, collected.flags)
        stopped = pool.run(source)
    state.write(ended=not stopped)
    if search:
        search.show_best()
    show_failed(state.jobs)
    write_report(state)
    print(f"sweep: {state.folder}", flush=True)
    if stopped:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr, flush=True)
        return stopped
    # A search meets trials that fail, such as those with too high a learning rate; it fails when all do.
    done = search.found_any() if search else all(job.status == "ok" for job in state.jobs)
    return 0 if done else 1


class Listed:
    """A source of jobs that are all known: every combination of what the command line gives."""

    def __init__(self, collected: Collected, state: State) -> None:
        jobs = collected.jobs()
        refuse_mistakes(look_over([job.config for job in jobs]))
        for job in jobs:
            state.place(job)
        self._left = [job for job in jobs if job.status == "waiting"]

    def next(self) -> Job | None:
        """The next that is not done."""
        return self._left.pop(0) if self._left else None

    def ended(self, job: Job) -> None:
        """Nothing hangs on it."""


def make_search(collected: Collected, state: State) -> Search:
    """Check a search and make it; raises InputError before anything runs."""
    from recon.sweep.space import Space

    if len(collected.overrides) > 1:
        raise InputError(
            "sweep: a search varies what sweep.space says; give every other key of the command line one value"
        )
    space = Space(collected.sweep["space"], CONF)
    if collected.flags:
        raise InputError(
            f"{collected.flags[0]}: a search composes its trials from recon's own configuration; leave it out, or run "
            "a grid of values (sweep=grid)"
        )
    try:
        from recon.sweep import search
    except ModuleNotFoundError as error:
        raise InputError("sweep: Optuna is not installed; pip install 'recon[optuna]'") from error
    (base,) = collected.overrides
    seen = look_over(search.check(space, base))
    refuse_mistakes(seen)
    monitored = {found for _, found in seen}
    if len(monitored) > 1 and collected.sweep["objective"] is None:
        raise InputError("sweep.objective: the models of sweep.space monitor different metrics; name one for all")
    return search.Search(collected.sweep, base, state, space, monitored.pop())


def refuse_mistakes(seen: Sequence[Seen]) -> None:
    """Raise InputError with the first mistake of the jobs."""
    for mistake, _ in seen:
        if mistake is not None:
            raise InputError(mistake)


def make_launcher(collected: Collected, program: str) -> tuple[Launcher, str]:
    """Make what starts the jobs, and say where; raises InputError where that cannot be."""
    sweep = collected.sweep
    if collected.launcher != "submitit":
        if any(config["trainer"]["num_nodes"] > 1 for config in collected.configs):
            raise InputError("trainer.num_nodes: this machine is one node; add hydra/launcher=submitit for a cluster")
        machine = Machine(sweep["jobs"], gpus(), cores())
        have = f"{len(machine.gpus)} GPUs" if machine.gpus else f"{len(machine.cores)} CPU cores"
        return Here(program, machine), f"{machine.room} at a time on {have}"
    try:
        from recon.sweep import slurm
    except ModuleNotFoundError as error:
        raise InputError("hydra/launcher=submitit: submitit is not installed; pip install 'recon[slurm]'") from error
    slurm.check(collected.configs)
    several = f"{sweep['jobs']} at a time" if sweep["jobs"] else "all at a time"
    return slurm.Cluster(program, sweep), f"{several} on {sweep['slurm']['cluster']}"


def write_scripts(launcher: Launcher, source: Listed, state: State, flags: Sequence[str]) -> int:
    """Write what sbatch would be given for each job, and submit nothing."""
    from recon.sweep.slurm import Cluster

    if not isinstance(launcher, Cluster):
        raise InputError("sweep.slurm.dry_run: there are no scripts without SLURM; add hydra/launcher=submitit")
    while (job := source.next()) is not None:
        path = job.folder / "sbatch.sh"
        write_text(path, launcher.script(job, [*flags, *fresh(job, state.folder.name)], job.folder / "output.log"))
        print(f"script: {path}")
    return 0


def write_report(state: State) -> None:
    """Leave the page that compares the runs beside them."""
    from recon.report import write

    # Of all jobs, those of a search among them that ended before it was gone on with.
    folders = [state.folder / row["folder"] for row in read(state.folder)["jobs"]]
    folders = [folder for folder in folders if (folder / "environment.json").is_file()]
    if not folders:
        return
    print(f"report: {write(folders, state.folder / 'report.html', state.folder)}", flush=True)


def _check(sweep: dict[str, Any]) -> None:
    """Check what a sweep needs before anything is composed further; raises InputError."""
    for key, least in (("jobs", 1), ("retry", 0), ("trials", 1), ("seed", 0)):
        value = sweep.get(key, least)
        if (value is not None or key != "jobs") and (not isinstance(value, int) or value < least):
            raise InputError(f"sweep.{key}: {value} does not do; set it to {least} or more")


def _introduce(state: State, search: Search | None, where: str) -> None:
    """Say in a line or two what is to be done, where and how much of it is done already."""
    if (line := state.greeting()) is not None:
        print(line)
    if search:
        named = " and ".join(f"{way} {name}" for name, way in zip(search.objectives, search.directions, strict=True))
        print(f"sweep: a search of {search.sweep['trials']} trials for {named}, {where}", flush=True)
        return
    done = sum(job.status == "ok" for job in state.jobs)
    print(f"sweep: {len(state.jobs)} jobs, {done} of them done before; {where}", flush=True)
