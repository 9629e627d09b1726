"""How long the forms of a net take on this machine, side by side in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from recon.training.cost import median_seconds

_SIDES = (256, 1024)
_SECONDS = 1.0  # each is measured for so long


def latencies(forms: Mapping[str, Callable[[Tensor], Tensor]], channels: int) -> str:
    """Return a table in Markdown: milliseconds for one image of each size, and the ratio to the first form.

    Args:
        forms: map (1,C',H,W) to an image, by name.
        channels: C'.
    """
    rows = [f"| form | {' | '.join(f'{side}×{side}, ms' for side in _SIDES)} |", "|---|" + "---|" * len(_SIDES)]
    first: dict[int, float] = {}
    for name, form in forms.items():
        cells = []
        for side in _SIDES:
            image = torch.rand(1, channels, side, side)
            with torch.inference_mode():
                seconds = median_seconds(lambda form=form, image=image: form(image), _SECONDS)  # type: ignore[misc]
            ratio = first.setdefault(side, seconds) / seconds
            cells.append(
                f"{1000 * seconds:.1f}" + (f" ({ratio:.2f} times as fast)" if name != next(iter(forms)) else "")
            )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    threads = f"One image at a time, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}."
    return "\n".join(["# Latency", "", threads, "", *rows, ""])
