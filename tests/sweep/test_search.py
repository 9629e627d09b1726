"""Searches: what a space may be, what Optuna is told, and that a killed search goes on."""

import json
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import ROOT
from sweeping import QUICK, Sweep, fixture  # noqa: F401  the fixture

from recon.errors import InputError
from recon.sweep.compose import Composer
from recon.sweep.pool import progress
from recon.sweep.search import objectives
from recon.sweep.space import Space

COMPOSE = Composer()
SMALL = ("model=restoration", "degradation=noise", "model/net=dncnn", "model.net.depth=3", "model.net.width=8", *QUICK)
LR = "sweep.space={optimizer.lr:{low:1e-4,high:1e-2,log:true}}"


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/study.db")


def overrides(folder: Path) -> list[list[str]]:
    jobs = json.loads((folder / "sweep.json").read_text())["jobs"]
    return [job["varied"] for job in sorted(jobs, key=lambda job: job["number"])]


@pytest.mark.slow
def test_a_random_search_finds_the_best_of_its_trials_and_goes_on(sweep: Sweep) -> None:
    chosen = ("sweep=random", *SMALL[:2], *QUICK, "sweep.jobs=2")
    space = "sweep.space={optimizer.lr:{low:1e-4,high:1e-2,log:true},model/net:[edsr,dncnn],model.net.depth:[3,4],"
    space += "model.net.width:[8],model.net.blocks:[2]}"
    done = sweep(*chosen, space, "sweep.trials=3", "hydra.sweep.dir=outputs/day/search")
    assert done.status == 0, done.errors
    assert "3 trials for max val/psnr" in done.output
    record = json.loads((done.folder / "sweep.json").read_text())["search"]
    assert record["objectives"] == ["val/psnr"]
    assert record["directions"] == ["max"]
    assert record["space"]["optimizer.lr"] == {"low": 0.0001, "high": 0.01, "log": True, "step": None}
    assert record["space"]["model/net"] == ["edsr", "dncnn"]
    trials = study(done.folder).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    measured = [json.loads((done.run(number) / "metrics.json").read_text())["val/psnr"] for number in range(3)]
    assert [trial.value for trial in trials] == measured
    # EDSR has no depth: nothing is chosen for it.
    for trial in trials:
        assert ("model.net.depth" in trial.params) == (trial.params["model/net"] == "dncnn")
    (again,) = [line for line in done.output.splitlines() if line.startswith("again: ")]
    best = study(done.folder).best_trial
    assert all(f"{key}={value}" in shlex.split(again) for key, value in best.user_attrs["overrides"].items())

    more = sweep(*chosen, space, "sweep.trials=4", "hydra.sweep.dir=outputs/day/search")
    assert more.status == 0
    assert overrides(more.folder)[:3] == overrides(done.folder)[:3]
    assert [trial.number for trial in study(more.folder).trials] == [0, 1, 2, 3]
    at_once = sweep(*chosen, space, "sweep.trials=4", "hydra.sweep.dir=outputs/day/at_once")
    assert overrides(at_once.folder) == overrides(more.folder)


@pytest.mark.slow
def test_a_trial_cut_off_goes_on_with_its_parameters(sweep: Sweep, tmp_path: Path) -> None:
    blank = (*SMALL[:2], "model/net=cvanet", *QUICK)  # hardly trained, it knows nothing of its input
    chosen = ("sweep=optuna", *blank, LR, f"hydra.sweep.dir={tmp_path}/search", "sweep.trials=1")
    first = sweep(*chosen)
    assert first.status == 0, first.errors
    assert "best: none, as in its test PSNR 18." in first.output
    assert "below the images as they were: not useful\n" in first.output
    assert "the best trial" not in first.output
    # As a SIGKILL of everything leaves it: the trial and the run are at work for ever.
    connection = sqlite3.connect(first.folder / "study.db")
    connection.execute("UPDATE trials SET state = 'RUNNING', datetime_complete = NULL")
    connection.execute("DELETE FROM trial_values")
    connection.commit()
    connection.close()
    record = first.run(0) / "environment.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "running"}))
    before = (first.run(0) / "metrics.json").read_bytes()

    again = sweep(*chosen)
    assert again.status == 0, again.errors
    (trial,) = study(again.folder).trials
    assert trial.state.name == "COMPLETE"
    assert overrides(again.folder) == overrides(first.folder)
    assert again.jobs[0]["attempts"] == 2
    assert json.loads((again.run(0) / "metrics.json").read_text())["val/psnr"] == json.loads(before)["val/psnr"]


