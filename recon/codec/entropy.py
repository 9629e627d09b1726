"""Entropy coding of symbols by `constriction`, with integer frequencies, so that it is exact on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.codec.tables import TOTAL
from recon.errors import InputError

Symbols = NDArray[np.int32]


def _streams() -> Any:
    try:
        import constriction
    except ImportError as error:
        raise InputError(
            "action: a codec needs the package constriction; install it with pip install 'recon-images[codec]'"
        ) from error
    return constriction.stream


def coder_version() -> tuple[int, int]:
    """Return the major and minor version of the entropy coder, between which streams may differ."""
    _streams()
    major, minor, *_ = version("constriction").split(".")
    return int(major), int(minor)


class Coder:
    """Writes and reads symbols by fixed frequencies.

    Args:
        table: (G,A) frequencies, see `recon.codec.tables`.
    """

    def __init__(self, table: NDArray[np.int64]) -> None:
        self._stream = _streams()
        # Whole numbers divided by a power of two are exact, so that nothing depends on how a machine rounds.
        self._models = [self._stream.model.Categorical(row[row > 0] / TOTAL, perfect=False) for row in table]

    def pack(self, symbols: Sequence[Symbols]) -> bytes:
        """Write the symbols (G,...) of images, channel by channel, as one stream."""
        encoder = self._stream.queue.RangeEncoder()
        for channel, model in enumerate(self._models):
            encoder.encode(np.concatenate([each[channel].ravel() for each in symbols]).astype(np.int32), model)
        words = encoder.get_compressed()
        data: bytes = words.astype("<u4").tobytes()
        return data

    def unpack(self, shapes: Sequence[tuple[int, ...]], data: bytes) -> list[Symbols]:
        """Read what `pack` has written: the symbols of images of the shapes (G,...)."""
        decoder = self._stream.queue.RangeDecoder(np.frombuffer(data, "<u4").astype(np.uint32))
        counts = [math.prod(shape[1:]) for shape in shapes]
        found = [np.empty((shape[0], count), np.int32) for shape, count in zip(shapes, counts, strict=True)]
        ends = np.cumsum(counts)
        for channel, model in enumerate(self._models):
            whole = decoder.decode(model, int(ends[-1]))
            for each, end, count in zip(found, ends, counts, strict=True):
                each[channel] = whole[end - count : end]
        return [each.reshape(shape) for each, shape in zip(found, shapes, strict=True)]
