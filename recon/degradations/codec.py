"""Codecs: JPEG, as a file or as batched tensors with the same values, and WebP."""

import io
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from recon import keyed
from recon.degradations.base import Degradation, Degraded, all_known, draw_whole
from recon.degradations.jpeg import SUBSAMPLINGS, compress, to_bytes, unrounded
from recon.degradations.levels import Range, one_of, whole_ends
from recon.errors import InputError


class _Codec(Degradation):
    """A degradation that writes images into files of a lossy format and reads them again.

    Attributes:
        largest: the longest side in pixels that the format can hold.
    """

    largest: int

    def check_shape(self, shape: tuple[int, int, int]) -> None:
        """Refuse sizes and channels that the format cannot hold, see `Degradation`."""
        channels, height, width = shape
        if channels not in (1, 3) or max(height, width) > self.largest or min(height, width) < 1:
            raise InputError(
                f"images must be grey or RGB with sides from 1 to {self.largest} pixels for {type(self).__name__}, "
                f"not (C,H,W) = {tuple(shape)}."
            )


class JPEG(_Codec):
    """Compress to JPEG (ITU-T T.81, JFIF) and decode again, as Pillow with libjpeg-turbo does.

    Values are clamped to [0,1] and rounded to 8 bit first, as a file can hold nothing else. The severity is the
    quality: lower is worse. Both forms give the same values; the tensor form runs on any device, and on the CPU several
    times faster on small images. Optimised Huffman tables and the like change a file's size and no pixel, so they are
    no parameters.

    >>> JPEG(20)(clean, keys).image[0, 0, 0], JPEG(20, exact=True)(clean, keys).image[0, 0, 0]
    (tensor([0.0392, 0.0510, 0.0784, 0.1020]), tensor([0.0392, 0.0510, 0.0784, 0.1020]))

    Args:
        quality: libjpeg's quality, a whole number from 1 to 100; of a range each is as likely.
        subsampling: how coarsely colour is kept: "4:4:4" fully, "4:2:2" at half the width, "4:2:0" at half the width
            and height. Of no effect on grey images.
        exact: whether to write and read a real file of each image through Pillow instead of computing on tensors.
        differentiable: whether gradients pass. The image is the same; its gradient is that of the codec without any
            rounding ("straight-through", Bengio et al. 2013): that of the clamp and the loss of colour detail, whatever
            the quality, as without rounding the inverse transform undoes the forward one.
        shifted: whether the grid of blocks begins at a drawn row and column of each image, as where a compressed image
            was cropped; what lies beyond the image repeats its border.
    """

    largest = 65500  # libjpeg's bound
    examples: ClassVar = ("quality", (30, 10, 3))

    def __init__(
        self,
        quality: Range,
        subsampling: str = "4:2:0",
        exact: bool = False,
        differentiable: bool = False,
        shifted: bool = False,
    ) -> None:
        self.level = whole_ends("quality", quality, 1, 100)
        if exact and differentiable:
            raise InputError("differentiable: no gradient passes through a file; set it or exact to false")
        self.subsampling = one_of("subsampling", subsampling, SUBSAMPLINGS)
        self.exact = exact
        self.differentiable = differentiable
        self.shifted = shifted

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Compress the images, see `Degradation`."""
        self.check_shape((clean.shape[1], clean.shape[2], clean.shape[3]))
        if self.shifted:
            return self._behind_a_border(clean, keys)
        return self._compress(clean, keys)

    def _behind_a_border(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Compress each image (B,C,H,W) behind a border of a drawn height and width, less than a block each."""
        height, width = clean.shape[2:]
        # Blocks of coarser colour cover 16x16 pixels.
        room = 15 if clean.shape[1] == 3 and self.subsampling != "4:4:4" else 7
        most = torch.full_like(keys, room + 1)
        top, left = (keyed.integers(keyed.fold(keys, side), most).view(-1, 1) for side in ("top", "left"))
        rows, columns = (torch.arange(side + room, device=keys.device) for side in (height, width))
        rows, columns = (rows - top).clamp(0, height - 1), (columns - left).clamp(0, width - 1)
        image = self._compress(_picked(clean, rows, columns), keys).image
        rows, columns = (torch.arange(side, device=keys.device) for side in (height, width))
        return Degraded(_picked(image, rows + top, columns + left), all_known(clean), self._quality(keys).float())

    def _quality(self, keys: Tensor) -> Tensor:
        return draw_whole(self.level, keys, "quality")

    def _compress(self, clean: Tensor, keys: Tensor) -> Degraded:
        quality = self._quality(keys)
        with torch.no_grad():
            if self.exact:
                image = _through_files(clean, quality, "JPEG", subsampling=self.subsampling)
            else:
                low, high = self.level
                image = compress(clean, quality if low < high else int(low), self.subsampling)
        if self.differentiable and clean.requires_grad:
            smooth = unrounded(clean, self.subsampling)
            image = image + (smooth - smooth.detach())  # adds 0, with the gradient of `smooth`
        return Degraded(image, all_known(clean), quality.float())


def _picked(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read rows (B,h) and columns (B,w) of images (B,C,H,W): (B,C,h,w)."""
    batch, channels = images.shape[:2]
    kept = images.gather(2, rows[:, None, :, None].expand(batch, channels, -1, images.shape[3]))
    return kept.gather(3, columns[:, None, None, :].expand(batch, channels, kept.shape[2], -1))


class WebP(_Codec):
    """Compress to lossy WebP (RFC 9649) and decode again with Pillow, image by image.

    Values are clamped to [0,1] and rounded to 8 bit first, as a file can hold nothing else. WebP knows no grey: a grey
    image is stored as colour and its luma (ITU-R BT.601) taken after decoding. The severity is the quality: lower is
    worse.

    >>> WebP((0, 100))(clean, keys).severity
    tensor([52.,  5.])

    Args:
        quality: libwebp's quality, a whole number from 0 to 100; of a range each is as likely.
    """

    largest = 16383  # the format's bound
    examples: ClassVar = ("quality", (30, 10, 0))

    def __init__(self, quality: Range) -> None:
        self.level = whole_ends("quality", quality, 0, 100)

    def degrade(self, clean: Tensor, keys: Tensor) -> Degraded:
        """Compress the images, see `Degradation`."""
        self.check_shape((clean.shape[1], clean.shape[2], clean.shape[3]))
        quality = draw_whole(self.level, keys, "quality")
        with torch.no_grad():
            image = _through_files(clean, quality, "WEBP")
        return Degraded(image, all_known(clean), quality.float())


def _through_files(clean: Tensor, quality: Tensor, form: str, **options: str) -> Tensor:
    """Write each image (B,C,H,W) into a file in memory at its quality (B,) and read it again."""
    pixels = to_bytes(clean).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
    decoded = np.empty_like(pixels)
    for source, target, number in zip(pixels, decoded, quality.tolist(), strict=True):
        target[...] = through_file(source, form, quality=number, **options)[0]
    return torch.from_numpy(decoded).to(clean.device).permute(0, 3, 1, 2).contiguous().to(clean.dtype).div_(255)


def through_file(pixels: NDArray[np.uint8], form: str, **options: Any) -> tuple[NDArray[np.uint8], bytes]:
    """Write pixels (H,W,C) as a file by Pillow, in a format with its options; return what it holds, and the file.

    >>> through_file(np.full((8, 8, 1), 7, np.uint8), "WEBP", quality=50)[1][:4]
    b'RIFF'
    """
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return np.asarray(Image.open(file).convert(image.mode)).reshape(pixels.shape), file.getvalue()
