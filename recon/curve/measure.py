"""Each test image under each damage, through each model: the numbers that curves are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon import metrics
from recon.build import trained
from recon.curve.damage import Damage
from recon.data.datamodule import DataModule
from recon.errors import InputError
from recon.losses import wide
from recon.modules.base import Module
from recon.modules.facts import difference
from recon.pair import Pair
from recon.restore.plan import run_folder
from recon.restore.weights import load_weights, names, require_restorer, restorers

Restore = Callable[[Pair], Tensor]
Columns = dict[str, NDArray[np.float64]]
MEASURES = {"recognise": ("accuracy", "ece"), "restore": ("psnr", "ssim")}


@dataclass(frozen=True)
class Method:
    """A line of a plot: a model, and what restores the images before it.

    Attributes:
        label: its name.
        module: in evaluation mode.
        restore: makes (B,C,H,W) of pairs, or None.
    """

    label: str
    module: Module
    restore: Restore | None = None


def of_runs(folders: Sequence[Path], first: Module) -> list[Method]:
    """Load further runs for the images of a first one; raises InputError for those of other images."""
    methods = []
    for folder in folders:
        module = trained(folder, "beside")
        if module.kind != first.kind:
            raise InputError(f"beside: {folder} is a run of another kind of model; choose one that does what run= does")
        reason = difference(module.facts, first.facts)
        if module.trained_on != first.trained_on:
            reason = f"it was trained on {module.trained_on}, and the first on {first.trained_on}"
        if reason:
            raise InputError(f"beside: {folder} cannot be drawn on the same images ({reason}); choose another run")
        methods.append(Method(folder.name, module))
    return methods


def restorer(name: str, first: Module, damage: Damage) -> Restore:
    """Return what restores the images of a classifier, with the weights that come along, of a file, or of a run.

    Raises:
        InputError: it is for images of another size, number of channels or scale.
    """
    gaussian = all(point.operator.gaussian or not point.severity for point in damage.points)
    if name in names() or name.endswith(".safetensors"):
        return _of_weights(name, first, gaussian)
    try:
        folder = run_folder(name, "restorer")
    except InputError as error:
        raise InputError(f"{error}; or weights that come along, {'|'.join(restorers())}") from error
    module = trained(folder, "restorer")
    if module.kind != "restore":
        raise InputError(f"restorer: {name} restores no images; choose a run of model=restoration or model=inpainting")
    if module.facts.get("scale", 1) != 1:
        raise InputError(f"restorer: {name} makes images larger; choose one that keeps their size")
    asked = {**first.facts, "in_channels": module.facts.get("in_channels")}
    if reason := difference({**module.built_for, "channels": module.facts.get("channels")}, asked):
        raise InputError(f"restorer: {name} cannot be used here ({reason}); choose another")
    if getattr(module, "noise_map", False) and not gaussian:
        raise InputError(f"restorer: {name} is given the level of Gaussian noise, which this damage does not have; "
                         "choose one without a noise map, or degradation=noise")  # fmt: skip
    module.to(first.device)
    return lambda pair: module.predict(pair).clamp(0, 1)


def _of_weights(name: str, first: Module, gaussian: bool) -> Restore:
    weights = require_restorer(load_weights(name, "restorer"), "restorer")
    about, net = weights.about, weights.net.to(first.device)
    channels, ours = int(about.facts["channels"]), int(first.facts["channels"])
    if int(about.facts["scale"]) != 1:
        raise InputError(f"restorer: {name} makes images larger; choose one that keeps their size")
    if channels > ours:
        raise InputError(f"restorer: {name} is for colour, and these images are grey; choose one for grey images")
    if about.noise_map and not gaussian:
        raise InputError(f"restorer: {name} is given the level of Gaussian noise, which this damage does not have; "
                         "choose one without a noise map, or degradation=noise")  # fmt: skip

    def restore(pair: Pair) -> Tensor:
        # A net for grey takes each channel by itself.
        times = ours // channels
        images = pair.degraded.reshape(-1, channels, *pair.degraded.shape[2:])
        more = []
        if about.purpose == "inpaint":
            more.append(pair.mask.repeat_interleave(times, 0))
        if about.noise_map:
            level = pair.severity.to(images.dtype).repeat_interleave(times)
            more.append(level.view(-1, 1, 1, 1).expand_as(images[:, :1]))
        restored: Tensor = net(torch.cat([images, *more], 1)).reshape(pair.degraded.shape)
        return restored.clamp(0, 1)

    return restore


def measured(
    methods: Sequence[Method], data: DataModule, damage: Damage, limit: int | float | None, done: Callable[[], object]
) -> list[list[Columns]]:
    """Measure every method at every point, on the same images under the same draws.

    Args:
        methods: all on one device.
        data: of which the test images are taken; its degradation is replaced.
        damage: the points.
        limit: how many batches of the test, as a number or a share; None for all.
        done: is called after each point.

    Returns:
        For each point the columns (N,) of each method: of classifiers "right", "confidence" and "label" of the images
        with a label, of others "psnr" and "ssim".
    """
    table = []
    for point in damage.points:
        data.degradation = point.operator
        parts: list[list[Columns]] = [[] for _ in methods]
        for pair in _batches(data, methods[0].module.device, limit):
            for method, columns in zip(methods, parts, strict=True):
                columns.append(_columns(method, pair))
        table.append([{name: np.concatenate([part[name] for part in of]) for name in of[0]} for of in parts])
        done()
    if not next(iter(table[0][0].values())).size:
        raise InputError(
            "task: its test images have no labels, without which no accuracy is known; choose another task"
        )
    return table


def _batches(data: DataModule, device: torch.device, limit: int | float | None) -> Iterator[Pair]:
    loader = data.test_dataloader()
    count = len(loader) if limit is None else limit if isinstance(limit, int) else max(1, int(limit * len(loader)))
    for pair in islice(loader, count):
        yield Pair(*(field.to(device) for field in pair))


@torch.inference_mode()
def _columns(method: Method, pair: Pair) -> Columns:
    if method.restore is not None:
        pair = pair._replace(degraded=method.restore(pair))
    made = method.module.predict(pair)
    if method.module.kind == "restore":
        seen = method.module.protocol.seen(made, pair.clean)
        return {"psnr": _array(metrics.psnr(*seen)), "ssim": _array(metrics.ssim(*seen))}
    known = pair.label >= 0
    confidence = wide(made).softmax(1).amax(1)[known]
    right = metrics.predicted(made)[known] == pair.label[known]
    return {"right": _array(right), "confidence": _array(confidence.nan_to_num(0)), "label": _array(pair.label[known])}


def _array(values: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = values.double().cpu().numpy()
    return array
