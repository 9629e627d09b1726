"""Real damage: degraded images that the user already has, each beside its clean one."""

from torch import Tensor

from recon.degradations.base import Degradation, Degraded
from recon.degradations.levels import too_small
from recon.errors import InputError
from recon.filters.resize import LARGEST_SCALE
from recon.ranges import require_whole


class FromFiles(Degradation):
    """Take the degraded images from files that the user already has; the clean ones are those of `task=folder`.

    A degraded image has the name of its clean one, folders below `path` included, with any suffix. Both are cropped,
    flipped and turned alike. The mask is all ones and the severity 0, as nothing is known of the damage. This class
    only says where the files lie: `recon.data` reads them, and it cannot degrade tensors.

    >>> FromFiles("photographs/small", scale=2).scale
    2

    Args:
        path: a folder or a glob of the degraded images of `task.path`.
        test: the same for those of `task.test`; None where that is None.
        scale: how many times smaller than their clean images they are, in height and width, rounded down; 1 to 256.
    """

    def __init__(self, path: str, test: str | None = None, scale: int = 1) -> None:
        require_whole("scale", scale, 1, LARGEST_SCALE)
        self.path = path
        self.test = test
        self.scale = scale

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Raise InputError: the degraded images of these tensors are not known, see `Degradation`."""
        raise InputError(
            "degradation=file has files for the images of task=folder only and stands alone: take it out of steps, "
            "choices or sometimes, or choose task=folder."
        )

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse images that would become smaller than a pixel, see `Degradation`."""
        if min(shape[1:]) < self.scale:
            raise too_small(self.scale, *shape[1:])
