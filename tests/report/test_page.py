"""What the page says, of real short runs and of copies with numbers that are known."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from conftest import ROOT
from report_runs import Text, change_json, copies

from recon import report
from recon.errors import InputError
from recon.report.effects import marginal
from recon.report.gather import Run, problems
from recon.report.html import Html, tag
from recon.runs import RunFolder, find


def page_of(what: str | list[Path], folder: Path, sweep: Path | None = None) -> str:
    return report.write(what, folder / "report.html", sweep).read_text()


def text_of(what: str | list[Path], folder: Path, sweep: Path | None = None) -> str:
    return Text(page_of(what, folder, sweep)).text


def test_markup_is_escaped_and_every_element_closed(made: Path, tmp_path: Path) -> None:
    assert tag("p", "<b>&", Html("<i></i>"), None, [1, "'"], title='"<') == (
        "<p title=\"&quot;&lt;\">&lt;b&gt;&amp;<i></i>1&#x27;</p>"
    )  # fmt: skip
    parsed = Text(page_of(str(made), tmp_path))
    assert parsed.depth == 0
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_page_summarises_what_there_is(made: Path, tmp_path: Path) -> None:
    text = text_of(str(made), tmp_path)
    # Two nets with two seeds and one evaluation again, its evaluation elsewhere; classifiers; the GAN; the VAE.
    assert "10 finished runs of 6 configurations in 5 problems" in text
    assert "1 did not finish" in text
    for title in ("Restoring digits under noise (sigma 0.05 to 0.5)", "Restoring digits under noise (sigma 0.3)",
                  "Recognising digits", "Generating digits", "Rebuilding digits"):  # fmt: skip
        assert title in text
    assert "the loss is not finite at step" in text
    assert "python run.py model=restoration" in text
    for section in ("Leaderboard", "Is the difference real?", "What each parameter does", "How they learned",
                    "What quality costs", "How they stand worse damage", "The same images through each model",
                    "The worst images", "Failed and missing", "Every run"):  # fmt: skip
        assert section in text


def test_the_page_is_whole_by_itself_and_asks_no_network(made: Path, tmp_path: Path) -> None:
    page = page_of(str(made), tmp_path)
    assert not re.search(r"""(src|href)=["'](?!data:image/png|#|report\.(md|tex)["'])""", page)
    assert "http" not in re.sub(r"http-equiv", "", page)
    policy = next(a["content"] for n, a in Text(page).tags if n == "meta" and a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert " style=" not in page


def test_the_leaderboard_tells_mean_and_interval_over_seeds(made: Path, tmp_path: Path) -> None:
    text = text_of(str(made / "sweep"), tmp_path)
    found = {}
    for net in ("unet", "cvanet"):
        values = [json.loads((made / "sweep" / f"{net}-{s}" / "metrics.json").read_text())["test/psnr"] for s in (1, 2)]
        half = float(scipy.stats.t.ppf(0.975, 1) * scipy.stats.sem(values))
        assert f"{np.mean(values):.2f} ± {half:.2f}" in text
        found[net] = np.mean(values)
    best = max(found, key=lambda net: found[net])
    low, high = (f"{value:.2f}".replace("-", "−") for value in estimate_of(made, best))
    assert f"Best of 2 configurations: {best} with PSNR {found[best]:.2f} dB (95 % interval {low} to {high}" in text


def estimate_of(made: Path, net: str) -> tuple[float, float]:
    values = [json.loads((made / "sweep" / f"{net}-{s}" / "metrics.json").read_text())["test/psnr"] for s in (1, 2)]
    low, high = scipy.stats.t.interval(0.95, 1, loc=np.mean(values), scale=scipy.stats.sem(values))
    return float(low), float(high)


def test_a_known_difference_is_told_in_words(made: Path, tmp_path: Path) -> None:
    list(copies(made / "sweep" / "unet-1", tmp_path / "runs", seeds=3, rates=3, shift=lambda rate: 0.5 * (rate == 1)))
    text = text_of(str(tmp_path / "runs"), tmp_path)
    assert "unet · lr 0.002 is better than 2 unet · lr" in text
    size = float(re.search(r"by (0\.\d\d) dB on the same 360 images", text)[1])  # type: ignore[index]
    assert size == pytest.approx(0.5, abs=0.06)
    assert "p < 0.001): this is no accident of the images, nor of the seeds (over seeds 0." in text
    assert "real for these seeds" not in text
    assert "cannot be told apart" in text  # the other two, in the table of all pairs
    assert "corrected by Holm's method for 3 comparisons" in text


def test_images_are_paired_by_their_index_whatever_the_order(made: Path, tmp_path: Path) -> None:
    runs = list(copies(made / "sweep" / "unet-1", tmp_path / "runs", seeds=1, rates=2, shift=lambda rate: 0.2 * rate))
    before = text_of(str(tmp_path / "runs"), tmp_path)
    with open(runs[0] / "per_image.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    with open(runs[0] / "per_image.csv", "w", newline="") as file:
        csv.writer(file).writerows([header, *reversed(rows)])
    assert text_of(str(tmp_path / "runs"), tmp_path) == before


def test_the_effect_of_a_parameter_counts_only_what_differs_in_nothing_else(made: Path, tmp_path: Path) -> None:
    list(copies(made / "sweep" / "unet-1", tmp_path / "u", seeds=2, rates=2, shift=lambda rate: 1.0 * rate))
    list(copies(made / "sweep" / "cvanet-1", tmp_path / "c", seeds=2, rates=3, shift=lambda rate: 1.0 * rate))
    runs = [Run(folder, folder.path.name) for folder in find(f"{tmp_path}/u,{tmp_path}/c")]
    (problem,) = problems(runs)
    assert set(problem.configurations[0].values) == {"model/net", "optimizer.lr"}
    rates, groups = marginal(problem, "optimizer.lr")
    assert groups == 4, "two nets and two seeds; the rate of 0.003 was tried with one of the nets only"
    assert [value for value, _ in rates] == ["0.001", "0.002", "0.003"]
    # The nets differ by more than the rates: a rate must not gain by the net that it was tried with.
    assert np.diff([e.mean for _, e in rates]) == pytest.approx([1, 1], abs=0.1)
    assert all(e.low is not None for _, e in rates), "both seeds tried all rates"
    nets, groups = marginal(problem, "model/net")
    assert groups == 4
    psnr = {
        net: np.mean(
            [json.loads(path.read_text())["test/psnr"] for path in tmp_path.glob(f"{net}/rate-[01]*/metrics.json")]
        )
        for net in "uc"
    }
    assert {value: e.mean for value, e in nets} == pytest.approx({"unet": psnr["u"], "cvanet": psnr["c"]})


def test_a_search_tells_the_effect_of_what_differs_alone_somewhere(made: Path, tmp_path: Path) -> None:
    rates = list(copies(made / "sweep" / "unet-1", tmp_path / "u", seeds=1, rates=3, shift=lambda rate: 1.0 * rate))
    others = copies(made / "sweep" / "cvanet-1", tmp_path / "c", seeds=1, rates=6, shift=lambda rate: 1.0 * rate)
    runs = [Run(RunFolder(path), path.name) for path in [*rates, *list(others)[4:]]]
    (problem,) = problems(runs)
    told, groups = marginal(problem, "optimizer.lr")
    assert groups == 1
    assert [value for value, _ in told] == ["0.001", "0.002", "0.003"], "no chain leads to the rates of the other net"
    assert np.diff([e.mean for _, e in told]) == pytest.approx([1, 1], abs=0.1)
    assert marginal(problem, "model/net") == ([], 0)
    text = text_of([run.folder.path for run in runs], tmp_path)
    assert "over 1 group of runs that differ in lr alone. 2 more values cannot be compared so." in text
    assert "No runs differ in net alone" in text


def test_numbers_made_in_another_way_are_never_in_one_column(some: Path, tmp_path: Path) -> None:
    shown = text_of(str(some), tmp_path)
    for place in ("unet-1", "unet-2"):
        change_json(some / place / "metrics.json", lambda content: content["convention"].update(ssim="another way"))
    text = text_of(str(some), tmp_path)
    assert shown.count("SSIM ↑") == 1
    assert len(re.findall(r"SSIM ↑\d", text)) == 2
    assert "SSIM: another way" in text
    # Where the main measure differs there is nothing to compare.
    for place in ("unet-1", "unet-2"):
        change_json(some / place / "metrics.json", lambda content: content["convention"].update(psnr="8-bit"))
    assert "in 2 problems" in text_of(str(some), tmp_path)


def test_other_images_or_other_damage_are_another_problem(some: Path, tmp_path: Path) -> None:
    lines = (some / "unet-1" / "per_image.csv").read_text().splitlines()
    (some / "unet-1" / "per_image.csv").write_text("\n".join(lines[:101]) + "\n")
    text = text_of(str(some), tmp_path)
    assert "in 2 problems" in text
    assert "100 images" in text


def test_a_repeated_run_does_not_count_as_a_seed(made: Path, tmp_path: Path) -> None:
    both = [made / "sweep" / "unet-1", made / "sweep" / "unet-2", made / "others" / "again"]
    runs = [Run(RunFolder(path), path.name) for path in both]
    (problem,) = problems(runs)
    (found,) = problem.configurations
    assert [run.name for run in found.runs] == ["unet-1", "unet-2"]
    assert [run.name for run in found.repeats] == ["again"]


def test_classes_are_compared_by_what_is_right(made: Path, tmp_path: Path) -> None:
    text = text_of(str(made / "classifiers"), tmp_path)
    values = [json.loads((made / "classifiers" / s / "metrics.json").read_text())["test/accuracy"] for s in "12"]
    assert f"accuracy {100 * np.mean(values):.2f} %" in text
    assert "wrong: it is" in text


def test_what_failed_and_what_a_sweep_misses_is_listed_with_its_reason(some: Path, tmp_path: Path) -> None:
    jobs = [
        {"number": 0, "name": "unet-1", "folder": "unet-1", "status": "ok", "overrides": ["seed=1"], "error": None},
        {"number": 1, "name": "big", "folder": "big", "status": "killed", "overrides": ["a=1"], "error": "signal 9"},
        {"number": 2, "name": "gone", "folder": "gone", "status": "ok", "overrides": ["b=1"], "error": None},
        {"number": 3, "name": "later", "folder": "later", "status": "waiting", "overrides": ["c=1"], "error": None},
        "no job",
    ]
    (some / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    change_json(some / "unet-2" / "environment.json", lambda content: content.update(status="running"))
    text = text_of(str(some), tmp_path, some)
    for told in ("big", "killed", "signal 9", "gone", "missing", "its folder is gone", "waiting", "it has not begun",
                 "lost", "no process is at work in its folder", "the loss is not finite"):  # fmt: skip
        assert told in text, told
    assert "5 did not finish" in text
    shutil.rmtree(some / "unet-1")
    assert "No finished run" not in text_of(str(some), tmp_path, some)
    assert "No finished run" in text_of([some / "failing"], tmp_path, some)


def test_what_a_sweep_found_done_elsewhere_counts(made: Path, some: Path, tmp_path: Path) -> None:
    jobs = [{"name": net, "folder": net, "status": "ok"} for net in ("unet-1", "unet-2", "cvanet-1")]
    jobs.append({"name": "cvanet-2", "folder": str(made / "sweep" / "cvanet-2"), "status": "ok"})
    (some / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    shutil.rmtree(some / "cvanet-2")
    shutil.rmtree(some / "failing")
    text = text_of(str(some), tmp_path, some)
    assert "4 finished runs of 2 configurations" in text
    assert "Failed and missing" not in text
    # A part of a sweep does not lack the rest of it.
    assert "Failed and missing" not in text_of(str(some / "unet-*"), tmp_path)


def test_the_page_is_the_same_but_for_times(some: Path, tmp_path: Path) -> None:
    first = page_of(str(some), tmp_path)
    assert page_of(str(some), tmp_path) == first
    expected = Text(first, timed=False).text
    for folder in some.iterdir():
        change_json(folder / "environment.json", lambda c: c.update(seconds=99.9, started="2031-01-01T00:00:00+0000"))
        if (folder / "metrics.json").exists():
            slower = {"train/seconds": 77.0, "cost/latency_ms": 1.5, "cost/megapixels_per_second": 9.0}
            change_json(folder / "metrics.json", lambda content, slower=slower: content.update(slower))
    second = page_of(str(some), tmp_path)
    assert second != first
    assert Text(second, timed=False).text == expected


def test_what_a_run_says_of_itself_is_text(some: Path, tmp_path: Path) -> None:
    evil = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&\ud800\x00"

    def spoil(content: dict[str, object]) -> None:
        content.update(
            error=evil, command=[evil], overrides=[evil, f"optimizer.{evil}=1"], git={"commit": evil}, code=evil
        )
        content.update(choices={"model/net": evil, "task": evil, "degradation": evil}, platform=evil, started=evil)
        content.update(packages={evil: evil}, gpus=[evil])

    for folder in some.iterdir():
        change_json(folder / "environment.json", spoil)
    change_json(
        some / "unet-1" / "metrics.json", lambda c: (c.update({f"test/{evil}": 1.0}), c["convention"].update(psnr=evil))
    )
    (some / "sweep.json").write_text(
        json.dumps({"jobs": [{"name": evil, "folder": evil, "status": evil, "error": evil}]})
    )
    os.rename(some / "unet-2", some / "unet-<script>2")
    parsed = Text(page_of(str(some), tmp_path))
    assert parsed.depth == 0
    names = [name for name, _ in parsed.tags]
    assert names.count("script") == 1
    assert not any(key.startswith("on") for _, attributes in parsed.tags for key in attributes)
    assert all(a["src"].startswith("data:") for n, a in parsed.tags if n == "img" and a["src"])
    assert "alert(1)" in parsed.text
    latex = (tmp_path / "report.tex").read_text(errors="replace")
    assert re.search(r"(?<!\\)[#&%_](?!\\)", re.sub(r" & |^%.*|\\textbackslash\{\}", "", latex, flags=re.M)) is None


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "torn", "binary", "other type", "deep", "not finite", "pickled"],
)
def test_a_damaged_run_folder_never_breaks_the_page(damage: str, some: Path, tmp_path: Path) -> None:
    place = some / "unet-1"
    files = [path for path in place.rglob("*") if path.is_file() and path.suffix != ".png"]
    assert len(files) >= 7
    for path in files:
        if damage == "missing":
            if path.name != "environment.json":  # without it nothing is a run folder
                path.unlink()
        elif damage == "not finite":
            if path.name == "metrics.json":
                change_json(
                    path, lambda c: c.update({"test/psnr": float("nan"), "test/ssim": float("inf"), "test/mse": 1e308})
                )
            elif path.suffix == ".csv":
                path.write_text(re.sub(r"\d+\.\d+", "nan", path.read_text()))
        elif damage == "pickled":
            if path.suffix == ".npz":
                np.savez(path, index=np.array([object()]), degraded=np.array([{}], dtype=object))
        else:
            content = path.read_bytes()
            replaced = {"empty": b"", "torn": content[: len(content) // 2], "binary": bytes(range(256)) * 9,
                        "other type": b"[[1, 2], null]", "deep": b"[" * 100_000}  # fmt: skip
            path.write_bytes(replaced[damage])
    parsed = Text(page_of(str(some), tmp_path))
    assert parsed.depth == 0
    assert "cvanet" in parsed.text
    if damage not in ("not finite", "pickled"):
        assert "Failed and missing" in parsed.text or damage == "missing"
    numbers = [
        value for _, a in parsed.tags for key, value in a.items() if key in ("cx", "cy", "d", "x1", "x2", "x", "y")
    ]
    assert not any("nan" in value or "inf" in value for value in numbers if value)


def test_no_run_and_one_run(some: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run folder"):
        page_of(str(tmp_path / "nothing"), tmp_path)
    assert "No finished run" in text_of([], tmp_path)
    text = text_of([some / "unet-1"], tmp_path)
    assert "1 finished run of 1 configuration." in text
    assert "one seed, so without an interval" in text
    assert "Is the difference real?" not in text


def test_the_leaderboard_as_markdown_and_latex(made: Path, tmp_path: Path) -> None:
    page_of(str(made / "sweep"), tmp_path)
    markdown, latex = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "tex"))
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert rows[0].startswith("| configuration | seeds | PSNR (dB) ↑ | SSIM ↑ |")
    assert len(rows) == 4
    assert len({line.count("|") for line in rows}) == 1
    bold = re.search(r"\*\*(\d+\.\d\d) ±", rows[2])
    assert bold, "the first row has the best PSNR"
    assert rf"\textbf{{{bold[1]} $\pm$" in latex
    for part in (r"\begin{tabular}{lrr", r"\toprule", r"\midrule", r"\bottomrule", r"\end{table}"):
        assert part in latex
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len({re.sub(r"\\.", "", line).count("&") for line in lines}) == 1


def test_two_hundred_runs_in_twenty_seconds_and_megabytes(made: Path, tmp_path: Path) -> None:
    runs = list(copies(made / "sweep" / "unet-1", tmp_path / "runs", seeds=4, rates=50, shift=lambda rate: 0.02 * rate))
    # The largest images that a run keeps, of noise, which no file format makes small.
    pixels = np.random.default_rng(0).integers(0, 256, (8, 128, 128, 3)).astype(np.uint8)
    large = tmp_path / "large.npz"
    np.savez(large, index=np.arange(8), degraded=pixels, clean=pixels, restored=pixels)
    for folder in runs:
        for name in ("samples", "worst"):
            (folder / "images" / f"{name}.npz").unlink()
            os.link(large, folder / "images" / f"{name}.npz")
    started = time.process_time()
    page = page_of(str(tmp_path / "runs"), tmp_path)
    assert time.process_time() - started < 20
    assert len(page) < 20e6
    assert "200 finished runs of 50 configurations" in Text(page).text


def test_the_report_and_the_list_need_no_torch(made: Path, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['run.py', *{0!r}]\n"
        "try: runpy.run_path('run.py', run_name='__main__')\n"
        "except SystemExit as exit_: assert not exit_.code, exit_.code\n"
        "found = {{'torch', 'lightning', 'wandb'}} & set(sys.modules); assert not found, found\n"
    )
    place = f"hydra.run.dir={tmp_path}/day/time_report"
    for words in (["action=report", f"runs={made / 'sweep'}"], ["action=list", f"runs={made}"]):
        done = subprocess.run([sys.executable, "-c", code.format([*words, place])], cwd=ROOT, check=False,
                              capture_output=True, text=True, timeout=60)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "day").exists(), "no run, no folder"
        if words[0] == "action=report":
            assert done.stdout == f"report: {made}/sweep/report.html\n"
            assert (made / "sweep" / "report.html").is_file()


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("sweep", "sweep"),
        ("**", "."),
        ("sweep/unet-*", "sweep"),
        ("sweep/unet-1,others/vae", "."),
        ("sweep/unet-1", "sweep/unet-1"),
    ],
)
def test_a_report_lies_where_its_runs_do(pattern: str, place: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon.actions.report import place_for

    monkeypatch.chdir(made)
    assert place_for(pattern).resolve() == (made / place / "report.html").resolve()
    whole = ",".join(str(made / part) for part in pattern.split(","))
    assert place_for(whole).resolve() == (made / place / "report.html").resolve()
