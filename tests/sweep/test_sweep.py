"""Sweeps on this machine: what runs, what is skipped, what is tried again, and what is said at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from report_runs import Text
from sweeping import ONE, QUICK, Done, Sweep, alive, first_sweep, fixture, planning, processes_below, swept_folder  # noqa: F401  the fixtures


def numbers(folder: Path) -> tuple[dict[str, float], bytes]:
    """What a run measured, but for its seconds."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {name: value for name, value in metrics.items() if name[:4] in ("val/", "test")}, (
        folder / "per_image.csv"
    ).read_bytes()


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


# What runs ---------------------------------------------------------------------------------------------------------


def test_each_job_runs_once_in_a_folder_named_by_what_varies(sweep: Sweep, tmp_path: Path) -> None:
    first = sweep("seed=1,2,1", "model/net=cnn", "sweep.jobs=2", *ONE)
    assert first.status == 0, first.errors
    assert first.folder.parent.parent == tmp_path / "outputs"
    assert [job["folder"] for job in first.jobs] == ["0_seed-1", "1_seed-2"]
    assert [job["status"] for job in first.jobs] == ["ok", "ok"]
    assert all(job["attempts"] == 1 for job in first.jobs)
    assert numbers(first.run(0)) != numbers(first.run(1))
    reached = [json.loads((first.run(n) / "metrics.json").read_text())["val/accuracy"] for n in range(2)]
    best = reached.index(max(reached))
    assert f"best: job {best} (seed={best + 1}), val/accuracy {max(reached):.4g}" in first.output
    assert f"again: RECON_TRUST=accidents python run.py seed={best + 1} model/net=cnn model=classifier" in first.output
    config = (first.run(1) / "config.yaml").read_text()
    assert f"group: {first.folder.name}" in config
    assert "name: seed-2" in config
    assert "weights" in (first.run(1) / "output.log").read_text()
    environment = json.loads((first.run(1) / "environment.json").read_text())
    assert "sweep.jobs" not in " ".join(environment["overrides"])
    assert environment["fingerprint"] == first.jobs[1]["fingerprint"]

    written = (first.run(0) / "metrics.json").stat().st_mtime_ns
    again = sweep("seed=1,2,1", "model/net=cnn", "sweep.jobs=1", *ONE)
    assert again.status == 0
    assert again.folder == first.folder
    assert "continuing in" in again.output
    assert "2 jobs, 2 of them done before" in again.output
    assert (first.run(0) / "metrics.json").stat().st_mtime_ns == written

    more = sweep("seed=1,2,3", "model/net=cnn", "sweep.jobs=2", *ONE)
    assert more.status == 0
    assert more.folder != first.folder
    assert [path.name for path in more.folder.iterdir() if path.is_dir()] == ["2_seed-3"]
    assert Path(more.jobs[0]["folder"]) == first.run(0)
    assert "best: job " in more.output, "those done before count too"


