"""Train, compare and use neural networks that restore, compress, generate and recognise images."""

import importlib
import importlib.util
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Import a part when it is first asked for, as in `recon.metrics.psnr`; the package alone imports no torch."""
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
