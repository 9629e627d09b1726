"""int8 for ONNX Runtime: calibrated on training images, kept only where it loses little on validation images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recon import metrics
from recon.data.datamodule import DataModule
from recon.errors import InputError
from recon.export.onnx import least_lossy, onnx_of, session
from recon.measures import measure
from recon.modules.base import Module
from recon.pair import Pair
from recon.restore.weights import Weights

_CALIBRATION = 256  # training images
_CLOSE = 1e-3  # of a value or a score, that ONNX may differ from torch
_LIMITS = {"recognise": 0.2, "restore": 0.1}  # points of accuracy, dB


class Forms(NamedTuple):
    """ONNX of a net, as it is and in int8."""

    float32: bytes
    int8: bytes


class OnnxNet(nn.Module):
    """Runs ONNX in the place of a net: (B,C',H,W) on the CPU to what the net gives; it holds the net for its size."""

    def __init__(self, data: bytes, net: nn.Module) -> None:
        super().__init__()
        self.net, self.run = net, session(data)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.run(x.contiguous())


def quantised(module: Module, weights: Weights, data: DataModule, max_loss: float | None, batches: Any) -> Forms:
    """Make ONNX of a module's net and its int8 form.

    Args:
        module: trained, on the CPU.
        weights: those of its net.
        data: its images.
        max_loss: what int8 may lose on the validation images, in points of accuracy or dB; None for 0.2 or 0.1.
        batches: how many of validation are measured, or None for all.

    Raises:
        InputError: the int8 form loses more, or ONNX gives something else than the net.
    """
    inputs = _inputs(module, data)
    float32 = onnx_of(weights)
    with torch.inference_mode():
        worst = float((session(float32)(inputs[0]) - module.active_net(inputs[0])).abs().max())
    if not worst <= _CLOSE:
        raise InputError(f"run: ONNX gives something else than the net (a difference of {worst:.2g}), so nothing is "
                         "kept; report this with the name of the net")  # fmt: skip
    limit = _LIMITS[module.kind] if max_loss is None else max_loss
    row = measure(main_measure(module))
    before, count = _quality(module, data, batches)

    def lost_by(form: bytes) -> float:
        return (before - _quality(serving(module, form), data, batches)[0]) * row.factor

    kinds = ("Conv", "Gemm", "MatMul") if module.kind == "recognise" else ("Conv",)
    int8, lost, _ = least_lossy(float32, inputs, kinds, lost_by, limit)
    if not lost <= limit:
        raise InputError(f"max_loss: int8 loses {lost:.2f} {row.points} of {row.label} on {count:,} validation images, "
                         f"more than {limit:g}, and is not written; raise it, or leave quantising")  # fmt: skip
    return Forms(float32, int8)


def serving(module: Module, data: bytes) -> Module:
    """Let a module use ONNX in the place of its net, and return it."""
    module.eval()
    net = module.averaged_net
    module.net, module.average = OnnxNet(data, net.net if isinstance(net, OnnxNet) else net), None
    return module


def _inputs(module: Module, data: DataModule) -> list[Tensor]:
    """Return what the net is given for the first training batches, as it is in training."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().clone())

    hook = module.active_net.register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            for pair in data.train_dataloader():
                module.predict(pair)
                if sum(map(len, seen)) >= _CALIBRATION:
                    break
    finally:
        hook.remove()
    return seen


def main_measure(module: Module) -> str:
    """Return the measure that tells how good a model is."""
    if module.kind == "recognise":
        return "accuracy"
    return "psnr_hole" if module.monitor == "val/psnr_hole" else "psnr"


def _quality(module: Module, data: DataModule, batches: Any) -> tuple[float, int]:
    """Return the mean accuracy or PSNR over the validation images, and how many they are."""
    loader: Iterable[Pair] = data.val_dataloader()
    columns = []
    with torch.inference_mode():
        for pair in itertools.islice(loader, batches if isinstance(batches, int) else None):
            result = module.predict(pair)
            if module.kind == "recognise":
                columns.append((metrics.predicted(result) == pair.label)[pair.label >= 0].double())
            else:
                columns.append(module.image_metrics(result, pair)[main_measure(module)].double())
    values = torch.cat(columns) if columns else torch.empty(0)
    values = values[~values.isnan()]
    return (float(values.mean()) if len(values) else math.nan), len(values)
