"""Files that are written to a temporary name and renamed, so that a kill leaves none half done."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
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


def disk_use(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; links and what cannot be read count as nothing."""
    try:
        if path.is_symlink():
            return 0
        return sum(disk_use(path / name) for name in os.listdir(path)) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0


def in_words(size: int) -> str:
    """Write a number of bytes, such as "1.5 MB"."""
    units = ["bytes", "kB", "MB", "GB"]
    powers = [power for power in range(len(units)) if size < 999.5 * 1000**power]  # 999,999 is 1 MB, not 1e+03 kB
    power = powers[0] if powers else len(units)
    return f"{size / 1000**power:.3g} {[*units, 'TB'][power]}"


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


def write_columns(path: Path, columns: Mapping[str, Tensor], **texts: Sequence[str]) -> None:
    """Write a table of one row per image from its columns (N,), then its columns of N texts."""
    values = [column.tolist() for column in columns.values()]
    names = [*columns, *texts]
    write_csv(path, (dict(zip(names, row, strict=True)) for row in zip(*values, *texts.values(), strict=True)))


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
