"""SLURM without SLURM: submitit's local executor, scripts written and not submitted, and a cluster of shell scripts."""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweeping import QUICK, Sweep, fixture  # noqa: F401  the fixture

from recon.sweep import child
from recon.sweep.child import JobSpec
from recon.sweep.machine import cores
from recon.sweep.process import _server

pytest.importorskip("submitit")
SLURM = ("hydra/launcher=submitit", "model=classifier", *QUICK)

# A cluster of one node, this machine: sbatch runs the script at once, srun each task of it.
_SBATCH = """
options = dict(re.findall(r"^#SBATCH --([\\w-]+)=(.*)$", Path(sys.argv[1]).read_text(), re.M))
job = str(1000 + len(list(state.glob("*.pid"))))
nodes, tasks = options["nodes"], options["ntasks-per-node"]
told = {"SLURM_JOB_ID": job, "SLURM_JOB_NAME": options["job-name"], "SLURM_NNODES": nodes, "SLURM_JOB_NUM_NODES": nodes,
        "SLURM_NTASKS_PER_NODE": tasks, "SLURM_NTASKS": str(int(nodes) * int(tasks)), "SLURM_NODELIST": "127.0.0.1"}
script = state / f"{job}.sh"  # a copy, as SLURM makes one: submitit moves its own
script.write_text(Path(sys.argv[1]).read_text())
line = f"bash {script} > {state}/{job}.out 2>&1; echo $? > {state}/{job}.code"
child = subprocess.Popen(["bash", "-c", line], env={**os.environ, **told}, start_new_session=True,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
(state / f"{job}.pid").write_text(str(child.pid))
print(f"Submitted batch job {job}")
"""
_SRUN = """
words = sys.argv[1:]
places = {}
while words[0].startswith("--"):
    name = words.pop(0)
    if name in ("--output", "--error"):
        places[name] = words.pop(0).replace("%j", os.environ["SLURM_JOB_ID"])
children = []
for task in range(int(os.environ["SLURM_NTASKS"])):
    told = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task), "SLURM_NODEID": "0"}
    files = [open(places[name].replace("%t", str(task)), "a") for name in ("--output", "--error")]
    children.append(subprocess.Popen(words, env={**os.environ, **told}, stdout=files[0], stderr=files[1]))
sys.exit(max(child.wait() for child in children))
"""
_SACCT = """
print("JobID|State|NodeList")
for job in [word for before, word in zip(sys.argv, sys.argv[1:]) if before == "-j"]:
    code = state / f"{job}.code"
    ended = "COMPLETED" if code.exists() and code.read_text().strip() == "0" else "FAILED"
    print(f"{job}|{ended if code.exists() else 'RUNNING'}|here")
"""
_SCANCEL = """
os.killpg(int((state / f"{sys.argv[1]}.pid").read_text()), 15)
"""


# What stands for python in the jobs of this cluster: it lets the tests' process fork one that has torch already.
_PYTHON = """
words = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd(), os.getpid()])
with socket.socket(socket.AF_UNIX) as tests:
    tests.connect(str(state / "python"))
    tests.sendall(words.encode() + b"\\n")
    status = int(tests.recv(16))
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def fork(listener: socket.socket) -> None:
    """Fork a process for each command of the cluster, until the listener is closed."""

    def answer(connection: socket.socket) -> None:
        with connection, connection.makefile() as lines:
            child_ = _server().Process(target=live, args=json.loads(lines.readline()))
            child_.start()
            child_.join()
            connection.sendall(str(child_.exitcode).encode())

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def live(words: list[str], environment: dict[str, str], directory: str, process: int) -> None:
    """Be `python run.py …` with the output of another process."""
    from lightning.fabric.utilities import rank_zero as fabric
    from lightning.pytorch.utilities import rank_zero as pytorch

    def set_rank() -> None:
        fabric.rank_zero_only.rank = pytorch.rank_zero_only.rank = int(os.environ["SLURM_PROCID"])

    child._set_rank = set_rank
    child.work(JobSpec(words[0], words[1:], Path(f"/proc/{process}/fd/1"), Path(directory), environment, cores(), 1))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the commands of SLURM on the path; returns the folder in which they keep their jobs."""
    from recon.sweep import slurm

    state, bin_ = tmp_path / "cluster", tmp_path / "bin"
    state.mkdir()
    bin_.mkdir()
    head = (
        f"#!{sys.executable} -SE\nimport json, os, re, socket, subprocess, sys\nfrom pathlib import Path\n"
        f"state = Path({str(state)!r})\n"
    )
    commands = {"sbatch": _SBATCH, "srun": _SRUN, "sacct": _SACCT, "scancel": _SCANCEL, "warm_python": _PYTHON}
    for name, text in commands.items():
        (bin_ / name).write_text(head + text)
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "sys", SimpleNamespace(executable=str(bin_ / "warm_python"), maxsize=sys.maxsize))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state / "python"))
        listener.listen()
        threading.Thread(target=fork, args=(listener,), daemon=True).start()
        yield state
        listener.shutdown(socket.SHUT_RDWR)


