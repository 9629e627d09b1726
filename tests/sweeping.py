"""What the tests of sweeps share: a command line carried out in an empty folder, and what it left."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import QUICK as QUICK

import run
from recon.sweep.pool import Pool

ONE = ("model=classifier", *QUICK)


class Done(NamedTuple):
    """What a sweep left."""

    status: int
    output: str
    errors: str
    folder: Path

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The rows of sweep.json."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "sweep.json").read_text())["jobs"]
        return rows

    def run(self, number: int) -> Path:
        """The run folder of a job."""
        return self.folder / self.jobs[number]["folder"]


Sweep = Callable[..., Done]


@pytest.fixture(name="sweep")
def fixture(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Sweep]:
    """Give a function that types `python run.py -m …` in this process; the fork server stays for the next sweep."""
    from hydra.core.global_hydra import GlobalHydra

    _as_typed_in(tmp_path, monkeypatch)

    def type_in(*arguments: str) -> Done:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [run.__file__, "-m", *arguments])
        capfd.readouterr()
        try:
            status = run.main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        output, errors = capfd.readouterr()
        folders = [line.removeprefix("sweep: ") for line in output.splitlines() if line.startswith("sweep: /")]
        return Done(status, output, errors, Path(folders[-1]) if folders else tmp_path / "nowhere")

    return type_in


@pytest.fixture(name="swept", scope="session")
def swept_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `python run.py -m *ONE seed=1` was typed; the processes of one test session share it."""
    import fcntl

    from hydra.core.global_hydra import GlobalHydra

    base = tmp_path_factory.getbasetemp()
    top = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "swept"
    with open(top.with_suffix(".lock"), "w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (top / "made").exists():
            top.mkdir(exist_ok=True)
            _as_typed_in(top, patch)
            patch.setattr(sys, "argv", [run.__file__, "-m", *ONE, "seed=1"])
            GlobalHydra.instance().clear()
            assert run.main() == 0
            (top / "made").touch()
    return top


def _as_typed_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    patch.setenv("RECON_TRUST", "accidents")
    patch.syspath_prepend(str(Path(__file__).parent / "sweep"))
    patch.setenv("PYTHONPATH", str(Path(__file__).parent / "sweep"))  # for processes of their own


@pytest.fixture(name="plan")
def planning(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Give a function that types a sweep of which no job is started, whatever is not done yet."""

    def planned(*arguments: str) -> Done:
        with monkeypatch.context() as patch:
            patch.setattr(Pool, "run", lambda self, source: None)
            return sweep(*arguments)

    return planned


@pytest.fixture(name="first")
def first_sweep(swept: Path, sweep: Sweep, plan: Sweep, tmp_path: Path) -> Done:
    """A sweep of one job that was done before."""
    shutil.copytree(swept / "outputs", tmp_path / "outputs")
    done = plan(*ONE, "seed=1")
    assert "1 of them done before" in statuses(done)
    return done


def statuses(done: Done) -> str:
    return next(line for line in done.output.splitlines() if "jobs, " in line)


def alive(pid: int) -> bool:
    """Is there such a process, and not only its remains?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def processes_below(folder: Path) -> list[int]:
    """The processes whose output goes to a file below a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(place / "fd" / "1").startswith(str(folder)) and alive(int(place.name)):
                found.append(int(place.name))
        except OSError:
            continue
    return found