@pytest.mark.slow
def test_two_objectives_give_those_that_nothing_beats(sweep: Sweep) -> None:
    chosen = ("sweep=optuna", *SMALL, "sweep.trials=3", "sweep.jobs=2")
    done = sweep(*chosen, LR, "sweep.objective=[test/psnr,train/images_per_second]")
    assert done.status == 0, done.errors
    found = study(done.folder)
    assert [direction.name for direction in found.directions] == ["MAXIMIZE", "MAXIMIZE"]
    assert "no other trial is better in all objectives" in done.output
    assert done.output.count("again: ") == len(found.best_trials)
    lacking = sweep(*chosen, LR, "sweep.objective=[test/psnr,test/nothing]", "sweep.trials=1")
    assert lacking.status == 2
    assert "sweep.directions: which way test/nothing is better is not known" in lacking.errors
    named = ("sweep.objective=[test/psnr,test/nothing]", "sweep.directions=[max,min]", "sweep.trials=1")
    lacking = sweep(*chosen, LR, *named)
    assert lacking.status == 1
    assert "it has no test/nothing; choose one of" in lacking.errors


def test_a_hopeless_trial_is_ended_early(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.sweep.search import Search

    monkeypatch.setattr(Search, "hopeless", lambda self, job: len(progress(job.folder).get("values", [])) > 1)
    steps = [word for word in SMALL if "max_steps" not in word]
    done = sweep("sweep=optuna", *steps, LR, "trainer.max_epochs=100000", "sweep.trials=1")
    assert done.status == 1, "no trial ended"
    assert done.jobs[0]["status"] == "pruned"
    assert json.loads((done.run(0) / "environment.json").read_text())["status"] == "pruned"
    assert [trial.state.name for trial in study(done.folder).trials] == ["PRUNED"]
    assert "failed" not in done.errors


def test_hopeless_is_what_is_worse_than_the_median_of_others(tmp_path: Path) -> None:
    from recon.sweep.job import Job
    from recon.sweep.search import Search
    from recon.sweep.state import State

    node = {"sampler": "random", "seed": 0, "trials": 9, "prune": True, "objective": None, "directions": None}
    space = Space({"optimizer.lr": {"low": 1e-4, "high": 1e-2}}, COMPOSE.has_group)
    search = Search(node, SMALL, State(tmp_path, []), space, COMPOSE, ("val/psnr", "max"))

    def trial(values: list[float]) -> Job:
        job = search.next()
        assert job is not None
        told = {"monitor": "val/psnr", "mode": "max", "values": values}
        job.folder.mkdir()
        (job.folder / "progress.json").write_text(json.dumps(told))
        return job

    for best in (20.0, 21.0, 22.0, 23.0):
        job = trial([10.0, best])
        assert not search.hopeless(job), "too early to tell"
        (job.folder / "metrics.json").write_text(json.dumps({"val/psnr": best}))
        job.status = "ok"
        search.ended(job)
    assert not search.hopeless(trial([10.0, 22.5]))
    assert not search.hopeless(trial([]))
    assert search.hopeless(trial([10.0, 20.5]))


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (None, ["sweep.space", "add"]),
        ({}, ["sweep.space"]),
        ({"optimizer.lr": []}, ["optimizer.lr", "list"]),
        ({"optimizer.lr": 3}, ["optimizer.lr", "no range"]),
        ({"optimizer.lr": {"low": 1, "hihg": 3}}, ["optimizer.lr.hihg", "high"]),
        ({"optimizer.lr": {"low": 3, "high": 1}}, ["low=3", "high=1"]),
        ({"optimizer.lr": {"low": 0, "high": 1, "log": True}}, ["optimizer.lr.low", "0"]),
        ({"optimizer.lr": {"low": 1, "high": 9, "step": 0}}, ["step"]),
        ({"optimizer.lr": {"low": 1, "high": 9, "step": 1, "log": True}}, ["step", "log"]),
        ({"model/net": {"low": 1, "high": 9}}, ["model/net", "choices"]),
    ],
)
def test_a_space_that_cannot_be_is_refused(space: Any, named: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        Space(space, COMPOSE.has_group)
    for word in named:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["sweep=optuna", *SMALL], ["sweep.space"]),
        (["sweep=optuna", *SMALL, "sweep.space={optimizer.rl:[1,2]}"], ["optimizer.rl", "no such key"]),
        (["sweep=optuna", *SMALL, LR, "seed=1,2"], ["sweep.space", "one value"]),
        (["sweep=optuna", *SMALL, LR, "sweep.objective=[val/psnr,val/mse]", "sweep.directions=[max]"], ["directions"]),
        (["sweep=optuna", "model=gan", LR, *QUICK], ["sweep.objective", "test/recognised"]),
        (["sweep=optuna", *SMALL, LR, "sweep.trials=0"], ["sweep.trials"]),
        (["sweep=optuna", *SMALL, "sweep.space={early_stopping:[2,soon]}"], ["early_stopping", "soon"]),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_runs(
    arguments: list[str], named: list[str], sweep: Sweep, tmp_path: Path
) -> None:
    done = sweep(*arguments)
    assert done.status == 2, done.errors
    (sentence,) = [line for line in done.errors.splitlines() if line.startswith("error: ")]
    for word in named:
        assert word in sentence
    assert not list(tmp_path.glob("outputs/*")), "a sweep that was not begun left something"


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("optuna", ["sweep=optuna", *SMALL, LR], "optuna"),
        ("submitit", ["hydra/launcher=submitit", "seed=1,2", *SMALL], "submitit"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    package: str, arguments: list[str], extra: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {"optuna": "recon.sweep.search", "submitit": "recon.sweep.slurm"}
    monkeypatch.delitem(sys.modules, modules[package], raising=False)
    monkeypatch.delattr(modules[package], raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    done = sweep(*arguments)
    assert done.status == 2
    assert f"pip install {extra}" in done.errors


def test_a_search_needs_a_multirun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, str(ROOT / "run.py"), "sweep=random", *SMALL, LR]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip() == "error: sweep=random: a search runs many jobs; add -m"


@pytest.mark.parametrize(
    ("objective", "directions", "monitored", "found"),
    [
        (None, None, ("val/psnr", "max"), (["val/psnr"], ["max"])),
        ("val/loss", None, ("val/loss", "min"), (["val/loss"], ["min"])),
        (["val/psnr", "cost/latency_ms"], None, None, (["val/psnr", "cost/latency_ms"], ["max", "min"])),
        (["a/b", "c/d"], ["max", "min"], None, (["a/b", "c/d"], ["max", "min"])),
        ("cost/megapixels_per_second", None, None, (["cost/megapixels_per_second"], ["max"])),
        ("val/loss", "max", None, (["val/loss"], ["max"])),
    ],
)
def test_directions_are_told_by_the_name(objective: Any, directions: Any, monitored: Any, found: Any) -> None:
    assert objectives({"objective": objective, "directions": directions}, monitored) == found


def test_every_measure_is_optimised_the_way_that_is_better() -> None:
    from recon.measures import ROWS, measure
    from recon.sweep.search import objectives

    judged = [name for name in ROWS if measure(name).better]
    assert "psnr_hole" in judged
    for name in judged:
        node = {"objective": f"test/{name}", "directions": None}
        assert objectives(node, ("val/loss", "min"))[1] == ["max" if measure(name).better > 0 else "min"], name


def test_a_damaged_study_is_said(sweep: Sweep, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    folder.mkdir()
    (folder / "study.db").write_bytes(b"SQLite format 3\0" + b"torn" * 100)
    done = sweep("sweep=optuna", *SMALL, LR, "sweep.trials=1", f"hydra.sweep.dir={folder}")
    assert done.status == 2
    assert "study.db is damaged" in done.errors
    assert "Traceback" not in done.errors
