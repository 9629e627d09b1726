"""Standard output and standard error that never end a run: what they cannot encode is escaped, a reader may go away."""

import errno
import io
import os
import sys
from typing import Any


class _Lasting(io.FileIO):
    """A file descriptor whose output is dropped once its reader has gone, as `| head` does."""

    def write(self, data: Any, /) -> int:
        """Write bytes; returns how many."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: a terminal that was closed
                raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return super().write(data)


def printable(text: object) -> str:
    """Return text that no terminal obeys: control codes and marks that reorder it become "�", line ends a blank."""
    blanks = "\t\n\r\v\f\x85\u2028\u2029"
    return "".join(c if c.isprintable() else " " if c in blanks else "�" for c in str(text))


def duration(seconds: float) -> str:
    """Return a time such as "12.3 s" or "1 h 02 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def make_lasting() -> None:
    """Replace this process's standard output and standard error; streams that a caller has put there only escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream is not getattr(sys, f"__{name}__"):
            stream.reconfigure(errors="backslashreplace")
            continue
        stream.flush()
        raw: Any = _Lasting(stream.fileno(), "w", closefd=False)
        lasting = io.TextIOWrapper(
            raw if stream.write_through else io.BufferedWriter(raw),
            stream.encoding,
            "backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, lasting)
