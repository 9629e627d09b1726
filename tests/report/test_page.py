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
from report_runs import Text, change_json, copies, page_of, text_of

from recon.errors import InputError
from recon.report.elements import Html, tag
from recon.report.gather import Run, problems
from recon.runs import RunFolder


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
    digest = json.loads((made / "sweep" / "unet-1" / "metrics.json").read_text())["images"]["digest"][:8]
    for title in (f"Restoring digits ({digest}) under noise (sigma 0.05 to 0.5)",
                  f"Restoring digits ({digest}) under noise (sigma 0.3)",
                  *(f"{what} digits ({digest})" for what in ("Recognising", "Generating", "Rebuilding"))):  # fmt: skip
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
    # Few steps of training make images worse than they were.
    assert "None of 2 configurations is better than the images as they were. The closest is" in text
    low, high = (f"{value:.2f}".replace("-", "−") for value in estimate_of(made, best))
    assert f"The closest is {best} with PSNR {found[best]:.2f} dB (95 % interval {low} to {high}" in text


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
    (found,) = problem.entries
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
                 "lost", "no process is running in its folder", "the loss is not finite"):  # fmt: skip
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


CODES = "\r\n\t\x0b\x0c\x1c\x85\u2028\u2029|`*_[x](y)&lt;$1$~#\\\\\\[2pt]\x00\x1b[2J\x7f\x9b1m\u202e\u2066"


def test_no_text_breaks_out_of_a_table(some: Path, tmp_path: Path) -> None:
    for net in ("unet", "cvanet"):
        for folder in some.glob(f"{net}-*"):
            choices = {"model/net": f"[{net}{CODES}", "task": CODES, "degradation": CODES}
            change_json(folder / "environment.json", lambda content, choices=choices: content.update(choices=choices))
    change_json(some / "unet-1" / "metrics.json", lambda content: content.update({f"test/{CODES}": 1.0}))
    page = page_of(str(some), tmp_path)
    assert not set("\x00\x0b\x0c\x1b\x1c\x7f\x85\x9b\u202e\u2066") & set(page)
    markdown, latex = ((tmp_path / f"report.{kind}").read_bytes().decode() for kind in ("md", "tex"))
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 5
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert not re.search(r"(?<!\\)[`~&$<\[]", markdown)
    assert len(markdown.splitlines()) == len(markdown.split("\n")) - 1
    body = latex.split("\\midrule\n")[1].split("    \\bottomrule")[0]
    before, *lines = body.splitlines()
    assert before.startswith("    before the model & ")
    assert len(lines) == 2
    assert all(line.endswith(r" \\") and line.startswith("    {[}") for line in lines)
    assert not set(latex) & set("\x00\x1b\r\t�")


def test_no_run_and_one_run(some: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run folder"):
        page_of(str(tmp_path / "nothing"), tmp_path)
    assert "No finished run" in text_of([], tmp_path)
    text = text_of([some / "unet-1"], tmp_path)
    assert "1 finished run of 1 configuration." in text
    assert "one seed, so without an interval" in text
    assert "Is the difference real?" not in text


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
