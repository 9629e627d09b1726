"""Jobs on SLURM: submitit submits each as the command `python run.py …`, so that Lightning recognises SLURM's tasks.

Lightning finds the other processes of a job by the variables that SLURM sets for each task, so one task is requested
for each device.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from submitit import AutoExecutor, SlurmExecutor
from submitit.core.core import Job as SubmittedJob
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import CommandFunction
from submitit.slurm.slurm import SlurmJob

from recon.errors import InputError
from recon.sweep.job import Job, devices
from recon.sweep.pool import SAVED
from recon.sweep.process import Launcher

_SECONDS_BETWEEN_QUERIES = 30.0  # to SLURM, about a job that has not written its exit status
# The exit statuses of jobs that SLURM ended before they could write one.
_STATUS = {"COMPLETED": 1, "FAILED": 1, "OUT_OF_MEMORY": -signal.SIGKILL}


class Cluster(Launcher):
    """Starts jobs by submitting them.

    Args:
        program: the program of a job, by its path.
        flags: typed before the arguments of every job.
        sweep: the node of the configuration.

    Raises:
        InputError: there is no SLURM here.
    """

    interruptions_are_free = True  # the time limit or another job ended it

    def __init__(self, program: str, flags: Sequence[str], sweep: dict[str, Any]) -> None:
        self.command = [sys.executable, "-u", program, *flags]
        self.settings: dict[str, Any] = sweep["slurm"]
        self.room = sweep["jobs"] or sys.maxsize
        self.where = f"{sweep['jobs'] or 'all'} at a time on {self.settings['cluster']}"
        if self.settings["cluster"] == "slurm" and not self.settings["dry_run"] and shutil.which("srun") is None:
            raise InputError(
                "hydra/launcher=submitit: there is no srun here; start it where SLURM is, or write the scripts only by "
                "sweep.slurm.dry_run=true"
            )

    def start(self, job: Job, arguments: list[str]) -> Submitted:
        """Submit a job."""
        _status_file(job).unlink(missing_ok=True)
        executor = AutoExecutor(job.folder / "slurm", cluster=self.settings["cluster"])
        executor.update_parameters(**self._parameters(job))
        try:
            submitted = executor.submit(CommandFunction(self._shell(job, arguments), cwd=Path.cwd()))
        except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
            raise InputError(f"hydra/launcher=submitit: {' '.join(str(error).split())}") from error
        job.batch = submitted.job_id
        return Submitted(submitted, _status_file(job))

    def attach(self, job: Job) -> Submitted | None:
        """Return a job that an earlier sweep submitted and that has not ended, or None."""
        if not job.batch or self.settings["cluster"] != "slurm":
            return None
        submitted: SubmittedJob[str] = SlurmJob(job.folder / "slurm", job.batch)
        status = _status_file(job)
        return None if status.exists() or submitted.done(force_check=True) else Submitted(submitted, status)

    def script(self, job: Job, arguments: list[str]) -> str:
        """Return the script that sbatch would get for a job."""
        executor = _DryExecutor(job.folder / "slurm")
        return executor.script(self._parameters(job), shlex.join(self._shell(job, arguments)))

    def _shell(self, job: Job, arguments: list[str]) -> list[str]:
        """Return the command of each task.

        The first task writes the run's output and its exit status. A job that SLURM starts again is resumed.
        """
        begin, resume = (shlex.join([*self.command, *words]) for words in (arguments, [f"resume={job.folder}"]))
        first = '[ "${SLURM_PROCID:-0}" = 0 ]'
        lines = [
            # These are for the run, which saves; it ignores the second two until it can.
            "trap : TERM; trap '' USR1 USR2",
            "export RECON_PROGRESS=1",
            f"if {first}; then exec >> {shlex.quote(str(job.log))} 2>&1; fi",
            f'if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then {resume}; else {begin}; fi',
            "status=$?",
            f"if {first}; then echo $status > {shlex.quote(str(_status_file(job)))}; fi",
            "exit $status",
        ]
        return ["sh", "-c", "\n".join(lines)]

    def _parameters(self, job: Job) -> dict[str, Any]:
        """Return the parameters of AutoExecutor for a job."""
        trainer, settings = job.config["trainer"], self.settings
        is_local = settings["cluster"] == "local"
        count = devices(trainer, 0)
        parameters = {
            "name": f"recon_{job.name}"[:60],
            "timeout_min": settings["time"],
            "nodes": trainer["num_nodes"],
            # On this machine Lightning starts the processes of a run itself.
            "tasks_per_node": 1 if is_local else count,
            "gpus_per_node": count if trainer["accelerator"] in ("gpu", "cuda") else None,
            "cpus_per_task": settings["cpus_per_task"],
            "mem_gb": settings["mem_gb"],
        }
        for name in () if is_local else ("partition", "account", "additional_parameters"):
            parameters[f"slurm_{name}"] = settings.get(name) or None
        return {name: value for name, value in parameters.items() if value is not None}


def _status_file(job: Job) -> Path:
    return job.folder / "exit_status"


class _DryExecutor(SlurmExecutor):
    """Writes scripts for sbatch on a machine without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        """Pretend that SLURM is here."""
        return 2

    def script(self, parameters: dict[str, Any], command: str) -> str:
        """Return the script that runs a command in each task, for parameters of AutoExecutor."""
        plain = {name.removeprefix("slurm_"): value for name, value in parameters.items()}
        self.update_parameters(**self._convert_parameters(plain))
        return self._make_submission_file_text(command, "dry")


class Submitted:
    """A job that was submitted, and the file in which its first task writes its exit status."""

    def __init__(self, submitted: SubmittedJob[str], exit_status: Path) -> None:
        self._submitted, self._exit_status = submitted, exit_status
        self._asked, self._gone = time.monotonic(), False

    def status(self) -> int | None:
        """Return its exit status, or that of SLURM's state where it could write none; None while it runs."""
        if (text := _read(self._exit_status).strip()).isdigit():
            # A shell reports a signal by a status above 128, as a run does when a signal made it save.
            status = int(text)
            return 128 - status if status > 128 and status not in SAVED else status
        now = time.monotonic()
        if self._gone and now - self._asked > 2:
            return _STATUS.get(self._submitted.state.split()[0].upper(), -signal.SIGTERM)
        if not self._gone and now - self._asked > _SECONDS_BETWEEN_QUERIES:
            # The file of a job that has just ended may need a moment to become visible here.
            self._asked, self._gone = now, self._submitted.done(force_check=True)
        return None

    def send(self, signal_number: int) -> None:
        """Cancel it: SLURM sends SIGTERM, and SIGKILL half a minute later."""
        with contextlib.suppress(OSError):
            self._submitted.cancel(check=False)


def _read(path: Path) -> str:
    try:
        os.listdir(path.parent)  # makes a shared file system refresh
        return path.read_text("utf-8")
    except OSError:
        return ""


def check(configs: list[dict[str, Any]]) -> None:
    """Raise InputError for a job whose SLURM resources this machine cannot know."""
    for trainer in (config["trainer"] for config in configs):
        if trainer["accelerator"] == "auto":
            raise InputError(
                "trainer.accelerator: this machine does not know what the nodes of the cluster have; choose "
                "accelerator=gpu|ddp|cpu"
            )
        if str(trainer["devices"]) in ("auto", "-1"):
            raise InputError(
                "trainer.devices: SLURM needs the number of devices of a node; add trainer.devices=<number>"
            )
