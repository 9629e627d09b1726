"""How long the forms of a net take on this machine, side by side in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from recon.training.cost import median_seconds

_SECONDS = 1.0  # each is measured for so long


def median_seconds_of(form: Callable[[Tensor], Tensor], shape: Sequence[int]) -> float:
    """Return how long one use of a form takes for an input of a shape (B,C',H,W) on the CPU."""
    image = torch.rand(*shape)
    with torch.inference_mode():
        return median_seconds(lambda: form(image), _SECONDS)


def latencies(forms: Mapping[str, Callable[[Tensor], Tensor]], inputs: Mapping[str, Sequence[int]]) -> str:
    """Return a table in Markdown: milliseconds for each input, and the ratio to the first form.

    Args:
        forms: map (B,C',H,W) to an image or to scores, by name.
        inputs: the shapes (B,C',H,W), by what they are called.
    """
    rows = [f"| form | {' | '.join(f'{name}, ms' for name in inputs)} |", "|---|" + "---|" * len(inputs)]
    first: dict[str, float] = {}
    for form_name, form in forms.items():
        cells = []
        for name, shape in inputs.items():
            seconds = median_seconds_of(form, shape)
            ratio = first.setdefault(name, seconds) / seconds
            cells.append(
                f"{1000 * seconds:.3g}" + (f" ({ratio:.2f} times as fast)" if form_name != next(iter(forms)) else "")
            )
        rows.append(f"| {form_name} | {' | '.join(cells)} |")
    threads = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}."
    return "\n".join(["# Latency", "", threads, "", *rows, ""])
