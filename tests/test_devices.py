"""Several processes: the command of the README, the same numbers as on one device, jobs of a sweep."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from sweeping import Sweep, fixture  # noqa: F401  the fixture
from test_command_line import folder_of, type_in

QUICK = ("trainer.limit_val_batches=2", "trainer.enable_progress_bar=false", "logger=none", "trainer.accelerator=cpu")


def metrics(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("model", ["gan", "inpainting"])
def test_two_devices_train_and_report_what_one_device_does(model: str, sweep: Sweep, tmp_path: Path) -> None:
    words = (
        f"model={model}",
        *(["degradation.fraction=0.2"] if model == "inpainting" else []),
        "trainer.devices=2",
        "trainer.max_steps=5",
        *QUICK,
    )
    if model == "gan":  # the command of the README
        done = type_in(*words, f"hydra.run.dir={tmp_path}/two")
        assert done.returncode == 0, done.stderr
        folder, output = folder_of(done.stdout), done.stdout
    else:
        folder = sweep(*words).run(0)
        output = (folder / "output.log").read_text()
    assert "on 2 × cpu" in output
    assert output.count("run: ") == 1, "only the first process speaks"
    evaluated = sweep("action=evaluate", f"run={folder}", "trainer.devices=1,2", *QUICK)
    assert evaluated.status == 0, evaluated.errors
    tested = {name: value for name, value in metrics(folder).items() if name.startswith("test/")}
    assert tested
    for again in (metrics(evaluated.run(0)), metrics(evaluated.run(1))):
        for name, value in tested.items():
            assert again[name] == pytest.approx(value, abs=1e-6), name
        assert again["images"] == metrics(folder)["images"], "however many devices shared the images out"
    places = (folder, evaluated.run(0), evaluated.run(1))
    rows = [(place / "per_image.csv").read_text().splitlines() for place in places]
    assert [len(table) for table in rows] == [361, 361, 361]


def sweep_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Type a sweep in a folder that holds no runs yet."""
    command = [sys.executable, str(ROOT / "run.py"), "-m", *arguments, *QUICK]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


def test_a_sweep_over_devices_gives_each_job_its_processes(tmp_path: Path) -> None:
    done = sweep_in(tmp_path, "trainer.devices=1,2", "model=classifier", "trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    (sweep,) = tmp_path.glob("outputs/*/*_sweep")
    folders = sorted(path for path in sweep.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["0_trainer.devices-1", "1_trainer.devices-2"]
    for folder, count in zip(folders, (1, 2), strict=True):
        assert f"on {count} × cpu" in (folder / "output.log").read_text()
        assert len((folder / "per_image.csv").read_text().splitlines()) == 361
    assert len(list(tmp_path.rglob("sweep.json"))) == 1, "no process began the sweep again"
    assert len(list(tmp_path.rglob("environment.json"))) == 2


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_that_fails_ends_its_job_and_no_other(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "accidents.py").write_text(
        "import os\nfrom recon.degradations.noise import GaussianNoise\n"
        "class OneFails(GaussianNoise):\n"
        "    calls = 0\n"
        "    def degrade(self, clean, keys):\n"
        "        self.calls += 1\n"
        f"        if os.environ.get('LOCAL_RANK') == '{rank}' and self.calls > 2:\n"
        "            raise RuntimeError('this process fails')\n"
        "        return super().degrade(clean, keys)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RECON_TRUST", "accidents")
    done = sweep_in(
        tmp_path, "degradation._target_=accidents.OneFails", "degradation=noise", "model=restoration",
        "model/net=dncnn", "model.net.depth=3", "trainer.devices=2,1", "trainer.max_steps=5", "sweep.retry=0",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "1 of 2 jobs failed" in done.stderr
    (sweep,) = tmp_path.glob("outputs/*/*_sweep")
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert [job["status"] == "ok" for job in jobs] == [False, True]


def test_devices_outnumber_the_images_to_evaluate(tmp_path: Path) -> None:
    """One image to validate on and one to test on, by a net with batch norm, whose buffers DDP would share."""
    for number in range(4):
        picture = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    done = type_in(
        "task=folder", f"task.path={tmp_path}", "task.batch_size=2", "model=restoration", "model/net=dncnn",
        "model.net.depth=3", "degradation=noise", "accelerator=ddp_cpu", "trainer.max_epochs=1", "logger=none",
        "trainer.enable_progress_bar=false", f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2/1/1 training/validation/test images; batch 2 on 2 × cpu" in done.stdout
    assert len((tmp_path / "run" / "per_image.csv").read_text().splitlines()) == 2
    assert {"val/psnr", "test/psnr"} <= metrics(tmp_path / "run").keys()
