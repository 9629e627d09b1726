"""The report of a search: each parameter against the objective, what is pruned, what is best, what explains it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from report_runs import Text, change_json, page_of, text_of
from test_sheet import make_run

from recon.report.naming import as_text
from recon.report.search import _worst_drawn, importance

SPACE = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True, "step": None},
    "task.batch_size": {"low": 16, "high": 144, "log": False, "step": 16},
    "model/net": ["unet", "cvanet"],
    "augment": ["none"],
}
RATES = [10 ** -float(power) for power in np.linspace(1, 4, 9)]


def trial(made: Path, sweep: Path, number: int, status: str = "ok") -> dict[str, object]:
    """Make a trial: best at a middle learning rate; its net and batch size do nothing."""
    rate, net, batch = RATES[number], ("unet", "cvanet")[number % 2], 16 * (1 + (5 * number) % 9)
    gain = 3 - 2 * (np.log10(rate) + 2.5) ** 2
    run = make_run(made / "sweep" / "unet-1", sweep / str(number), net, gain)
    words = [f"optimizer.lr={rate:.6g}", f"task.batch_size={batch}", f"model/net={net}", "augment=none"]
    change_json(run / "environment.json", lambda content: content.update(status=status, overrides=words))
    config = re.sub(r"(?m)^  lr: .*$", f"  lr: {rate:.6g}", (run / "config.yaml").read_text())
    (run / "config.yaml").write_text(re.sub(r"batch_size: \d+", f"batch_size: {batch}", config))
    change_json(run / "metrics.json", lambda content: content.update({"val/psnr": 16 + gain}))
    if status == "pruned":
        (run / "metrics.json").unlink()
        (run / "metrics.csv").write_text("epoch,val/psnr\n0,11.5\n1,12.25\n")
    return {"number": number, "name": str(number), "folder": str(number), "varied": words, "status": status}


def record(sweep: Path, jobs: list[dict[str, object]], **more: object) -> None:
    search = {"space": SPACE, "objectives": ["val/psnr"], "directions": ["max"], **more}
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs, "search": search}))


@pytest.fixture
def search(made: Path, tmp_path: Path) -> Path:
    sweep = tmp_path / "search"
    jobs = [trial(made, sweep, number, "pruned" if number == 8 else "ok") for number in range(9)]
    jobs.append({**jobs[0], "number": 9, "folder": "9", "status": "failed", "varied": ["optimizer.lr=1", 5]})
    record(sweep, jobs)
    return sweep


def test_each_parameter_is_drawn_against_the_objective(
    search: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (search / "study.db").write_text("not trusted, not read")
    monkeypatch.setitem(sys.modules, "optuna", None)
    page = page_of(str(search), tmp_path, search)
    text = Text(page).text
    assert "10 trials for the highest val/psnr; 1 failed, 8 finished, 1 pruned" in text
    best = int(np.argmin([abs(np.log10(rate) + 2.5) for rate in RATES[:8]]))
    assert re.search(
        rf"Best is trial {best} with val/psnr 1\d\.\d\d dB: optimizer.lr 0.00316228, task.batch_size \d+", text
    )
    charts = {name: part for name in ("optimizer.lr", "task.batch_size", "model/net")
              for part in page.split("<figure") if f"<figcaption>PSNR by {name}<" in part}  # fmt: skip
    assert len(charts) == 3, "one for each parameter that has more than one value"
    assert "PSNR by augment" not in text
    assert "optimizer.lr (logarithmic)" in charts["optimizer.lr"]
    assert "(logarithmic)" not in charts["task.batch_size"]
    for part in charts.values():
        assert part.count('class="dot c1"') == 8
        assert part.count('class="hollow c1"') == 1, "the pruned one"
        assert part.count('class="ring"') == 1, "the best one"
        assert "12.25 dB at" in part, "its last validation"
    places = [
        float(x) for x in re.findall(r'<circle cx="([\d.]+)"[^>]*class="(?:dot|hollow) c1"', charts["optimizer.lr"])
    ]
    assert np.ptp(np.diff(sorted(places))) < 1, "equal steps of the logarithm are equal"
    for name in ("unet", "cvanet"):
        assert f">{name}</text>" in charts["model/net"]
    assert "No runs differ in" not in text
    assert re.match(r"optimizer.lr\d\d %\w", text.split("What explains the PSNR")[-1])
    assert "8 finished trials are few: take it as a hint." in text
    assert "1 pruned by the search" in text
    assert Text(page).depth == 0


def test_the_same_runs_without_the_search_claim_nothing_of_one_parameter(search: Path, tmp_path: Path) -> None:
    """Where several typed parameters vary at once, none of them varies alone."""
    (search / "sweep.json").unlink()
    text = text_of(str(search), tmp_path)
    assert "that differ in" not in text
    assert "No runs differ in net or lr or batch size alone, so the effect of each by itself is unknown." in text


def test_two_numbers_are_a_range_only_where_they_are_one(made: Path, tmp_path: Path) -> None:
    runs = [make_run(made / "sweep" / "unet-1", tmp_path / name, "unet", 1.0) for name in ("one", "two")]
    config = (runs[1] / "config.yaml").read_text()
    changed = re.sub(r"widths:\n(    - \d+\n)+", "widths: [4, 8]\n", config)
    assert changed != config
    (runs[1] / "config.yaml").write_text(changed)
    text = text_of(runs, tmp_path)
    assert "widths [4, 8]" in text
    assert "4 to 8" not in text
    assert as_text([0.1, 0.5]) == "0.1 to 0.5"


def test_no_trial_is_best_where_none_is_useful(search: Path, tmp_path: Path) -> None:
    for path in search.glob("*/metrics.json"):
        change_json(path, lambda content: content.update({"test/psnr": 12.0}))
    page = page_of(str(search), tmp_path, search)
    assert "No trial is best, as none makes its images better than they were." in page
    assert 'class="ring"' not in page


@pytest.mark.parametrize(
    "damage",
    [
        {"space": None}, {"space": {"optimizer.lr": 5}}, {"space": {"optimizer.lr": {"low": "a", "high": 1}}},
        {"objectives": "val/psnr"}, {"objectives": [5]}, {"directions": None}, {"objectives": ["<b>/x"]},
        {"space": {"<script>": ["<b>", "x"], "optimizer.lr": {"low": -1, "high": 1, "log": True}}},
    ],
)  # fmt: skip
def test_a_damaged_record_is_no_search(damage: dict[str, object], search: Path, tmp_path: Path) -> None:
    jobs = json.loads((search / "sweep.json").read_text())["jobs"]
    jobs[1].update(varied="x", number="y")
    record(search, jobs, **damage)
    parsed = Text(page_of(str(search), tmp_path, search))
    assert parsed.depth == 0
    assert [name for name, _ in parsed.tags].count("script") == 1


@pytest.mark.parametrize("way", [1, -1])
def test_only_what_is_far_worse_is_drawn_at_the_edge(way: int) -> None:
    assert _worst_drawn([way * value for value in (3.0, 19.0, 20.0, 20.0, 21.0, 90.0)], way) == way * 19.0
    assert _worst_drawn([way * value for value in (1.0, 2.0, 3.0)], way) == way * 1.0


def test_importance_is_that_of_the_ranks_and_of_nothing_where_there_is_nothing() -> None:
    x = np.linspace(-4, -1, 15)
    peak = importance((-((x + 2.5) ** 2)).tolist(), [str(10**value) for value in x], False)
    assert peak is not None
    assert peak[0] > 0.9, "a learning rate between bad ones is seen"
    assert peak[1] < 0.001
    line = importance(np.exp(x).tolist(), list(map(str, x)), False)
    assert line == pytest.approx((1.0, 0.0), abs=1e-6)
    choices = importance([1.0, 2.0, 3.0, 10.0, 11.0, 12.0], list("aaabbb"), True)
    # By hand: ranks 1 to 6, means 2 and 5: 13.5 of 17.5 is explained; adjusted 1 - 4/17.5 * 5/4.
    assert choices is not None
    assert choices[0] == pytest.approx(1 - 4 / 17.5 * 5 / 4)
    draws = np.random.default_rng(1)
    shares = [importance(draws.normal(size=15).tolist(), list(map(str, x)), False) for _ in range(200)]
    assert np.mean([share[1] < 0.05 for share in shares if share]) < 0.09
    assert np.mean([share[0] for share in shares if share]) < 0.09
    assert importance([1.0, 2.0, 3.0], ["1", "2", "3"], False) is None, "too few"
    assert importance([], [], True) is None
    assert importance([1.0] * 9, list("aabbccdde"), True) is None, "all equal"