@pytest.mark.slow
def test_a_forked_job_computes_what_the_command_computes(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    swept = sweep("seed=4", "logger.group=mine", *ONE)
    assert swept.status == 0
    assert "group: mine" in (swept.run(0) / "config.yaml").read_text()
    typed = [sys.executable, str(ROOT / "run.py"), "seed=4", *ONE, f"hydra.run.dir={tmp_path}/typed"]
    # torch itself takes one thread for each core, as a single job of a sweep does.
    subprocess.run(typed, check=True, capture_output=True)
    assert numbers(swept.run(0)) == numbers(tmp_path / "typed")
    records = [json.loads((place / "environment.json").read_text()) for place in (swept.run(0), tmp_path / "typed")]
    assert [record["threads"] for record in records] == [len(os.sched_getaffinity(0))] * 2
    for key in ("fingerprint", "status", "choices", "git", "packages"):
        assert records[0][key] == records[1][key], key


def test_changed_code_begins_a_new_sweep(first: Done, plan: Sweep) -> None:
    state = json.loads((first.folder / "sweep.json").read_text())
    (first.folder / "sweep.json").write_text(json.dumps({**state, "code": "0" * 16}))
    second = plan(*ONE, "seed=1")
    assert second.folder != first.folder
    assert "the code has changed" in second.output


def test_the_fork_server_has_one_thread_and_no_cuda(first: Done) -> None:
    import multiprocessing.forkserver

    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert len(os.listdir(f"/proc/{server}/task")) == 1
    files = [os.readlink(place) for place in Path(f"/proc/{server}/fd").iterdir() if place.is_symlink()]
    assert not any("nvidia" in file for file in files)
    assert "libtorch_cpu" in Path(f"/proc/{server}/maps").read_text()


def test_one_launcher_runs_all_jobs_in_its_own_process(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("seed=1,2", "hydra/launcher=basic", f"hydra.sweep.dir={tmp_path}/basic", *ONE)
    assert done.status == 0, done.errors
    assert numbers(tmp_path / "basic" / "0") != numbers(tmp_path / "basic" / "1")


# What goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_of_eight_jobs_fail_and_the_others_finish(sweep: Sweep) -> None:
    unlucky = ("degradation=noise", "degradation._target_=accidents.Accident", "model=restoration", "model/net=dncnn")
    few = ("model.net.depth=3", "model.net.width=8", "sweep.retry=0", "sweep.jobs=2")
    numbers_ = ",".join(map(str, range(8)))
    steps = [word for word in QUICK if "max_steps" not in word]
    done = sweep(f"+degradation.job={numbers_}", *unlucky, *few, "trainer.max_steps=6", *steps)
    assert done.status == 1
    failed = {job["number"]: job for job in done.jobs if job["status"] != "ok"}
    assert {number: job["status"] for number, job in failed.items()} == {3: "failed", 5: "killed", 7: "failed"}
    reasons = {3: "MemoryError: a buffer of 3 GB", 5: "SIGKILL; running out of memory", 7: "not finite"}
    for number, reason in reasons.items():
        assert reason in failed[number]["error"]
        (row,) = [line for line in done.errors.splitlines() if f"degradation.job={number} " in line]
        assert reason[:12] in row
    assert "3 of 8 jobs failed" in done.errors
    assert "best: job" not in done.output, "each job has a damage of its own"
    for job in done.jobs:
        record = json.loads((done.folder / job["folder"] / "environment.json").read_text())
        assert record["status"] == job["status"]
        assert (done.folder / job["folder"] / "metrics.json").exists() == (job["status"] == "ok")
    assert "out of memory" in json.loads((done.run(5) / "environment.json").read_text())["error"]


def test_what_failed_is_tried_again_but_a_mistake_is_not(sweep: Sweep, tmp_path: Path) -> None:
    unlucky = ("degradation=noise", "degradation._target_=accidents.Accident", "model=restoration", "model/net=dncnn")
    once = (f"+degradation.once={tmp_path}/once", "model.net.depth=3", "model.net.width=8", "checkpoint.steps=1")
    steps = [word for word in QUICK if "max_steps" not in word]
    done = sweep("+degradation.job=5", *unlucky, *once, "trainer.max_steps=6", *steps)
    assert done.status == 0, done.errors
    assert "will be tried again: ended by SIGKILL" in done.output
    assert done.jobs[0]["attempts"] == 2
    assert "resume: continuing from" in (done.run(0) / "output.log").read_text()

    mistaken = sweep("+degradation.job=7", *unlucky, *once[1:], "trainer.max_steps=6", *steps)
    assert mistaken.status == 1
    assert mistaken.jobs[0]["attempts"] == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sweep.jobs=0", "seed=1,2"], ["sweep.jobs", "0", "1 or more"]),
        (["hydra/launcher=basic", "trainer.devices=2", "seed=1,2"], ["hydra/launcher=basic", "parallel|submitit"]),
        (["seed=1,2", "+trainer.max_epoch=3"], ["trainer.max_epoch", "max_epochs"]),
        (["seed=1,abc"], ["seed", "abc"]),
        (["hydra/launcher=submitit", "seed=1,2"], ["trainer.accelerator", "accelerator=gpu"]),
        (["hydra/launcher=submitit", "seed=1,2", "accelerator=ddp"], ["trainer.devices"]),
        (["hydra/launcher=submitit", "seed=1,2", "accelerator=cpu"], ["srun"]),
        (["sweep.slurm.dry_run=true", "seed=1,2"], ["hydra/launcher=submitit"]),
    ],
)
def test_a_mistake_is_told_before_anything_runs(
    arguments: list[str], named: list[str], sweep: Sweep, tmp_path: Path
) -> None:
    done = sweep(*arguments)
    assert done.status == 2, done.errors
    (sentence,) = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    for word in named:
        assert word in sentence
    assert not list(tmp_path.iterdir())


