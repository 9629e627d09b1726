"""The user's own modules, which the environment variable RECON_TRUST names; it imports no torch."""

import os
import sys


def trusted() -> tuple[str, ...]:
    """Return the modules and packages that the user trusts; they may lie in the current folder."""
    names = tuple(name.strip(" .") for name in os.environ.get("RECON_TRUST", "").split(",") if name.strip(" ."))
    if names and os.getcwd() not in sys.path:
        # Last, so that no file there hides a module of another package.
        sys.path.append(os.getcwd())
    return names
