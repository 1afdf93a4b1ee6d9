"""The recorded graphs of the data's chunks, kept while nothing they were made from changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch

from sharpflat.curvature.differentiation import Tensors
from sharpflat.curvature.snapshot import Snapshot

#: Bytes of a graph, by the kind of device, that a chunk is made for where its size is not given.
#: On one CPU core a product with a CNN over 2,500 images of 32×32 took the same time in chunks of
#: 50 to 500 images as in one graph, within noise, and the process 1.9 GiB where it took 3.1 to 4.5.
#: A GPU wants large chunks.
CHUNK_BYTES = {"cpu": 128 * 2**20}
GPU_CHUNK_BYTES = 4 * 2**30

#: Multiplies one chunk's curvature with a vector, given and returned as one tensor a parameter.
Product: TypeAlias = Callable[[Tensors], Tensors]


class RecordedGraphs:
    """One product a chunk, from a graph that is kept or recorded again at each use.

    Chunks depend on the model and the data alone, so that free memory decides what is recorded
    again, never how products are rounded.

    Args:
        num_samples: Samples in all.
        chunk_size: Samples a chunk; ``None`` for chunks of about :data:`CHUNK_BYTES`, all of one
            size but the last.
        bytes_each: Bytes that a graph holds a sample.
        memory_limit: Bytes that graphs may take together, the one at work among them. That one
            is held in any case.
        device: Where they are.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        chunk_size: int | None,
        bytes_each: int,
        memory_limit: int,
        device: torch.device,
    ) -> None:
        if chunk_size is None:
            fitting = CHUNK_BYTES.get(device.type, GPU_CHUNK_BYTES)
            num_chunks = -(-num_samples * bytes_each // fitting)
            chunk_size = -(-num_samples // num_chunks)
        starts = range(0, num_samples, chunk_size)
        self._chunks = [slice(i, min(i + chunk_size, num_samples)) for i in starts]
        fit = memory_limit // (chunk_size * bytes_each)
        count = len(self._chunks)
        self._num_kept = count if count == 1 or fit >= count else max(0, fit - 1)
        self._kept: list[Product] = []
        self._recorded_at: Snapshot | None = None

    def products(self, now: Snapshot, record: Callable[[slice], Product]) -> Iterator[Product]:
        """The product of each chunk, right at ``now``."""
        if self._recorded_at is None or not self._recorded_at.matches(now):
            self._kept.clear()  # frees the old graphs before new ones are built
            self._recorded_at = now
        for i, chunk in enumerate(self._chunks):
            if i < len(self._kept):
                yield self._kept[i]
                continue
            product = record(chunk)
            if i < self._num_kept:
                self._kept.append(product)
            yield product
            del product  # before the next chunk's graph is built
