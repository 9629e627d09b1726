"""The run folders on disk: finding and reading them, writing their files, telling which two are the same run."""

from recon.runs.folder import RunFolder, find, is_alive, locked, named

__all__ = ["RunFolder", "find", "is_alive", "locked", "named"]
