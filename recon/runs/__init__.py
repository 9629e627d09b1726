"""The run folders on disk: finding and reading them, writing their files, telling which two are the same run."""

from recon.runs.folder import RunFolder, action_of, find, named, trained
from recon.runs.lock import is_alive, locked
from recon.runs.names import called, short_name

__all__ = ["RunFolder", "action_of", "called", "find", "is_alive", "locked", "named", "short_name", "trained"]
