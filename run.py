"""The entry point: `python run.py model=gan task=mnist trainer.devices=2`; `--help` lists the choices."""

import sys

try:
    from recon.cli import main
except ModuleNotFoundError as error:
    if (error.name or "recon").startswith("recon"):
        raise
    print(
        f"error: {error.name} is not installed for this Python; `make setup`, then `source .venv/bin/activate`",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    sys.exit(main())
