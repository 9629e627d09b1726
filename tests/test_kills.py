"""SIGKILL at any moment, also while a checkpoint is written, again and again: the run ends as if undisturbed."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_resume import outcome

from recon import records
from recon.checkpoint import load
from recon.runs import RunFolder
from recon.sweep.machine import Place, cores
from recon.sweep.process import Group

# About three seconds of training, a checkpoint every third step.
LIFE = (
    "trainer.max_epochs=4",
    "trainer.limit_train_batches=10",
    "trainer.enable_progress_bar=false",
    "task.batch_size=16",
    "checkpoint.steps=3",
    "accelerator=cpu",
    "logger=none",
)
CASES = {
    "dropout": ["model=classifier", "model/net=cnn", "scheduler=one_cycle"],
    "two optimisers and an average": ["model=gan", "scheduler=step"],
    "bfloat16": ["model=restoration", "accelerator=cpu_bf16", "model.net.widths=[8,16]", "augment=crop_flip"],
}


def live(arguments: list[str], log: Path) -> None:
    """One life of a run: what `python run.py` does, in a process forked from one that has torch already."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import torch

    import run

    torch.set_num_threads(1)
    # A slow disk, so that a kill often meets a file half written.
    fsync = os.fsync
    records.os.fsync = lambda file: (time.sleep(0.03), fsync(file))  # type: ignore[attr-defined]
    sys.argv = [str(ROOT / "run.py"), *arguments]
    os._exit(run.main())


@pytest.fixture(scope="module")
def processes() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recon.sweep.server"])
    return context


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_never_was(
    case: str, processes: Any, tmp_path: Path
) -> None:
    moments = random.Random(case)
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log.txt"
    undisturbed = processes.Process(target=live, args=([*LIFE, *CASES[case], f"hydra.run.dir={whole}"], log))
    undisturbed.start()
    undisturbed.join()
    assert undisturbed.exitcode == 0, log.read_text()

    words, kills, writing = [*LIFE, *CASES[case], f"hydra.run.dir={killed}"], 0, 0
    while kills < 8:
        child = processes.Process(target=live, args=(words, log))
        child.start()
        while not (killed / "run.lock").exists() and child.is_alive():
            time.sleep(0.001)
        if kills % 2:  # in the midst of the next checkpoint
            while not list(killed.glob("checkpoints/last.ckpt.tmp.*")) and child.is_alive():
                time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02 if kills % 2 else 0.8))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        if child.exitcode == 0:
            break
        kills += 1
        writing += bool(list(killed.glob("checkpoints/*.tmp.*")))
        # Whatever stands under its final name is whole.
        for path in killed.glob("checkpoints/*.ckpt"):
            load(path)
        if (killed / "config.yaml").exists():
            words = [f"resume={killed}"]
    last = processes.Process(target=live, args=(words, log))
    last.start()
    last.join()
    assert last.exitcode == 0, log.read_text()
    assert kills >= 7
    assert writing >= 2, "no kill met a checkpoint half written"
    assert outcome(killed) == outcome(whole)


def forked(folder: Path, *arguments: str) -> Group:
    """Begin a run on two CPU processes, as a sweep does."""
    return Group(str(ROOT / "run.py"), list(arguments), folder.with_suffix(".txt"), Place([], cores()), 2)


def ended(group: Group) -> int:
    while (status := group.status()) is None:
        time.sleep(0.01)
    return status


def test_two_processes_stop_together_and_go_on_exactly(tmp_path: Path) -> None:
    words = [*LIFE, "model=gan", "model.net.dropout=0.2", "trainer.devices=2", "task.batch_size=16"]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    assert ended(forked(whole, *words, f"hydra.run.dir={whole}")) == 0, whole.with_suffix(".txt").read_text()
    last = folder / "checkpoints" / "last.ckpt"
    command = [sys.executable, str(ROOT / "run.py"), *words, f"hydra.run.dir={folder}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        while child.poll() is None and not last.exists():
            time.sleep(0.005)
        child.send_signal(signal.SIGTERM)  # to the first process alone
        output = child.communicate()[0]
    assert child.returncode == 143, output
    assert "go on with: python run.py resume=" in output

    group, written = forked(folder, f"resume={folder}"), last.stat().st_mtime
    while group.status() is None and not (last.exists() and last.stat().st_mtime > written):
        time.sleep(0.005)
    group.send(signal.SIGKILL)
    assert ended(group) == -signal.SIGKILL
    assert RunFolder(folder).status == "lost"
    assert ended(forked(folder, f"resume={folder}")) == 0, folder.with_suffix(".txt").read_text()
    assert outcome(folder) == outcome(whole)
