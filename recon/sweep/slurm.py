"""Jobs on SLURM: submitit submits each as the command `python run.py …`, so that Lightning sees what it knows.

Lightning finds the other processes of a job by the variables that SLURM sets for each task, so one task is asked for
each device.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
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

_SECONDS_BETWEEN_QUESTIONS = 30.0  # to SLURM, about a job that has not told its exit status
# What an exit status would be, had SLURM left the job time to give one.
_STATUS = {"COMPLETED": 1, "FAILED": 1, "OUT_OF_MEMORY": -signal.SIGKILL}


class Cluster:
    """Starts jobs by submitting them.

    Args:
        program: the path of run.py.
        sweep: the node of the configuration.

    Raises:
        InputError: there is no SLURM here.
    """

    goes_on_for_free = True  # a job that its time limit or another job ended

    def __init__(self, program: str, sweep: dict[str, Any]) -> None:
        self.program = program
        self.settings: dict[str, Any] = sweep["slurm"]
        self.room = sweep["jobs"] or sys.maxsize
        if self.settings["cluster"] == "slurm" and not self.settings["dry_run"] and shutil.which("srun") is None:
            raise InputError(
                "hydra/launcher=submitit: there is no srun here; start it where SLURM is, or write the scripts only by "
                "sweep.slurm.dry_run=true"
            )

    def start(self, job: Job, arguments: list[str], log: Path) -> Submitted:
        """Submit a job."""
        status = job.folder / "exit_status"
        status.unlink(missing_ok=True)
        command = ["sh", "-c", self._script(job, arguments, log, status)]
        try:
            submitted = self._executor(job).submit(CommandFunction(command, cwd=Path.cwd()))
        except (FailedJobError, FailedSubmissionError, RuntimeError) as error:
            raise InputError(f"hydra/launcher=submitit: {' '.join(str(error).split())}") from error
        job.batch = submitted.job_id
        return Submitted(submitted, status)

    def attach(self, job: Job) -> Submitted | None:
        """A job that was submitted before this process began and has not ended; None where there is none."""
        if not job.batch or self.settings["cluster"] != "slurm":
            return None
        submitted: SubmittedJob[str] = SlurmJob(self._folder(job), job.batch)
        status = job.folder / "exit_status"
        return None if status.exists() or submitted.done(force_check=True) else Submitted(submitted, status)

    def ended(self, process: Any) -> None:
        """Nothing of this machine was taken."""

    def script(self, job: Job, arguments: list[str], log: Path) -> str:
        """What sbatch would be given for a job."""
        executor = _Unsubmitted(self._folder(job))
        executor.update_parameters(**executor.of_auto(self._parameters(job)))
        command = shlex.join(["sh", "-c", self._script(job, arguments, log, job.folder / "exit_status")])
        return executor.text(command)

    # ----------------------------------------------------------------------------------------------------------------

    def _folder(self, job: Job) -> Path:
        return job.folder / "slurm"

    def _script(self, job: Job, arguments: list[str], log: Path, status: Path) -> str:
        """The command of each task, in the language of sh.

        The first task writes the run's output and its exit status. A job that SLURM starts again goes on.
        """
        python = [sys.executable, "-u", self.program]
        begin, go_on = shlex.join([*python, *arguments]), shlex.join([*python, f"resume={job.folder}"])
        first = '[ "${SLURM_PROCID:-0}" = 0 ]'
        return "\n".join(
            [
                # These are for the run, which saves; it ignores the second two until it can.
                "trap : TERM; trap '' USR1 USR2",
                "export RECON_PROGRESS=1",
                f"if {first}; then exec >> {shlex.quote(str(log))} 2>&1; fi",
                f'if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then {go_on}; else {begin}; fi',
                "status=$?",
                f"if {first}; then echo $status > {shlex.quote(str(status))}; fi",
                "exit $status",
            ]
        )

    def _parameters(self, job: Job) -> dict[str, Any]:
        """What AutoExecutor is told."""
        trainer, asked = job.config["trainer"], self.settings
        here = asked["cluster"] == "local"
        count = devices(trainer, 0)
        gpus = count if trainer["accelerator"] in ("gpu", "cuda") else None
        known = {
            "name": f"recon_{job.name}"[:60],
            "timeout_min": asked["time"],
            "nodes": trainer["num_nodes"],
            # On this machine Lightning starts the processes of a run itself.
            "tasks_per_node": 1 if here else count,
            "gpus_per_node": gpus,
            "cpus_per_task": asked["cpus_per_task"],
            "mem_gb": asked["mem_gb"],
        }
        of_slurm = {"partition": asked["partition"], "account": asked["account"]}
        of_slurm["additional_parameters"] = asked["additional_parameters"] or None
        known |= {} if here else {f"slurm_{name}": value for name, value in of_slurm.items()}
        return {name: value for name, value in known.items() if value is not None}

    def _executor(self, job: Job) -> AutoExecutor:
        executor = AutoExecutor(self._folder(job), cluster=self.settings["cluster"])
        executor.update_parameters(**self._parameters(job))
        return executor


class _Unsubmitted(SlurmExecutor):
    """Writes scripts for sbatch on a machine without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        """Pretend that SLURM is here."""
        return 2

    def of_auto(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters of AutoExecutor in the words of sbatch."""
        plain = {name.removeprefix("slurm_"): value for name, value in parameters.items()}
        return self._convert_parameters(plain)

    def text(self, command: str) -> str:
        """The script that runs a command in each task."""
        return self._make_submission_file_text(command, "dry")


class Submitted:
    """A job that was submitted.

    Args:
        submitted: what submitit knows of it.
        exit_status: the file in which its first task leaves its exit status.
    """

    def __init__(self, submitted: SubmittedJob[str], exit_status: Path) -> None:
        self._submitted = submitted
        self._exit_status = exit_status
        self._asked = time.monotonic()
        self._gone = False

    def status(self) -> int | None:
        """Its exit status; when it could leave none, what SLURM says it ended by."""
        if (text := _read(self._exit_status).strip()).isdigit():
            # A shell tells of a signal by a status above 128, as a run does of one at which it saved.
            status = int(text)
            return 128 - status if status > 128 and status not in SAVED else status
        now = time.monotonic()
        if self._gone and now - self._asked > 2:
            return _STATUS.get(self._submitted.state.split()[0].upper(), -signal.SIGTERM)
        if not self._gone and now - self._asked > _SECONDS_BETWEEN_QUESTIONS:
            # The file of a job that has just ended may need a moment to be seen here.
            self._asked, self._gone = now, self._submitted.done(force_check=True)
        return None

    def send(self, signal_number: int) -> None:
        """Cancel it: SLURM sends SIGTERM, and SIGKILL half a minute later."""
        with contextlib.suppress(OSError):
            self._submitted.cancel(check=False)


def _read(path: Path) -> str:
    try:
        os.listdir(path.parent)  # a shared file system then looks anew
        return path.read_text("utf-8")
    except OSError:
        return ""


def check(configs: list[dict[str, Any]]) -> None:
    """Raise InputError for a job of which this machine cannot tell what to ask SLURM for."""
    for trainer in (config["trainer"] for config in configs):
        if trainer["accelerator"] == "auto":
            raise InputError(
                "trainer.accelerator: it cannot be told here what the nodes of the cluster have; choose "
                "accelerator=gpu|ddp|cpu"
            )
        if str(trainer["devices"]) in ("auto", "-1"):
            raise InputError(
                "trainer.devices: SLURM must be told how many devices of a node to give; add trainer.devices=<number>"
            )
