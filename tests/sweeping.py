"""What the tests of sweeps share: a command line carried out in an empty folder, and what it left."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import QUICK as QUICK

import run


class Done(NamedTuple):
    """What a sweep came to."""

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

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECON_TRUST", "accidents")
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "sweep"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "sweep"))  # for processes of their own

    def type_in(*arguments: str) -> Done:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [run.__file__, "-m", *arguments])
        capfd.readouterr()
        try:
            status = run.main()
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        output, errors = capfd.readouterr()
        told = [line.removeprefix("sweep: ") for line in output.splitlines() if line.startswith("sweep: /")]
        return Done(status, output, errors, Path(told[-1]) if told else tmp_path / "nowhere")

    return type_in


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
