"""Who is at work in a folder of a run or sweep: a lock that goes with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from recon.errors import InputError


@contextmanager
def locked(folder: Path, key: str = "hydra.run.dir") -> Iterator[None]:
    """Hold a folder of a run or sweep while working in it; the lock goes with the process, however that ends.

    Args:
        folder: made if it is not there.
        key: names the folder in the configuration, for messages.

    Raises:
        InputError: another process uses it, or it cannot be written to.
    """
    path, patience = folder / "run.lock", time.monotonic() + 0.2
    while True:
        with _opened(path, key) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if time.monotonic() < patience:  # `is_alive` holds the lock for a moment
                    time.sleep(0.01)
                    continue
                raise InputError(f"{key}: another process is at work in {folder}; wait for it or end it") from error
            # The process that had it may have taken the file away since it was opened.
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _opened(lock: Path, key: str) -> IO[str]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return open(lock, "w", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{key}: {lock.parent} cannot be written to ({error.strerror}); choose another folder"
        ) from error


def is_alive(folder: Path) -> bool:
    """Return whether a process uses this run folder."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for somebody to write to it.
        with open(os.open(folder / "run.lock", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
