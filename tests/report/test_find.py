"""What `runs=` names: paths as they are, then globs; links and damage included."""

import os
from pathlib import Path

import pytest
from report_runs import carry_out

from recon.actions.report import place_for
from recon.errors import InputError
from recon.runs import find

FOLDERS = [
    "a/x", "a/.hidden/z", "a,b/x", "[b]/outputs/r", "p/[1-2]/r", "p/1/r", "two words/r", "q?/r", "größe/r", "-m/r",
    "~x/r", "deep/1/2/3/r", "loop/r", "out{1}/r", "it's/r", "a=b/r", "#1/r",
]  # fmt: skip


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = tmp_path / "top"
    for name in FOLDERS:
        (top / name).mkdir(parents=True)
        (top / name / "environment.json").write_text("{}")
    (top / "fifo").mkdir()
    os.mkfifo(top / "fifo" / "environment.json")
    for link, target in {"loop/up": "..", "loop/me": ".", "loop/self": "self", "link": "deep", "all": "/"}.items():
        (top / link).symlink_to(target)
    monkeypatch.chdir(top)
    monkeypatch.setenv("HOME", str(top / "a"))
    return top


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**", [*FOLDERS, "fifo"]), (".", [*FOLDERS, "fifo"]),
        ("**/r", [name for name in FOLDERS if name[-2:] == "/r"]),
        ("a", ["a/x", "a/.hidden/z"]), ("a/*", ["a/x"]), ("a/.h*", ["a/.hidden/z"]), ("./a//x/", ["a/x"]),
        ("a,b", ["a,b/x"]), ("a,b,deep", ["a,b/x", "deep/1/2/3/r"]),
        ("a, deep", ["a/x", "a/.hidden/z", "deep/1/2/3/r"]),
        ("a/x,a/x", ["a/x"]), ("a/x,", ["a/x"]), ("deep,a,b", ["a,b/x", "deep/1/2/3/r"]),
        ("[b]", ["[b]/outputs/r"]), ("[b]/outputs", ["[b]/outputs/r"]), ("[b]/**", ["[b]/outputs/r"]),
        ("[b]/o*/r", ["[b]/outputs/r"]), ("p/[1-2]", ["p/[1-2]/r"]), ("p/[1]", ["p/1/r"]),
        ("p/*", ["p/1/r", "p/[1-2]/r"]),
        ("two words", ["two words/r"]), (" two words ", ["two words/r"]), ("q?", ["q?/r"]), ("gr*", ["größe/r"]),
        ("-m", ["-m/r"]), ("~x", ["~x/r"]), ("~", ["a/x", "a/.hidden/z"]), ("~/x", ["a/x"]), ("~/*", ["a/x"]),
        ("out{1}", ["out{1}/r"]), ("it's", ["it's/r"]), ("a=b", ["a=b/r"]), ("#1", ["#1/r"]),
        ("loop", ["loop/r"]), ("loop/**", ["loop/r"]), ("link", ["link/1/2/3/r"]), ("link,deep", ["deep/1/2/3/r"]),
        ("fifo", ["fifo"]),
    ],
)  # fmt: skip
def test_a_pattern_names(pattern: str, expected: list[str], top: Path) -> None:
    (top / "all").unlink()
    found = [os.path.relpath(run.path, top) for run in find(pattern)]
    assert sorted(found) == sorted(expected)
    if pattern[0] not in " ~" and "," not in pattern:
        assert {run.path.resolve() for run in find(f"{top}/{pattern}")} == {(top / name).resolve() for name in expected}


@pytest.mark.timeout(20)
def test_a_link_to_what_lies_above_is_not_followed(top: Path) -> None:
    assert len(find("**")) == len(find(".")) == len(FOLDERS) + 1
    assert [str(run.path) for run in find("**/3/**")] == ["deep/1/2/3/r"]


@pytest.mark.parametrize(
    "pattern", ["nope", "a,nope", "[z]", "[b", "a\0b", "x" * 5000, "nope/**", "a/*/*/*", "~nobody/x"]
)
def test_what_names_nothing_is_told(pattern: str, top: Path) -> None:
    with pytest.raises(InputError, match=r"^runs: .* holds no run folder; give a run folder"):
        find(pattern)


@pytest.mark.parametrize("pattern", ["", " ", ",", " , "])
def test_an_empty_pattern_is_told(pattern: str, top: Path) -> None:
    with pytest.raises(InputError, match=r"^runs: it names no folder; give a run folder"):
        find(pattern)


@pytest.mark.parametrize(
    ("pattern", "place"),
    [("a,b", "a,b"), ("[b]", "[b]"), ("[b]/**", "[b]"), ("p/[1]", "p"), ("~", "a"), ("a,deep", "."), ("p/*,p/1", "p"),
     ("two words", "two words")],
)  # fmt: skip
def test_a_report_lies_where_the_pattern_begins(pattern: str, place: str, top: Path) -> None:
    assert place_for(pattern).resolve() == (top / place / "report.html").resolve()


@pytest.mark.parametrize(
    "words", [["runs=[a,b]"], ["runs=null"], ["list.sort=null"], ["list.sort=[a]"], ["list.filter=5"]]
)
def test_a_value_of_another_type_is_told(words: list[str], top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert carry_out(top / "x", "action=list", *words) == 2
    (sentence,) = capfd.readouterr().err.splitlines()
    assert sentence.startswith(f"error: {words[0].split('=')[0]}")
