"""Trying a net and a degradation out before any image is read: does it fit the images, and do what it promises?"""

from __future__ import annotations

import difflib
import os
import platform
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from recon.config.check import Config
from recon.config.conf import choices, read_choice
from recon.config.construct import construct
from recon.data.datamodule import DataModule
from recon.degradations.base import Degradation, Degraded
from recon.degradations.file import FromFiles
from recon.errors import InputError
from recon.modules.base import Module
from recon.modules.outcome import Outcome
from recon.nets.contracts import Blank, lacking, misfit
from recon.pair import Pair

# A weight, its gradient and Adam's two averages, four bytes each.
_BYTES_A_WEIGHT = 16


def require_net(model: Config, kind: type[Module], facts: Mapping[str, Any]) -> None:
    """Check, before the nets of a model are built, that its net fits the module, and that all fit the memory.

    They are built on torch's meta device, which takes no memory, as their widths may be beyond any.

    Args:
        model: the node of the configuration.
        kind: the class of its module.
        facts: of the images, as the net's class is given them.

    Raises:
        InputError: names what is wrong, and the nets that fit.
    """
    node = model.get("net")
    if not kind.trains and node is None:
        return
    if not isinstance(node, dict) or "_target_" not in node:
        raise InputError(f"model.net: {_not_a_net(node)}")
    net = _on_meta(node, facts, "model.net")
    if net is None:
        return
    _require_memory(net, "model.net")
    _require_fit(net, kind, facts)
    module = _on_meta(model, facts, "model")
    if module is not None:
        _require_memory(module, "model")


def _require_fit(net: nn.Module, kind: type[Module], facts: Mapping[str, Any]) -> None:
    """Raise InputError, with the nets that fit, unless a net on the meta device keeps the contract of its module."""
    refusal, reason = None, None
    try:
        reason = _misfit(net, kind, facts)
    except InputError as error:
        refusal, reason = error, str(error)
    if reason is None:
        return
    scale, name = facts["scale"], type(net).__name__
    if scale > 1 and not lacking(net, kind.contract):
        raise InputError(
            f"degradation: it makes images {scale} times smaller, and this model does not make them large again "
            f"({reason if refusal else f'{name} {reason}'}); choose model=restoration with model/net=edsr, or set "
            "degradation.upsample=bicubic"
        ) from refusal
    if refusal:
        raise InputError(f"model.net: {refusal}") from refusal
    fitting = "|".join(_fitting(kind, facts))
    raise InputError(
        f"model.net: {name} {reason}, and so does not fit {kind.__name__}; "
        + (f"choose model/net={fitting}" if fitting else "choose another model")
    )


def try_degradation(made: Degradation, shape: tuple[int, int, int]) -> None:
    """Degrade a grey image (C,H,W) and check what comes of it, as the class may be the user's own.

    Raises:
        InputError: it cannot work on such images, or a class fails, which is named, or gives something else.
    """
    try:
        made.check_shape(shape)
        if isinstance(made, FromFiles):
            return
        reason = _broken_promise(made, made(torch.full((1, *shape), 0.5), torch.zeros(1, dtype=torch.int64)), shape)
    except InputError:
        raise
    except Exception as error:  # an own class may fail in any way
        frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        failing = [type(one).__name__ for one in frames if isinstance(one, Degradation)] or [type(made).__name__]
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{failing[-1]} fails on an image of shape {shape} ({what}); correct this class") from error
    if reason:
        raise InputError(f"{type(made).__name__} {reason}; correct this class")


