"""Real runs for the report: short ones on digits, made in this process."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

import run
from recon import report

SHORT = (
    "trainer.limit_train_batches=3",
    "trainer.limit_val_batches=1",
    "logger=none",
    "trainer.enable_progress_bar=false",
    "accelerator=cpu",
)
BLIND = ("model=restoration", "degradation.sigma=[0.05,0.5]", "trainer.max_epochs=2", "scheduler=constant")


def carry_out(folder: Path, *arguments: str) -> int:
    """Do what a command line says, in this process."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(ROOT / "run.py"), *arguments, f"hydra.run.dir={folder}"])
        try:
            return run.main()
        except SystemExit as exit_:
            return int(exit_.code or 0)


def make(top: Path) -> None:
    for net in ("unet", "cvanet"):
        for seed in (1, 2):
            words = (*BLIND, f"model/net={net}", f"seed={seed}", *SHORT)
            assert carry_out(top / "sweep" / f"{net}-{seed}", *words) == 0
    failing = ("optimizer=sgd", "optimizer.lr=1e20", "model/net=cvanet")
    assert carry_out(top / "sweep" / "failing", *BLIND, *failing, *SHORT) == 2
    for seed in (1, 2):
        words = ("model=classifier", "trainer.max_epochs=2", f"seed={seed}", *SHORT)
        assert carry_out(top / "classifiers" / str(seed), *words) == 0
    judge = f"model.judge={top / 'classifiers' / '1'}"
    assert carry_out(top / "others" / "gan", "model=gan", "trainer.max_epochs=1", judge, *SHORT) == 0
    assert carry_out(top / "others" / "vae", "model=vae", "optimizer=adam", "trainer.max_epochs=1", *SHORT) == 0
    again = ("action=evaluate", f"run={top / 'sweep' / 'unet-1'}", *SHORT[1:])
    assert carry_out(top / "others" / "again", *again) == 0
    assert carry_out(top / "others" / "noisier", *again, "degradation.sigma=0.3") == 0
    for path in top.glob("*/*/checkpoints"):
        shutil.rmtree(path)


def change_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def copies(source: Path, target: Path, seeds: int, rates: int, shift: Callable[[int], float]) -> Iterator[Path]:
    """Copy a run with other learning rates and seeds: the numbers of rate k are higher by `shift(k)`."""
    draws = np.random.default_rng(0)
    for rate in range(rates):
        for seed in range(seeds):
            place = target / f"rate-{rate}_seed-{seed}"
            shutil.copytree(source, place)
            text = (place / "config.yaml").read_text()
            text = text.replace("seed: 1\n", f"seed: {seed}\n", 1)
            text = text.replace("  lr: 0.001\n", f"  lr: {(rate + 1) / 1000}\n")
            (place / "config.yaml").write_text(text)
            with open(place / "per_image.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                row["psnr"] = str(float(row["psnr"]) + shift(rate) + draws.normal(0, 0.3))
            with open(place / "per_image.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            mean = float(np.mean([float(row["psnr"]) for row in rows]))
            change_json(place / "metrics.json", lambda content, mean=mean: content.update({"test/psnr": mean}))
            yield place


def page_of(what: str | list[Path], folder: Path, sweep: Path | None = None) -> str:
    """Write a report into a folder and read it."""
    return report.write(what, folder / "report.html", sweep).read_text()


def text_of(what: str | list[Path], folder: Path, sweep: Path | None = None) -> str:
    """Write a report into a folder and read its text."""
    return Text(page_of(what, folder, sweep)).text


class Text(HTMLParser):
    """The text of a page, without what its elements of class "time" hold; and its tags."""

    def __init__(self, page: str, timed: bool = True) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.timed, self.depth, self.silent = timed, 0, 0
        self.feed(page)

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))
        if name in ("meta", "img", "input", "br"):
            return
        self.depth += 1
        classes = (dict(attributes).get("class") or "").split()
        if not self.silent and (("time" in classes and not self.timed) or name in ("style", "script")):
            self.silent = self.depth

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((name, dict(attributes)))

    def handle_endtag(self, name: str) -> None:
        if self.silent == self.depth:
            self.silent = 0
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))
