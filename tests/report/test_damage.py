"""Damaged and hostile records: each costs a line in the list and in the report, never the whole."""

import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import Text, change_json, page_of

from recon import report
from recon.report.listing import print_runs

Damage = Callable[[Path], Any]


def text(content: str | bytes) -> Damage:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def entries(**entries: Any) -> Damage:
    """Change entries of a JSON file; "__" in a name stands for "/"."""
    return lambda path: change_json(
        path, lambda content: content.update({key.replace("__", "/"): value for key, value in entries.items()})
    )


def added(lines: str) -> Damage:
    return lambda path: path.write_text(f"{path.read_text()}\n{lines}\n")


def replaced(old: str, new: str) -> Damage:
    return lambda path: path.write_text(path.read_text().replace(old, new))


def column(name: str, value: str) -> Damage:
    """Change a column of a table."""

    def change(path: Path) -> None:
        header, *rows = path.read_text().splitlines()
        place = header.split(",").index(name)
        cells = [row.split(",") for row in rows]
        changed = [",".join([*row[:place], value, *row[place + 1 :]]) for row in cells]
        path.write_text("\n".join([header, *changed]) + "\n")

    return change


def link(target: str) -> Damage:
    """Put a link there; to itself where the target is empty."""

    def change(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target or path.name)

    return change


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def sparse(path: Path) -> None:
    os.truncate(path, 1 << 40)


def torn_after_a_line(path: Path) -> None:
    """Of YAML the rest is whole."""
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"\n", 0, len(content) // 2) + 1])


def torn(path: Path) -> None:
    """Keep the first half, or of a table a little less: up to the middle of a row."""
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half[: half.rindex(b",")] if path.suffix == ".csv" else half)


def arrays(**found: Any) -> Damage:
    return lambda path: np.savez(path, **found)


def bomb(path: Path) -> None:
    """Put zeros into an archive that unpack to a thousand times its size."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("clean.npy", "w") as entry,
    ):
        for _ in range(300):
            entry.write(bytes(1 << 20))


def claims(path: Path) -> None:
    """An array whose header claims a terabyte."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (4, 1 << 19, 1 << 19, 1)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clean.npy", buffer.getvalue() + bytes(1000))


