"""A sweep believes no folder's word: what counts as done has the job's configuration, code and data."""

import json
import multiprocessing
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweeping import ONE, QUICK, Done, Sweep, first_sweep, fixture, planning, statuses, swept_folder  # noqa: F401  the fixtures

from recon.runs import RunFolder, fingerprint
from recon.sweep.process import _shorten_sockets


def test_only_a_run_of_the_same_configuration_counts(first: Done, plan: Sweep, tmp_path: Path) -> None:
    real, forged = first.run(0), tmp_path / "outputs" / "stranger"
    shutil.copytree(real, forged)
    shutil.move(first.folder, tmp_path / "aside")
    done = plan(*ONE, "seed=1,2")
    assert "1 of them done before" in statuses(done)
    assert done.run(0) == forged
    # Another configuration under the word of seed 3.
    config = (forged / "config.yaml").read_text().replace("seed: 1", "seed: 9")
    (forged / "config.yaml").write_text(config)
    record = json.loads((forged / "environment.json").read_text())
    done = plan(*ONE, "seed=3")
    word = done.jobs[0]["fingerprint"]
    shutil.rmtree(done.folder)
    for status in ("ok", "running"):
        (forged / "environment.json").write_text(json.dumps({**record, "fingerprint": word, "status": status}))
        done = plan(*ONE, "seed=3")
        assert "0 of them done before" in statuses(done)
        assert done.run(0).is_relative_to(done.folder)
        shutil.rmtree(done.folder)


def test_a_run_without_finite_numbers_is_not_done(first: Done, plan: Sweep) -> None:
    (first.run(0) / "metrics.json").write_text("{}")
    assert "0 of them done before" in statuses(plan(*ONE, "seed=1"))


def images(folder: Path, seed: int) -> None:
    draws = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    for number in range(12):
        Image.fromarray(draws.integers(0, 255, (16, 16), np.uint8)).save(folder / f"{number}.png")


def test_replaced_images_are_another_run(sweep: Sweep, plan: Sweep, tmp_path: Path) -> None:
    images(tmp_path / "mine", 0)
    words = ("task=folder", f"task.path={tmp_path}/mine", "model=autoencoder", *QUICK)
    assert sweep(*words, "seed=1").status == 0
    assert "1 of them done before" in statuses(plan(*words, "seed=1"))
    images(tmp_path / "mine", 1)
    assert "0 of them done before" in statuses(plan(*words, "seed=1"))


def test_trusted_code_and_weights_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "trusted_.py").write_text("a = 1\n")
    before = fingerprint.code_version()
    monkeypatch.setenv("RECON_TRUST", "trusted_")
    one = fingerprint.code_version()
    (tmp_path / "trusted_.py").write_text("a = 2\n")
    assert len({before, one, fingerprint.code_version()}) == 3
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    config = {"action": "evaluate", "run": str(tmp_path / "run")}
    best.write_bytes(b"one")
    one = fingerprint.data_version(config)
    best.write_bytes(b"three")
    assert one != fingerprint.data_version(config)


BAD = ('{"arguments": 5}', '{"jobs": "x"}', "[1, 2]", '{"jobs": [1], "arguments": []}', "\0", '{"arguments": [[]]}',
       '{"jobs": [{"number": "x"}], "arguments": [], "code": "", "started": ""}')  # fmt: skip


def test_damaged_records_of_sweeps_stop_none(first: Done, sweep: Sweep, tmp_path: Path) -> None:
    for number, damage in enumerate(BAD):
        folder = tmp_path / "outputs" / "2020-01-01" / f"{number}_sweep"
        folder.mkdir(parents=True)
        (folder / "sweep.json").write_text(damage)
    (first.folder / "sweep.json").write_text(BAD[0])
    again = sweep(*ONE, "seed=1")
    assert again.status == 0
    assert "1 of them done before" in statuses(again)


@pytest.mark.parametrize("search", [(), ("sweep=random", "sweep.trials=1", "sweep.space={model/net:[tiny]}")])
def test_jobs_get_the_configuration_that_was_typed(search: tuple[str, ...], sweep: Sweep, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "experiment").mkdir(parents=True)
    (own / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: restoration\n  - override /degradation: noise\n"
        "optimizer: {lr: 0.002}\n"
    )
    (own / "model" / "net").mkdir(parents=True)
    (own / "model" / "net" / "tiny.yaml").write_text("_target_: recon.nets.dncnn.DnCNN\ndepth: 3\nwidth: 4\n")
    done = sweep("--config-dir", str(own), "experiment=mine", *(search or ["model/net=tiny"]), *QUICK)
    assert done.status == 0, done.errors
    config = RunFolder(done.run(0)).config
    assert config["optimizer"]["lr"] == 0.002
    assert config["model"]["net"]["width"] == 4
    assert RunFolder(done.run(0)).environment["fingerprint"] == done.jobs[0]["fingerprint"]


def test_a_long_temporary_folder_is_no_matter() -> None:
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(config, "tempdir", None)
        patch.setattr(tempfile, "gettempdir", lambda: "/tmp/" + "t" * 120)
        _shorten_sockets()
        assert len(config["tempdir"]) < 40
