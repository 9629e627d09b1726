"""The weights of a run folder and what they are for, as a file of weights would hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from recon.build import trained
from recon.config.construct import construct
from recon.errors import InputError
from recon.modules.autoencoding import AutoencodingModule
from recon.modules.base import Module
from recon.modules.inpainting import InpaintingModule
from recon.modules.vae import VAEModule
from recon.nets.features import sha256_of
from recon.nets.receptive import receptive_radius, stride
from recon.report.gains import gains
from recon.report.naming import choice, degradation
from recon.report.run import Run
from recon.restore.weights import About, Purpose, Weights
from recon.runs.checkpoint import best_or_last, load
from recon.runs.folder import RunFolder

_FARTHEST = 256  # pixels that the reach of a net is measured to


def weights_of_run(folder: Path, key: str = "run", may_recognise: bool = False) -> Weights:
    """Load the best weights of a run that restores.

    Args:
        folder: the run folder.
        key: what names it, for messages.
        may_recognise: whether it may also be one of a classifier.

    Raises:
        InputError: it is no run folder, or its model does not restore pictures of any size.
    """
    return weights_of(trained(folder, key), folder, key, may_recognise)


def weights_of(module: Module, folder: Path, key: str = "run", may_recognise: bool = False) -> Weights:
    """Return the weights of the module of a run folder; raises InputError as `weights_of_run`."""
    if may_recognise and module.kind == "recognise":
        return _described(module, folder, "recognise", None)
    rebuilds = isinstance(module, AutoencodingModule | VAEModule)  # through a code, which its net alone may not do
    if module.kind != "restore" or not module.trains or not module.one_pass or rebuilds:
        raise InputError(f"{key}: {folder} is a run of {type(module).__name__}, which restores no pictures; choose a "
                         "run of model=restoration or model=inpainting")  # fmt: skip
    if size := module.built_for.get("image_size"):
        raise InputError(f"{key}: the net of {folder} takes images of {size[0]}×{size[1]} pixels alone; choose a run "
                         "of a net for any size, such as model/net=dru")  # fmt: skip
    purpose = _purpose(module, RunFolder(folder).config)
    return _described(module, folder, purpose, _reach(module.averaged_net, module.facts))


def _described(module: Module, folder: Path, purpose: Purpose, reach: tuple[int, int] | None) -> Weights:
    run, net = RunFolder(folder), module.active_net
    config = run.config
    about = About(
        purpose=purpose,
        net=dict(config["model"]["net"]),
        facts={name: list(fact) if isinstance(fact, tuple) else fact for name, fact in module.facts.items()},
        noise_map=bool(getattr(module, "noise_map", False)),
        radius=reach and reach[0],
        stride=reach and reach[1],
        trained={name: config[name] for name in ("degradation", "task", "protocol", "seed") if name in config}
        | {"lengths": _lengths(run)},
        figures=figures_of(run),
    )
    return Weights(folder.name, about, net, sha256_of(net, json.dumps(about.net, sort_keys=True)))


def figures_of(run: RunFolder) -> dict[str, dict[str, float]]:
    """Return what a run measured in its test, see `recon.restore.weights.About`."""
    figures = {}
    for of_set in run.by_set():
        images = Run(of_set, "").images
        found: dict[str, float] = {"images": len(images.get("index", ()))}
        for gain in gains(images, of_set.measures):
            name, (low, high) = gain.row.name, gain.interval or (gain.after, gain.after)
            found |= {name: gain.after, f"{name}_before": gain.before, f"{name}_low": low, f"{name}_high": high}
        if "test/accuracy" in of_set.metrics:
            found["accuracy"] = of_set.metrics["test/accuracy"]
        figures[f"{of_set.test_set or choice(of_set, 'task')}, {degradation(of_set)}"] = found
    return figures


def _lengths(run: RunFolder) -> list[list[int]]:
    """Return steps and batch size of the training that made a run's weights, after those of the run it began with."""
    earlier = run.config.get("init_from")
    before = _lengths(RunFolder(Path(earlier))) if earlier and Path(earlier).is_dir() else []
    return [*before, [load(best_or_last(run.path))["global_step"], run.config["task"]["batch_size"]]]


def _purpose(module: Module, config: dict[str, Any]) -> Purpose:
    """Tell what a run has learned to mend by its module and its damage."""
    if isinstance(module, InpaintingModule):
        return "inpaint"
    damage = construct(config["degradation"], "degradation")
    if damage.scale > 1:
        return "super_resolve"
    if damage.gaussian:
        return "denoise"
    return "jpeg" if _is_jpeg(config["degradation"]) else "restore"


def _is_jpeg(node: Any) -> bool:
    """Return whether a node compresses to JPEG and does nothing else."""
    if not isinstance(node, dict):
        return True
    target = str(node.get("_target_", "")).rsplit(".", 1)[-1]
    return target in ("", "JPEG", "Chain", "OneOf", "Sometimes") and all(map(_is_jpeg, node.values()))


def _reach(net: nn.Module, facts: dict[str, Any]) -> tuple[int, int] | None:
    """Measure how far a net sees and its stride; None where it sees the whole picture."""
    channels, scale = int(facts["in_channels"]), int(facts["scale"])
    radius = receptive_radius(net, channels, _FARTHEST, scale)
    step = None if radius is None else stride(net, radius, channels, scale)
    return None if radius is None or step is None else (radius, step)
