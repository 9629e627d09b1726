"""`action=list`: the runs on the terminal."""

import re
import shutil
from pathlib import Path

import pytest
from report_runs import carry_out, change_json

from recon import runs
from recon.errors import InputError
from recon.report.listing import print_runs

COLUMNS = [
    "folder", "status", "model", "net", "task", "degradation", "metric", "value", "epochs", "seconds", "started",
]  # fmt: skip


def listed(
    capsys: pytest.CaptureFixture[str], pattern: Path, sort: str = "folder", filter: str | list[str] | None = None
) -> list[list[str]]:
    print_runs(str(pattern), sort, filter, COLUMNS)
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{len(rows)} of ")
    return [row.split() for row in rows]


def test_every_run_has_a_line(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = listed(capsys, made)
    assert len(rows) == 11
    (gan,) = [row for row in rows if row[0].endswith("gan")]
    assert gan[1:7] == ["ok", "gan", "dcgan", "digits", "none", "test/recognised"]
    assert gan[8] == "1"
    (failing,) = [row for row in rows if row[0].endswith("failing")]
    assert failing[1] == "failed"


def test_runs_are_sorted(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [float(row[7]) for row in listed(capsys, made, "test/psnr", "model:restoration") if row[1] == "ok"]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)
    values = [float(row[7]) for row in listed(capsys, made, "-test/psnr", "model:restoration") if row[1] == "ok"]
    assert values == sorted(values)
    rates = [row[-1] for row in listed(capsys, made / "sweep", "optimizer.lr")]
    assert rates == ["0.001"] * 4 + ["1e+20"]
    names = [row[0] for row in listed(capsys, made / "sweep", "-folder")]
    assert names == sorted(names, reverse=True)


@pytest.mark.parametrize(
    ("condition", "count"),
    [("model:gan", 1), ("model=gan", 1), ("status:failed", 1), (["model/net:unet", "seed:1"], 3),
     ("optimizer.lr:1e-3", 4), ("folder:sweep", 5), ("nothing:1", 0)],
)  # fmt: skip
def test_runs_are_filtered(
    condition: str | list[str], count: int, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = listed(capsys, made, filter=condition)
    if condition == "optimizer.lr:1e-3":
        count = sum("failing" not in row[0] and "gan" not in row[0] for row in listed(capsys, made))
    assert len(found) == count


def test_a_condition_that_is_none_is_told(made: Path) -> None:
    with pytest.raises(InputError, match=r"list\.filter: gan is no condition"):
        print_runs(str(made), "folder", "gan", COLUMNS)


def test_what_a_run_says_of_itself_cannot_command_the_terminal(some: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07[bold]unet[/bold]\x1b[2J"
    change_json(
        some / "unet-1" / "environment.json", lambda c: c.update(choices={"model": evil, "task": 3}, seconds="x")
    )
    print_runs(str(some), "folder", None, COLUMNS)
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "[bold]unet[/bold]" in output


def test_a_run_is_summed_up_by_a_measure_that_says_something(some: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_json(some / "unet-1" / "metrics.json", lambda content: content.update({"test/psnr_hole": None}))
    change_json(some / "unet-2" / "metrics.json", lambda content: content.update({"test/psnr": None}))
    (one,) = listed(capsys, some, filter="folder:unet-1")
    assert one[6] == "test/psnr", "no image of it has a hole"
    (other,) = listed(capsys, some, filter="folder:unet-2")
    assert other[6:8] == ["test/psnr", "nan"]


def test_it_is_typed(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("action=list", f"runs={made}", "list.sort=test/psnr", "list.filter=[model:restoration,status:ok]")
    assert carry_out(tmp_path / "x", *words) == 0
    assert "6 of 11 runs" in capsys.readouterr().out


def test_a_line_fits_a_narrow_terminal_with_a_name_that_can_be_copied(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for time in ("10-00-00-000001", "11-30-00-000002"):
        shutil.copytree(made, tmp_path / "outputs" / "2026-01-01" / f"{time}_sweep")
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "80", "TTY_COMPATIBLE": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    shown = ["run", "net", "damage", "task", "result", "age"]
    print_runs("outputs/**", "started", None, shown)
    heading, *lines, last = capsys.readouterr().out.splitlines()
    assert heading.split() == shown
    assert re.fullmatch(r"22 of 22 runs, [\d.]+ MB", last)
    assert len(lines) == 22, "nothing is wrapped"
    assert max(map(len, lines)) <= 80
    paths = [str(record.parent) for record in Path("outputs").rglob("environment.json")]
    for line in lines:
        assert len(runs.called(line.split()[0], map(Path, paths))) == 1, line
    assert sum("failed" in line.split() for line in lines) == 2


def test_the_shortest_name_that_tells_a_run_from_the_others(
    some: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(some.parent)
    (some / "unet-1").rename(some / "10-00-00-000001_restoration_digits")
    print_runs("sweep", "folder", "folder:restoration", ["run", "damage", "age"])
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["restoration_digits", "noise", "0.05"]
    runs_ = ["outputs/2026-01-01/10-00-00-000001_restoration_unet_noise0.05_digits",
             "outputs/2026-01-01/10-00-00-000002_restoration_unet_noise0.05_digits",
             "outputs/2026-01-01/10-00-00-000003_sweep/1_seed-1_model.net.depth-17",
             "outputs/2026-01-01/10-00-00-000004_sweep/11_seed-1_model.net.depth-17"]  # fmt: skip
    short = [runs.short_name(path, runs_, 24) for path in runs_]
    assert short == ["000001", "000002", "000003_sweep/1_", "000004_sweep/11_"]
    assert [runs.called(name, map(Path, runs_)) for name in short] == [[Path(path)] for path in runs_]
