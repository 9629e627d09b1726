"""What a restored image gained over the degraded one, for the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recon.measures import Measure
from recon.report.inference import Array, mean_interval

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

    def verdict(self) -> str | None:
        """Say in a sentence that the model is no better than its input; None where it is better."""
        row, gain = self.row, (self.after - self.before) * self.row.better
        reached = f"{row.label} {row.text(self.after, unit=True)}"
        if gain <= 0:
            below = row.text(-gain, unit=True, like=self.after)
            return f"{reached} is {below} worse than that of the degraded images: this model is not useful"
        if self.interval is not None and self.interval[0] <= 0 <= self.interval[1]:
            return f"{reached} may be no better than that of the degraded images: the gain is within chance"
        return None


def gains(columns: Mapping[str, Array], rows: Mapping[str, Measure]) -> list[Gain]:
    """Return what each measure with a baseline gained, in the order of the table of measures.

    Args:
        columns: a value for each image by measure, (images,); NaN where it is not defined.
        rows: the table of measures.

    Returns:
        The gains; none where no image was damaged.
    """
    if (columns.get("psnr_degraded", np.zeros(1)) >= _UNDAMAGED).all():
        return []
    found = []
    for name, row in rows.items():
        if row.before is None or name not in columns or row.before not in columns:
            continue
        both = np.stack([columns[row.before], columns[name]]).astype(np.float64)
        before, after = both[:, np.isfinite(both).all(0)]
        if len(before) == 0:
            continue
        difference = after - before
        interval = None
        if len(before) > 1:
            low, high = mean_interval(difference)
            interval = float(low), float(high)
        found.append(Gain(row, float(before.mean()), float(after.mean()), interval, len(before)))
    return found


def _signed(row: Measure, value: float) -> str:
    return f"+{row.text(value)}" if value > 0 else row.text(value)