# What ends a sweep -------------------------------------------------------------------------------------------------


def begin(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Begin a sweep in a process of its own; returns when two of its jobs are training."""
    child = subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "-m", *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(lambda: len(list(tmp_path.glob("outputs/*/*/*/checkpoints/last.ckpt"))) >= 3, 100)
    except AssertionError:
        child.kill()
        raise AssertionError(child.communicate()) from None
    return child


SOME = (
    "model=classifier", "seed=1,2,3,4", "trainer.max_epochs=4", "task.batch_size=32", "trainer.limit_val_batches=1",
    "trainer.enable_progress_bar=false", "accelerator=cpu", "logger=none", "sweep.jobs=2",
)  # fmt: skip


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_what_an_undisturbed_one_gives(sweep: Sweep, tmp_path: Path) -> None:
    child = begin(tmp_path, *SOME)
    jobs = processes_below(tmp_path)
    assert jobs
    child.kill()
    child.communicate()
    # Its jobs notice within a second or two, save and end.
    wait_for(lambda: not any(map(alive, jobs)), 30)
    (folder,) = tmp_path.glob("outputs/*/*_sweep")
    done = [path.parent.name for path in folder.glob("*/metrics.json")]
    assert len(done) < 4
    before = {name: (folder / name / "metrics.json").stat().st_mtime_ns for name in done}

    again = sweep(*SOME)
    assert again.status == 0, again.errors
    assert again.folder == folder
    assert [job["status"] for job in again.jobs] == ["ok"] * 4
    assert {name: (folder / name / "metrics.json").stat().st_mtime_ns for name in done} == before
    assert any("continuing from" in path.read_text() for path in folder.glob("*/output.log"))

    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    os.chdir(undisturbed)
    other = sweep(*SOME)
    assert other.status == 0
    for number in range(4):
        assert numbers(again.run(number)) == numbers(other.run(number))
    one, two = (Text((done.folder / "report.html").read_text(), timed=False) for done in (again, other))
    assert one.text == two.text
    assert "4 finished runs" in one.text
    pictures = [[tag[1]["src"] for tag in page.tags if tag[0] == "img"] for page in (one, two)]
    assert pictures[0] == pictures[1]
    assert pictures[0]


@pytest.mark.parametrize(
    ("number", "status"),
    [pytest.param(*each, marks=pytest.mark.slow) for each in ((signal.SIGINT, 130), (signal.SIGTERM, 143))],
)
def test_a_signal_ends_the_jobs_and_keeps_the_state(
    number: signal.Signals, status: int, sweep: Sweep, tmp_path: Path
) -> None:
    child = begin(tmp_path, *SOME, "hydra.sweep.dir=outputs/day/mine")
    jobs = processes_below(tmp_path)
    child.send_signal(number)
    output, errors = child.communicate(timeout=60)
    assert child.returncode == status, output + errors
    assert "the same command continues" in errors
    assert "of 4 jobs interrupted" in errors
    assert "jobs failed" not in errors
    assert not any(map(alive, jobs))
    folder = tmp_path / "outputs" / "day" / "mine"
    state = json.loads((folder / "sweep.json").read_text())
    assert {job["status"] for job in state["jobs"]} <= {"ok", "interrupted", "waiting"}
    assert "interrupted" in [job["status"] for job in state["jobs"]]
    records = [json.loads(path.read_text())["status"] for path in folder.glob("*/environment.json")]
    assert set(records) <= {"ok", "interrupted"}