def test_each_job_is_a_command_with_a_task_for_each_device(sweep: Sweep, cluster: Path) -> None:
    chosen = (*SLURM, "trainer.devices=1,2", "sweep.slurm.time=5")
    done = sweep(*chosen)
    assert done.status == 0, done.errors + "".join(path.read_text() for path in done.folder.glob("*/slurm/*.err"))
    assert [job["status"] for job in done.jobs] == ["ok", "ok"]
    for number, devices in enumerate((1, 2)):
        log = (done.run(number) / "output.log").read_text()
        assert f"on {devices} × cpu" in log
        assert log.count("run: ") == 1, "only the first task speaks"
        record = json.loads((done.run(number) / "environment.json").read_text())
        assert record["command"][0] == "__main__.py"
        assert f"trainer.devices={devices}" in record["command"]
    assert len(list(cluster.glob("*.pid"))) == 2
    assert sweep(*chosen).status == 0
    assert len(list(cluster.glob("*.pid"))) == 2, "what is done is not submitted again"


def test_a_job_that_ends_before_its_first_line_fails_alone(
    sweep: Sweep, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.sweep import slurm

    monkeypatch.setattr(slurm, "_SECONDS_BETWEEN_QUERIES", 0.1)
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\nexit 3\n")
    done = sweep(*SLURM, "seed=1", "sweep.retry=0")
    assert done.status == 1
    assert "Traceback" not in done.errors
    assert [job["status"] for job in done.jobs] == ["failed"]
    assert "ended with status 1 before it wrote anything" in done.errors


@pytest.mark.slow
def test_a_killed_job_is_submitted_again_and_goes_on(sweep: Sweep, cluster: Path, tmp_path: Path) -> None:
    unlucky = ("degradation=noise", "degradation._target_=accidents.Accident", "model=restoration", "model/net=dncnn")
    once = (f"+degradation.once={tmp_path}/once", "model.net.depth=3", "checkpoint.steps=1", "trainer.max_steps=6")
    quick = [word for word in QUICK if "max_steps" not in word]
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where the job finds the accident
    try:
        done = sweep("hydra/launcher=submitit", "+degradation.job=5", *unlucky, *once, *quick)
    finally:
        del os.environ["PYTHONPATH"]
    assert done.status == 0, done.errors
    assert "will be tried again: ended by SIGKILL" in done.output
    assert "resume: continuing from" in (done.run(0) / "output.log").read_text()
    assert len(list(cluster.glob("*.pid"))) == 2


@pytest.mark.slow
def test_the_local_executor_runs_the_same_command(sweep: Sweep) -> None:
    done = sweep(*SLURM, "seed=1", "sweep.slurm.cluster=local")
    assert done.status == 0, done.errors
    assert [job["status"] for job in done.jobs] == ["ok"]
    assert {path.name for path in done.folder.glob("*/slurm/*_submitted.pkl")}


ASKED = (
    "sweep.slurm.partition=long", "sweep.slurm.mem_gb=32", "sweep.slurm.time=120", "sweep.slurm.cpus_per_task=6",
    "sweep.slurm.additional_parameters={constraint:a100}", "sweep.slurm.dry_run=true",
)  # fmt: skip


def test_the_scripts_ask_for_what_the_trainer_wants(sweep: Sweep) -> None:
    several = ("accelerator=ddp", "trainer.devices=4", "trainer.num_nodes=2", "seed=1,2")
    done = sweep(*SLURM, *several, *ASKED)
    assert done.status == 0, done.errors
    scripts = [Path(line.removeprefix("script: ")) for line in done.output.splitlines() if line.startswith("script: ")]
    assert len(scripts) == 2
    text = scripts[1].read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.M))
    wanted = {"nodes": "2", "ntasks-per-node": "4", "gpus-per-node": "4", "partition": "long", "mem": "32GB",
              "time": "120", "cpus-per-task": "6", "constraint": "a100", "job-name": "recon_seed-2"}  # fmt: skip
    assert {name: options.get(name) for name in wanted} == wanted
    subprocess.run(["bash", "-n", str(scripts[1])], check=True)
    command = text[text.index("\nsrun ") + 1 :]
    inner = shlex.split(command)[-1]
    (line,) = [line for line in inner.splitlines() if "__main__.py" in line]
    for word in ("accelerator=ddp", "trainer.devices=4", "trainer.num_nodes=2", "seed=2", "__main__.py", "resume="):
        assert word in line
    assert "-m " not in line
    assert not list(done.folder.glob("*/environment.json")), "nothing was run"

    # What SLURM tells each task makes Lightning take the other tasks for the other processes.
    told = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": options["job-name"], "SLURM_NNODES": options["nodes"],
            "SLURM_NTASKS_PER_NODE": options["ntasks-per-node"], "SLURM_NTASKS": "8", "SLURM_PROCID": "5",
            "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NODELIST": "node[3-4]"}  # fmt: skip
    # In a process of its own: it would take itself for one of eight ever after.
    task = _server().Process(target=require_rank_five_of_eight, args=(told,))
    task.start()
    task.join()
    assert task.exitcode == 0


