"""TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

from recon.dashboards.base import About, Dashboard


class TensorBoard(Dashboard):
    """Event files in `tensorboard/`."""

    title = "TensorBoard"
    package = "tensorboard"
    install = "tensorboard"

    def __init__(self, about: About) -> None:
        self.folder = about.folder / "tensorboard"
        self._writer: Any = None

    def _open(self, step: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # Steps after the checkpoint that this process resumed from are done again.
            earlier = any(self.folder.glob("events.*"))
            self._writer = SummaryWriter(str(self.folder), purge_step=step if earlier else None, flush_secs=10)
        return self._writer

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        for name, value in values.items():
            self._open(step).add_scalar(name, value, step)

    def image(self, name: str, image: Image, step: int) -> None:
        """Add a picture."""
        import numpy

        self._open(step).add_image(name, numpy.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
