"""Classical methods that fill holes or enlarge images, and the one that leaves them as they are."""

import numpy as np
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from recon.baselines.base import Array, Method, for_each, to_arrays
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.filters.holes import mean_filled
from recon.filters.resize import resize
from recon.pair import Pair


class Unchanged(Method):
    """Leave the image as it is; its figures are those of the damage."""

    name = "identity"

    def forward(self, pair: Pair) -> Tensor:
        """Return the degraded images, see `Method`."""
        return pair.degraded.float()


class Bicubic(Method):
    """Enlarge by cubic convolution (Keys 1981), as MATLAB's `imresize`: the baseline of super-resolution."""

    name = "bicubic"

    def prepare_for(self, damage: Degradation) -> None:
        """Take note of the scale, see `Method`."""
        if damage.scale == 1:
            raise InputError(
                "model.method: bicubic enlarges images, and this degradation leaves them their size; choose "
                "degradation=downsample degradation.upsample=null, or another method"
            )
        self.scale = damage.scale

    def forward(self, pair: Pair) -> Tensor:
        """Enlarge, see `Method`."""
        height, width = pair.degraded.shape[2:]
        return resize(pair.degraded.float(), (height * self.scale, width * self.scale), "bicubic_matlab")


class Filler(Method):
    """A method that fills holes and keeps known pixels exactly; where no pixel is known it gives 0.5."""

    def prepare_for(self, damage: Degradation) -> None:
        """Refuse a damage without holes, see `Method`."""
        super().prepare_for(damage)
        if not damage.makes_holes:
            raise InputError(
                f"model.method: {self.name} fills holes and this degradation makes none; choose degradation=missing|"
                "missing_box|missing_strokes|missing_half, or another method"
            )


class MeanFill(Filler):
    """Fill holes with the mean of the image's known pixels, a number for each channel."""

    name = "mean_fill"

    def forward(self, pair: Pair) -> Tensor:
        """Fill, see `Method`."""
        return mean_filled(pair.degraded.float(), pair.mask.float()).nan_to_num(nan=0.5)


class Biharmonic(Filler):
    """Continue the image smoothly into holes: the biharmonic equation (Damelin & Hoang 2018), in each channel.

    `skimage.restoration.inpaint_biharmonic`.
    """

    name = "biharmonic"

    def forward(self, pair: Pair) -> Tensor:
        """Fill each image, see `Method`."""
        holes = pair.mask[:, 0].cpu().numpy() == 0
        return for_each(self._filled, pair.degraded, to_arrays(pair.degraded), holes)

    @staticmethod
    def _filled(image: Array, holes: Array) -> Array:
        if not holes.any() or holes.all():
            return np.where(holes[..., None], 0.5, image)
        filled: Array = inpaint_biharmonic(image, holes, channel_axis=-1)
        return filled
