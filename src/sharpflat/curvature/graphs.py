"""The recorded graphs of the data's chunks, kept while nothing they were made from changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sharpflat.curvature.batches import Batches
from sharpflat.curvature.differentiation import Tensors
from sharpflat.curvature.nested import tensors_in
from sharpflat.curvature.samples import Chunk, Samples
from sharpflat.curvature.snapshot import Snapshot, Watch
from sharpflat.curvature.surroundings import Surroundings

#: Bytes of a graph, by the kind of device, that a chunk is made for where its size is not given.
#: On one CPU core a product with a CNN over 2,500 images of 32×32 took the same time in chunks of
#: 50 to 500 images as in one graph, within noise, and the process 1.9 GiB where it took 3.1 to 4.5.
#: A GPU wants large chunks.
CHUNK_BYTES = {"cpu": 128 * 2**20}
GPU_CHUNK_BYTES = 4 * 2**30

#: Multiplies one chunk's curvature with a vector, given and returned as one tensor a parameter.
Product: TypeAlias = Callable[[Tensors], Tensors]


@dataclass(frozen=True)
class RecordedChunk:
    """A chunk's product, to be summed over the chunks.

    Attributes:
        product: Of the chunk.
        count: What the chunk counts in the mean.
        is_finite: Whether its loss is.
    """

    product: Product
    count: float
    is_finite: bool


class RecordedGraphs:
    """One product a chunk, from a graph that is kept or recorded again at each use.

    Chunks depend on the model and the data alone, so that free memory decides what is recorded
    again, never how products are rounded. Of samples in tensors as many graphs are kept as fit;
    of batches, which the next pass may bring in another order, all or none.

    Attributes:
        chunk_size: Samples a chunk, at the most.

    Args:
        data: The samples.
        chunk_size: Samples a chunk; ``None`` for chunks of about :data:`CHUNK_BYTES`, all of one
            size but the last.
        bytes_each: Bytes that a graph holds a sample.
        memory_limit: Bytes that graphs may take together, the one at work among them. That one
            is held in any case.
        device: Where they are.
    """

    def __init__(
        self,
        data: Samples | Batches,
        *,
        chunk_size: int | None,
        bytes_each: int,
        memory_limit: int,
        device: torch.device,
    ) -> None:
        if chunk_size is None:
            fitting = CHUNK_BYTES.get(device.type, GPU_CHUNK_BYTES)
            num_chunks = -(-data.largest_batch * bytes_each // fitting)
            chunk_size = -(-data.largest_batch // num_chunks)
        self._data, self.chunk_size = data, chunk_size
        if isinstance(data, Batches):  # a graph keeps its batch
            fits = len(data) * (bytes_each + data.bytes_each) <= memory_limit
            self._num_kept = len(data) if fits else 0
        else:
            count = -(-len(data) // chunk_size)
            fit = memory_limit // (chunk_size * bytes_each)
            self._num_kept = count if count == 1 or fit >= count else max(0, fit - 1)
        self._kept: list[RecordedChunk] = []
        self._kept_all = False
        self._recorded_at: tuple[Snapshot, Surroundings] | None = None
        self._watch = Watch(())

    def __getstate__(self) -> dict[str, Any]:
        # Graphs go on from the tensors that they were made of, not from a copy's.
        nothing = {"_kept": [], "_kept_all": False, "_recorded_at": None, "_watch": Watch(())}
        return vars(self) | nothing

    def chunks(
        self, now: tuple[Snapshot, Surroundings], record: Callable[[Chunk], RecordedChunk]
    ) -> Iterator[RecordedChunk]:
        """What each chunk gives, right at ``now``: the model's tensors, and what surrounds them."""
        if not self._hold_at(*now):
            # Freed before new ones are built.
            self._kept, self._kept_all, self._watch = [], False, Watch(())
            self._recorded_at = now
        yield from self._kept
        if self._kept_all:
            return
        kept, count = list(self._kept), len(self._kept)
        read: list[Tensor] = []
        for chunk in self._data.chunks(self.chunk_size, skip=count):
            recorded = record(chunk)
            count += 1
            if len(kept) < self._num_kept:
                kept.append(recorded)
                if isinstance(self._data, Batches):
                    read += tensors_in((chunk.inputs, chunk.targets))
            yield recorded
            del chunk, recorded  # before the next chunk's graph is built
        # Only now: a pass over batches that brought other samples has raised.
        self._kept, self._kept_all = kept, len(kept) == count
        self._watch = Watch(read)

    def _hold_at(self, tensors: Snapshot, surroundings: Surroundings) -> bool:
        if self._recorded_at is None or not self._watch.holds():
            return False
        before, around = self._recorded_at
        return before.matches(tensors) and not around.changes(surroundings, moved=False)
