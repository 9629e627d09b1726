"""Train, compare and use neural networks that restore, compress, generate and recognise images."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recon.loaded import Model
    from recon.restore.restorer import PhotoRestorer

__version__ = "0.1.0"


def load(name: str | Path) -> "Model | PhotoRestorer":
    """Load a trained model from its run folder alone, or weights, ready to use: no task, no images, no command line.

    >>> import numpy, recon
    >>> model = recon.load("outputs/restoration")
    >>> model.facts["image_size"]
    (8, 8)
    >>> noisy = numpy.full((8, 8), 128, numpy.uint8)
    >>> model(noisy).shape, model(noisy).dtype
    ((8, 8), dtype('uint8'))

    Args:
        name: the run folder of a training, a unique ending of it below outputs/, or "last"; or weights that come along,
            or a `.safetensors` file that `action=export` wrote.

    Returns:
        Of a run a model to call with Pillow images, arrays and tensors; generators have `generate` instead. Both it and
        weights have `restore`, for images of any size.

    Raises:
        recon.errors.InputError: it is none of these, or a damaged one.
    """
    from recon.loaded import load as load_model

    return load_model(name)


def __getattr__(name: str) -> ModuleType:
    """Import a part when it is first asked for, as in `recon.metrics.psnr`; the package alone imports no torch."""
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
