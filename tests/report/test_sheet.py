"""The table that papers print: levels as columns, what is best and for how certain, data sets, what is of no use."""

import csv
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_runs import change_json, text_of

from recon.report.export import latex, markdown
from recon.report.gather import Run, problems
from recon.report.levels import Family, topics
from recon.report.sheet import Sheet, sheet
from recon.runs import RunFolder
from recon.sweep.job import Job
from recon.sweep.table import best_lines

INPUT = 16 + np.random.default_rng(0).normal(0, 1, 40)  # dB of the degraded images


def make_run(
    source: Path, place: Path, net: str, gain: float, sigma: float | None = None, digest: str = "0123456789abcdef"
) -> Path:
    """Copy a run as one of another net, trained for one level of noise, tested on 40 images that gain so many dB."""
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("images", "*.html"))
    change_json(place / "environment.json", lambda content: content["choices"].update({"model/net": net}))
    text = (place / "config.yaml").read_text().replace("    _target_: recon.nets.unet.UNet", f"    _target_: own.{net}")
    if sigma is not None:
        text = re.sub(r"sigma:\n  - 0.05\n  - 0.5", f"sigma: {sigma}", text)
    (place / "config.yaml").write_text(text)
    draws = np.random.default_rng(list(place.name.encode()))
    psnr = INPUT + gain + draws.normal(0, 0.2, len(INPUT))
    with open(place / "per_image.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [("index", "psnr", "psnr_degraded"), *zip(range(len(INPUT)), psnr, INPUT, strict=True)]
        )
    numbers = {"test/psnr": psnr.mean(), "test/psnr_degraded": INPUT.mean(), "cost/parameters": 1000.0}

    def change(content: dict[str, object]) -> None:
        for name in [name for name in content if "/" in name]:
            del content[name]
        content.update(numbers, images={"digest": digest, "count": len(INPUT)})

    change_json(place / "metrics.json", change)
    return place


def sheets_of(*runs: Path) -> list[Sheet]:
    return [sheet(topic) for topic in topics(problems([Run(RunFolder(path), path.name) for path in runs]))]


def grid(made: Path, top: Path, gains: Mapping[str, float], levels: tuple[float, ...] = (0.1, 0.2)) -> list[Path]:
    source = made / "sweep" / "unet-1"
    return [
        make_run(source, top / f"{net}-{sigma}", net, gain, sigma) for net, gain in gains.items() for sigma in levels
    ]


def test_levels_are_columns_and_a_mark_stands_only_where_a_difference_holds(made: Path, tmp_path: Path) -> None:
    runs = grid(made, tmp_path / "runs", {"good": 3.0, "fair": 2.0, "alike": 2.0, "poor": -0.5}, (0.2, 0.1, 0.05))
    (found,) = sheets_of(*runs)
    assert found.title == "Restoring digits (01234567) under noise, by sigma"
    assert found.groups == [("PSNR (dB) ↑ at sigma", ["0.05", "0.1", "0.2"])]
    assert [name for name, _ in found.rows][:2] == ["before the model", "good"]
    assert {name for name, _ in found.rows[2:4]} == {"fair", "alike"}
    rows = dict(found.rows)
    assert {cell.text for cell in rows["before the model"]} == {f"{INPUT.mean():.2f}"}
    assert {(cell.mark.rank, cell.signs) for cell in rows["good"]} == {(1, "")}
    assert {(cell.mark.rank, cell.signs) for cell in rows["poor"]} == {(0, "***†")}
    # Two that cannot be told apart: neither is the second.
    assert {(cell.mark.rank, cell.signs) for name in ("fair", "alike") for cell in rows[name]} == {(0, "***")}
    assert re.search(
        r"† poor at sigma 0.05: 1\d.\d\d dB, 0.\d\d below the images as they were: not useful", found.notes[-1]
    )
    (lone,) = sheets_of(*(run for run in runs if "alike" not in run.name))
    assert {cell.mark.rank for cell in dict(lone.rows)["fair"]} == {2}
    tied = sheets_of(*(run for run in runs if "good" not in run.name))[0]
    assert {cell.mark.rank for _, cells in tied.rows for cell in cells} == {0}, "the best are alike"
    text = text_of(runs, tmp_path)
    assert text.count("Leaderboard") == 3, "folded up below the one table"
    assert "12 finished runs of 4 configurations." in text
    assert "PSNR against sigma" in text


