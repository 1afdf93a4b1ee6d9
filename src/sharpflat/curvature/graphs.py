"""The recorded graphs of the data's chunks, kept while nothing they were made from changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from sharpflat.curvature.differentiation import Tensors
from sharpflat.curvature.snapshot import Snapshot

#: Multiplies one chunk's curvature with a vector, given and returned as one tensor a parameter.
Product: TypeAlias = Callable[[Tensors], Tensors]


class RecordedGraphs:
    """One product a chunk, from a graph that is kept or recorded again at each use.

    Args:
        chunks: The samples of each.
        num_kept: The first chunks, whose graphs are kept.
    """

    def __init__(self, chunks: list[slice], num_kept: int) -> None:
        self._chunks = chunks
        self._num_kept = num_kept
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
