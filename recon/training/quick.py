"""Lightning imported in less time, as a run's start consists of little else."""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_SIGNAL = "scipy.signal"


class _Signal(ModuleType):
    """Stands for `scipy.signal` until something of it is used.

    torchmetrics imports it, a fifth of the time of `import lightning`, only to give it a `hamming` where it has none.
    """

    hamming = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(_SIGNAL) is self:
            del sys.modules[_SIGNAL]
        return getattr(importlib.import_module(_SIGNAL), name)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import what is needed for a run within this context.

    The garbage collector, which would traverse all objects again and again while modules make more, pauses; those made
    until its end are never traversed.
    """
    stand_in = _Signal(_SIGNAL)
    sys.modules.setdefault(_SIGNAL, stand_in)
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if sys.modules.get(_SIGNAL) is stand_in:
            del sys.modules[_SIGNAL]
        if collected:
            gc.freeze()
            gc.enable()
