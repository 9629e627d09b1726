"""One run as the report reads it: its configuration, numbers, tables and pictures.

Run folders may be damaged or untrusted: what is missing, torn or of another kind reads as empty, with a note why.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from recon.measures import ROWS, measure
from recon.report import arrays, results
from recon.report.faults import faults, reason, sentences
from recon.runs import RunFolder, action_of
from recon.runs.fingerprint import chosen_by_budget
from recon.runs.reading import Unreadable, read_text

# Keys that runs of one entry may differ in, beside those that cannot change a result.
_NOT_COMPARED = ("seed", "action", "run", "runs", "resume", "list", "data", "logger", "sweep", "checkpoint",
                 "recipe", "expected", "protocol")  # fmt: skip
T = TypeVar("T")
# Keys of action=shrink that a method does not use.
_UNUSED = {"prune": ("max_loss",), "quantise": ("keep",), "distil": ("keep", "max_loss")}
# A column that `_images` adds to those of `per_image.csv`.
_DERIVED = "accuracy"
_TABLE = 256 << 20  # bytes of a table: a million images


class Run:
    """One run, read when asked.

    Args:
        folder: where it lies.
        name: how it is called on the page.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self.folder, self.name = folder, name
        self._damaged: dict[str, str] = {}

    @cached_property
    def trained(self) -> RunFolder:
        """The run whose weights these are: an evaluation's own where it can still be read, else this one."""
        source = self.folder.config.get("run")
        if self.evaluates and isinstance(source, str):
            folder = RunFolder(Path(source))
            if folder.config:
                return folder
        return self.folder

    @property
    def evaluates(self) -> bool:
        """Whether it evaluates another run's weights."""
        return action_of(self.folder.config) == "evaluate"

    @property
    def metrics(self) -> dict[str, float]:
        """The final numbers; NaN where one is not finite."""
        return self.folder.metrics

    @cached_property
    def tested(self) -> dict[str, float]:
        """The numbers of the test by their names without the split; NaN where one is not finite."""
        return {name[5:]: value for name, value in self.metrics.items() if name.startswith("test/")}

    @property
    def kind(self) -> str | None:
        """What it was tested in: "recognise", "restore", "generate", or None where it has no numbers of a test.

        Where the run does not record it, as before recon did, its measures tell.
        """
        if not self.tested:
            return None
        measured = {*self.tested, *self.folder.convention, *self.images}  # a number that is NaN may be left out
        guesses = (row.kind for name, row in ROWS.items() if row.kind and name in measured)
        return self.folder.kind or self.trained.kind or next(guesses, "generate")

    @cached_property
    def flaw(self) -> str | None:
        """How many images, or which number, is not finite, as its results then do not count; None where all are."""
        bad = np.zeros(len(self.images.get("index", ())), dtype=bool)
        for name, column in self.images.items():
            row = self.folder.measure(name)
            if name == "prediction":
                bad |= column < 0
            elif name != _DERIVED and row.role != "about":
                bad |= np.isinf(column) if row.partial else ~np.isfinite(column)
        if count := self.tested.get("not_finite", float(bad.sum())):
            of = f" of {len(bad):,}" if self.images else ""
            return f"its values are not finite on {measure('not_finite').text(count)}{of} test images"
        for name, value in self.tested.items():
            if not math.isfinite(value) and not self.folder.measure(name).partial:
                return f"test/{name} is not finite"
        return None

    @property
    def is_sound(self) -> bool:
        """Whether it ended well, with results that are all finite."""
        return self.folder.status == "ok" and self.kind is not None and self.flaw is None

    @cached_property
    def images(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `per_image.csv` in order of "index"; for classes also "accuracy", 1 where right."""
        table, rows = self._whole
        if self.folder.test_set and table:
            table = {name: column[rows] for name, column in table.items()}
            table["index"] = table["index"] - table["index"][0]
        return table

    @cached_property
    def _whole(self) -> tuple[dict[str, NDArray[np.float64]], slice]:
        """The whole of `per_image.csv`, and which of its rows are of the test set: the sets come in order."""
        table, own = self._read(_images, "per_image.csv"), self.folder.test_set
        counts = {name: count for name, (_, count) in self.folder.sets.items()}
        if not own or not table:
            return table, slice(None)
        if sum(counts.values()) != len(table["index"]):
            self._damaged["per_image.csv"] = "its rows do not fit the sets of metrics.json"
            return {}, slice(0)
        start = sum(list(counts.values())[: list(counts).index(own)])
        return table, slice(start, start + counts[own])

    @cached_property
    def epochs(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `metrics.csv`; what is missing is NaN."""
        return self._read(_table, "metrics.csv")

    @cached_property
    def health(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `health.csv`, of adversarial trainings."""
        return self._read(_table, "health.csv")

    @cached_property
    def returns(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `health_events.csv`, where a training returned to where it was healthy."""
        return self._read(_table, "health_events.csv")

    @cached_property
    def rates(self) -> dict[str, NDArray[Any]]:
        """The columns of `rates.csv`, of codecs: "method" and "setting" are texts."""
        numbers = ("images", "bits_per_pixel_alone", "bits_per_pixel_together", "psnr", "ssim")
        return self._read(lambda path: results.named(path, ("method", "setting"), numbers), "rates.csv")

    @cached_property
    def rates_compared(self) -> dict[str, NDArray[Any]]:
        """The columns of `rates_compared.csv`, of codecs."""
        texts = ("rival", "files", "measure")
        return self._read(lambda path: results.named(path, texts, ("value", "low", "high")), "rates_compared.csv")

    @cached_property
    def shrunk(self) -> dict[str, NDArray[Any]]:
        """The columns of `shrunk.csv`, of shrunk models: "net", "form" and "measure" are texts."""
        numbers = ("parameters", "bytes", "multiply_adds", "ms_1", "ms_64", "quality")
        return self._read(lambda path: results.named(path, ("net", "form", "measure"), numbers), "shrunk.csv")

    @cached_property
    def damage(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The curves of `curve_<damage>.csv`, by damage: "method" is a text, and there is one of `damage_measures`."""
        found = {name: self._read(lambda path: results.curve(path, self.damage_measures), f"curve_{name}.csv")
                 for name in self._named_by("curve_*.csv") if not name.endswith(("_by_kind", "_by_class"))}  # fmt: skip
        return {name: table for name, table in found.items() if table}

    @property
    def damage_measures(self) -> tuple[str, ...]:
        """What is drawn of a curve."""
        return ("accuracy", "ece") if self.kind == "recognise" else ("psnr", "ssim")

    def damage_by(self, part: str, name: str) -> list[dict[str, str]]:
        """Return the rows of `curve_<damage>_by_<part>.csv`, of "kind" or "class"; none where there are none."""
        read = self._read(lambda path: {"rows": results.texts(path)}, f"curve_{name}_by_{part}.csv")
        return list(read.get("rows", []))

    @cached_property
    def checks(self) -> dict[str, dict[str, float]]:
        """The checks of `explain_<method>.csv`, by method."""
        found: dict[str, dict[str, float]] = {}
        for name in self._named_by("explain_*.csv"):
            found |= self._read(results.checks, f"explain_{name}.csv")
        return found

    @cached_property
    def anomalies(self) -> dict[str, NDArray[Any]]:
        """The columns of `anomalies.csv`: "score", "against" and "measure" are texts."""
        texts = ("score", "against", "measure")
        return self._read(lambda path: results.named(path, texts, ("value", "low", "high")), "anomalies.csv")

    def has_drawn(self, what: str) -> bool:
        """Return whether an action has left files `<what>_<name>.*`, among which `drawn` finds pictures."""
        return bool(self._named_by(f"{what}_*"))

    def drawn(self, what: str) -> dict[str, NDArray[np.uint8]]:
        """Return the pictures (H,W,3) of `<what>_<name>.png`, "explain", "anomaly" or "generated", by name."""
        read = {name: self._read(lambda path: {"": arrays.picture(path)}, f"{what}_{name}.png")
                for name in self._named_by(f"{what}_*.png")}  # fmt: skip
        return {name: found[""] for name, found in read.items() if found}

    def _named_by(self, pattern: str) -> list[str]:
        """List what stands for the star in the names of files of its folder."""
        start, end = pattern.split("*")
        try:
            names = sorted(os.listdir(self.folder.path))
        except OSError:
            return []
        found = (name for name in names if name.startswith(start) and name.endswith(end))
        return [name[len(start) : len(name) - len(end)] for name in found if len(name) > len(start) + len(end)]

    @cached_property
    def map(self) -> dict[str, NDArray[Any]]:
        """The map of codes of `map.npz`: "index", "image", "label" and planes (N,2) by their names."""
        return self._read(arrays.map_of_codes, "map.npz")

    def pictures(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of `images/<name>.npz`, see `recon.runs.tiles`; those of its test set, where it has several."""
        found, (table, rows) = self._read(arrays.images, f"images/{name}.npz"), self._whole
        if not self.folder.test_set or not found or not table:
            return found
        index = table["index"][rows]
        mine = np.isin(found["index"], index)
        found = {key: array[mine] for key, array in found.items()} if mine.any() else {}
        return {key: array - int(index[0]) if key == "index" else array for key, array in found.items()}

    def _read(self, reader: Callable[[Path], dict[str, T]], name: str) -> dict[str, T]:
        """Read parts of a file by their names; none where it is missing, or damaged, which becomes a fault."""
        path = self.folder.path / name
        if not os.path.lexists(path):
            return {}
        try:
            return reader(path)
        except (OSError, Unreadable) as error:
            self._damaged[name] = reason(error)
            return {}

    @property
    def faults(self) -> list[str]:
        """What of its record could not be read so far, a sentence each."""
        return sentences({**faults(self.folder), **self._damaged})

    def convention(self, name: str) -> str:
        """Return how it computed a metric, or "" where it is not recorded."""
        return self.folder.convention.get(name, "")

    def environment(self, key: str) -> Any:
        """Return an entry of `environment.json`, or None."""
        return self.folder.environment.get(key)

    @property
    def seconds(self) -> float:
        """How long it took, or NaN."""
        return float(self.environment("seconds") or math.nan)

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The keys of its configuration that all runs of one entry agree in."""
        flat = flattened({key: value for key, value in self.trained.config.items() if key not in _NOT_COMPARED})
        unused = _UNUSED.get(str(flat.get("method")), ()) if action_of(self.trained.config) == "shrink" else ()
        for key in ("trainer.enable_progress_bar", *chosen_by_budget(self.trained.config), *unused):
            flat.pop(key, None)
        if flat.get("task.test") is not None:  # where it is null, the test images are cut from those to train on
            flat["task.test"] = "given"
        return flat

    @cached_property
    def key(self) -> str:
        """Equal for the runs of one entry."""
        return json.dumps(self.flat, sort_keys=True, default=str)

    @property
    def seed(self) -> str:
        """Its seed."""
        return str(self.trained.config.get("seed"))


def part(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a group of a configuration; empty where there is none."""
    group = config.get(key)
    return {str(name): value for name, value in group.items()} if isinstance(group, dict) else {}


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested keys with points; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _images(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a table with a row for each image, in order of "index". Raises OSError or Unreadable."""
    table = _table(path)
    index = table.get("index")
    if index is None or not np.isfinite(index).all() or len(np.unique(index)) != len(index):
        raise Unreadable("its index does not tell the images apart")
    order = np.argsort(index, kind="stable")
    table = {name: column[order] for name, column in table.items()}
    if "prediction" in table and "label" in table:
        labelled = (table["prediction"] >= 0) & (table["label"] >= 0)  # -1 is none
        table[_DERIVED] = np.where(labelled, table["prediction"] == table["label"], np.nan)
    return table


def _table(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the columns of a table of numbers; empty cells are NaN; last columns "set" and "file" are left out.

    Raises OSError or Unreadable.
    """
    header, _, body = read_text(path, _TABLE).replace("\r\n", "\n").partition("\n")
    names = header.removesuffix(",file").removesuffix(",set").split(",")
    numbers = range(len(names)) if len(names) <= header.count(",") else None
    if not body.strip():
        raise Unreadable("it holds no rows")
    if ",," in body or ",\n" in body or "\n," in body or body[0] == ",":
        body = re.sub(r"(?m)(?<![^,\n])(?=,|$)", "nan", body.rstrip("\n"))
    try:
        rows = np.loadtxt(body.splitlines(), delimiter=",", ndmin=2, comments=None, quotechar='"', usecols=numbers)
    except ValueError as error:
        raise Unreadable("it is no table of numbers") from error
    if rows.shape[1] != len(names):
        raise Unreadable("its rows do not fit its header")
    return {name: rows[:, column] for column, name in enumerate(names)}
