"""What a codec is compared with: JPEG and WebP of Pillow, and quantised principal components."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from recon.codec.entropy import Coder, Symbols
from recon.codec.points import Point, Shape, point, shared
from recon.codec.tables import bits, frequencies
from recon.codec.transform import Pixels
from recon.console import tracked
from recon.degradations.codec import through_file
from recon.errors import InputError

QUALITIES = (2, 5, 10, 20, 35, 50, 70, 85, 95)
STEPS = (4.0, 2.8, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12, 0.08)  # of components of pixels in [0,1]
_WEBP_HEADER = 20 + 10  # bytes: the RIFF container with its chunk, and the tag, start code and size of the frame
_WHOLE = 1024  # numbers up to which images of one size are taken whole
_BLOCK = 8  # pixels at each side of a block of others
_FITTED = 20_000  # vectors that components are fitted to
_MOST_SYMBOLS = 4096  # of a component


def jpeg(images: Sequence[Pixels]) -> list[Point]:
    """Compress images (C,H,W) to JPEG at several qualities: colour at half the width and height, as by default.

    A file has its own Huffman tables. Together all have the default tables in one header, behind which each image is
    its scan alone.
    """

    def sizes(pixels: NDArray[np.uint8], quality: int) -> tuple[NDArray[np.uint8], int, int, int]:
        decoded, alone = through_file(pixels, "JPEG", quality=quality, optimize=True)
        plain = through_file(pixels, "JPEG", quality=quality)[1]
        scan = len(plain) - _scan_start(plain) - 2  # the end of the image
        return decoded, len(alone), scan, len(plain) - scan

    return _of_files(images, sizes, "JPEG", QUALITIES)


def webp(images: Sequence[Pixels]) -> list[Point]:
    """Compress images (C,H,W) to lossy WebP at several qualities, by its slowest and best method.

    Together each image is taken without the 30 bytes that say what kind of file it is and how large the image.
    """

    def sizes(pixels: NDArray[np.uint8], quality: int) -> tuple[NDArray[np.uint8], int, int, int]:
        decoded, data = through_file(pixels, "WEBP", quality=quality, method=6)
        return decoded, len(data), len(data) - _WEBP_HEADER, _WEBP_HEADER

    return _of_files(images, sizes, "WebP", (0, *QUALITIES))


def _of_files(
    images: Sequence[Pixels],
    sizes: Callable[[NDArray[np.uint8], int], tuple[NDArray[np.uint8], int, int, int]],
    name: str,
    qualities: Sequence[int],
) -> list[Point]:
    """Make a point for each quality of what an image is decoded to, its bytes alone, without a header, and that."""
    found = []
    for quality in tracked(qualities, name):
        coded = [sizes(image.transpose(1, 2, 0), quality) for image in images]
        alone, bare, header = (np.array(column) for column in list(zip(*coded, strict=True))[1:])
        rebuilt = [decoded.transpose(2, 0, 1) for decoded, *_ in coded]
        together = bare + header.max() / len(images)
        found.append(point(f"quality {quality}", images, rebuilt, 8.0 * alone, 8.0 * together))
    return found


def _scan_start(data: bytes) -> int:
    """Return where the entropy-coded data of a baseline JPEG begin (ITU-T T.81, B.1.1)."""
    place = 2
    while data[place + 1] != 0xDA:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")


class Components:
    """Principal components of images, or of their blocks of 8x8 pixels, as a codec.

    The components are rounded to multiples of a step, the same for all, and entropy-coded as a code of an autoencoder
    is, by their frequencies in the validation images.

    Args:
        train: images (C,H,W) that the components are fitted to.
        validation: images of which symbols are counted.
        header: bytes of a file beside its symbols, those of an autoencoder's.

    Raises:
        InputError: there are too few images to fit to.
    """

    def __init__(self, train: Sequence[Pixels], validation: Sequence[Pixels], header: int) -> None:
        from sklearn.decomposition import PCA

        shapes = {image.shape for image in [*train, *validation]}
        self.whole = len(shapes) == 1 and np.prod(next(iter(shapes))) <= _WHOLE
        vectors = np.concatenate([self._vectors(image) for image in train])
        if len(vectors) < 2 or not validation:
            raise InputError("task: principal components need two training images and one for validation; choose a "
                             "larger task")  # fmt: skip
        some = np.random.default_rng(0).permutation(len(vectors))[:_FITTED]
        self.fitted = PCA(svd_solver="full" if len(some) < vectors.shape[1] else "covariance_eigh").fit(vectors[some])
        self.counted = [self.fitted.transform(self._vectors(image)) for image in validation]
        self.header = header

    def points(self, images: Sequence[Pixels]) -> list[Point]:
        """Compress images (C,H,W) by steps of several sizes."""
        codes = [self.fitted.transform(self._vectors(image)) for image in images]
        return [self._point(step, images, codes) for step in tracked(STEPS, "PCA")]

    def _point(self, step: float, images: Sequence[Pixels], codes: Sequence[NDArray[np.float64]]) -> Point:
        counted = np.rint(np.concatenate(self.counted) / step).astype(np.int64)
        low, high = counted.min(0), counted.max(0)
        kept = np.flatnonzero(high > low)  # the others are the same everywhere, and take no bits
        low, size = low[kept], np.minimum(high - low + 1, _MOST_SYMBOLS)[kept]
        table = _table(counted[:, kept] - low, size)
        symbols: list[Symbols] = []
        rebuilt = []
        for image, code in zip(images, codes, strict=True):
            whole = np.repeat(counted[:1], len(code), 0)
            chosen = np.clip(np.rint(code[:, kept] / step) - low, 0, size - 1)
            whole[:, kept] = chosen + low
            symbols.append(chosen.T.astype(np.int32))
            rebuilt.append(self._image(self.fitted.inverse_transform(whole * step), image.shape))
        coder = Coder(table)
        total = 8 * (self.header + len(coder.pack(symbols)))
        alone = np.array([8 * (self.header + len(coder.pack([each]))) for each in symbols])
        ideal = [float(bits(torch.from_numpy(table), torch.from_numpy(each[None]).long())) for each in symbols]
        return point(f"step {step:g}", images, rebuilt, alone, shared(ideal, total, 8 * self.header))

    def _vectors(self, image: Pixels) -> NDArray[np.float64]:
        """Split an image (C,H,W) into vectors (N,D) in [0,1]; its border is repeated to whole blocks."""
        if self.whole:
            return image.reshape(1, -1) / 255
        channels, *sides = image.shape
        more = [(0, -side % _BLOCK) for side in sides]
        padded = np.pad(image, [(0, 0), *more], mode="edge") / 255
        rows, columns = (side // _BLOCK for side in padded.shape[1:])
        blocks = padded.reshape(channels, rows, _BLOCK, columns, _BLOCK).transpose(1, 3, 0, 2, 4)
        return blocks.reshape(rows * columns, -1)

    def _image(self, vectors: NDArray[np.float64], shape: Shape) -> Pixels:
        """Undo `_vectors` for an image of a shape (C,H,W), rounded to 8 bits."""
        pixels = np.rint(vectors * 255).clip(0, 255).astype(np.uint8)
        if self.whole:
            return pixels.reshape(shape)
        channels, height, width = shape
        rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
        blocks = pixels.reshape(rows, columns, channels, _BLOCK, _BLOCK).transpose(2, 0, 3, 1, 4)
        return blocks.reshape(channels, rows * _BLOCK, columns * _BLOCK)[:, :height, :width]


def _table(symbols: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count symbols (N,G) of alphabets of some sizes (G,): their frequencies (G,A)."""
    counts = np.full((len(sizes), int(sizes.max(initial=1))), -1, np.int64)
    for channel, size in enumerate(sizes):
        counts[channel, :size] = np.bincount(symbols[:, channel].clip(0, size - 1), minlength=size)
    table: NDArray[np.int64] = frequencies(torch.from_numpy(counts)).numpy()
    return table
