"""Several processes: the command of the README, the same numbers as on one device, jobs of a sweep."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweeping import Sweep, fixture  # noqa: F401  the fixture
from test_command_line import folder_of, type_in

QUICK = ("trainer.limit_val_batches=2", "trainer.enable_progress_bar=false", "logger=none", "trainer.accelerator=cpu")


def metrics(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("model", [pytest.param("gan", marks=pytest.mark.slow), "inpainting"])
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


def test_a_sweep_over_devices_gives_each_job_its_processes(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("trainer.devices=1,2", "model=classifier", "trainer.max_steps=2", *QUICK)
    assert done.status == 0, done.errors
    folders = sorted(path for path in done.folder.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["0_trainer.devices-1", "1_trainer.devices-2"]
    for folder, count in zip(folders, (1, 2), strict=True):
        assert f"on {count} × cpu" in (folder / "output.log").read_text()
        assert len((folder / "per_image.csv").read_text().splitlines()) == 361
    assert len(list(tmp_path.rglob("sweep.json"))) == 1, "no process began the sweep again"
    assert len(list(tmp_path.rglob("environment.json"))) == 2


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_process_that_fails_ends_its_job_and_no_other(rank: int, sweep: Sweep) -> None:
    done = sweep(
        "degradation._target_=accidents.OneFails", "degradation=noise", f"+degradation.rank={rank}",
        "model=restoration", "model/net=dncnn", "model.net.depth=3", "trainer.devices=2,1", "trainer.max_steps=5",
        "sweep.retry=0", *QUICK,
    )  # fmt: skip
    assert done.status == 1, done.errors
    assert "1 of 2 jobs failed" in done.errors
    assert [job["status"] == "ok" for job in done.jobs] == [False, True]


@pytest.mark.slow
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
