"""Several processes: the command of the README, the same numbers as on one device, jobs of a sweep."""

import json
from pathlib import Path

import pytest
from test_command_line import folder_of, type_in

QUICK = ("trainer.limit_val_batches=2", "trainer.enable_progress_bar=false", "logger=none", "trainer.accelerator=cpu")


def metrics(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("model", ["gan", "inpainting"])
def test_two_devices_train_and_report_what_one_device_does(model: str, tmp_path: Path) -> None:
    done = type_in(
        f"model={model}", "trainer.devices=2", "trainer.max_steps=5", f"hydra.run.dir={tmp_path}/two", *QUICK
    )
    assert done.returncode == 0, done.stderr
    folder = folder_of(done.stdout)
    assert "on 2 × cpu" in done.stdout
    assert done.stdout.count("run: ") == 1, "only the first process speaks"
    one, two = (
        type_in("action=evaluate", f"run={folder}", f"trainer.devices={n}", f"hydra.run.dir={tmp_path}/eval{n}", *QUICK)
        for n in (1, 2)
    )
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    tested = {name: value for name, value in metrics(folder).items() if name.startswith("test/")}
    assert tested
    for again in (metrics(tmp_path / "eval1"), metrics(tmp_path / "eval2")):
        for name, value in tested.items():
            assert again[name] == pytest.approx(value, abs=1e-6), name
    rows = [(tmp_path / place / "per_image.csv").read_text().splitlines() for place in ("two", "eval1", "eval2")]
    assert [len(table) for table in rows] == [361, 361, 361]


def test_a_sweep_runs_each_job_in_a_process_and_folder_of_its_own(tmp_path: Path) -> None:
    done = type_in(
        "-m", "seed=1,2", "model=classifier", "trainer.max_steps=2", f"hydra.sweep.dir={tmp_path}/sweep", *QUICK
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = sorted(path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["0_seed-1", "1_seed-2"]
    assert metrics(folders[0])["test/loss"] != metrics(folders[1])["test/loss"]
    assert "devices: 1" in (folders[0] / "config.yaml").read_text()


def test_a_job_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    done = type_in("-m", "task.batch_size=0,64", "trainer.max_steps=2", f"hydra.sweep.dir={tmp_path}/sweep", *QUICK)
    assert done.returncode == 1
    assert "task.batch_size=0" in done.stderr
    folders = [path for path in (tmp_path / "sweep").iterdir() if (path / "metrics.json").exists()]
    assert [folder.name for folder in folders] == ["1_task.batch_size-64"]
