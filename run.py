"""The entry point: `python run.py model=gan task=mnist trainer.devices=2`; `--help` lists the choices."""

import sys

from recon.cli import main

if __name__ == "__main__":
    sys.exit(main())
