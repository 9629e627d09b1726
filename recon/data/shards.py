"""The samples of one split in tar shards: read as a stream, decoded on the way, made pairs on the device."""

import random
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from recon import keyed
from recon.data.images import warn_omitted
from recon.data.loader import Draws, Loader, Split, View, windows
from recon.data.samples import Batch, Contents, Sample
from recon.degradations.base import Degradation
from recon.errors import InputError
from recon.pair import Pair


@dataclass(frozen=True, eq=False)
class ShardSplit(Split):
    """The samples of one split as they lie in the shards.

    Attributes:
        shards: paths and URLs.
        indices: for each shard, the hashed names (n,) int64 of the split's samples, in their order there.
        contents: how a sample is read.
        shape: (C,H,W) of the first image, or of its crops.
        shuffle: training samples that wait in a process to be drawn in random order.
        workers: processes that decode for each rank.
    """

    shards: Sequence[str]
    indices: Sequence[np.ndarray]
    contents: Contents
    shape: tuple[int, int, int]
    shuffle: int
    workers: int

    def __len__(self) -> int:
        return sum(map(len, self.indices))

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Return the one shape that is known before the images are decoded, see `Split`."""
        return [self.shape]

    def loader(self, name: str, batch_size: int, degradation: Degradation, **options: Any) -> "ShardLoader":
        """Return the loader of these samples, see `Split`."""
        return ShardLoader(self, name, batch_size, degradation, **options)

    def read(self, order: Sequence[int], start: int, stop: int) -> Generator[Sample, None, None]:
        """Read samples `start` to `stop`-1 of the split, counted through the shards in `order`, round and round."""
        end = 0
        for shard in [*order, *order]:
            begin, end = end, end + len(self.indices[shard])
            first, last = max(start, begin), min(stop, end)
            if first < last:
                yield from self._read_shard(shard, first - begin, last - begin)

    def _read_shard(self, shard: int, first: int, last: int) -> Iterator[Sample]:
        """Read samples `first` to `last`-1 of the split in one shard."""
        wanted, position = self.indices[shard], 0
        with closing(self.contents.read(self.shards[shard])) as samples:
            for sample in samples:
                if sample.index == wanted[position]:
                    position += 1
                    if position > first:
                        yield sample
                    if position == last:
                        return
        raise InputError(
            f"{self.shards[shard]} does not hold the samples any more that were listed at the start: start again."
        )


@dataclass(eq=False)
class _Share(IterableDataset[Batch | InputError | None]):
    """The samples that one rank reads in one pass, cut into batches; each worker takes a run of whole batches.

    Attributes:
        split: the samples.
        draws: the stream of the pass.
        order: the order of the shards.
        start: the rank's first sample, counted in that order.
        stop: the end of its samples; may lie beyond the last one, where the count continues with the first.
        batch_size: of this rank.
        shuffle: a name for the order in which samples leave the shuffle buffer, or `None` to keep them in order.
        skip: batches of the pass taken before; they are not decoded, and None is yielded instead.
    """

    split: ShardSplit
    draws: Draws
    order: Sequence[int]
    start: int
    stop: int
    batch_size: int
    shuffle: str | None
    skip: int = 0

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.batch_size)

    def __iter__(self) -> Iterator[Batch | InputError | None]:
        """Yield the batches of this worker.

        An InputError is yielded, not raised: DataLoader workers append a traceback to the message.
        """
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        first, last = (self.start + len(self) * edge // workers * self.batch_size for edge in (number, number + 1))
        samples = self._shuffled(self.split.read(self.order, first, min(last, self.stop)), number)
        try:
            # DataLoader takes a batch of each worker in turn.
            for step in count(number, workers):
                if not (batch := list(islice(samples, self.batch_size))):
                    break
                yield None if step < self.skip else self.split.contents.decode_batch(batch, self.draws)
        except InputError as error:
            yield error

    def _shuffled(self, samples: Iterator[Sample], worker: int) -> Iterator[Sample]:
        if self.shuffle is None or not self.split.shuffle:
            return samples
        from webdataset import shuffle

        size, generator = self.split.shuffle, random.Random(f"{self.shuffle} {worker}")
        return iter(shuffle(size, initial=size, rng=generator)(samples))


class ShardLoader(Loader[ShardSplit]):
    """Iterate over the batches of one split of a sharded set; see `Loader`.

    A training epoch reads every shard once in a keyed order, starting at a keyed sample; each rank, and each of its
    workers, reads a run of equal length. The last, incomplete batch is left out, so that ranks take the same number of
    steps. Each process shuffles its samples in a buffer: the same settings give the same order, another number of ranks
    or workers another one. In an evaluation the ranks share every sample once; whole images that may differ in size are
    evaluated one by one. The pair of a sample depends on the sample's name, so it is the same for any number of ranks
    and workers and any batch size.

    A batch from which bad images are left out is smaller. A shard that holds the end of one run and the start of the
    next is read by both; so give more shards than there are ranks times workers.

    Raises:
        InputError: there are fewer training samples than ranks.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.training:
            self.batch_size = min(self.batch_size, len(self.source)) // self.world_size * self.world_size
        if not self.batch_size:
            raise InputError(
                f"task.path has {len(self.source)} training samples for {self.world_size} devices: add samples."
            )

    def __len__(self) -> int:
        return max(1, len(self._share()))

    def __iter__(self) -> Iterator[Pair]:
        share, left_out, seen = self._share(), [], 0
        share.skip, self.start = self.start, 0
        batches: Any = share
        if self.source.workers:
            # A generator of its own leaves the run's global one as it was.
            own = torch.Generator()
            batches = DataLoader(share, batch_size=None, num_workers=self.source.workers, generator=own)
        try:
            for step, batch in enumerate(islice(batches, share.skip, None), share.skip):
                if isinstance(batch, InputError):
                    raise batch
                left_out += batch.left_out
                seen += len(batch.index) + len(batch.left_out)
                if len(batch.index):
                    self._begin_level(step)
                    yield self._decoded(batch, share.draws)
                elif self.training:  # the other ranks have a step to take with this one
                    raise InputError(f"{batch.left_out[0]} and all others of a batch cannot be used: replace them.")
        finally:  # as Lightning leaves the iteration after the last batch, without asking for another
            warn_omitted(sorted(left_out), seen)

    def preview(self, count: int, largest: int = 128) -> View:
        """Look at the first images, see `Loader`."""
        source, draws = self.source, self.draws
        batches: list[Batch] = []
        names: list[str] = []
        with closing(source.read(range(len(source.shards)), 0, len(source))) as samples:
            for sample in samples:
                batch = source.contents.decode_batch([sample], draws)
                if len(batch.index):
                    batches.append(batch)
                    names.append(sample.path.rpartition("/")[2])
                if len(batches) == count:
                    break
        if not batches:
            raise InputError(f"{source.shards[0]} and all others have no usable image for {self.split}: add some.")
        pixels, label, index = zip(*(batch[:3] for batch in batches), strict=True)
        if self.crop is not None or (len({p.shape for p in pixels}) == 1 and max(pixels[0].shape[2:]) <= largest):
            return View(self._decoded(Batch(torch.cat(pixels), torch.cat(label), torch.cat(index), []), draws), names)
        whole, keys = (self._decoded(batch, draws) for batch in batches), draws.keys(torch.cat(index)).to(self.device)
        scale = self.degradation.scale
        sizes = torch.tensor([p.shape[2:] for p in pixels]) // scale
        return windows(whole, sizes, keys, largest, scale)._replace(names=names)

    def _decoded(self, batch: Batch, draws: Draws) -> Pair:
        return self._pair(*batch[:3], draws.keys(batch.index))

    def _share(self) -> _Share:
        """Return what this rank reads in the next pass."""
        source, total = self.source, len(self.source)
        if not self.training:
            # Of fewer samples than ranks, the first ranks have one.
            start, stop = (-(-total * edge // self.world_size) for edge in (self.rank, self.rank + 1))
            size = source.contents.size if self.crop is None else (self.crop, self.crop)
            together = 1 if size is None else self._evaluated_together([source.shape[0], *size])
            return _Share(source, self.draws, range(len(source.shards)), start, stop, together, None)
        length = total // self.batch_size * (self.batch_size // self.world_size)
        order = keyed.permutation(self.seed, "shards", self.epoch, len(source.shards)).tolist()
        # From another sample in each epoch; otherwise, with few shards, the same ones would always be left out.
        start = int(keyed.integers(keyed.keys(self.seed, "start", self.epoch, torch.tensor([0])), total))
        start += self.rank * length
        shuffle = f"{self.seed} {self.epoch} {self.rank}"
        return _Share(source, self.draws, order, start, start + length, self._per_rank, shuffle)
