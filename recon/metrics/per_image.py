"""What an evaluation comes to: a row of numbers for each image, the means over all, and which images they were."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from recon import keyed
from recon.measures import ROWS, Measure


@dataclass(frozen=True)
class Images:
    """The images of a test, with their labels.

    Attributes:
        digest: 16 hexadecimal digits, equal for equal pixels and labels in the same order.
        count: how many they are.
    """

    digest: str
    count: int


class PerImage:
    """Collect one row of numbers per image over an evaluation, and make the whole table on every rank.

    Distributed samplers repeat images to even out the ranks; rows with an `index` that is there already do not count.
    Ranks may hold different numbers of images, or none.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        self._batches: list[dict[str, Tensor]] = []

    def update(self, index: Tensor, columns: Mapping[str, Tensor], image: Tensor | None = None) -> None:
        """Add the rows of a batch.

        Args:
            index: (B,) int64, the images' indices in their split.
            columns: (B,) or (B,D) numbers by name, the same names in every call; stored as float32.
            image: (B,) int64 hashes of the images, in every call or in none.
        """
        before = self._batches[0].keys() - {"index", "image"} if self._batches else columns.keys()
        if columns.keys() != before:
            raise ValueError(f"every update needs the columns {', '.join(sorted(before))}, not {', '.join(columns)}")
        if any(column.shape[:1] != index.shape for column in columns.values()):
            raise ValueError("every column must be (B,) or (B,D) like index")
        numbers = {name: column.detach().float() for name, column in columns.items()}
        hashes = {} if image is None else {"image": image}
        self._batches.append({"index": index.detach(), **hashes, **numbers})

    def compute(self) -> dict[str, Tensor]:
        """Return the table, on the CPU: "index" (N,) int64, ascending without repeats, and float64 columns.

        Where the images were hashed there is also "image" (N,) int64.
        """
        mine = {name: torch.cat([batch[name] for batch in self._batches]).cpu() for name in self._names()}
        tables = [mine]
        if torch.distributed.is_initialized():
            tables = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(tables, mine)
        tables = [table for table in tables if table] or [{"index": torch.empty(0, dtype=torch.int64)}]
        if any(list(table) != list(tables[0]) for table in tables):
            raise ValueError("the ranks collected different columns, or the same ones in another order")
        whole = {name: torch.cat([table[name] for table in tables]) for name in tables[0]}
        index, order = whole["index"].sort(stable=True)
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]
        rows = {name: column[order[first]] for name, column in whole.items()}
        return {name: rows[name] if name in ("index", "image") else rows[name].double() for name in rows}

    def _names(self) -> list[str]:
        return list(self._batches[0]) if self._batches else []


def image_hashes(clean: Tensor, label: Tensor) -> Tensor:
    """Hash each image with its label, on its device: a number that any batch, precision or device gives alike.

    Args:
        clean: (B,C,H,W) float, 8-bit levels divided by 255.
        label: (B,) int64.

    Returns:
        (B,) int64.
    """
    levels = clean.float().mul(255).round().long().flatten(1)
    hashed = (levels * _multipliers(levels.shape[1], clean.device)).sum(1)
    return keyed.fold(hashed ^ keyed.keys(0, "label", 0, label), "×".join(map(str, clean.shape[1:])))


@lru_cache(maxsize=4)
def _multipliers(count: int, device: torch.device) -> Tensor:
    return keyed.keys(0, "pixel", 0, torch.arange(count, device=device))


def digest(image: Tensor) -> Images:
    """Sum up the hashes of images (N,) int64, in the order of their indices."""
    return Images(hashlib.sha256(image.numpy().astype("<i8").tobytes()).hexdigest()[:16], len(image))


def by_set(index: Tensor, sets: Mapping[str, int]) -> dict[str, slice]:
    """Return which rows of an evaluation are of each of several sets.

    A set of which no image was evaluated is left out.

    Args:
        index: (N,) int64, ascending.
        sets: how many images each set has, by name, in the order of their indices.
    """
    ends = np.searchsorted(index.numpy(), list(accumulate([0, *sets.values()]))).tolist()
    return {name: slice(*ends) for name, *ends in zip(sets, ends, ends[1:], strict=False) if ends[0] < ends[1]}


def not_finite(columns: Mapping[str, Tensor], rows: Mapping[str, Measure] = ROWS) -> Tensor:
    """Return (N,) bool: which images gave a result that is NaN or infinite where its measure does not allow that.

    Args:
        columns: the table of an evaluation, (N,) each; a "prediction" of -1 is none, as the scores were not finite.
        rows: the table of measures.
    """
    bad = torch.zeros(len(columns["index"]), dtype=torch.bool)
    for name, column in columns.items():
        row = rows.get(name)
        if name == "prediction":
            bad |= column < 0
        elif row is None or row.role != "about":
            wrong = column.isinf() if row is not None and row.partial else ~column.isfinite()
            bad |= wrong.flatten(1).any(1) if wrong.ndim > 1 else wrong
    return bad


def means(columns: Mapping[str, Tensor], rows: Mapping[str, Measure] = ROWS) -> dict[str, float]:
    """Average the columns over the images, in float64; one result that is not finite makes the mean so.

    A partial measure leaves out the images for which it is not defined; its mean is NaN where there are no others.
    Columns that describe the images have no mean.
    """
    bad, summary = not_finite(columns, rows), {}
    for name, column in columns.items():
        row = rows.get(name)
        if column.ndim == 1 and (row is None or row.role != "about"):
            counted = column[bad | ~column.isnan()] if row is not None and row.partial else column
            summary[name] = counted.double().mean().item()
    return summary


def worst_first(columns: Mapping[str, Tensor], badness: Tensor, rows: Mapping[str, Measure] = ROWS) -> Tensor:
    """Return the indices (K,) int64 of the images with the worst results, the worst first.

    Args:
        columns: the table of an evaluation; images whose result is not finite come before all others.
        badness: (N,), more is worse; images of NaN are left out.
        rows: the table of measures.
    """
    badness = badness.masked_fill(not_finite(columns, rows), math.inf)
    known = ~badness.isnan()
    order = badness[known].argsort(descending=True, stable=True)
    return columns["index"][known][order]
