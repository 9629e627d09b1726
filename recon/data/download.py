"""Files of public data sets, verified by checksum and downloaded when they are missing."""

import os
import sys
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path

import pooch

from recon.errors import InputError

_REMEDY = "put the file there by hand, or set data.root (or RECON_DATA) to a folder that has it"
_STALE = 3600.0  # seconds without a byte after which a partial file belongs to no living process


def fetch(folder: Path, files: dict[str, str], urls: list[str]) -> list[Path]:
    """Return the paths of files in a folder, downloading only those that are missing.

    Each file is downloaded to a temporary name of its own and then renamed, so that an interrupted run leaves nothing
    half-written, the next run continues with the files still missing, and several processes may download at once. A
    file with another checksum is never used: it is kept aside as `<name>.bad`.

    Args:
        folder: where the files belong; made if something must be downloaded.
        files: MD5 (hexadecimal) by file name.
        urls: addresses of folders that hold the files, tried in turn.

    Raises:
        InputError: a file is missing or wrong and cannot be downloaded.
    """
    for name, md5 in files.items():
        path = folder / name
        if path.is_file() and not _matches(path, md5):
            _set_aside(path)
        if not path.is_file():
            _download(path, md5, [f"{url.rstrip('/')}/{name}" for url in urls])
    return [folder / name for name in files]


def _matches(path: Path, md5: str) -> bool:
    return bool(pooch.file_hash(str(path), alg="md5") == md5)


def _set_aside(path: Path) -> None:
    """Rename a wrong file to `<name>.bad`, so that nobody reads it and the user loses nothing."""
    aside = path.with_name(f"{path.name}.bad")
    try:
        path.replace(aside)
    except FileNotFoundError:
        return  # another process was faster
    except OSError as error:
        raise InputError(
            f"{path} has a wrong checksum and its folder cannot be written ({error.strerror}): replace the file, "
            "or set data.root (or RECON_DATA) to a folder that can be written."
        ) from error
    warnings.warn(f"{path} has a wrong checksum; it is kept as {aside.name} and not used.", stacklevel=4)


def _download(path: Path, md5: str, urls: list[str]) -> None:
    """Download one file from the first address that has the right bytes."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=(10, 60))
    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_parts(path)
        for url in urls:
            try:
                download(url, str(part), None)
            except OSError as error:  # exceptions of `requests` are OSErrors too
                failures.append(f"{url}: {_reason(error)}")
                continue
            if _matches(part, md5):
                part.replace(path)
                return
            failures.append(f"{url}: wrong checksum")
    except OSError as error:
        failures.append(f"{path.parent} cannot be written: {_reason(error)}")
    finally:
        with suppress(OSError):
            part.unlink()
    raise InputError(f"{path} is missing and could not be downloaded ({'; '.join(failures)}): {_REMEDY}.")


def _remove_stale_parts(path: Path) -> None:
    """Remove the partial files of killed processes, but not one that is being written."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        with suppress(FileNotFoundError):  # it was finished and renamed meanwhile
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


def _reason(error: OSError) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    return os.strerror(error.errno) if error.errno else type(error).__name__
