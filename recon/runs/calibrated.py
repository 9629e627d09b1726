"""The temperature of a calibrated classifier, which lies in its run folder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from recon.errors import InputError
from recon.runs.files import write_json

_NAME = "temperature.json"
LEAST, MOST = 0.01, 100.0


def read(folder: Path) -> float:
    """Return the temperature of a run, 1 where it was not calibrated; raises InputError for a damaged file."""
    path = folder / _NAME
    try:
        found: Any = json.loads(path.read_text("utf-8"))["temperature"]
    except FileNotFoundError:
        return 1.0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error
    if isinstance(found, bool) or not isinstance(found, int | float) or not LEAST <= found <= MOST:
        raise _damaged(path)
    return float(found)


def write(folder: Path, temperature: float, **about: float) -> Path:
    """Write the temperature of a run, and what it was fitted on; one of 1 is that of an uncalibrated run."""
    path = folder / _NAME
    write_json(path, {"temperature": temperature, **{name: v for name, v in about.items() if math.isfinite(v)}})
    return path


def _damaged(path: Path) -> InputError:
    return InputError(f"run: {path} holds no temperature from {LEAST:g} to {MOST:g}; remove it, or write it again with "
                      f"action=calibrate run={path.parent}")  # fmt: skip
