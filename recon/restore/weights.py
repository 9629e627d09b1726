"""Weights in one file with all that is needed to use them: safetensors, whose header says what they are for.

A file holds numbers and plain text, never code: the net is built by its name from `recon.nets` alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from recon.config.construct import construct
from recon.errors import InputError
from recon.restore.tiles import Reach
from recon.runs.files import write_bytes

Purpose: TypeAlias = Literal["denoise", "jpeg", "inpaint", "super_resolve", "restore", "recognise"]

FOLDER = Path(__file__).parent.parent / "weights"
_HASHES = FOLDER / "SHA256SUMS"
_ENTRY = "recon"  # of the header
_VERSION = 1
_LARGEST = 1 << 30  # bytes


@dataclass(frozen=True)
class About:
    """What weights are, as the header of their file says it.

    Attributes:
        purpose: what they are for.
        net: the node `model.net` of the configuration that builds their net.
        facts: of the images that the net is built for: "channels", "in_channels", "scale", "image_size".
        noise_map: whether the net is given the level of the noise as one more channel.
        radius: pixels around each that the net sees; None where it sees the whole picture.
        stride: of the net, see `recon.restore.tiles.Reach`; None with `radius`.
        trained: the damage, images, steps and seed of the training, for people.
        figures: what was measured, by the images with their damage: each measure, where it has a baseline also
            "<measure>_before" and the ends of the 95 % interval of the gain, "<measure>_low" and "<measure>_high".
    """

    purpose: Purpose
    net: dict[str, Any]
    facts: dict[str, Any]
    noise_map: bool
    radius: int | None
    stride: int | None
    trained: dict[str, Any]
    figures: dict[str, dict[str, float]]

    @property
    def reach(self) -> Reach | None:
        """What the net sees, or None where it is the whole picture."""
        if self.radius is None or self.stride is None:
            return None
        return Reach(self.radius, self.stride, int(self.facts["scale"]))


class Weights:
    """A net that is ready to restore, and what it is.

    Attributes:
        name: of the file, without its ending, or of the run.
        about: see `About`.
        net: in evaluation mode, float32, on the CPU.
        sha256: of the file; of the weights where they come from a run.
    """

    def __init__(self, name: str, about: About, net: nn.Module, sha256: str) -> None:
        self.name, self.about, self.net, self.sha256 = name, about, net.eval().requires_grad_(False), sha256
        self._device: str | None = None

    def on(self, device: str) -> nn.Module:
        """Return the net on a device, in the order of memory that restores a picture in less time."""
        if device != self._device:
            # A quarter to a half faster on a CPU, and less memory: oneDNN need not reorder what it is given.
            self.net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._device = device
        return self.net


def names() -> list[str]:
    """Return the names of the weights that come along."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def restorers() -> list[str]:
    """Return the names of those that restore; the others are classifiers, named by the task that they judge."""
    return [name for name in names() if not name.startswith("judge_")]


def require_restorer(weights: Weights, key: str = "weights") -> Weights:
    """Return weights that restore; raises InputError for a classifier's."""
    if weights.about.purpose == "recognise":
        raise InputError(f"{key}: {weights.name} recognises images and restores none; weights=list shows those that do")
    return weights


def load_weights(name: str, key: str = "weights") -> Weights:
    """Load weights that come along, by their name, or a file of weights.

    Args:
        name: one of `names()`, or the path of a `.safetensors` file that `action=export` wrote.
        key: what names them, for messages.

    Raises:
        InputError: there are none of that name, or the file is damaged or holds something else.
    """
    if name.endswith(".safetensors"):
        path = Path(name).expanduser()
        data = _read(path, key)
        return _loaded(path.stem, path, data, key)
    if name not in names():
        near = get_close_matches(name, names(), 1)
        hint = f"; did you mean {near[0]}? Else choose" if near else "; choose"
        raise InputError(
            f"{key}: there are no weights {name!r}{hint} {'|'.join(names())}, a .safetensors file, or run=<run>"
        )
    path = FOLDER / f"{name}.safetensors"
    data = _read(path, key)
    if (found := hashlib.sha256(data).hexdigest()) != _hashes().get(path.name):
        raise InputError(
            f"{key}: {path} is not the file that came with recon (sha256 {found[:12]}...): install recon again, or "
            "give your own file another name and its path"
        )
    return _loaded(name, path, data, key)


def save_weights(path: Path, about: About, weights: Mapping[str, Tensor], half: bool = True) -> None:
    """Write weights to a file, whole or not at all.

    Args:
        path: the file.
        about: what they are.
        weights: by their names in the net.
        half: store float32 as float16, half as large.
    """
    from safetensors.torch import save

    stored = {
        name: (weight.half() if half and weight.dtype == torch.float32 else weight).contiguous().cpu()
        for name, weight in weights.items()
    }
    header = json.dumps({"version": _VERSION, **asdict(about)}, sort_keys=True)
    write_bytes(path, save(stored, {_ENTRY: header}))


def _loaded(name: str, path: Path, data: bytes, key: str) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load

    wrong = f"{key}: {path} holds no weights of recon"
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_ENTRY])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{wrong} ({type(error).__name__}); choose a file that action=export wrote") from error
    if not isinstance(header, dict) or header.pop("version", None) != _VERSION:
        raise InputError(f"{wrong} of this version; update recon")
    about = _about(header, wrong)
    facts = {**about.facts, "image_size": tuple(about.facts.get("image_size") or ())}
    net: nn.Module = construct(about.net, "model.net", facts)
    try:
        net.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor
                             for name, tensor in tensors.items()})  # fmt: skip
    except RuntimeError as error:
        raise InputError(
            f"{wrong} that fit its net ({str(error).splitlines()[-1].strip()}); export it again"
        ) from error
    return Weights(name, about, net, hashlib.sha256(data).hexdigest())


def _about(header: Mapping[str, Any], wrong: str) -> About:
    """Check the header of a file, which may be a stranger's."""
    kinds = {"net": dict, "facts": dict, "noise_map": bool, "trained": dict, "figures": dict}
    numbers = [header.get(name) for name in ("radius", "stride")]
    facts = header.get("facts")
    is_right = (
        set(header) == {*kinds, "purpose", "radius", "stride"}
        and header["purpose"] in get_args(Purpose)
        and all(isinstance(header[name], kind) for name, kind in kinds.items())
        and all(_are_numbers(row) for row in header["figures"].values())
        and (numbers == [None, None] or all(type(number) is int and 0 <= number < 1 << 12 for number in numbers))
        and isinstance(facts, dict)
        and facts.get("channels") in (1, 3)
        and facts.get("scale") in range(1, 9)
    )
    if not is_right or numbers[1] == 0:
        raise InputError(f"{wrong}, as its header is of another kind; choose a file that action=export wrote")
    return About(**header)


def _are_numbers(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())


def _read(path: Path, key: str) -> bytes:
    from recon.runs.reading import Unreadable, read_bytes

    try:
        return read_bytes(path, _LARGEST)
    except OSError as error:
        raise InputError(f"{key}: {path} cannot be read ({error.strerror}); choose another file") from error
    except Unreadable as error:
        raise InputError(f"{key}: {path}: {error}; choose another file") from error


@cache
def _hashes() -> dict[str, str]:
    """Return the sha256 of the files that come along, as `sha256sum` lists them."""
    lines = _HASHES.read_text().splitlines() if _HASHES.is_file() else []
    return {name: digest for digest, name in (line.split() for line in lines)}
