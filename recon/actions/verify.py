"""`action=verify output=<picture>`: restore a picture again as its sidecar says, and compare the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recon.actions.base import Action
from recon.errors import InputError


class Verify(Action):
    """Make a restored picture again and compare it, byte for byte.

    Args:
        output: the restored picture, beside which its `.json` and the picture it was made from must lie.
    """

    leaves_a_record = False
    imports_torch = False  # as `action=restore`
    takes = ()

    def __init__(self, output: str | None) -> None:
        if output is None:
            raise InputError("output: give the restored picture, as output=photo_restored.jpg")
        self.output = Path(output).expanduser()

    def __call__(self, config: dict[str, Any], folder: Path, about: Mapping[str, Any]) -> None:
        """Say whether it is the same; ends with status 1 where it is not."""
        from recon.restore.again import difference

        if reason := difference(self.output):
            print(f"{self.output}: {reason}", flush=True)
            raise SystemExit(1)
        print(f"{self.output}: made again, the same byte for byte", flush=True)
