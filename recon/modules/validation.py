"""What a validation must have measured, as it selects the weights."""

import math
from collections.abc import Mapping

from recon.errors import InputError


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