def test_where_nothing_is_useful_nothing_is_best(made: Path, tmp_path: Path) -> None:
    runs = grid(made, tmp_path / "runs", {"bad": -1.0, "worse": -3.0}, (0.1,))
    (found,) = sheets_of(*runs)
    assert {(cell.mark.rank, cell.signs[:1]) for name, cells in found.rows[1:] for cell in cells[:1]} == {(0, "†")}
    text = text_of(runs, tmp_path)
    assert "None of 2 configurations is better than the images as they were. The closest is bad with PSNR" in text
    assert "below the images as they were: not useful" in text
    assert "Best of" not in text
    assert not re.search(
        r"\*\*\d|\\textbf|\\underline", "".join((tmp_path / f"report.{end}").read_text() for end in ("md", "tex"))
    )
    lone = text_of(runs[:1], tmp_path)
    assert re.search(r"bad with PSNR 1\d.\d\d dB \(one seed, .*?\) on 40 test images, \d.\d\d below the images", lone)


def test_the_best_line_of_a_sweep_names_nothing_that_is_of_no_use(made: Path, tmp_path: Path) -> None:
    gains = {"bad": -1.0, "fair": 1.0, "good": 2.0}
    jobs = []
    for number, run in enumerate(grid(made, tmp_path, gains, (0.1,))):
        # By its validation the first is the best, which the test does not confirm.
        (run / "progress.json").write_text(json.dumps({"monitor": "val/psnr", "mode": "max", "best": 30.0 - number}))
        jobs.append(Job(number, [f"model/net={run.name}"], [f"model/net={run.name}"], {}, run, "ok"))
    best, again = best_lines(jobs)
    assert best == "best: job 1 (model/net=fair-0.1), val/psnr 29"
    assert again.endswith("run.py model/net=fair-0.1")
    (none, _) = best_lines([jobs[0], replace(jobs[0], number=1)])
    assert re.fullmatch(
        r"best: none; the closest is job 0 \(model/net=bad-0.1\), val/psnr 30, but in its test PSNR 1\d\.\d\d dB, "
        r"\d\.\d\d below the images as they were: not useful", none,
    )  # fmt: skip
    several = [
        replace(job, number=number, varied=[*job.varied, f"degradation.sigma={sigma}"],
                config={"degradation": {"sigma": sigma}})
        for number, (sigma, job) in enumerate([(0.1, jobs[1]), (0.1, jobs[2]), (0.2, jobs[2]), (0.2, jobs[1]),
                                               (0.3, jobs[1])])
    ]  # fmt: skip
    first, _, second, _ = best_lines(several)
    assert first.startswith("best of degradation.sigma=0.1: job 0 ")
    assert second.startswith("best of degradation.sigma=0.2: job 3 ")


def test_models_of_one_level_and_of_all_have_a_row_each(made: Path, tmp_path: Path) -> None:
    runs = grid(made, tmp_path, {"own": 2.0})
    fixed = make_run(made / "sweep" / "unet-1", tmp_path / "fixed", "fixed", 1.0, 0.1)
    tests = [
        make_run(made / "others" / "again", tmp_path / f"test-{sigma}", "fixed", 0.5, sigma) for sigma in (0.2, 0.3)
    ]
    for test in tests:
        text = (test / "config.yaml").read_text()
        (test / "config.yaml").write_text(re.sub(r"(?m)^run: .*$", f"run: {fixed}", text))
    (topic,) = topics(problems([Run(RunFolder(path), path.name) for path in (*runs, fixed, *tests)]))
    assert isinstance(topic, Family)
    labelled = {method.label: set(method.entries) for method in topic.methods}
    assert labelled == {"own": {0, 1}, "fixed · trained on sigma 0.1": {0, 1, 2}}


