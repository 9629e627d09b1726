"""What a restored image gained over the degraded one, for the end of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recon.measures import Measure, headline, measure
from recon.report.inference import Array, mean_interval
from recon.runs import RunFolder

BEFORE = "before the model"  # the row of the degraded images in a table
USELESS = "not useful"  # how the remark ends on a model that is no better than its input
_UNDAMAGED = 100.0  # dB, the PSNR of a degraded image that equals the clean one


@dataclass(frozen=True)
class Gain:
    """A measure before and after a model: means over the images for which it is defined.

    Attributes:
        row: the measure.
        before: of the degraded images.
        after: of the restored ones.
        interval: the 95 % interval of the mean difference over the images; None for a single image.
        images: how many images.
    """

    row: Measure
    before: float
    after: float
    interval: tuple[float, float] | None
    images: int

    def texts(self) -> tuple[str, str, str, str]:
        """Write label, before, after, and the gain with its interval."""
        row = self.row
        label = f"{row.label}, {row.unit}" if row.unit else row.label
        gain = _signed(row, self.after - self.before)
        if self.interval is not None:
            gain += f" [{', '.join(_signed(row, bound) for bound in self.interval)}]"
        return label, row.text(self.before), row.text(self.after), gain

    @property
    def useless(self) -> bool:
        """Whether the model is no better than its input, by the means."""
        return self.row.better * (self.after - self.before) <= 0

    def remark(self) -> str | None:
        """Say in a clause how a model stands that is no better than its input; None where it is better."""
        row, than = self.row, input_of(self.row)
        if self.useless:
            distance = row.text(abs(self.after - self.before), like=self.after)
            side = "below" if row.better > 0 else "above"
            return (
                f"{distance} {side} {than}: {USELESS}" if distance.strip("0.") else f"no better than {than}: {USELESS}"
            )
        if self.interval is not None and self.interval[0] <= 0 <= self.interval[1]:
            return f"cannot be told apart from {than}: its gain is within chance"
        return None

    def verdict(self) -> str | None:
        """Say that the model is no better than its input; None where it is better."""
        remark = self.remark()
        return remark and f"{self.row.label} {self.row.text(self.after, unit=True)}, {remark}"


def input_of(row: Measure) -> str:
    """Name what a measure's baseline is of."""
    name = row.before or ""
    return "the images as they were" if name.endswith("_degraded") else f"the {measure(name).label}"


def damaged(psnr_degraded: float) -> bool:
    """Whether images with such a PSNR before the model differ from the clean ones."""
    return not psnr_degraded >= _UNDAMAGED


def gain(row: Measure, before: Array, after: Array) -> Gain | None:
    """Return what a measure gained; None where no image has a value both before and after, (images,) each."""
    both = np.stack([before, after]).astype(np.float64)
    before, after = both[:, np.isfinite(both).all(0)]
    if len(before) == 0:
        return None
    interval = None
    if len(before) > 1:
        low, high = mean_interval(after - before)
        interval = float(low), float(high)
    return Gain(row, float(before.mean()), float(after.mean()), interval, len(before))


def gains(columns: Mapping[str, Array], rows: Mapping[str, Measure]) -> list[Gain]:
    """Return what each measure with a baseline gained, in the order of the table of measures.

    Args:
        columns: a value for each image by measure, (images,); NaN where it is not defined.
        rows: the table of measures.

    Returns:
        The gains; none where no image was damaged.
    """
    if not damaged(columns.get("psnr_degraded", np.zeros(1)).min()):
        return []
    pairs = [(row, columns[row.before], columns[name]) for name, row in rows.items()
             if row.before in columns and name in columns and row.before]  # fmt: skip
    return [found for row, before, after in pairs if (found := gain(row, before, after))]


def verdict_of(run: RunFolder) -> str | None:
    """Say that a run is no better than its input by the means of its test; None where it is, or has no such input."""
    tested = run.by_set()[0].metrics
    if not damaged(tested.get("test/psnr_degraded", 0.0)):
        return None
    for row in headline(run.measures):
        before, after = (tested.get(f"test/{name}", math.nan) for name in (row.before, row.name))
        if math.isfinite(before) and math.isfinite(after):
            found = Gain(row, before, after, None, 0)
            return found.verdict() if found.useless else None
    return None


def _signed(row: Measure, value: float) -> str:
    return f"+{row.text(value)}" if value > 0 else row.text(value)
