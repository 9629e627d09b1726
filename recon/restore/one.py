"""One picture from its bytes to those of the restored one, and the record from which it can be made again."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recon import __version__
from recon.errors import InputError
from recon.restore.blocks import text_chunk
from recon.restore.encode import SUFFIXES, encode, unsuited
from recon.restore.mend import Done, Settings, restored
from recon.restore.outputs import sha256
from recon.restore.picture import Picture, picture_of, read_file
from recon.restore.plan import Plan, Wishes, plan

KEYWORD = "recon"  # of the text in a PNG
_PLAIN = ("name", "sha256")  # of the weights


class Made(NamedTuple):
    """What became of a picture.

    Attributes:
        written: the bytes of the file.
        plan: what was seen and done.
        before: the picture.
        after: the restored one, or None where it is left as it is.
        record: what the sidecar says, but for the time it took.
    """

    written: bytes
    plan: Plan
    before: Picture
    after: Picture | None
    record: dict[str, Any]


Watch = Callable[[Picture], AbstractContextManager[Done]]


def made(
    data: bytes,
    source: Path,
    target: Path,
    wishes: Wishes,
    quality: int | None,
    embed: bool,
    watch: Watch = lambda picture: nullcontext(lambda pixels: None),
) -> Made:
    """Restore a picture from the bytes of its file.

    Args:
        data: the bytes.
        source: where they come from.
        target: where the result goes; its ending chooses the format.
        wishes: what was asked for.
        quality: see `recon.restore.encode.encode`.
        embed: put the record into the file too, where it is a PNG.
        watch: shows how far it is.

    Raises:
        InputError: the picture is bad, or cannot be restored or written so.
    """
    picture = picture_of(data, source, wishes.max_pixels)
    form = _format_of(target)
    chosen = plan(picture, wishes)
    record = _record(os.path.relpath(source, target.parent), sha256(data), wishes, chosen, quality, embed)
    after = None
    if chosen.weights is not None:
        with watch(picture) as done:
            values, alpha = restored(picture, chosen.weights, wishes.settings, chosen.hole, done)
        after = replace(picture, values=values, alpha=alpha)
    elif form == picture.format:
        return Made(data, chosen, picture, None, record | {"sha256": sha256(data)})
    shown = after or picture
    if form != picture.format:
        shown = replace(shown, format=form, blocks=(), lossless=form != "JPEG")
    if reason := unsuited(shown):
        raise InputError(f"output: {reason}; choose format=png or format=tiff")
    if embed and form == "PNG":
        shown = replace(shown, blocks=(*shown.blocks, text_chunk(KEYWORD, json.dumps(record, sort_keys=True))))
    written = encode(shown, quality)
    return Made(written, chosen, picture, after, record | {"sha256": sha256(written)})


def _format_of(target: Path) -> str:
    form = SUFFIXES.get(target.suffix.lower())
    if form is None:
        raise InputError(f"output: {target.suffix or target.name} is no ending of a picture; choose one of "
                         f"{', '.join(sorted(SUFFIXES))}")  # fmt: skip
    return form


def settings_of(wishes: Wishes, quality: int | None, embed: bool) -> dict[str, Any]:
    """Return what a result depends on besides the picture, as plain values; raises BadImage for a mask that is gone."""
    asked = {**asdict(wishes), "quality": quality, "embed": embed}
    if wishes.mask is not None:
        asked["mask_sha256"] = sha256(read_file(wishes.mask))
    return {name: str(value) if isinstance(value, Path) else value for name, value in asked.items()}


def wishes_of(settings: dict[str, Any]) -> tuple[Wishes, int | None, bool]:
    """Return the wishes, the quality and `embed` of plain values; raises InputError where they are none."""
    try:
        inner = settings["settings"]
        known = {field.name: settings[field.name] for field in fields(Wishes) if field.name != "settings"}
        paths = {name: None if known[name] is None else Path(known[name]) for name in ("run", "mask")}
        wishes = Wishes(**{**known, **paths}, settings=Settings(**inner))
        return wishes, settings["quality"], settings["embed"]
    except (KeyError, TypeError) as error:
        raise InputError(f"output: its .json is of another version of recon ({error}); restore it again") from error


def _record(source: str, digest: str, wishes: Wishes, chosen: Plan, quality: int | None, embed: bool) -> dict[str, Any]:
    weights, gain = chosen.weights, chosen.gain
    return {
        "recon": __version__,
        "source": source,
        "source_sha256": digest,
        "weights": None if weights is None else {name: getattr(weights, name) for name in _PLAIN},
        "settings": settings_of(wishes, quality, embed),
        "seen": chosen.seen,
        "done": chosen.why,
        "jpeg_quality": chosen.quality,
        "sigma": [] if gain is None else list(gain.sigma),
        "gain_db": None if gain is None else gain.decibels,
        "gain_error_db": None if gain is None else gain.error,
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} "
        f"threads, torch {torch.__version__}",
    }
