"""Where jobs run: each with its own GPUs and CPU cores, told without torch."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from recon.sweep.job import Job, devices
from recon.sweep.machine import Machine, cores, gpus
from recon.sweep.table import show_failed, table

CPU: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "num_nodes": 1}
GPU: dict[str, Any] = {"accelerator": "gpu", "devices": 1, "num_nodes": 1}


def test_jobs_have_cores_of_their_own() -> None:
    machine = Machine(3, [], list(range(8)))
    places = [machine.take(CPU) for _ in range(3)]
    assert all(place is not None for place in places)
    taken = [core for place in places if place for core in place.cores]
    assert sorted(taken) == list(range(8))
    assert machine.take(CPU) is None
    machine.give_back(places[1])  # type: ignore[arg-type]
    assert machine.take(CPU) == places[1]


def test_more_jobs_than_cores_share_them() -> None:
    machine = Machine(3, [], [4, 5])
    assert [machine.take(CPU).cores for _ in range(3)] == [[4], [5], [4]]  # type: ignore[union-attr]


def test_one_job_for_each_gpu_and_several_gpus_for_one_job() -> None:
    machine = Machine(None, ["a", "b", "c"], list(range(6)))
    assert machine.room == 3
    two, one = machine.take({**GPU, "devices": 2}), machine.take({**GPU, "accelerator": "auto"})
    assert two is not None
    assert one is not None
    assert sorted([*two.gpus, *one.gpus]) == ["a", "b", "c"]
    assert machine.take(GPU) is None, "no GPU is free, though a job could run"
    on_cpu = machine.take(CPU)
    assert on_cpu is not None
    assert on_cpu.gpus == []
    machine.give_back(two)
    assert machine.take({**GPU, "devices": -1}) is None
    machine.give_back(one)
    all_ = machine.take({**GPU, "devices": -1})
    assert all_ is not None
    assert sorted(all_.gpus) == ["a", "b", "c"]


def test_small_jobs_share_a_gpu_evenly() -> None:
    machine = Machine(4, ["a", "b"], [0])
    assert [machine.take(GPU).gpus[0] for _ in range(4)] == ["a", "b", "a", "b"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wanted", "count"), [(1, 1), (2, 2), ("3", 3), (-1, 5), ("auto", 5), ([0, 1], 2), ("0,1,2", 3)]
)
def test_devices_are_counted(wanted: Any, count: int) -> None:
    assert devices({"devices": wanted}, 5) == count


@pytest.mark.parametrize(
    ("visible", "found"), [(None, ["GPU-a", "GPU-b"]), ("1", ["1"]), ("", []), ("-1", []), ("GPU-b, 0", ["GPU-b", "0"])]
)
def test_gpus_are_those_that_a_run_would_see(
    visible: str | None, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU-a\necho GPU-b\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == [], "without the tool there is no GPU"


def test_the_sweep_itself_needs_no_torch() -> None:
    code = (
        "import sys, recon.sweep, recon.sweep.search, recon.sweep.slurm\n"
        "found = {'torch', 'lightning', 'wandb'} & set(sys.modules); assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert cores()


def test_the_table_shows_how_far_jobs_are_and_which_is_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from rich.console import Console

    jobs = []
    for number, (status, best) in enumerate([("running", 21.5), ("ok", 23.25), ("waiting", None), ("failed", None)]):
        job = Job(number, [f"seed={number}"], [f"seed={number}"], {}, tmp_path / str(number), status, seconds=75)
        job.folder.mkdir()
        if best:
            told = {"step": 30, "total_steps": 120, "seconds": 10, "monitor": "val/psnr", "mode": "max"}
            (job.folder / "progress.json").write_text(json.dumps({**told, "values": [best - 1], "best": best}))
        jobs.append(job)
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(jobs))
    lines = {line.split()[0]: line for line in console.export_text().splitlines() if "seed=" in line}
    for word in ("running", "25%", "30.0 s", "val/psnr 20.5", "21.5"):
        assert word in lines["seed=0"]
    assert "took 1 min 15 s" in lines["seed=1"]
    assert "waiting" in lines["seed=2"]
    assert "%" not in lines["seed=2"]
    assert "failed" in lines["seed=3"]
    # Square brackets are no markup.
    jobs[3].error, jobs[3].varied = "[/gloo/pair.cc:553] closed", ["model.net.widths=[8,16]"]
    show_failed(jobs)
    shown = capsys.readouterr().err
    assert "[/gloo/pair.cc:553] closed" in shown
    assert shown.startswith("1 of 4 jobs failed  ")
    jobs[2].status = "interrupted"
    show_failed(jobs)
    assert capsys.readouterr().err.startswith("1 of 4 jobs failed, 1 of 4 jobs interrupted  ")
    show_failed(jobs[2:3])
    assert capsys.readouterr().err.startswith("1 of 1 jobs interrupted  ")
    console.print(table(jobs))
    assert "widths=[8,16]" in console.export_text()


def test_the_table_of_many_jobs_shows_what_runs_and_folds_the_others(tmp_path: Path) -> None:
    import json

    from rich.console import Console

    many = [Job(number, [], [f"seed={number}"], {}, tmp_path / str(number)) for number in range(100)]
    for number, job in enumerate(many[:60]):
        job.status = "ok"
        job.folder.mkdir()
        told = {"monitor": "val/psnr", "mode": "max", "values": [20.0], "best": 30.0 if number == 41 else 20.0}
        (job.folder / "progress.json").write_text(json.dumps(told))
    many[7].status, many[77].status, many[60].status = "failed", "running", "running"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(many))
    text = console.export_text()
    shown = [line.split()[0] for line in text.splitlines() if "seed=" in line]
    assert shown == ["seed=7", "seed=41", "seed=60", "seed=61", "seed=62", "seed=77"]
    assert text.splitlines()[-1].strip() == "and 94 more: 58 ok, 36 waiting"
    for job in many:
        job.status = "running"
    assert table(many).row_count == 100, "each job that runs is shown"
