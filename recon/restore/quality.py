"""The quality that a JPEG was saved with, read from its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from recon.degradations.jpeg import tables


def quality_of(quantization: Mapping[int, Sequence[int]]) -> int | None:
    """Return the quality, 1 to 100, whose luma table by libjpeg's rule is nearest; exact for files of libjpeg.

    >>> from recon.degradations.jpeg import tables
    >>> table = tables(torch.device("cpu"), torch.int64)[29, 0].flatten().tolist()
    >>> quality_of({0: table})
    30

    Args:
        quantization: the tables of 64 steps, row by row, that of luma first, as Pillow's `image.quantization`.
    """
    luma = next(iter(quantization.values()), ())
    if len(luma) != 64 or min(luma) < 1:
        return None
    known = tables(torch.device("cpu"), torch.float64)[:, 0].flatten(1)
    # Of steps the ratio counts: from 1 to 2 is as far as from 50 to 100.
    distance = (torch.tensor(luma, dtype=torch.float64).log() - known.log()).square().sum(1)
    return int(distance.argmin()) + 1
