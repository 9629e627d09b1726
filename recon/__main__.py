"""`python -m recon`, and the program of a sweep's jobs, which is run by its path."""

import sys

if not __package__:
    # Run by its path: the folder above the package is what Python must search, not the package itself.
    from pathlib import Path

    sys.path[0] = str(Path(__file__).absolute().parents[1])

from recon.cli import main

if __name__ == "__main__":
    sys.exit(main())
