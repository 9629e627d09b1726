"""`python -m recon`, and the program of a sweep's jobs, which is run by its path."""

import sys

if not __package__ and sys.path[0] == __file__.removesuffix("/__main__.py"):
    # Run by its path: the folder above the package is what Python must search, not the package itself.
    sys.path[0] = sys.path[0].removesuffix("/recon")

from recon.cli import main

if __name__ == "__main__":
    sys.exit(main())
