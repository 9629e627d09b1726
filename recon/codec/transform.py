"""From images to symbols and back by a trained autoencoder, in any batches and by tiles."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recon.codec.entropy import Coder, Symbols
from recon.console import tracked
from recon.errors import InputError
from recon.modules.autoencoding import AutoencodingModule
from recon.modules.base import Module
from recon.nets.common import LEAST_SIDE, padded_to
from recon.nets.features import sha256_of

Pixels = NDArray[np.uint8]
Size = tuple[int, int]
_TILE = 64  # cells of a code at each side, which bounds the memory
_Window = tuple[slice, slice]


class Transform:
    """The quantised autoencoder of a run, on the CPU in float64.

    In float64 the sums of a net depend on threads, batches and processors only from the 15th digit on, so that pixels
    of 8 bits come out the same everywhere, but for a chance of some 1e-10 in a million; a checksum finds that.

    Args:
        module: the trained autoencoder; it is changed.
        batch: images, or tiles, at once.

    Attributes:
        table: (G,A) the frequencies of the symbols.
        coder: writes and reads symbols by them.
        weights, frequencies: 16 hexadecimal digits each of the sha256 of what symbols and images follow from.

    Raises:
        InputError: it is no autoencoder with a quantiser, or its run never counted symbols.
    """

    def __init__(self, module: Module, batch: int = 64) -> None:
        if not isinstance(module, AutoencodingModule) or module.quantiser is None:
            raise InputError(
                f"run: {type(module).__name__} has no code of symbols; choose a run of model=autoencoder with "
                "model/quantiser=fsq|vq|scalar"
            )
        if not module.is_counted:
            raise InputError("run: no validation of this run counted its symbols; train it with trainer.limit_val_"
                             "batches above 0")  # fmt: skip
        self.table: NDArray[np.int64] = module.frequencies.cpu().numpy()
        self.coder = Coder(self.table)
        beside = sha256_of(module.quantiser, repr(module.alphabet))
        self.weights = sha256_of(module.active_net, beside)[:16]
        self.frequencies = hashlib.sha256(self.table.astype("<i8").tobytes()).hexdigest()[:16]
        self.module: AutoencodingModule = module.cpu().double().eval()
        self.channels: int = module.facts["channels"]
        self.batch = batch
        net: Any = module.active_net
        self._stride: int | None = getattr(net, "stride", None)
        self._reach: int = getattr(net, "reach", 0)

    # Sizes ---------------------------------------------------------------------------------------------------------

    def require_size(self, name: str, size: Size) -> None:
        """Raise InputError for an image that the net does not take."""
        fixed = tuple(self.module.facts["image_size"])
        if self._stride is None and tuple(size) != fixed:
            raise InputError(
                f"{name} has {size[0]}×{size[1]} pixels, and the net of this run takes images of {fixed[0]}×{fixed[1]} "
                "alone; resize it, or choose a run of model/net=spatial_autoencoder"
            )

    def shape(self, size: Size) -> tuple[int, ...]:
        """Return the shape (G,...) of the symbols of an image of a size."""
        if self._stride is not None:
            return (len(self.table), *(self._padded(side) // self._stride for side in size))
        with torch.inference_mode():
            blank = torch.zeros(1, self.channels, *size, dtype=torch.float64)
            return tuple(self._symbols(blank).shape[1:])

    def _padded(self, side: int) -> int:
        unit = self._unit
        return -(-side // unit) * unit

    @property
    def _unit(self) -> int:
        """What sides are padded to whole multiples of: the stride, or what nets ask for at least."""
        assert self._stride is not None
        return self._stride * math.ceil(LEAST_SIDE / self._stride)

    # Images to symbols and back ------------------------------------------------------------------------------------

    def symbols(self, images: Sequence[Pixels]) -> list[Symbols]:
        """Return the symbols (G,...) of images (C,H,W)."""
        found: list[Symbols] = []
        with torch.inference_mode():
            for together in tracked(batches([each.shape for each in images], self.batch), "compress"):
                batch = torch.from_numpy(np.stack([images[index] for index in together])).double() / 255
                found += list(self._encoded(batch).numpy().astype(np.int32))
        return found

    def images(self, symbols: Sequence[Symbols], sizes: Sequence[Size]) -> list[Pixels]:
        """Return the images (C,H,W) of sizes (H,W) of symbols (G,...)."""
        found: list[Pixels] = []
        with torch.inference_mode():
            for together in tracked(batches(sizes, self.batch), "decompress"):
                batch = torch.from_numpy(np.stack([symbols[index] for index in together])).long()
                image = self._decoded(batch, sizes[together[0]])
                found += list((image * 255).round().clamp(0, 255).byte().numpy())
        return found

    def _symbols(self, image: Tensor) -> Tensor:
        quantised = self.module.quantised(self.module.encode(image))
        assert quantised is not None
        return quantised.symbols

    def _encoded(self, image: Tensor) -> Tensor:
        if self._stride is None:
            return self._symbols(image)
        stride = self._stride
        padded = padded_to(self._unit, image)
        cells = padded.shape[2] // stride, padded.shape[3] // stride
        whole = torch.zeros(len(image), len(self.table), *cells, dtype=torch.int64)
        for seen, inner, place in self._tiles(cells):
            rows, columns = (slice(stride * side.start, stride * side.stop) for side in seen)
            whole[(..., *place)] = self._symbols(padded[..., rows, columns])[(..., *inner)]
        return whole

    def _decoded(self, symbols: Tensor, size: Size) -> Tensor:
        assert self.module.quantiser is not None
        code = self.module.quantiser.codes(symbols).double()
        if self._stride is None:
            return self.module.decode(code, *size)
        stride, cells = self._stride, (symbols.shape[2], symbols.shape[3])
        whole = torch.zeros(len(code), self.channels, stride * cells[0], stride * cells[1], dtype=torch.float64)
        for seen, inner, place in self._tiles(cells):
            sides = [stride * (side.stop - side.start) for side in seen]
            image = self.module.decode(code[(..., *seen)], sides[0], sides[1])
            (rows, columns), (top, left) = (
                [slice(stride * s.start, stride * s.stop) for s in w] for w in (inner, place)
            )
            whole[..., top, left] = image[..., rows, columns]
        return whole[..., : size[0], : size[1]]

    def _tiles(self, cells: Size) -> Iterator[tuple[_Window, _Window, _Window]]:
        """Yield windows of cells: what a tile sees, the tile within that, and within the whole."""
        for top in range(0, cells[0], _TILE):
            for left in range(0, cells[1], _TILE):
                rows, columns = (_along(*each, self._reach) for each in zip((top, left), cells, strict=True))
                yield (rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2])


def _along(start: int, size: int, reach: int) -> tuple[slice, slice, slice]:
    """Return the three slices of `Transform._tiles` along one side."""
    end = min(start + _TILE, size)
    first, last = max(0, start - reach), min(size, end + reach)
    return slice(first, last), slice(start - first, end - first), slice(start, end)


def batches(shapes: Sequence[tuple[int, ...]], most: int) -> list[list[int]]:
    """Split 0..N-1 into runs of equal shapes, of at most so many; large ones are taken alone."""
    found = []
    for shape, run in groupby(range(len(shapes)), key=lambda index: shapes[index]):
        indices = list(run)
        count = max(1, min(most, (1 << 20) // math.prod(shape)))
        found += [indices[start : start + count] for start in range(0, len(indices), count)]
    return found
