"""Fewer pixels, as Pillow and MATLAB resample, and back to the size that the images had."""

from typing import ClassVar

import torch
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, check_shape, draw, part
from recon.degradations.levels import Range, ends, one_of, too_small
from recon.errors import InputError
from recon.filters.resize import LARGEST_SCALE, METHODS, resize
from recon.ranges import require_whole


class Downsample(Degradation):
    """Make images `scale` times smaller, rounded up, and optionally enlarge them to their size again.

    The super-resolution literature makes its images with MATLAB's `imresize` of a uint8 image, which rounds to 8 bits
    after the rows are summed up and again at the end: "bicubic_matlab_uint8", of which nearly all values are those of
    the published low-resolution sets. "bicubic_matlab" is `imresize` of doubles, which rounds nothing. Pillow's bicubic
    differs at borders alone where `scale` divides the sides. The severity is `scale`. A pixel of the small image that
    `then` loses is missing wherever it covers the clean one.

    >>> Downsample(2, "area")(clean, keys).image.shape, Downsample(2, upsample="bicubic")(clean, keys).image.shape
    (torch.Size([2, 1, 2, 2]), torch.Size([2, 1, 4, 4]))

    Args:
        scale: how many times smaller, a whole number from 1 to 256 and at most the shorter side of the images; never a
            range, as the images of a batch share one size.
        method: "bicubic", "bilinear", "lanczos" and "nearest" as Pillow's `Image.resize`, "bicubic_matlab" and
            "bicubic_matlab_uint8" as MATLAB's `imresize` (antialiased), "area" the mean of boxes of scale × scale
            pixels, less where the border cuts them.
        upsample: the method that enlarges the image to the size of the clean one, or None to leave it small.
        then: a degradation of the small image, such as noise or JPEG, or None; with several steps a `Chain` (the orders
            of degradation of Wang et al., "Real-ESRGAN", ICCVW 2021). It keeps the size and draws on the stream "then".
    """

    examples: ClassVar = ("scale", (2, 3, 4))

    def __init__(
        self, scale: int, method: str = "bicubic", upsample: str | None = None, then: Degradation | None = None
    ) -> None:
        require_whole("scale", scale, 1, LARGEST_SCALE)
        self.factor = scale
        self.method = one_of("method", method, METHODS)
        self.upsample = upsample if upsample is None else one_of("upsample", upsample, METHODS)
        if then is not None and part("then", then).scale != 1:
            raise InputError("then: it changes the size of images; leave that to scale")
        self.then = then
        self.level = float(scale), float(scale)
        self.scale = scale if upsample is None else 1
        self.makes_holes = then is not None and then.makes_holes

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Make the images smaller, see `Degradation`."""
        size, mask = clean.shape[2:], all_known(clean)
        ratio = float(self.factor) if METHODS[self.method].by_scale else None
        back = ratio and 1 / ratio  # the same ratio, so that the enlarged image lies where the clean one did
        image = resize(clean, self._small(*size), self.method, ratio)
        if self.then is not None:
            image, small_mask, _ = self.then(image, keyed.fold(keys, "then"))
            if self.then.makes_holes:
                mask = resize(small_mask, size, "nearest", back)
        if self.upsample is not None:
            image = resize(image, size, self.upsample, back)
        return Degraded(image, mask, torch.full((len(keys),), float(self.factor), device=keys.device))

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse images of fewer pixels than `scale`, and check `then` for the small ones, see `Degradation`."""
        channels, height, width = shape
        if min(height, width) < self.factor:
            raise too_small(self.factor, height, width)
        if self.then is not None:
            check_shape(self.then, "then", (channels, *self._small(height, width)))

    def _small(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.factor), -(-width // self.factor)


class Pixelate(Degradation):
    """Average over fewer, larger pixels, and show those at the size of the image, both as Pillow's BOX.

    The severity is the fraction; 1 leaves the image unchanged.

    >>> Pixelate(0.5)(clean, keys).image[0, 0, 0]
    tensor([0.0806, 0.0806, 0.1452, 0.1452])

    Args:
        fraction: of each side's pixels that is left, rounded down, from 0 to 1; at least one pixel is.
    """

    examples: ClassVar = ("fraction", (0.75, 0.4, 0.15))

    def __init__(self, fraction: Range) -> None:
        self.level = ends("fraction", fraction, 0, 1)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Make the pixels larger, see `Degradation`."""
        fraction, size = draw(self.level, keys, "fraction"), clean.shape[2:]
        # 0.65 times 20 is a little less than 13.
        sides = [(fraction.double() * side + 1e-4).long().clamp_min(1) for side in size]
        if self.level[0] == self.level[1]:
            return Degraded(_through(clean, sides[0][:1], sides[1][:1]), all_known(clean), fraction)
        image, chosen = torch.empty_like(clean), sides[0] * size[1] + sides[1]
        for one in chosen.unique():
            index = (chosen == one).nonzero().squeeze(1)
            small = _through(clean.index_select(0, index), *(side[index[:1]] for side in sides))
            image = image.index_copy(0, index, small)
        return Degraded(image, all_known(clean), fraction)


def _through(image: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Resample images to a height and a width (1,) and back."""
    if not len(image):
        return image
    return resize(resize(image, (int(height), int(width)), "area"), image.shape[2:], "area")
