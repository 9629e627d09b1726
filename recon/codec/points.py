"""A codec at one setting: what each image takes and how near it comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from recon import metrics
from recon.codec.file import written
from recon.codec.tables import bits
from recon.codec.transform import Pixels, Transform, batches

Numbers = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Point:
    """A codec at one setting, on N images.

    Attributes:
        label: of the setting.
        rates: (N,) bits per pixel, by the way to write files: "alone", one for each image, and "together", one for all
            with its headers counted once.
        quality: (N,) "psnr" in dB and "ssim".
    """

    label: str
    rates: dict[str, Numbers]
    quality: dict[str, Numbers]


def point(
    label: str, images: Sequence[Pixels], rebuilt: Sequence[Pixels], alone: NDArray[np.generic], together: Numbers
) -> Point:
    """Make a point of images (C,H,W), what they are decoded to, and the bits (N,) that each takes by both ways."""
    pixels = np.array([image.shape[1] * image.shape[2] for image in images])
    quality = {name: np.zeros(len(images)) for name in ("psnr", "ssim")}
    for some in batches([image.shape for image in images], 256):
        pair = [torch.from_numpy(np.stack([each[k] for k in some])).float() / 255 for each in (rebuilt, images)]
        quality["psnr"][some] = metrics.psnr(pair[0], pair[1]).numpy()
        quality["ssim"][some] = metrics.ssim(pair[0], pair[1]).numpy()
    return Point(label, {"alone": alone / pixels, "together": together / pixels}, quality)


def of_run(label: str, transform: Transform, images: Sequence[Pixels]) -> Point:
    """Compress images (C,H,W) by a trained autoencoder into real files, each alone and all together."""
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    symbols = transform.symbols(images)
    rebuilt = transform.images(symbols, sizes)
    whole = written(transform, sizes, symbols, rebuilt)
    each = zip(sizes, symbols, rebuilt, strict=True)
    alone = np.array([8 * len(written(transform, [size], [found], [image]).data) for size, found, image in each])
    table = torch.from_numpy(transform.table)
    ideal = [float(bits(table, torch.from_numpy(found[None]).long())) for found in symbols]
    return point(label, images, rebuilt, alone, shared(ideal, 8 * len(whole.data), 8 * whole.header))


def shared(ideal: Sequence[float], total: int, header: int) -> Numbers:
    """Share out the bits of a file among its images: the header equally, symbols by their entropy (N,)."""
    own = np.array(ideal) + 1e-9
    share: Numbers = header / len(own) + own / own.sum() * (total - header)
    return share