def require_rank_five_of_eight(variables: dict[str, str]) -> None:
    from lightning.pytorch import Trainer
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    os.environ.update(variables)
    assert SLURMEnvironment.detect()
    trainer = Trainer(accelerator="cpu", devices=4, num_nodes=2, strategy="ddp", logger=False)
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank) == (8, 5, 1)
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    assert isinstance(environment, SLURMEnvironment)
    assert environment.creates_processes_externally
    assert environment.main_address == "node3"


class Forgetful:
    """A job of which SLURM knows a state."""

    job_id = "1"

    def __init__(self, state: str) -> None:
        self.state = state

    def done(self, force_check: bool = False) -> bool:
        return self.state != "RUNNING"


@pytest.mark.parametrize(
    ("written", "state", "status"),
    [("0", "RUNNING", 0), ("2", "FAILED", 2), ("137", "FAILED", -9), ("143", "FAILED", 143), ("140", "FAILED", 140),
     ("", "RUNNING", None), ("", "OUT_OF_MEMORY", -9),
     ("", "TIMEOUT", -15), ("", "CANCELLED by 0", -15), ("", "NODE_FAIL", -15)],
)  # fmt: skip
def test_a_job_tells_its_status_or_slurm_does(
    written: str, state: str, status: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.sweep import slurm

    path = tmp_path / "exit_status"
    if written:
        path.write_text(f"{written}\n")
    job: Any = Forgetful(state)
    submitted = slurm.Submitted(job, path)
    assert submitted.status() == (status if written else None)
    clock = time.monotonic()
    for later in (31, 62, 93):
        monkeypatch.setattr(slurm.time, "monotonic", lambda later=later: clock + later)
        found = submitted.status()
    assert found == status


def test_a_job_still_in_the_queue_is_not_submitted_twice(tmp_path: Path, cluster: Path) -> None:
    from recon.sweep.job import Job
    from recon.sweep.slurm import Cluster

    settings = {"cluster": "slurm", "dry_run": False, "partition": None, "account": None, "time": 1, "mem_gb": None}
    launcher = Cluster("run.py", [], {"jobs": None, "slurm": settings})
    job = Job(0, [], [], {}, tmp_path / "0_job")
    job.folder.mkdir()
    assert launcher.attach(job) is None
    job.batch = "4242"  # runs, as it has left no code
    found = launcher.attach(job)
    assert found is not None
    assert found.status() is None
    (job.folder / "exit_status").write_text("0\n")
    assert found.status() == 0
    assert launcher.attach(job) is None
