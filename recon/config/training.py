"""Checks of `trainer.*`, `checkpoint.*` and `early_stopping` by their plain values; it imports no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from recon.errors import InputError

# What spawns or forks its workers keeps the results in them; what shards the weights writes other checkpoints.
STRATEGIES = (
    "auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false", "ddp_static_graph",
)  # fmt: skip
PRECISIONS = (
    "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "16", "bf16", "32", "64", 16, 32, 64,
)  # fmt: skip
# Keys of Lightning's Trainer that recon sets itself, and what to do instead.
_SET_BY_RECON = {
    "logger": "choose logger=wandb|tensorboard|csv|none",
    "default_root_dir": "set hydra.run.dir",
    "enable_checkpointing": "set checkpoint.minutes and checkpoint.steps",
    "num_sanity_val_steps": "leave it out, as a model is tried on a blank image before training",
    "enable_model_summary": "leave it out, as the weights are counted in the first line",
    "use_distributed_sampler": "leave it out, as the loaders share the images out themselves",
    "plugins": "choose trainer.precision and trainer.strategy",
    "profiler": "leave it out, and profile the whole command by python -m cProfile run.py",
    "barebones": "leave it out; logger=none and trainer.enable_progress_bar=false save what there is to save",
    "model_registry": "leave it out",
}

Check = tuple[Callable[[Any], bool], str]  # is a value right, and what to give if not


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(least: int, remedy: str, null: bool = False) -> Check:
    return lambda value: (value is None and null) or _is_whole(value, least), remedy


def _one_of(*choices: Any, remedy: str = "") -> Check:
    names = "|".join("null" if choice is None else str(choice).lower() for choice in choices)
    # True is no 1: types count.
    kinds = {(type(choice), choice) for choice in choices}
    return (
        lambda value: value.__hash__ is not None and (type(value), value) in kinds,
        remedy or f"choose one of {names}",
    )


def _is_share(value: Any) -> bool:
    """Null, a number of batches, or a fraction of them."""
    return value is None or _is_whole(value) or (_is_number(value) and isinstance(value, float) and 0 <= value <= 1)


def _share(what: str, null: bool = True) -> Check:
    remedy = f"give a number of batches ({what}=10) or a fraction of them from 0.0 to 1.0 ({what}=0.5)"
    return lambda value: (null or value is not None) and _is_share(value), remedy


def duration(value: Any) -> timedelta | None:
    """Read a length of time as Lightning does, "DD:HH:MM:SS" or `{minutes: 3}`; None where it is none."""
    parts: Mapping[Any, Any]
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}):(\d\d):(\d\d):(\d\d)", value.strip())):
        parts = dict(zip(("days", "hours", "minutes", "seconds"), map(int, found.groups()), strict=True))
    elif isinstance(value, Mapping) and all(map(_is_number, value.values())):
        parts = value
    else:
        return None
    try:
        return timedelta(**parts)
    except (TypeError, OverflowError):
        return None


def _is_duration(value: Any) -> bool:
    return value is None or ((length := duration(value)) is not None and length >= timedelta(0))


def devices(value: Any) -> int | list[int] | None:
    """Read what devices are asked for: a number of them, -1 for all, a list of some; None where it makes no sense."""
    if value in ("auto", "-1") or (value == -1 and _is_whole(value, -1)):
        return -1
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)*,?\s*", value):
        numbers = [int(number) for number in value.split(",") if number.strip()]
        value = numbers if "," in value else numbers[0]
    if isinstance(value, list):
        return value if value and all(map(_is_whole, value)) and len(set(value)) == len(value) else None
    return value if _is_whole(value, 1) else None


_BOOL = _one_of(True, False)
_CHECKS: dict[str, Check] = {
    "trainer.accelerator": _one_of("auto", "cpu", "gpu", "cuda", "mps"),
    "trainer.strategy": _one_of(*STRATEGIES),
    "trainer.devices": (
        lambda value: devices(value) is not None,
        "give a number of devices, -1 for all of them, or a list such as [0,1]",
    ),
    "trainer.num_nodes": _whole(1, "give 1 or more"),
    "trainer.precision": _one_of(*PRECISIONS, None, remedy=f"choose one of {'|'.join(map(str, PRECISIONS[:6]))}"),
    "trainer.max_epochs": _whole(-1, "give a number of epochs, or -1 for no limit"),
    "trainer.min_epochs": _whole(0, "give a number of epochs, or null", null=True),
    "trainer.max_steps": _whole(-1, "give a number of training steps, or -1 for no limit"),
    "trainer.min_steps": _whole(0, "give a number of training steps, or null", null=True),
    "trainer.max_time": (_is_duration, "give days:hours:minutes:seconds, in a file in quotes, such as '00:01:30:00'"),
    **{f"trainer.{key}": _share(f"trainer.{key}") for key in (
        "limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches",
    )},
    "trainer.overfit_batches": _share("trainer.overfit_batches", null=False),
    "trainer.val_check_interval": (
        # Not by the clock: when that validates, no resumed run would know.
        lambda value: value is None or (_is_share(value) and value > 0),
        "give a number of training batches (100), a fraction of the epoch (0.25), or null for its end",
    ),
    "trainer.check_val_every_n_epoch": _whole(1, "give a number of epochs, or null", null=True),
    "trainer.log_every_n_steps": _whole(1, "give a number of training steps"),
    "trainer.accumulate_grad_batches": _whole(1, "give a number of batches, 1 to accumulate none"),
    "trainer.reload_dataloaders_every_n_epochs": _whole(0, "give a number of epochs, 0 for never"),
    "trainer.gradient_clip_val": (
        lambda value: value is None or (_is_number(value) and value >= 0),
        "give the largest norm that gradients may have, such as 1.0, or null to clip none",
    ),
    "trainer.gradient_clip_algorithm": _one_of("norm", "value", None),
    "trainer.deterministic": _one_of(True, False, "warn", None),
    "trainer.benchmark": _one_of(True, False, None),
    "trainer.fast_dev_run": (
        lambda value: isinstance(value, bool) or _is_whole(value), "give true, false or a number of batches"
    ),
    **{f"trainer.{key}": _BOOL for key in (
        "enable_progress_bar", "inference_mode", "detect_anomaly", "sync_batchnorm", "enable_autolog_hparams",
    )},
    "early_stopping": _whole(1, "give how many validations without a better model to wait for, or null", null=True),
    "checkpoint.minutes": (
        lambda value: value is None or (_is_number(value) and value > 0),
        "give a number of minutes above 0, or null for none within an epoch",
    ),
    "checkpoint.steps": _whole(1, "give a number of training steps, or null for none within an epoch", null=True),
}  # fmt: skip


def check_training(config: Mapping[str, Any]) -> None:
    """Check how long, on what and with which limits is trained; raises InputError for what cannot be right."""
    settings = config["trainer"]
    for key, instead in _SET_BY_RECON.items():
        if key in settings:
            raise InputError(f"trainer.{key}: recon sets it itself; {instead}")
    for place, (is_right, remedy) in _CHECKS.items():
        group, _, key = place.rpartition(".")
        node = config[group] if group else config
        if key in node and not is_right(node[key]):
            shown = "null" if node[key] is None else repr(node[key])
            raise InputError(f"{place}: {shown} is not allowed; {remedy}")
    _check_something_is_done(config)


def _check_something_is_done(config: Mapping[str, Any]) -> None:
    """Raise InputError where nothing would be trained or tested, or without end, or less than asked for."""
    settings = config["trainer"]
    for key in ("max_epochs", "max_steps", "limit_train_batches"):
        if settings.get(key) == 0 and settings.get(key) is not None:
            raise InputError(f"trainer.{key}: nothing would be trained with {settings[key]}; give more")
    if settings.get("max_time") is not None and duration(settings["max_time"]) == timedelta(0):
        raise InputError(f"trainer.max_time: nothing would be trained in {settings['max_time']}; give more")
    if settings.get("limit_test_batches") == 0 and settings.get("limit_test_batches") is not None:
        raise InputError("trainer.limit_test_batches: nothing would be tested with 0; give 1 or more, or null for all")
    if settings.get("check_val_every_n_epoch", 1) is None and not _is_whole(settings.get("val_check_interval"), 1):
        raise InputError(
            "trainer.check_val_every_n_epoch: without it trainer.val_check_interval counts over all epochs; set that "
            "to a number of training batches"
        )
    limits = (settings.get("max_epochs"), settings.get("max_steps", -1), settings.get("max_time"))
    if limits == (-1, -1, None) and config.get("early_stopping") is None and not settings.get("callbacks"):
        raise InputError(
            "trainer.max_epochs: with -1 nothing would end the training; set trainer.max_epochs, trainer.max_steps, "
            "trainer.max_time or early_stopping"
        )
    for unit in ("epochs", "steps"):
        least, most = settings.get(f"min_{unit}") or 0, settings.get(f"max_{unit}", -1)
        if -1 < most < least:
            raise InputError(f"trainer.min_{unit}: {least} is more than trainer.max_{unit}={most}; correct one of them")