DEEP = "[" * 100_000
LAUGHS = "\n".join([f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9) if k else 'lol'}]" for k in range(12)])
PIXELS = np.zeros((2, 8, 8, 1), np.uint8)
JOBS = [
    5,
    {"folder": "\0", "status": [1], "overrides": 5, "name": {}, "error": {}},
    {"folder": "x" * 5000, "status": "ok"},
    {"folder": [], "status": "ok"},
]
ANY: dict[str, Damage] = {
    "FIFO": fifo, "folder": folder, "link to itself": link(""), "dangling link": link("gone"), "sparse": sparse,
    "device": link("/dev/zero"), "empty": text(""), "binary": text(bytes(range(256))), "zeros": text(bytes(5000)),
    "UTF-16": text("a: 1".encode("utf-16")),
}  # fmt: skip
JSON: dict[str, Damage] = {
    "torn": torn, "list": text("[[1, 2], null]"), "null": text("null"), "deep": text(DEEP), "word": text('"x"'),
}  # fmt: skip
# What an action has written into a run folder, beside its record.
WRITTEN = {name: damage for name, damage in ANY.items() if name != "sparse"}
CURVE = "method,severity,psnr\n"
SHRUNK = "net,form,parameters,bytes,multiply_adds,ms_1,ms_64,measure,quality\n"
LISTED = ("environment.json", "metrics.json", "config.yaml")  # what the list reads
# What costs a line, for each file.
UNREADABLE: dict[str, dict[str, Damage]] = {
    "environment.json": ANY | JSON,
    "metrics.json": ANY | JSON,
    "config.yaml": {
        **ANY, "list": text("[1, 2]"), "keys": text("1: 2\n[a]: 3\n"), "open": text("a: [1"),
        "deep": text(f"a: {DEEP}"), "tag": text("a: !!python/object/apply:os.system [ls]"),
        "recursive": text("a: &a {b: *a}"), "laughs": text(LAUGHS), "huge number": text(f"seed: {'9' * 5000}"),
    },
    "per_image.csv": {
        **ANY, "torn": torn, "header": text("index,psnr\n"), "words": column("psnr", "much"),
        "no index": replaced("index", "place"), "same index": column("index", "3"), "NaN": column("index", "nan"),
        "infinite": column("index", "inf"), "wide": text(f"index,psnr\n0,{'1' * 5_000_000}x\n"),
        "columns": text("index" + ",a" * 100_000 + "\n1,2\n"),
    },
    "metrics.csv": {**ANY, "torn": torn, "words": column("epoch", "first")},
    "images/samples.npz": {
        **ANY, "torn": torn, "bomb": bomb, "claims": claims, "pickled": arrays(index=np.array([object()])),
        "floats": arrays(index=np.arange(2.0), clean=PIXELS), "no index": arrays(clean=PIXELS),
        "count": arrays(index=np.arange(3), clean=PIXELS), "type": arrays(index=np.arange(2), clean=PIXELS / 2),
        "sides": arrays(index=np.arange(2), clean=PIXELS[:, :0], restored=np.zeros((2, 5000, 1, 1), np.uint8)),
    },
    "curve_noise.csv": {
        **WRITTEN, "header": text(CURVE), "words": text(f"{CURVE}a,0,x\n"), "falling": text(f"{CURVE}a,1,9\na,0,8\n"),
        "uneven": text(f"{CURVE}a,0,9\na,1,8\nb,0,9\n"), "torn": text(f"{CURVE}a,0,9\na,1\n"),
        "no measure": text("method,severity,accuracy\na,0,9\n"), "more": text(f"{CURVE}a,0,9,5\n"),
        "no levels": text(f"{CURVE}a,nan,9\n"),
    },
    "explain_all.csv": {**WRITTEN, "header": text("method,deletion\n"), "words": text("method,deletion\na,b\n")},
    "explain_all.png": {**WRITTEN, "GIF": text(b"GIF89a\1\0\1\0\0\0\0;"), "torn": text(b"\x89PNG\r\n\x1a\n")},
    "shrunk.csv": {**WRITTEN, "header": text(SHRUNK), "words": text(f"{SHRUNK}a,b,c,1,1,1,1,psnr,9\n")},
    "../sweep.json": {
        "list": text("[1]"), "deep": text(DEEP), "FIFO": fifo, "device": link("/dev/zero"), "link to itself": link(""),
    },
}  # fmt: skip
# What can be read and is odd: it counts as far as it makes sense.
ODD: dict[str, dict[str, Damage]] = {
    "environment.json": {
        "seconds": entries(seconds=10**400), "status": entries(status=["ok"]), "choices": entries(choices=[1, 2]),
        "nested": entries(choices={"model": {"a": 1}, "task": 5}), "threads": entries(threads="abc"),
        "all": entries(**dict.fromkeys(("git", "gpus", "packages", "command", "overrides", "started", "error"), 7)),
        "inner": entries(git={"commit": [[1]]}, gpus=[{}, None], packages={"a": [1]}, command=[{}], cores="x"),
        "long": entries(error="x" * 3_000_000, overrides=["y" * 3_000_000], choices={"model/net": "z" * 3_000_000}),
    },
    "config.yaml": {
        "number": added(f"extra: [1, {'9' * 4000}]"), "range": replaced("sigma:\n  - 0.05", f"sigma:\n  - {'9' * 400}"),
        "nested": added(f"extra: {'[' * 200}{']' * 200}"), "long": added(f"extra: {'x' * 500_000}"),
        "types": text("model: null\ntask: x\ndegradation: [1]\nseed: {a: 1}"), "torn": torn_after_a_line,
        "run": added("action: evaluate\nrun: [1]"), "itself": added("action: evaluate\nrun: ."),
        "path": added(f"action: evaluate\nrun: {'x' * 5000}"), "code": added("action: evaluate\nrun: \"a\\0b\""),
    },
    "metrics.json": {
        "digits": entries(test__psnr=10**400), "types": entries(test__psnr="x", test__ssim=[1], test__mse=True),
        "null": entries(test__psnr=None, test__ssim=float("inf")), "convention": entries(convention=[1], images=5),
        "names": entries(test__="1", test__a__b=1.0, cost__=2.0, train__seconds=-1e308, **{"test/\x1b[2J|\r\n": 1.0}),
        "images": entries(images={"digest": [1], "count": "x"}), "large": entries(test__psnr=1e308, cost__latency_ms=0),
        "many": entries(**{f"test__{k}": 1.0 for k in range(300)}),
    },
    "per_image.csv": {
        "range": column("psnr", "1e999"), "blank": column("psnr", ""), "severity": column("severity", "inf"),
        "twice": replaced("ssim", "psnr"), "large": column("severity", "1e308"),
    },
    "metrics.csv": {
        "epoch": column("epoch", "1e300"), "infinite": column("epoch", "-inf"), "large": column("val/psnr", "1e308"),
    },
    "images/samples.npz": {
        "names": arrays(index=np.arange(-2, 0), clean=PIXELS, **{"<b>": PIXELS}),
        "sizes": arrays(index=np.arange(2), clean=PIXELS, restored=PIXELS[:, 1:], mask=PIXELS[..., :1][:, :, 1:]),
        "titles": arrays(index=np.arange(2), clean=PIXELS, title=np.array([["\x1b[2J"]])),
        "window": arrays(index=np.arange(2), clean=PIXELS, whole=PIXELS, window=np.full((2, 6), 1 << 60)),
        "out": arrays(index=np.arange(2), clean=PIXELS, whole=PIXELS, window=np.array([[0, 0, 9, 9, 1 << 19, 9]] * 2)),
        "code": arrays(index=np.arange(2), clean=PIXELS, degraded=PIXELS, mask=PIXELS, title=np.array(["\x1b[2J"] * 2)),
    },
    "curve_noise.csv": {
        "infinite": text(f"{CURVE[:-1]},psnr_low,psnr_high\na,0,inf,-inf,nan\na,1,1e308,1e308,1e308\n"),
        "one": text(f"{CURVE}\x1b[2J<b>,0.5,20\n"),
        "other": text(f"{CURVE[:-1]},p,difference\na,0,9,,\na,1,8,0.1,\n"),
    },
    "explain_all.csv": {"other": text("method,deletion,images\n\x1b[2J<b>,nan,1e308\n")},
    "shrunk.csv": {
        "infinite": text(f"{SHRUNK}original,torch,1,inf,nan,0,-1,psnr,nan\nshrunk,\x1b[2J,1e308,1e308,0,9,0,psnr,9\n"),
        "other": text(f"{SHRUNK}x,y,1,1,1,1,1,psnr,1\n"),
        "measure": text(f"{SHRUNK}shrunk,torch,1,1,1,1,1,accuracy,1\n"),
    },
    "run.lock": {"FIFO": fifo, "folder": folder, "link to itself": link(""), "device": link("/dev/zero")},
    "progress.json": {"words": text('{"epoch": "x", "max_epochs": []}'), "FIFO": fifo, "deep": text(DEEP)},
    "../sweep.json": {
        "words": text('{"jobs": "x"}'), "jobs": text(json.dumps({"jobs": JOBS})),
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def two(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs to be copied."""
    top = tmp_path_factory.mktemp("two")
    for name in ("unet-1", "cvanet-1"):
        shutil.copytree(made / "sweep" / name, top / name, ignore=shutil.ignore_patterns("*.png", "worst.npz"))
    return top


def shown(top: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What the list and the page say of two runs of which one is damaged; the other is there in both."""
    print_runs(str(top), "folder", None, ["folder", "status", "damage", "metric", "value", "result", "age"])
    listed = capsys.readouterr().out
    assert "2 of 2 runs" in listed
    parsed = Text(report.write(str(top), top.parent / "report.html").read_text())
    assert parsed.depth == 0
    assert re.search("cvanet( with PSNR| is better| and)|than [12] cvanet", parsed.text)
    for suffix in (".md", ".tex"):
        assert "cvanet" in (top.parent / "report.html").with_suffix(suffix).read_text()
    assert "\x1b" not in listed + parsed.text
    assert len(listed) < 10_000
    assert len(parsed.text) < 60_000
    numbers = [value for _, a in parsed.tags for key, value in a.items() if key in ("cx", "cy", "d", "x", "y")]
    assert not any("nan" in value or "inf" in value for value in numbers if value)
    return listed, parsed.text


def cases(of: dict[str, dict[str, Damage]]) -> list[tuple[str, str]]:
    return [(name, kind) for name, kinds in of.items() for kind in kinds]


@pytest.fixture
def copied(two: Path, tmp_path: Path) -> Path:
    shutil.copytree(two, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "kind"), cases(UNREADABLE))
def test_a_file_that_cannot_be_read_costs_a_line(
    name: str, kind: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    UNREADABLE[name][kind](copied / "unet-1" / name)
    listed, page = shown(copied, capsys)
    whose = "runs" if name.startswith("..") else "unet-1"
    assert page.count(f"{whose}: {Path(name).name if whose == 'runs' else name} cannot be read: ") == 1
    lines = [line for line in listed.splitlines() if "cannot be read" in line]
    assert [f"unet-1: {name} cannot be read: " in line for line in lines] == [True] * (name in LISTED)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "kind"), cases(ODD))
def test_what_is_odd_in_a_file_counts_as_not_said(
    name: str, kind: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ODD[name][kind](copied / "unet-1" / name)
    if name == "progress.json":
        change_json(copied / "unet-1" / "environment.json", lambda content: content.update(status="running"))
    listed, page = shown(copied, capsys)
    assert "cannot be read: " not in listed + page


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
