"""Standard output and errors that never end a run: letters that they lack are escaped, a reader may go away."""

import errno
import io
import os
import sys
from typing import Any


class _Lasting(io.FileIO):
    """A file descriptor that leads nowhere from when its reader has gone, as that of `| head` does."""

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


def make_lasting() -> None:
    """Make this process's standard output and errors such; those that a caller has put in their place only escape."""
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
