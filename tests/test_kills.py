"""SIGKILL at any moment, also while a checkpoint is written, again and again: the run ends as if undisturbed."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from conftest import ROOT
from sweeping import processes_below
from test_resume import outcome

from recon.runs import RunFolder, files, is_alive
from recon.runs.checkpoint import load
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
EARLY = ("trainer.max_epochs=20", "early_stopping=1", "optimizer.lr=0.01")
KINDS: dict[str, Sequence[str]] = {
    "dropout": ["model=classifier", "model/net=cnn", "scheduler=one_cycle"],
    "two optimisers and an average": ["model=gan", "scheduler=step", "model.ema=0.9"],
    "bfloat16": ["model=restoration", "accelerator=cpu_bf16", "model.net.widths=[8,16]", "augment=crop_flip"],
    "early stopping": ["model=classifier", *EARLY],
    "plain": ["model=autoencoder"],
    "early stopping within the epoch": ["model=classifier", *EARLY, "trainer.val_check_interval=4"],
    "steps": ["model=inpainting", "model.net.widths=[8,16]", "trainer.max_epochs=-1", "trainer.max_steps=35"],
    "a mapped store": [
        "model=autoencoder", "task=folder", "task.path={images}", "data.store=mmap", "data.cache={folder}_cache",
    ],
    "two processes": ["model=gan", "model.net.dropout=0.2", "trainer.devices=2"],
    "a sweep": ["model=autoencoder", "model.ema=0.9", "seed=1,2,3", "sweep.jobs=1"],
}  # fmt: skip
# How many kills are shared out among all kinds.
KILLS = int(os.environ.get("RECON_KILLS", "120"))


class Life(Protocol):
    """A command that may be killed."""

    def status(self) -> int | None:
        """Its exit status, below 0 for a signal; None while it runs."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Single:
    """What `python run.py` does, in a process forked from one that has torch already."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recon.sweep.server"])

    def __init__(self, words: list[str], log: Path) -> None:
        self.process = self.context.Process(target=live, args=(words, log))
        self.process.start()

    def status(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)


class Double:
    """A run on two processes, as a sweep begins it."""

    def __init__(self, words: list[str], log: Path) -> None:
        self.group = Group(str(ROOT / "run.py"), words, log, Place([], cores()), 2)
        self.status = self.group.status

    def kill(self) -> None:
        self.group.send(signal.SIGKILL)


class Swept(Single):
    """A sweep, of which a job is killed or the sweep itself, in turn; it begins a killed job again by itself."""

    folder: Path
    turn = 0

    def kill(self) -> None:
        Swept.turn += 1
        jobs = processes_below(self.folder)
        if Swept.turn % 2 and jobs:
            os.kill(random.choice(jobs), signal.SIGKILL)
            return
        super().kill()
        self.process.join()
        while processes_below(self.folder):  # orphans save and end
            time.sleep(0.05)


def live(arguments: list[str], log: Path) -> None:
    """Be one command."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import torch

    import run

    torch.set_num_threads(1)
    # A slow disk, so that a kill often meets a file half written.
    fsync = os.fsync
    files.os.fsync = lambda file: (time.sleep(0.03), fsync(file))  # type: ignore[attr-defined]
    sys.argv = [str(ROOT / "run.py"), *arguments]
    os._exit(run.main())


def ended(life: Life) -> int:
    while (status := life.status()) is None:
        time.sleep(0.01)
    return status


def runs_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What a run, or each job of a sweep, came to."""
    folders = sorted(folder.glob("*_*")) if (folder / "sweep.json").exists() else [folder]
    return {run.name if run != folder else "": outcome(run) for run in folders}


def survive(kind: str, kills: int, tmp_path: Path, images: Path) -> None:
    """Kill runs of a kind until so many kills have met them, and compare what each came to with an undisturbed one."""
    moments, log = random.Random(kind), tmp_path / "log.txt"
    start: Any = {"two processes": Double, "a sweep": Swept}.get(kind, Single)

    def words_for(folder: Path) -> list[str]:
        words = [*LIFE, *(word.format(images=images, folder=folder) for word in KINDS[kind])]
        return ["-m", *words, f"hydra.sweep.dir={folder}"] if start is Swept else [*words, f"hydra.run.dir={folder}"]

    whole = tmp_path / "whole"
    assert ended(start(words_for(whole), log)) == 0, log.read_text()
    expected, met, writing, runs = runs_of(whole), 0, 0, 0
    while met < kills:
        folder = Swept.folder = tmp_path / f"killed_{runs}"
        words, status, runs = words_for(folder), -signal.SIGKILL, runs + 1
        while status != 0:
            life: Life = start(words, log)
            while not is_alive(folder) and life.status() is None:
                time.sleep(0.001)
            if met % 2:  # in the midst of the next checkpoint
                while not list(folder.rglob("last.ckpt.tmp.*")) and life.status() is None:
                    time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02 if met % 2 else 0.8 if start is not Swept else 4))
            if met < kills and life.status() is None:
                life.kill()
                met += 1
            status = ended(life)
            # A sweep whose jobs were killed too often says so, and goes on when typed again.
            assert status in ((0, 1, -signal.SIGKILL) if start is Swept else (0, -signal.SIGKILL)), log.read_text()
            writing += bool(list(folder.rglob("*.tmp.*")))
            # Whatever stands under its final name is whole.
            for path in folder.rglob("*.ckpt"):
                load(path)
            if start is not Swept and (folder / "environment.json").exists():
                words = [f"resume={folder}"]
        assert runs_of(folder) == expected, f"after {met} kills"
    # The jobs of a sweep write at the disk's own speed.
    assert start is Swept or writing >= kills // 4, "too few kills met a file half written"
    print(f"{kind}: {met} kills in {runs} runs, {writing} while a file was written; all ended as the undisturbed one")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_no_kill_changes_a_run_of_any_kind(kind: str, tmp_path: Path, image_folder: Path) -> None:
    survive(kind, -(-KILLS // len(KINDS)), tmp_path, image_folder)


def forked(folder: Path, *arguments: str) -> Double:
    """Begin a run on two CPU processes."""
    return Double(list(arguments), folder.with_suffix(".txt"))


@pytest.mark.slow
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
    assert "resume with: python run.py resume=" in output

    group, written = forked(folder, f"resume={folder}"), last.stat().st_mtime
    while group.status() is None and not (last.exists() and last.stat().st_mtime > written):
        time.sleep(0.005)
    group.kill()
    assert ended(group) == -signal.SIGKILL
    assert RunFolder(folder).status == "lost"
    assert ended(forked(folder, f"resume={folder}")) == 0, folder.with_suffix(".txt").read_text()
    assert outcome(folder) == outcome(whole)
