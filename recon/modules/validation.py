"""What a validation must have measured, as it selects the weights, and what the first measures for all."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from recon.errors import InputError
from recon.measures import Measure


class MeasuredInput:
    """The measures of the degraded validation images themselves, which the first validation takes.

    Attributes:
        columns: (N,) each, None before.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Tensor] | None = None

    def joined(self, results: dict[str, Tensor], rows: Mapping[str, Measure]) -> dict[str, Tensor]:
        """Return the table of a validation with them last; they are kept from the first and added to each later one."""
        if self.columns is None:
            known = [name for name, row in rows.items() if row.input and row.role in ("baseline", "other")]
            self.columns = {name: results[name] for name in ("index", *known) if name in results}
        if not torch.equal(self.columns["index"], results["index"]):
            return results
        return {name: column for name, column in results.items() if name not in self.columns} | self.columns


def require_a_validation(summary: Mapping[str, float], count: int, monitor: str | None) -> None:
    """Raise InputError where no image of a validation gave a number.

    Args:
        summary: its metrics by name, such as "val/psnr".
        count: how many images it had.
        monitor: the metric that selects the best weights, or None.
    """
    bad = int(summary.get("val/not_finite", 0))
    if count == bad:
        raise InputError(
            f"model: all {count} validation images gave a result that is not finite; lower optimizer.lr, or set "
            "trainer.precision=32-true (checkpoints written before are kept)"
        )
    if not bad and monitor is not None and math.isnan(summary[monitor]):
        raise InputError(
            f"degradation: {monitor.partition('/')[2]} is defined for none of the {count} validation images, so that "
            "nothing tells which weights are best; choose a degradation that makes holes in them"
        )