def test_the_tables_as_markdown_and_latex(made: Path, tmp_path: Path) -> None:
    runs = grid(made, tmp_path / "runs", {"good_net": 3.0, "fair": 2.0, "poor": -0.5})
    found = sheets_of(*runs, make_run(made / "sweep" / "unet-1", tmp_path / "other", "good_net", 1.0, digest="f" * 16))
    rows = [line for line in markdown(found).splitlines() if line.startswith("|")]
    assert rows[0] == "| configuration | PSNR (dB) ↑ at sigma 0.1 | PSNR (dB) ↑ at sigma 0.2 |"
    assert re.fullmatch(r"\| good\\_net \| \*\*1\d\.\d\d\*\* \| \*\*1\d\.\d\d\*\* \|", rows[3])
    assert re.fullmatch(r"\| fair( \| \*1[78]\.\d\d\*\\\*\\\*\\\*){2} \|", rows[4])
    text = latex(found)
    assert "\\usepackage{booktabs}" in text
    assert text.count("{") == text.count("}")
    for name in ("table", "tabular"):
        assert text.count(f"\\begin{{{name}") == text.count(f"\\end{{{name}") == 2
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert labels == [
        "tab:restoring-digits-01234567-under-noise-by-sigma",
        "tab:restoring-digits-ffffffff-under-noise-sigma-0-05-to-0-5",
    ]
    table = text.split("\\toprule\n")[1].split("    \\bottomrule")[0]
    assert r"    & \multicolumn{2}{c}{PSNR (dB) $\uparrow$ at sigma} \\" in table
    assert r"\cmidrule(lr){2-3}" in table
    lines = [re.sub(r"\\.", "", line).count("&") for line in table.splitlines() if line.endswith(r"\\")]
    assert lines == [1, 2, 2, 2, 2, 2]
    assert re.search(r"    good\\_net & \\textbf\{1\d\.\d\d\} & \\textbf\{1\d\.\d\d\} \\\\", table)
    assert re.search(r"    fair & \\underline\{1\d\.\d\d\}\{\*\}\{\*\}\{\*\} & ", table)
    assert re.search(r"    poor & 1\d\.\d\d\{\*\}\{\*\}\{\*\}\$\^\{\\dagger\}\$ & ", table)
    assert "loss" not in table
    caption = re.findall(r"\\caption\{(.*)\}", text)[0]
    assert (
        "The best is bold and the second underlined, each only where it is better than the next for certain" in caption
    )
    assert "not useful" in caption


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("  path: /a/train\n  test: /b/set12/", "set12"), ("  path: 'photos/**/*.jpg'", "photos"),
        ("  path: C:\\pictures\\mine", "mine"), ("  path: '*.png'", "digits"), ("", "digits"),
        ("  path: /sets/open/test", "open/test"), ("  path: test", "test"),
    ],
)  # fmt: skip
def test_data_sets_go_by_their_name_and_content(task: str, name: str, made: Path, tmp_path: Path) -> None:
    runs = []
    for digest in ("aaaaaaaa1", "bbbbbbbb2"):
        runs.append(make_run(made / "sweep" / "unet-1", tmp_path / digest, "unet", 1.0, digest=digest))
        config = (runs[-1] / "config.yaml").read_text()
        (runs[-1] / "config.yaml").write_text(re.sub(r"(?m)^task:\n", f"task:\n{task}\n".replace("\\", "\\\\"), config))
    assert [found.title for found in sheets_of(*runs)] == [
        f"Restoring {name} (aaaaaaaa) under noise (sigma 0.05 to 0.5)",
        f"Restoring {name} (bbbbbbbb) under noise (sigma 0.05 to 0.5)",
    ]


def test_the_same_images_in_another_folder_are_the_same_problem(made: Path, tmp_path: Path) -> None:
    runs = [make_run(made / "sweep" / "unet-1", tmp_path / net, net, 1.0) for net in ("one", "two")]
    text = (runs[1] / "config.yaml").read_text()
    (runs[1] / "config.yaml").write_text(text.replace("task:\n", "task:\n  path: /other/digits\n"))
    (problem,) = problems([Run(RunFolder(path), path.name) for path in runs])
    assert len(problem.entries) == 2
    assert problem.same_images