def _broken_promise(made: Degradation, result: object, shape: tuple[int, int, int]) -> str | None:
    """Say in what way a result for one image (C,H,W) is not what `Degraded` and the class promise."""
    if not isinstance(result, Degraded):
        return f"gives a {type(result).__name__} instead of recon.degradations.Degraded(image, mask, severity)"
    channels, height, width = shape
    due = {
        "image": (1, channels, -(-height // made.scale), -(-width // made.scale)),
        "mask": (1, 1, height, width),
        "severity": (1,),
    }
    for name, wanted in due.items():
        found = getattr(result, name)
        if not isinstance(found, Tensor) or not found.is_floating_point() or tuple(found.shape) != wanted:
            seen = f"{found.dtype} of {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            return f"gives {seen} as {name} where floats of {wanted} are due"
        if not found.isfinite().all():
            return f"gives values that are no finite numbers as {name} of a grey image"
    holes = result.mask == 0
    if not (holes | (result.mask == 1)).all():
        return "gives a mask of other values than 0 and 1"
    return "makes holes and does not set makes_holes" if holes.any() and not made.makes_holes else None


def require_smallest(module: Module, data: DataModule) -> None:
    """Try the smallest image that is evaluated whole, where it is smaller than those that the net was tried on.

    Raises:
        InputError: the net does not take it, which would be found out after the training only.
    """
    splits, scale = data.load(), data.degradation.scale
    shapes = [shape for split in ((splits.test,) if data.task.tested_only else splits[1:]) for shape in split.shapes]
    channels, height, width = min(shapes, key=lambda shape: min(shape[1:]))
    if data.evaluation_crop is not None or min(height, width) >= min(data.task.shape[1:]):
        return
    least = module.least_batch  # of training, on larger images
    try:
        try_out(module, (channels, height, width), scale, data.task.num_classes)
        module.least_batch = least
    except InputError as error:
        raise InputError(
            f"task.test: an image to evaluate has {width}x{height} pixels, too few for this net ({error}); take such "
            "images away, or choose another model/net"
        ) from error


def try_out(module: Module, shape: tuple[int, int, int], scale: int, num_classes: int) -> None:
    """Take one evaluation step on a blank image, and note how many images a training batch must have.

    Raises:
        InputError: the step fails, or gives something else than a number for the image.
    """
    channels, height, width = shape
    degraded = torch.zeros(1, channels, height // scale, width // scale)
    clean = torch.zeros(1, channels, height // scale * scale, width // scale * scale)
    label = torch.tensor([num_classes - 1])  # the last class, or -1 where the task has none
    # Batch norm in training needs two values a channel, which one image gives unless it has become a single pixel.
    single: list[nn.Module] = []
    hooks = [
        layer.register_forward_pre_hook(
            lambda layer, inputs: single.append(layer) if inputs[0].numel() == inputs[0].shape[1] else None
        )
        for layer in module.modules()
        if isinstance(layer, _BatchNorm)
    ]
    try:
        with torch.no_grad():
            outcome = module.eval().try_out(Pair.of(degraded, clean, label=label))
        _require_numbers(outcome)
    except InputError as error:
        raise InputError(str(error) if str(error).startswith("model.") else f"model.net: {error}") from error
    except Exception as error:  # a user's own net may raise anything
        size, reason = "×".join(map(str, shape)), str(error).strip() or type(error).__name__
        raise InputError(
            f"model.net: {type(module.net).__name__} does not work on images of {size} ({reason.splitlines()[0]}); "
            "choose another model/net"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    module.least_batch = 2 if single else 1
    module.train()


def require_batch(module: Module, batch_size: int, images: int | None, devices: int) -> None:
    """Raise InputError for training batches too small for the module's batch norm.

    Args:
        module: tried out.
        batch_size: over all devices.
        images: how many there are to train on, or None where that is not known yet.
        devices: how many share a batch.
    """
    least = module.least_batch * devices
    if batch_size < least:
        raise InputError(
            f"task.batch_size: batch norm in {type(module.net).__name__} needs {module.least_batch} images a batch on "
            f"each device, and {batch_size} on {devices} is less; give {least} or more, or choose a net without"
        )
    if images is not None and images < least:
        raise InputError(
            f"task: batch norm in {type(module.net).__name__} needs {module.least_batch} images a batch on each "
            f"device, and there are {images} to train on; add some, or choose a net without batch norm"
        )


def native_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16: torch uses it on those with plain AVX-512 too."""
    emulated = platform.machine() in ("x86_64", "AMD64") and not torch.cpu._is_avx512_bf16_supported()
    return not emulated and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def require_precision(module: Module, trainer: Trainer) -> None:
    """Raise InputError where training in a low precision would fail, or go wrong without a word."""
    precision = trainer.precision
    options = module.options.optimizer([nn.Parameter(torch.zeros(1))]).defaults
    clips = module.clip_norm or trainer.gradient_clip_val
    if getattr(trainer.precision_plugin, "scaler", None) is not None and clips and options.get("fused"):
        raise InputError(
            f"accelerator.fused: a fused optimiser cannot clip gradients with trainer.precision={precision}; set "
            "accelerator.fused=false, or choose trainer.precision=bf16-mixed"
        )
    if precision.startswith("bf16") and trainer.strategy.root_device.type == "cpu" and not native_bfloat16():
        warnings.warn(
            f"trainer.precision={precision}: this processor has no instructions for bfloat16, so that it is many times "
            "slower than float32 here; set trainer.precision=32-true, or choose accelerator=cpu",
            stacklevel=2,
        )
    dtype = {"16-true": torch.float16, "bf16-true": torch.bfloat16}.get(precision)
    if dtype is None:
        return
    if getattr(module, "method", None) == "sure":
        raise InputError(
            f"model.method: sure needs float32, whose small differences trainer.precision={precision} rounds away; "
            f"choose trainer.precision={precision.replace('true', 'mixed')}, or another method"
        )
    if module.average is not None:
        raise InputError(
            f"model.ema: with trainer.precision={precision} the small steps of the average are rounded away; set "
            f"model.ema=0, or choose trainer.precision={precision.replace('true', 'mixed')}"
        )
    penalties = (name for name, weight in getattr(module, "penalties", {}).items() if weight)
    if dtype == torch.float16 and (name := next(penalties, None)):
        raise InputError(
            f"model.{name}: gradients of gradients leave the range of float16; choose "
            "trainer.precision=bf16-true or 32-true"
        )
    eps = options.get("eps")
    if isinstance(eps, float) and eps and not float(torch.tensor(eps, dtype=dtype)):
        raise InputError(
            f"optimizer.eps: with trainer.precision={precision} {eps:g} is 0, and steps are divided by it; add "
            "+optimizer.eps=1e-4, or choose trainer.precision=bf16-true"
        )


def _not_a_net(node: Any) -> str:
    nets = sorted(choices("model/net"))
    named = difflib.get_close_matches(str(node), nets, 1)
    return f"{node!r} is no net; write model/net={named[0] if named else '|'.join(nets)}"


def _on_meta(node: Config, facts: Mapping[str, Any], key: str) -> nn.Module | None:
    """Build a net or module on the meta device; None where it is, or has, a user's own that cannot be built there."""
    own = not all(str(each["_target_"]).startswith("recon.") for each in (node, node.get("net", node)))
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            made: nn.Module = construct(node, key, facts)
    except Exception:
        if own:
            return None
        raise
    return made


def _require_memory(net: nn.Module, key: str) -> None:
    weights = sum(weight.numel() for weight in net.parameters())
    need, have = weights * _BYTES_A_WEIGHT, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have:
        raise InputError(
            f"{key}: to train {weights:.3g} weights takes {need / 1e9:,.0f} GB, and this machine has "
            f"{have / 1e9:,.0f}; make the net narrower or shallower"
        )


def _misfit(net: nn.Module, kind: type[Module], facts: Mapping[str, Any]) -> str | None:
    """Return why a net on the meta device does not fit; an error inside a user's own net there does not count."""
    reason = misfit(net.eval(), kind.contract, _blank(facts, kind))
    if reason is None or not reason.startswith("does not work"):
        return reason
    if not type(net).__module__.startswith("recon."):
        return None
    more = facts["in_channels"] - facts["channels"]
    return f"takes images alone, and not the mask with them ({reason})" if more else reason


def _blank(facts: Mapping[str, Any], kind: type[Module]) -> Blank:
    def empty(*shape: int) -> Tensor:
        return torch.empty(1, *shape, device="meta")

    height, width = facts["image_size"]
    seen = [side // (1 if kind.sees_degraded_size else facts["scale"]) for side in (height, width)]
    label = torch.zeros(1, dtype=torch.int64, device="meta")
    clean = empty(facts["channels"], height, width)
    return Blank(empty(facts["in_channels"], *seen), clean, label, facts["num_classes"])


def _fitting(kind: type[Module], facts: Mapping[str, Any]) -> list[str]:
    """List the nets of `conf/model/net/` that fit a module and these images."""
    found = []
    for name in sorted(choices("model/net")):
        try:
            net = _on_meta(read_choice("model/net", name) or {}, facts, "model.net")
            if net is not None and misfit(net.eval(), kind.contract, _blank(facts, kind)) is None:
                found.append(name)
        except InputError:  # of another size, or without labels
            continue
    return found


def _require_numbers(outcome: Outcome) -> None:
    """Raise ValueError unless a step on one image gave one number of each kind."""
    for name, values in {"loss": outcome.loss, **outcome.terms}.items():
        if values.shape != (1,):
            raise ValueError(f"{name} is of shape {tuple(values.shape)}, not one number for each image")
