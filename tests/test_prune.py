"""`action=prune` and `checkpoint.keep=best`: what frees the disk, and what that never takes."""

import io
import json
import shutil
from pathlib import Path

import pytest
from conftest import QUICK, Typed

from recon import runs
from recon.runs.files import disk_use, in_words

BEST, LAST = "best.ckpt", "last.ckpt"


@pytest.fixture
def three(typed: Typed) -> Path:
    """Three runs below outputs/: one that has ended, one that was interrupted, one that failed."""
    words = ("model=autoencoder", "trainer.max_epochs=2", "scheduler=constant", *QUICK)
    top = Path("outputs/2026-01-01")
    assert typed(*words, f"hydra.run.dir={top}/10-00-00-000001_ended")[0] == 0
    for name, status in (("interrupted", "interrupted"), ("failed", "failed")):
        shutil.copytree(top / "10-00-00-000001_ended", top / f"10-00-00-000002_{name}")
        record = top / f"10-00-00-000002_{name}" / "environment.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "status": status}))
    (top / "notes.txt").write_text("of the user")
    return top


def left(top: Path) -> dict[str, set[str]]:
    """The checkpoints that each run still has."""
    return {
        folder.name.rpartition("_")[2]: {path.name for path in folder.glob("checkpoints/*")}
        for folder in top.iterdir()
        if folder.is_dir()
    }


def test_it_frees_what_the_filter_names_after_asking(
    three: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    prune = ("action=prune", "prune.filter=task:digits")
    everything = {BEST, LAST}
    whole = disk_use(three)
    assert typed.refused("action=prune").startswith("error: prune.filter: say which runs, such as prune.filter=")
    assert "prune.filter: digits is no condition" in typed.refused("action=prune", "prune.filter=digits")
    assert "prune.what: all is none of resume|weights|runs" in typed.refused(*prune, "prune.what=all")
    assert "prune.ask: nobody can be asked here" in typed.refused(*prune)
    assert left(three) == dict.fromkeys(("ended", "interrupted", "failed"), everything)

    terminal = io.StringIO("no\nyes\n")  # then its end
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    assert typed(*prune)[0] == 0
    assert left(three)["ended"] == everything, "the answer was no"
    status, output, _ = typed(*prune)
    assert status == 0
    assert "checkpoints of 1 of 3 runs that the filter names" in output
    assert left(three) == {"ended": {BEST}, "interrupted": everything, "failed": everything}
    assert output.endswith(f"? [y/N] {in_words(whole - disk_use(three))} freed\n")
    assert "kept its best weights alone" in typed.refused("resume=_ended", "trainer.max_epochs=4")

    assert typed("action=prune", "prune.filter=status:failed", "prune.what=weights", "prune.ask=false")[0] == 0
    assert left(three) == {"ended": {BEST}, "interrupted": everything, "failed": set()}
    assert typed("action=prune", "prune.filter=status:failed", "prune.what=runs", "prune.ask=false")[0] == 0
    assert set(left(three)) == {"ended", "interrupted"}
    with runs.locked(three / "10-00-00-000002_interrupted"):
        record = three / "10-00-00-000002_interrupted" / "environment.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "status": "running"}))
        assert typed(*prune, "prune.what=runs", "prune.ask=false")[0] == 0
    assert set(left(three)) == {"interrupted"}, "a run that runs stays"
    assert (three / "notes.txt").read_text() == "of the user"


def test_whole_folders_go_below_outputs_alone(three: Path, typed: Typed) -> None:
    three.rename("elsewhere")
    (Path("outputs") / "linked").symlink_to(Path("elsewhere/10-00-00-000001_ended").absolute())
    (Path("outputs") / "day").symlink_to(Path("elsewhere").absolute())
    shutil.copytree("elsewhere/10-00-00-000001_ended", "outputs/around")
    shutil.copytree("elsewhere/10-00-00-000001_ended", "outputs/around/inner/own")
    for pattern in ("elsewhere", "outputs/linked", "outputs/day", "outputs/around,elsewhere"):
        words = ("action=prune", f"runs='{pattern}'", "prune.filter=task:digits", "prune.what=runs", "prune.ask=false")
        assert typed(*words)[0] == 0
    assert set(left(Path("elsewhere"))) == {"ended", "interrupted", "failed"}
    assert Path("outputs/around/config.yaml").exists(), "another run lies in it"
    assert not Path("outputs/around/inner/own").exists()


def test_a_run_keeps_its_best_weights_alone(typed: Typed) -> None:
    words = (
        "model=autoencoder",
        "scheduler=constant",
        "checkpoint.keep=best",
        "trainer.max_epochs=2",
        "hydra.run.dir=run",
        *QUICK,
    )
    assert typed(*words)[0] == 0
    assert [path.name for path in Path("run/checkpoints").iterdir()] == [BEST]
    sentence = typed.refused("resume=run", "trainer.max_epochs=4")
    assert "has ended and kept its best weights alone; start a new run with init_from=" in sentence
    assert typed("action=evaluate", "run=run", "trainer.limit_test_batches=1", "logger=none")[0] == 0
    assert "checkpoint.keep: " in typed.refused(*words[:1], "checkpoint.keep=none", "hydra.run.dir=other")


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (999_499, "999 kB"), (999_999, "1 MB"), (55_400, "55.4 kB"),
     (2_000_000_000, "2 GB"), (999_900_000_000, "1 TB"), (5 * 10**15, "5e+03 TB")],
)  # fmt: skip
def test_a_size_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
