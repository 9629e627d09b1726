"""Signals that end a run: while it trains, the first asks it to save and stop; at any other time it stops at once.

SIGINT is Ctrl-C; SIGTERM is what a cluster sends to a job that it preempts, and a sweep to the jobs that it ends;
SIGUSR1 and SIGUSR2 are what SLURM is asked to send some time before the end of a job's time.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from recon.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_handling = _deferring = False
_asked: list[int] = []  # the signal that asks a training to stop


@contextmanager
def handled() -> Iterator[None]:
    """Let the signals that end a process raise `Interrupted` inside, or wait where `deferred` says so."""
    global _handling
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    _handling = True
    take_back()
    try:
        yield
    finally:
        _handling = False
        for number, handler in before.items():
            signal.signal(number, handler)


def take_back() -> None:
    """Take the signals back from Lightning, whose handler of SIGTERM talks to other processes in the midst of work."""
    if _handling:
        for number in _SIGNALS:
            signal.signal(number, _handle)


@contextmanager
def deferred() -> Iterator[None]:
    """Let the first signal only be noted, for `asked`; the work inside is to look there often."""
    global _deferring
    _asked.clear()
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def asked() -> int:
    """The number of the signal that asks this process to save and stop, or 0."""
    return _asked[0] if _asked else 0


def _handle(number: int, frame: FrameType | None) -> None:
    if not _deferring or _asked:
        raise Interrupted(number)
    _asked.append(number)
    if os.environ.get("LOCAL_RANK", "0") == "0":
        # Not by print, which a signal may have met in the midst of another line.
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nstopping at the next step, after a checkpoint (a second signal stops at once)\n")
