"""The samples of tar shards: the files of a sample, and the decoding of a batch."""

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recon.data.images import pixel_limit
from recon.data.loader import Draws, corners
from recon.data.pixels import Unusable, channels_of, opened, to_array
from recon.data.tar import read_samples
from recon.errors import InputError

_WHOLE = 8  # large images that are in memory before they are cropped


def hashed(name: str, purpose: str) -> int:
    """Hash a sample's name to 63 bits; a name in a tar file may hold bytes that are no text."""
    data = name.encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=purpose.encode()).digest(), "little") >> 1


class Sample(NamedTuple):
    """A sample of a shard before it is decoded; `path` names its image, for messages."""

    path: str
    index: int  # type: ignore[assignment]  # as in `Pair`
    data: bytes
    label: bytes | None


class Batch(NamedTuple):
    """Decoded samples: (B,C,H,W) uint8, labels (B,) and indices (B,) int64, and the paths of those left out."""

    pixels: Tensor
    label: Tensor
    index: Tensor  # type: ignore[assignment]  # as in `Pair`
    left_out: list[str]


@dataclass(frozen=True)
class Contents:
    """What the files of a sample hold, and which images are good.

    Attributes:
        images: the endings of images.
        label: the ending of labels, or `None`.
        num_classes: labels are below it.
        channels: of every image; `None` for its own.
        max_pixels: the largest height·width of good images.
        skip: whether bad images are left out.
        all_grey: whether an image in colour is a bad one.
        size: (H,W) of every image, or `None` for any.
    """

    images: Sequence[str]
    label: str | None
    num_classes: int
    channels: int | None
    max_pixels: int
    skip: bool
    all_grey: bool = False
    size: tuple[int, int] | None = None

    def read(self, shard: str) -> Generator[Sample, None, None]:
        """Read the samples of a shard that have an image, in order."""
        for sample in read_samples(shard):
            name = sample["__key__"]
            ending = next((ending for ending in self.images if ending in sample), None)
            if ending is not None:
                label = None if self.label is None else sample.get(self.label, b"")
                yield Sample(f"{shard}/{name}.{ending}", hashed(name, "index"), sample[ending], label)

    def number(self, sample: Sample) -> int:
        """Return the class of a sample, -1 where labels are not read."""
        if sample.label is None:
            return -1
        text = sample.label.decode(errors="replace").strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < self.num_classes):
            raise InputError(
                f"{sample.path} has the class {text[:20]!r} in its {self.label} file, no whole number below "
                f"task.num_classes={self.num_classes}: correct task.label, task.num_classes or the shard."
            )
        return int(text)

    def decode(self, sample: Sample, crop: int | None = None) -> np.ndarray | None:
        """Decode a sample's image, which must be as large as `crop`: (C,H,W) uint8, `None` for one that is left out.

        Raises:
            InputError: the image cannot be used, and bad images are not left out.
        """
        try:
            with opened(BytesIO(sample.data)) as image:
                channels = channels_of(image)
                if self.all_grey and channels == 3:
                    raise Unusable("in colour, unlike the first image; task.channels=3 or 1 allows both")
                pixels = to_array(image, self.channels or channels)
                height, width = pixels.shape[1:]
                if crop is not None and min(height, width) < crop:
                    raise Unusable(f"{width}x{height} pixels, fewer than task.crop={crop}")
                if self.size is not None and (height, width) != self.size:
                    raise Unusable(f"{width}x{height} pixels, unlike the first image; task.crop allows any size")
                return pixels
        except Unusable as error:
            if self.skip:
                return None
            raise InputError(
                f"{sample.path} cannot be used as an image ({error}): replace or remove it, "
                "or set task.on_bad_image=skip."
            ) from error

    def decode_batch(self, samples: Sequence[Sample], draws: Draws) -> Batch:
        """Decode samples and cut their keyed crops, without the bad images."""
        good: list[Sample] = []
        images: list[np.ndarray] = []
        with pixel_limit(self.max_pixels):
            for start in range(0, len(samples), _WHOLE):
                decoded = [(sample, self.decode(sample, draws.crop)) for sample in samples[start : start + _WHOLE]]
                whole = [(sample, image) for sample, image in decoded if image is not None]
                good += [sample for sample, _ in whole]
                images += _cut([image for _, image in whole], [sample.index for sample, _ in whole], draws)
        paths = {sample.path for sample in good}
        return Batch(
            torch.from_numpy(np.stack(images)) if images else torch.empty(0, dtype=torch.uint8),
            torch.tensor([self.number(sample) for sample in good], dtype=torch.int64),
            torch.tensor([sample.index for sample in good], dtype=torch.int64),
            [sample.path for sample in samples if sample.path not in paths],
        )


def _cut(images: Sequence[np.ndarray], index: Sequence[int], draws: Draws) -> list[np.ndarray]:
    """Cut the keyed crops out of images (C,H,W); copies, so that the images' memory is freed."""
    side = draws.crop
    if side is None:
        return list(images)
    sizes = torch.tensor([image.shape[1:] for image in images], dtype=torch.int64).view(-1, 2)
    top, left = (starts.tolist() for starts in corners(draws.keys(torch.tensor(index, dtype=torch.int64)), sizes, side))
    return [
        image[:, row : row + side, column : column + side].copy()
        for image, row, column in zip(images, top, left, strict=True)
    ]
