"""TensorBoard event files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image
    from torch import Tensor

from recon.dashboards.base import About


class TensorBoard:
    """Event files in `tensorboard/`."""

    def __init__(self, about: About) -> None:
        self.folder = about.folder / "tensorboard"
        self._writer: Any = None

    def _open(self, step: int) -> Any:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # TensorBoard forgets what an earlier process did after the checkpoint that this one goes on from.
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

        self._open(step).add_image(name, numpy.asarray(image), step, dataformats="HWC")

    def results(self, columns: Mapping[str, Tensor], samples: Mapping[str, numpy.ndarray], step: int) -> None:
        """TensorBoard has no tables; `per_image.csv` has them."""

    def close(self, metrics: Mapping[str, float], status: str) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()

    @staticmethod
    def abandon() -> None:
        """The writer's thread ends with the process."""

    def answers(self) -> bool:
        """A disk does, or raises."""
        return True
