"""What lies in a run folder is whole or not there, and runs no code."""

import os
import pickle
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from recon.errors import InputError
from recon.runs import files, locked, machine
from recon.runs.checkpoint import AtomicCheckpointIO, load, load_weights


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"b": "é"})
    assert path.read_text() == '{\n  "b": "é"\n}\n'
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]


def test_a_record_tells_the_hardware() -> None:
    found = machine.environment()
    told = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"(?m)^model name\s*: (.+)$", told)
    assert found["processor"] == (model[1] if model else platform.processor() or platform.machine())
    assert found["memory"] == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, abs=0.5)


def test_a_table_has_the_columns_of_all_its_rows(tmp_path: Path) -> None:
    files.write_csv(tmp_path / "a.csv", [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": 1.0, "psnr": 20.0}])
    assert (tmp_path / "a.csv").read_text() == "epoch,loss,psnr\n0,1.5,\n1,1.0,20.0\n"


def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(3)}}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(InputError, match=r"the disk is full: writing .*last.ckpt needs 4 MB"):
            AtomicCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(1 << 20)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load(path)["state_dict"]["a"].shape == (3,)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("place", ["a_file/run", "/proc/run", "{name}"])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "a_file").write_text("")
    folder = tmp_path / place.replace("{name}", "n" * 300)
    with pytest.raises(InputError, match=r"^hydra\.run\.dir: .* cannot be written to \(.*\); choose another folder$"):  # noqa: SIM117
        with locked(folder):
            pass
    with pytest.raises(InputError, match=r"metrics\.json cannot be written \(.*\); choose another folder$"):
        files.write_json(folder / "metrics.json", {})


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_a_whole_one(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from recon.runs.checkpoint import AtomicCheckpointIO\n"
        "while True:\n"
        "    AtomicCheckpointIO().save_checkpoint({'state_dict': {'a': torch.ones(1 << 22)}}, sys.argv[1])\n"
        "    print('saved', flush=True)\n"
    )
    for place in (1, 3):
        path = tmp_path / f"{place}.ckpt"
        child = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()  # at least one is written
        try:
            child.wait(timeout=0.013 * (place + 1))
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        assert load(path)["state_dict"]["a"].shape == (1 << 22,)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


def test_a_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Hostile()}, "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(InputError, match=r"(no readable checkpoint|holds more than tensors)"):
            load(Path(name))
    assert not (tmp_path / "owned").exists()


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint"):
        load(tmp_path / "none.ckpt")
    torch.save({"state_dict": {"weight": torch.ones(2, 2)}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="do not fit"):
        load_weights(torch.nn.Linear(3, 3), tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt").write_bytes((tmp_path / "a.ckpt").read_bytes()[:200])
    with pytest.raises(InputError, match="no readable checkpoint"):
        load(tmp_path / "a.ckpt")
