"""What an evaluation comes to: a row of numbers for each image, the means over all, and which images they were."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

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


class PerImage(Metric):
    """Collects one row of numbers per image over an evaluation and gives the whole table on every rank.

    Distributed samplers repeat images to even out the ranks; rows are told apart by `index`, so repeats do not count.
    Ranks may hold different numbers of images, or none.
    """

    full_state_update = False
    is_differentiable = False

    # One-dimensional states, because a rank without images knows neither the number of columns nor their names.
    index: list[Tensor]
    values: list[Tensor]
    header: list[Tensor]
    image: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("index", "values", "header", "image"):
            self.add_state(state, default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._names: tuple[str, ...] | None = None
        # torchmetrics gathers a float32 tensor for an empty list, which does not fit the other ranks' types.
        self.index.append(torch.empty(0, dtype=torch.int64, device=self.device))
        self.values.append(torch.empty(0, dtype=torch.float32, device=self.device))
        self.header.append(torch.empty(0, dtype=torch.uint8, device=self.device))
        self.image.append(torch.empty(0, dtype=torch.int64, device=self.device))

    def update(self, index: Tensor, columns: Mapping[str, Tensor], image: Tensor | None = None) -> None:
        """Add the rows of a batch.

        Args:
            index: (B,) int64, the images' places in their split.
            columns: (B,) numbers by name, the same names in every call; kept as float32.
            image: (B,) int64 hashes of the images, in every call or in none.
        """
        if self._names is None:
            self._names = tuple(columns)
            self.header.append(torch.tensor([*"\n".join(columns).encode(), 0], dtype=torch.uint8, device=self.device))
        if set(columns) != set(self._names):
            raise ValueError(f"every update needs the columns {', '.join(self._names)}, not {', '.join(columns)}")
        if any(column.shape != index.shape for column in columns.values()):
            raise ValueError("every column must be (B,) like index")
        self.index.append(index.detach())
        self.values.append(torch.stack([columns[name].detach().float() for name in self._names], dim=1).flatten())
        if image is not None:
            self.image.append(image)

    def compute(self) -> dict[str, Tensor]:
        """Give the table, on the CPU: "index" (N,) int64, ascending without repeats, and (N,) float64 columns.

        Where the images were hashed there is also "image" (N,) int64.
        """
        index = dim_zero_cat(self.index).cpu()
        values = dim_zero_cat(self.values).cpu().double()
        headers = set(bytes(dim_zero_cat(self.header).tolist()).split(b"\0")[:-1])
        index, order = index.sort(stable=True)
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]
        table = {"index": index[first]}
        image = dim_zero_cat(self.image).cpu()
        if len(image):
            table["image"] = image[order[first]]
        if len(headers) > 1:
            raise ValueError("the ranks collected different columns, or the same ones in another order")
        for header in headers:
            rows = values.view(len(index), -1)[order[first]]
            table.update(zip(header.decode().split("\n"), rows.unbind(1), strict=True))
        return table

    def _wrap_compute(self, compute: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
        """Undo what torchmetrics does to every tensor of one element: it makes a table of one image scalars."""
        wrapped = super()._wrap_compute(compute)
        return lambda: {name: column.reshape(-1) for name, column in wrapped().items()}


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
            bad |= column.isinf() if row is not None and row.partial else ~column.isfinite()
    return bad


def means(columns: Mapping[str, Tensor], rows: Mapping[str, Measure] = ROWS) -> dict[str, float]:
    """Average the columns over the images, in float64; one result that is not finite makes the mean so.

    A partial measure leaves out the images for which it is not defined; its mean is NaN where there are no others.
    Columns that describe the images have no mean.
    """
    bad, summary = not_finite(columns, rows), {}
    for name, column in columns.items():
        row = rows.get(name)
        if row is None or row.role != "about":
            counted = column[bad | ~column.isnan()] if row is not None and row.partial else column
            summary[name] = counted.double().mean().item()
    return summary


def worst_first(columns: Mapping[str, Tensor], name: str, mode: str, rows: Mapping[str, Measure] = ROWS) -> Tensor:
    """Return the indices (K,) int64 of the images with the worst results, the worst first.

    Those whose result is not finite come before all others. A classifier's are the wrongly predicted images, by their
    loss.

    Args:
        columns: the table of an evaluation.
        name: the measure to sort by; without its column there are no such images.
        mode: which way is better, "min" or "max".
        rows: the table of measures.
    """
    if "prediction" in columns:
        badness = columns["loss"].where(columns["prediction"] != columns["label"], math.nan)
    elif name in columns:
        badness = columns[name] if mode == "min" else -columns[name]
    else:
        return torch.empty(0, dtype=torch.int64)
    badness = badness.masked_fill(not_finite(columns, rows), math.inf)
    known = ~badness.isnan()
    order = badness[known].argsort(descending=True, stable=True)
    return columns["index"][known][order]
