"""What a net and its shrunk form cost on the CPU of this machine, measured one after the other in one process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from recon.console import say
from recon.errors import InputError
from recon.export.latency import median_seconds_of
from recon.export.onnx import onnx_of, require_onnx, session
from recon.modules.base import Module
from recon.restore.of_run import weights_of
from recon.runs import RunFolder
from recon.shrink.prune import multiply_adds

ORIGINAL, SHRUNK = "original", "shrunk"
TORCH, ONNX, INT8 = "torch", "ONNX Runtime fp32", "ONNX Runtime int8"
_COUNTS = (1, 64)  # images at once


class Form(NamedTuple):
    """A net as a program runs it.

    Attributes:
        net: "original" or "shrunk".
        name: "torch", "ONNX Runtime fp32" or "ONNX Runtime int8".
        run: maps (B,C',h,w) to what the net gives.
        size: bytes of its weights, or of its file.
        parameters: its weights.
        multiply_adds: of one image.
    """

    net: str
    name: str
    run: Callable[[Tensor], Tensor]
    size: int
    parameters: int
    multiply_adds: int


def form(of: str, name: str, run: Callable[[Tensor], Tensor], size: int, net: nn.Module, image: Tensor) -> Form:
    """Return a form of a net, whose weights and multiply-adds for `image` (1,C',h,w) are counted."""
    return Form(of, name, run, size, sum(weight.numel() for weight in net.parameters()), multiply_adds(net, image))


def of_torch(of: str, module: Module, image: Tensor) -> Form:
    """Return the net of a trained module on the CPU as it is."""
    net = module.active_net
    size = sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values())
    return form(of, TORCH, net, size, net, image)


def forms(of: str, module: Module, folder: Path, image: Tensor) -> list[Form]:
    """Return the net of the trained module of a run folder in torch and, where it has such a form, in ONNX Runtime."""
    found = [of_torch(of, module, image)]
    try:
        require_onnx()
        data = onnx_of(weights_of(module, folder, may_recognise=True))
        found.append(form(of, ONNX, session(data), len(data), module.active_net, image))
    except InputError:  # the packages are not installed, or the net restores images of one size alone
        pass
    except Exception as error:  # a net of the user's own may do what ONNX cannot
        say(f"shrink: the {of} net has no ONNX form ({type(error).__name__}), so that its latency is torch's alone")
    return found


def rows(found: Sequence[Form], image: Tensor, folder: Path, source: Path, name: str) -> list[dict[str, Any]]:
    """Measure forms, and put the quality of their run beside.

    Args:
        found: forms of the original and of the shrunk net.
        image: (1,C',h,w).
        folder: of the shrunk run, which has been tested.
        source: of the original.
        name: the measure of quality, such as "accuracy".

    Returns:
        A row for each form, with the latencies for 1 and 64 images in ms; the quality of the original is NaN where it
        was tested on other images or under other damage.
    """
    quality = {SHRUNK: RunFolder(folder).metrics.get(f"test/{name}", math.nan), ORIGINAL: math.nan}
    if _tested_alike(RunFolder(folder), RunFolder(source)):
        quality[ORIGINAL] = RunFolder(source).metrics.get(f"test/{name}", math.nan)
    made = []
    for each in found:
        taken = {f"ms_{count}": 1000 * median_seconds_of(each.run, (count, *image.shape[1:])) for count in _COUNTS}
        counted = {"parameters": each.parameters, "bytes": each.size, "multiply_adds": each.multiply_adds}
        told = {"measure": name, "quality": quality[each.net]}
        made.append({"net": each.net, "form": each.name, **counted, **taken, **told})
    return made


def _tested_alike(first: RunFolder, second: RunFolder) -> bool:
    alike = ("degradation", "protocol")
    return first.images == second.images and all(first.config.get(key) == second.config.get(key) for key in alike)


def show(made: Sequence[dict[str, Any]]) -> None:
    """Print the rows as a table."""
    from rich.console import Console
    from rich.table import Table

    from recon.measures import measure
    from recon.runs.files import in_words

    row = measure(made[0]["measure"])
    table = Table(
        "net", "form", "weights", "size", "multiply-adds", *(f"{n} at once, ms" for n in _COUNTS), row.heading
    )
    for each in made:
        table.add_row(each["net"], each["form"], f"{each['parameters']:,}", in_words(each["bytes"]),
                      f"{each['multiply_adds']:,}", *(f"{each[f'ms_{n}']:.3g}" for n in _COUNTS),
                      row.text(each["quality"]))  # fmt: skip
    Console().print(table)
