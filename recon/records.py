"""The files of a run folder: each is written to a temporary name and renamed, so that a kill leaves none half done."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def write_bytes(path: Path, data: bytes | memoryview, former: Path | None = None) -> None:
    """Write a file whole or not at all: to a temporary name in the same folder, flushed, then renamed.

    Args:
        path: the file.
        data: its content.
        former: where the file that was there goes, or None.

    Raises:
        InputError: the disk is full or cannot be written to; what was there is kept.
    """
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if former is not None and path.exists():
            os.replace(path, former)
        os.replace(temporary, path)
    except OSError as error:
        raise _not_written(path, len(data), error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _not_written(path: Path, size: int, error: OSError) -> InputError:
    """Say why a file was not written, and how the run that it belongs to, if any, is resumed."""
    run = next((folder for folder in path.parents if os.path.isfile(folder / "environment.json")), None)
    key, resume = ("hydra.run.dir: ", f" and resume the run with resume={run}") if run else ("", "")
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return InputError(f"{key}{path} cannot be written ({error.strerror}); choose another folder")
    return InputError(
        f"{key}the disk is full: writing {path} needs {size / (1 << 20):.3g} MB; free some space{resume}, "
        "or choose another folder (what was written before is kept)"
    )


def is_temporary(path: Path) -> bool:
    """Is this a file of a run folder that `write_bytes` has not finished?"""
    return re.fullmatch(r"(id|.+\.(yaml|json|csv|ckpt|png|npz|html|md|tex))\.tmp\.\d+", path.name) is not None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    # Without a UTF-8 locale Python reads other letters of paths as surrogates, which stand for the very bytes.
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON whole or not at all; a number that JSON does not have, NaN or infinite, becomes null."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table whole or not at all; its columns are all the keys of the rows, in order of appearance."""
    rows = list(rows)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def write_columns(path: Path, columns: Mapping[str, Tensor]) -> None:
    """Write a table of one row per image from its columns (N,)."""
    values = [column.tolist() for column in columns.values()]
    write_csv(path, (dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write NumPy arrays by name as a compressed .npz, whole or not at all; `allow_pickle=False` reads them."""
    import numpy

    buffer = io.BytesIO()
    numpy.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getbuffer())


def write_image(path: Path, image: Image) -> None:
    """Write a PNG whole or not at all."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_bytes(path, buffer.getbuffer())


def grid(columns: Mapping[str, Tensor]) -> Image:
    """Draw a grid of images: a row for each sample, a headed column for each kind.

    Args:
        columns: (B,C,H,W) each, C = 1 or 3 (others show their first channel), values in [0,1] (clamped).
    """
    from PIL import Image, ImageDraw

    sample = next(iter(columns.values()))
    height, width = sample.shape[-2:]
    # Small images are enlarged to be looked at; the header is the height of Pillow's built-in font.
    zoom, gap, header = max(1, -(-96 // max(height, width))), 4, 14
    cell_height, cell_width = height * zoom + gap, width * zoom + gap
    sheet = Image.new("RGB", (len(columns) * cell_width + gap, len(sample) * cell_height + header + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (name, images) in enumerate(columns.items()):
        left = gap + column * cell_width
        draw.text((left, 1), name, fill="black")
        for row, image in enumerate(pixels(images).numpy()):
            enlarged = Image.fromarray(image).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (left, header + row * cell_height))
    return sheet


def pixels(images: Tensor) -> Tensor:
    """Turn images (B,C,H,W) into (B,H,W,3) uint8 on the CPU; C = 1 or 3, of others the first channel is shown."""
    import torch

    shown = images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
    levels = shown.detach().float().cpu().nan_to_num().clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1)


def heatmap(table: Tensor) -> Image:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one, darker for more.

    Args:
        table: (K,K) int64 counts; each row is shaded by its own share.
    """
    from PIL import Image, ImageDraw

    cell, margin = 40, 56
    side = margin + cell * len(table)
    sheet = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 4), "truth \\ seen as", fill="black")
    share = table.double() / table.sum(1, keepdim=True).clamp(min=1)
    for row, counts in enumerate(table.tolist()):
        top = margin + cell * row
        draw.text((margin - 14, top + 14), str(row), fill="black", anchor="ra")
        draw.text((top + 20, margin - 16), str(row), fill="black", anchor="ma")
        for column, count in enumerate(counts):
            left, light = margin + cell * column, round(255 * (1 - float(share[row, column]) ** 0.5))
            draw.rectangle((left, top, left + cell - 2, top + cell - 2), fill=(light, light, 255))
            if count:
                draw.text((left + 19, top + 14), str(count), fill="black" if light > 110 else "white", anchor="ma")
    return sheet


def environment(**known: Any) -> dict[str, Any]:
    """Describe where a run ran: versions, machine, git, command and start."""
    from importlib.metadata import version

    import torch

    packages = ("recon", "torch", "lightning", "hydra-core", "omegaconf", "torchmetrics", "wandb", "numpy")
    return {
        "status": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version_or_none(version, name) for name in packages},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())],
        "git": _git(),
        **known,
    }


def _version_or_none(version: Any, name: str) -> str | None:
    try:
        return str(version(name))
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return None


def _git() -> dict[str, Any] | None:
    """The commit of the code and whether it was changed since; None outside a checkout."""

    def ask(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return None
