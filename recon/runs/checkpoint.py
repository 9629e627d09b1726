"""What is saved and how: checkpoints of tensors and plain values, written whole or not at all, loaded without code."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from recon.console import say
from recon.errors import InputError
from recon.modules.facts import difference, plain
from recon.runs.files import is_temporary, write_bytes

BEST, LAST, PREVIOUS, HEALTHY = "best.ckpt", "last.ckpt", "previous.ckpt", "healthy.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints to a temporary name in the same folder, flush and rename.

    Lightning's own writer moves the file from the system's temporary folder, which is a copy where that is another
    filesystem: a kill then leaves a torn file under the final name (Lightning issues 688 and 19970).
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path`; raises InputError when the disk is full, what was there is kept."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        path = Path(path)
        write_bytes(path, buffer.getbuffer(), path.with_name(PREVIOUS) if path.name == LAST else None)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Load a checkpoint as tensors and plain values; anything else in it is refused."""
        return load(Path(path), map_location)


def load(path: Path, map_location: Any = "cpu", key: str = "run") -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Its checksums are verified first, as torch.load does not verify them.

    Raises:
        InputError: it is missing or damaged, or holds anything but tensors and plain values.
    """
    if not os.path.exists(path):
        raise InputError(f"{key}: there is no checkpoint {path}; choose a run folder that has finished an epoch")
    if not path.is_file():  # reading a FIFO or a device would never end
        raise InputError(f"{key}: {path} is no regular file; choose another run")
    try:
        with zipfile.ZipFile(path) as archive:
            if record := archive.testzip():
                raise InputError(
                    f"{key}: {path} is damaged, as the content of {record} has changed; choose another run"
                )
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        # Its message advises to load the file as code.
        raise InputError(f"{key}: {path} holds more than tensors and plain values; choose another run") from error
    except Exception as error:  # zipfile and torch raise half a dozen types for a damaged or hostile file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{key}: {path} is no readable checkpoint ({reason}); choose another run") from error
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise InputError(f"{key}: {path} holds no weights; choose another run")
    return {str(name): value for name, value in checkpoint.items()}


def best_or_last(folder: Path) -> Path:
    """Return the checkpoint that a run is evaluated by: the best, or the last where no best was kept."""
    best, last = (folder / "checkpoints" / name for name in (BEST, LAST))
    if best.exists() or not last.exists():
        return best
    say(f"{folder} holds no {BEST}: the weights of {LAST} are taken")
    return last


def latest(folder: Path) -> Path | None:
    """Find the checkpoint that a run resumes from: the last whole one; None where none was written yet.

    Raises:
        InputError: there are some, and all are damaged.
    """
    written = [path for path in (folder / "checkpoints" / name for name in (LAST, PREVIOUS)) if path.exists()]
    for path in written:
        if (damage := _damage(path)) is None:
            return path
        say(f"resume: {path} is damaged ({damage}); the one before it is tried")
    if written:
        raise InputError(f"resume: no checkpoint in {folder} is whole; start again with a new run")
    return None


@rank_zero_only
def keep_best(folder: Path) -> None:
    """Remove the checkpoints of a run that has ended, but for its best weights."""
    if (folder / "checkpoints" / BEST).exists():
        for name in (LAST, PREVIOUS, HEALTHY):
            (folder / "checkpoints" / name).unlink(missing_ok=True)


@rank_zero_only
def keep_healthy(folder: Path) -> None:
    """Keep the last checkpoint as that which an unhealthy training returns to."""
    write_bytes(folder / "checkpoints" / HEALTHY, (folder / "checkpoints" / LAST).read_bytes())


def _damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint that a training is to be resumed from, or None."""
    try:
        checkpoint = load(path, key="resume")
    except InputError as error:
        return str(error).removeprefix(f"resume: {path} ")
    plain = {"optimizer_states": list, "lr_schedulers": list, "callbacks": dict, "loops": dict, "epoch": int,
             "global_step": int, "pytorch-lightning_version": str}  # fmt: skip
    wrong = [name for name, kind in plain.items() if not isinstance(checkpoint.get(name), kind)]
    return f"lacks {wrong[0]}" if wrong else None


@rank_zero_only
def sweep_up(folder: Path) -> None:
    """Remove the unfinished files that a killed process left in a run folder; files of the user's stay."""
    for place in (folder, *(folder / name for name in ("checkpoints", "images", "csv", "wandb"))):
        for path in filter(is_temporary, place.glob("*.tmp.*")):
            path.unlink(missing_ok=True)


def load_weights(module: nn.Module, path: Path, key: str = "run") -> None:
    """Put the weights of a checkpoint file into a module; raises InputError as `load` and `put_weights`."""
    put_weights(module, load(path, key=key), path, key)


def put_weights(module: nn.Module, checkpoint: Mapping[str, Any], path: Path, key: str = "run") -> None:
    """Put a checkpoint's weights into a module; raises InputError, which names `key` and `path`, if they do not fit."""
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    if not weights and module.state_dict():
        raise InputError(f"{key}: {path} holds no weights, as its model has nothing to train; choose another run")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        reason = difference(plain(checkpoint.get("facts")), getattr(module, "built_for", {})) or first
        raise InputError(
            f"{key}: the weights in {path} do not fit the model of this run ({reason}); "
            "choose a task with images like those it was trained on"
        ) from error
