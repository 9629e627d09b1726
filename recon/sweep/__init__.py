"""A sweep: many runs from one command (`-m`), each in a process of its own and a folder named by what varies.

In one process, Lightning's DDP children would start the whole sweep again, a second job would train on fewer devices
than it says, and one that crashes would take the others along (Lightning issues 11300 and 2727).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from recon.actions.base import check_overrides, kind_of
from recon.config.check import hints_of
from recon.errors import InputError
from recon.runs import action_of
from recon.sweep.job import Collected, Job
from recon.sweep.machine import Machine, cores, gpus
from recon.sweep.pool import Pool, Source, fresh_arguments
from recon.sweep.process import Launcher, LocalLauncher, check_jobs
from recon.sweep.state import State, read, tidy
from recon.sweep.table import Display, best_lines, show_failed


def run_sweep(collected: Collected, program: str, arguments: Sequence[str]) -> int:
    """Run the jobs of a sweep that are not done yet.

    Args:
        collected: what Hydra composed.
        program: the program that a job runs, by its path.
        arguments: the command line as typed.

    Returns:
        The exit status: 0 when all jobs are done, 1 when some failed, 128 + the signal that ended it.

    Raises:
        InputError: a mistake in any job or in the sweep; nothing was started or written.
    """
    state = State(collected.folder, arguments)
    try:
        with state.held():
            return _run(collected, program, state)
    except InputError:
        tidy(state.folder)
        raise


def _run(collected: Collected, program: str, state: State) -> int:
    """Run the jobs of a sweep whose folder this process holds."""
    sweep = collected.sweep
    _check_numbers(sweep)
    make_source = (_check_search if "sampler" in sweep else _check_grid)(collected, state)
    launcher = _make_launcher(collected, program)
    source = make_source()
    if (line := state.greeting()) is not None:
        print(line)
    print(f"sweep: {source.summary()}, {launcher.where}", flush=True)
    if sweep["slurm"]["dry_run"]:
        return _write_scripts(launcher, source, state)
    state.write()  # so that the same command, typed again, finds this sweep
    with Display(state.jobs) as display:
        stopped = Pool(launcher, state, sweep["retry"], display.show).run(source)
    state.write(ended=not stopped)
    source.show_best()
    show_failed(state.jobs)
    _write_report(state)
    print(f"sweep: {state.folder}", flush=True)
    if stopped:
        print("interrupted; the same command continues with the missing jobs", file=sys.stderr, flush=True)
        return stopped
    return 0 if source.has_succeeded() else 1


class GridSource(Source):
    """A source of jobs that are all known: every combination of the values of the command line."""

    def __init__(self, jobs: Sequence[Job], state: State) -> None:
        for job in jobs:
            state.add(job)
        self._jobs = jobs
        self._left = [job for job in jobs if job.status == "waiting"]

    def summary(self) -> str:
        """Return how many jobs there are, and how many of them are done."""
        return f"{len(self._jobs)} jobs, {len(self._jobs) - len(self._left)} of them done before"

    def next(self) -> Job | None:
        """Return the next job that is not done."""
        return self._left.pop(0) if self._left else None

    def show_best(self) -> None:
        """Print the best job and its command line."""
        for line in best_lines(self._jobs):
            print(line)

    def has_succeeded(self) -> bool:
        """Return whether all jobs are done."""
        return all(job.status == "ok" for job in self._jobs)


def _check_grid(collected: Collected, state: State) -> Callable[[], Source]:
    """Check all jobs; raises InputError with the first mistake."""
    jobs = collected.jobs()
    for job in jobs:
        kind = kind_of(job.config)
        check_overrides(kind, list(hints_of(kind)), job.overrides, action_of(job.config))
    check_jobs([job.config for job in jobs])
    return partial(GridSource, jobs, state)


def _check_search(collected: Collected, state: State) -> Callable[[], Source]:
    """Check a search and the extremes of its space; raises InputError with the first mistake."""
    from recon.sweep.compose import Composer
    from recon.sweep.space import Space

    if len(collected.overrides) > 1:
        raise InputError(
            "sweep: a search varies only the keys of sweep.space; give every other key of the command line one value"
        )
    (base,), compose = collected.overrides, Composer(collected.flags)
    space = Space(collected.sweep["space"], partial(compose.has_group, overrides=base))
    try:
        from recon.sweep.search import Search, extremes
    except ModuleNotFoundError as error:
        raise InputError("sweep: Optuna is not installed; pip install optuna") from error
    monitored = set(check_jobs(extremes(space, base, compose)))
    if len(monitored) > 1 and collected.sweep["objective"] is None:
        raise InputError("sweep.objective: the models of sweep.space monitor different metrics; name one for all")
    return partial(Search, collected.sweep, base, state, space, compose, monitored.pop())


def _make_launcher(collected: Collected, program: str) -> Launcher:
    """Make the launcher; raises InputError for settings that it cannot run."""
    sweep = collected.sweep
    if collected.launcher != "submitit":
        if sweep["slurm"]["dry_run"]:
            raise InputError("sweep.slurm.dry_run: there are no scripts without SLURM; add hydra/launcher=submitit")
        if any(config["trainer"]["num_nodes"] > 1 for config in collected.configs):
            raise InputError("trainer.num_nodes: this machine is one node; add hydra/launcher=submitit for a cluster")
        return LocalLauncher(program, collected.flags, Machine(sweep["jobs"], gpus(), cores()))
    if sweep["slurm"]["dry_run"] and "sampler" in sweep:
        raise InputError("sweep.slurm.dry_run: a search chooses its jobs as it runs; leave it out, or use sweep=grid")
    try:
        from recon.sweep import slurm
    except ModuleNotFoundError as error:
        raise InputError("hydra/launcher=submitit: submitit is not installed; pip install submitit") from error
    slurm.check(collected.configs)
    return slurm.Cluster(program, collected.flags, sweep)


def _write_scripts(launcher: Launcher, source: Source, state: State) -> int:
    """Write the script that sbatch would get for each job, and submit nothing."""
    from recon.runs.files import write_text
    from recon.sweep.slurm import Cluster

    assert isinstance(launcher, Cluster)
    while (job := source.next()) is not None:
        path = job.folder / "sbatch.sh"
        write_text(path, launcher.script(job, fresh_arguments(job, state.folder.name)))
        print(f"script: {path}")
    return 0


def _write_report(state: State) -> None:
    """Write the page that compares the runs of the sweep, also those that it did not run again."""
    from recon.report import write

    folders = [state.folder / row["folder"] for row in read(state.folder)["jobs"]]
    if folders := [folder for folder in folders if (folder / "environment.json").is_file()]:
        print(f"report: {write(folders, state.folder / 'report.html', state.folder)}", flush=True)


def _check_numbers(sweep: dict[str, Any]) -> None:
    """Raise InputError for a count of the sweep that is too small."""
    for key, least in (("jobs", 1), ("retry", 0), ("trials", 1), ("seed", 0)):
        value = sweep.get(key, least)
        if (value is not None or key != "jobs") and (not isinstance(value, int) or value < least):
            raise InputError(f"sweep.{key}: {value} does not do; set it to {least} or more")
