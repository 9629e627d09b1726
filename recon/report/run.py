"""One run as the report reads it: what it was to do, its numbers, tables and pictures.

All of it was written by runs that may be damaged or a stranger's: what is missing, torn or of another kind reads as
nothing, and why is noted.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.measures import measure
from recon.report import labels
from recon.report.faults import faults, reason, sentences
from recon.runs import RunFolder
from recon.runs.reading import Unreadable, read_bytes, read_text

# Keys that runs of one configuration may differ in, beside those that cannot change a result.
_NOT_COMPARED = ("seed", "action", "run", "runs", "resume", "list", "data", "logger", "sweep", "checkpoint", "recipe")
# Columns of `per_image.csv` that say what an image is, or follow from others.
_ABOUT_AN_IMAGE = ("index", "severity", "label", "accuracy")
_KIND_OF = {
    "ClassificationModule": "recognise",
    "GANModule": "generate",
    **dict.fromkeys(("RestorationModule", "InpaintingModule", "AutoencodingModule", "VAEModule"), "restore"),
}
_TABLE = 256 << 20  # bytes of a table: a million images
_ARRAYS = 256 << 20  # bytes of unpacked arrays


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
            found = RunFolder(Path(source))
            if found.config:
                return found
        return self.folder

    @property
    def evaluates(self) -> bool:
        """Is it an evaluation of another run's weights?"""
        return self.folder.config.get("action") == "evaluate"

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
        """What it was tested in: "recognise", "restore", "generate", or None where it has no such numbers."""
        if not self.tested:
            return None
        target = str(labels.part(self.trained.config, "model").get("_target_")).rsplit(".", 1)[-1]
        measured = {*self.tested, *self.folder.convention, *self.images}  # a number that is NaN may be left out
        by_measure = "recognise" if "accuracy" in measured else "restore" if "psnr" in measured else "generate"
        return _KIND_OF.get(target, by_measure)

    @cached_property
    def flaw(self) -> str | None:
        """Why its results are no results: how many images, or which number, is not finite; None where all are."""
        wrong_in = [
            column < 0 if name == "prediction" else ~np.isfinite(column) & ~(np.isnan(column) & measure(name).partial)
            for name, column in self.images.items()
            if name not in _ABOUT_AN_IMAGE
        ]
        counted = float(np.logical_or.reduce(wrong_in).sum()) if wrong_in else 0.0
        count = self.tested.get("not_finite", counted)
        if count:
            of = f" of {len(self.images['index']):,}" if self.images else ""
            return f"its values are not finite on {measure('not_finite').text(count)}{of} test images"
        wrong = [name for name, value in self.tested.items() if not math.isfinite(value) and not measure(name).partial]
        return f"test/{wrong[0]} is not finite" if wrong else None

    @property
    def is_sound(self) -> bool:
        """Did it end well, with results that are all finite?"""
        return self.folder.status == "ok" and self.kind is not None and self.flaw is None

    @cached_property
    def images(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `per_image.csv` in order of "index"; for classes also "accuracy", 1 where seen rightly."""
        return self._read(_images, "per_image.csv")

    @cached_property
    def epochs(self) -> dict[str, NDArray[np.float64]]:
        """The columns of `metrics.csv`; what is missing is NaN."""
        return self._read(_table, "metrics.csv")

    def pictures(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of `images/<name>.npz`: "index" (N,), every other (N,H,W,C) uint8."""
        return self._read(_arrays, f"images/{name}.npz")

    def _read(self, how: Callable[[Path], dict[str, NDArray[Any]]], name: str) -> dict[str, NDArray[Any]]:
        """Read arrays of a file; none where it is missing, or damaged, which is noted."""
        path = self.folder.path / name
        if not os.path.lexists(path):
            return {}
        try:
            return how(path)
        except (OSError, Unreadable) as error:
            self._damaged[name] = reason(error)
            return {}

    @property
    def faults(self) -> list[str]:
        """What of its record could not be read so far, and why: a sentence each."""
        return sentences({**faults(self.folder), **self._damaged})

    def convention(self, name: str) -> str:
        """How it computed a metric, in words."""
        return self.folder.convention.get(name, "")

    def environment(self, key: str) -> Any:
        """What `environment.json` says under a key, or None."""
        return self.folder.environment.get(key)

    @property
    def seconds(self) -> float:
        """How long it took, or NaN."""
        return float(self.environment("seconds") or math.nan)

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The keys of its configuration, as far as runs of one configuration agree in them."""
        flat = labels.flat({key: value for key, value in self.trained.config.items() if key not in _NOT_COMPARED})
        flat.pop("trainer.enable_progress_bar", None)
        return flat

    @cached_property
    def key(self) -> str:
        """Equal for runs of one configuration."""
        return json.dumps(self.flat, sort_keys=True, default=str)

    @property
    def seed(self) -> str:
        """Its seed."""
        return str(self.trained.config.get("seed"))


def _images(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a table with a row for each image, in order of "index". Raises OSError or Unreadable."""
    table = _table(path)
    index = table.get("index")
    if index is None or not np.isfinite(index).all() or len(np.unique(index)) != len(index):
        raise Unreadable("its index does not tell the images apart")
    order = np.argsort(index, kind="stable")
    table = {name: column[order] for name, column in table.items()}
    if "prediction" in table and "label" in table:
        known = (table["prediction"] >= 0) & (table["label"] >= 0)  # -1 is none
        table["accuracy"] = np.where(known, table["prediction"] == table["label"], np.nan)
    return table


def _table(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read a table of numbers with a header, by columns; empty cells are NaN. Raises OSError or Unreadable."""
    header, _, body = read_text(path, _TABLE).replace("\r\n", "\n").partition("\n")
    names = header.split(",")
    if not body.strip():
        raise Unreadable("it holds no rows")
    if ",," in body or ",\n" in body or "\n," in body or body[0] == ",":
        body = re.sub(r"(?m)(?<![^,\n])(?=,|$)", "nan", body.rstrip("\n"))
    try:
        rows = np.loadtxt(body.splitlines(), delimiter=",", ndmin=2, comments=None)
    except ValueError as error:
        raise Unreadable("it is no table of numbers") from error
    if rows.shape[1] != len(names):
        raise Unreadable("its rows do not fit its header")
    return {name: rows[:, column] for column, name in enumerate(names)}


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read images of a .npz: "index" (N,), every other (N,H,W,C) uint8. Raises OSError or Unreadable."""
    try:
        # A few bytes may claim to unpack to any size.
        with zipfile.ZipFile(io.BytesIO(read_bytes(path))) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _ARRAYS or len(archive.infolist()) > 100:
                raise Unreadable(f"it unpacks to more than {_ARRAYS >> 20} MB")
            found = {entry.removesuffix(".npy"): _array(archive.read(entry)) for entry in archive.namelist()}
    except (OSError, Unreadable):
        raise
    except Exception as error:  # a zip file has a dozen ways to be damaged
        raise Unreadable("it is no archive of arrays") from error
    index = found.get("index")
    if index is None or index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise Unreadable("it does not tell which images it holds")
    good = {
        name: pixels
        for name, pixels in found.items()
        if name != "index" and pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[-1] in (1, 3)
        and len(pixels) == len(index) and min(pixels.shape[1:3]) > 0 and max(pixels.shape[1:3]) <= 4096
    }  # fmt: skip
    if not good:
        raise Unreadable("it holds no images")
    return {"index": index, **good}


def _array(data: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return array
