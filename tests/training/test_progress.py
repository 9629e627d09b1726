"""What a training prints while it runs: lines into a file or a pipe, a bar on a terminal, or nothing."""

import re

import pytest
from conftest import Typed
from lightning.pytorch.callbacks import RichProgressBar

from recon.training import progress, trainer

RUN = (
    "model=autoencoder", "trainer.max_epochs=3", "trainer.limit_train_batches=5", "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1", "accelerator=cpu", "logger=none",
)  # fmt: skip
LINE = re.compile(
    r"epoch (?P<epoch>\d)/3, step (?P<step>\d+)/15(: loss (?P<loss>\d\.\d+))?"
    r"([:,] val/mse (?P<value>\d\.\d+) \(best (?P<best>\d\.\d+)\))?([:,] (?P<left>\d+\.\d) s left)?"
)


def lines_of(typed: Typed, *arguments: str) -> list[re.Match[str]]:
    status, output, errors = typed(*RUN, *arguments)
    assert status == 0, errors
    lines = [line for line in output.splitlines() if line.startswith("epoch ")]
    found = [match for line in lines if (match := LINE.fullmatch(line))]
    assert len(found) == len(lines), "\n".join(lines)
    return found


def test_a_line_an_epoch_where_nobody_watches(typed: Typed) -> None:
    found = lines_of(typed)
    assert [(line["epoch"], line["step"]) for line in found] == [("1", "5"), ("2", "10"), ("3", "15")]
    values = [float(line["value"]) for line in found]
    assert [float(line["best"]) for line in found] == [min(values[: count + 1]) for count in range(3)]
    assert float(found[-1]["left"]) == 0


def test_lines_within_a_long_epoch(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    found = lines_of(typed, "trainer.log_every_n_steps=1")
    assert [line["step"] for line in found if line["epoch"] == "2"] == ["5", "6", "7", "8", "9", "10"]
    assert [bool(line["loss"]) for line in found[:3]] == [False, True, True]
    assert [bool(line["value"]) for line in found[:7]] == [False] * 5 + [True] * 2


def test_a_bar_on_a_terminal_and_nothing_where_none_is_wanted(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines_of(typed, "trainer.enable_progress_bar=false") == []
    monkeypatch.setattr(trainer, "is_watched", lambda: True)
    drawn = []
    begin = RichProgressBar.on_train_start
    monkeypatch.setattr(RichProgressBar, "on_train_start", lambda bar, *args: (drawn.append(bar), begin(bar, *args)))
    assert lines_of(typed) == []
    assert len(drawn) == 1
