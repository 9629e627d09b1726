"""Signals that end a run: while it trains, the first asks it to save and stop; at any other time it stops at once.

SIGINT is Ctrl-C; SIGTERM is what a cluster sends to a job that it preempts, and a sweep to the jobs that it ends.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from recon.console import say
from recon.errors import Interrupted

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_installed = _deferring = False
_asked: list[int] = []  # the signal that asks a training to stop


def install() -> None:
    """Let the signals that end a process raise `Interrupted`, or wait where `deferred` says so."""
    global _installed
    _installed = True
    for number in _SIGNALS:
        signal.signal(number, _handle)


def reinstall() -> None:
    """Take the signals back from Lightning, whose handler of SIGTERM talks to other processes in the midst of work."""
    if _installed:
        install()


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
    say("stopping at the next step, after a checkpoint (a second signal stops at once)")
