"""From samples to the graph of their outputs: evaluated, probed and weighed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpflat.curvature.batches import Batches
from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.differentiation import Loss, LossFunction, Tensors
from sharpflat.curvature.graphs import Product, RecordedChunk
from sharpflat.curvature.held import Held, held_by_layers, held_by_loss
from sharpflat.curvature.mean_probe import MeanProbe
from sharpflat.curvature.memory import bytes_per_sample
from sharpflat.curvature.nested import Nested
from sharpflat.curvature.samples import Chunk, Samples, refuse_unless_samples_lead
from sharpflat.curvature.snapshot import same_leaves
from sharpflat.curvature.surroundings import Surroundings

#: Records the graph of outputs and targets, scaled, and returns its product.
Record = Callable[[Nested, Nested, float | Tensor], Product]


class Recorder:
    """Records chunks of the data after it was found that their losses can be put together.

    Attributes:
        loss: The loss as one number.

    Args:
        bound: The model.
        loss_fn: The user's loss.
        data: The samples.

    Raises:
        UnsupportedModelError: Evaluating the model writes to its buffers or inputs.
        UnsupportedLossError: The loss is not a mean over samples, nor a pair that adds up.
    """

    def __init__(self, bound: BoundModel, loss_fn: LossFunction, data: Samples | Batches) -> None:
        self._bound, self._data, self._loss_fn = bound, data, loss_fn
        self._first = data.first if isinstance(data, Batches) else data
        self._written: frozenset[str] = frozenset()
        with torch.inference_mode(False), bound.evaluation():
            before = self._held()
            self._look()
            after = self._held()
        # What evaluating writes itself, as a count of calls or a list of losses, decides nothing:
        # two evaluations were found equal.
        self._written = frozenset(
            name
            for name in before.keys() | after.keys()
            if not same_leaves(before.get(name), after.get(name))
        )
        self.loss: Loss = self._probe.loss
        self._looked_at: Surroundings | None = self.surroundings(data)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_looked_at": None}  # a copy has a model and data of its own

    def look_again(self, data: Samples | Batches) -> Surroundings:
        """Probe again where the data, the loss or the rest of the model changed since.

        Or where the loss was not finite then.

        Returns:
            What surrounds the parameters now.
        """
        now = self.surroundings(data)
        before = self._looked_at
        if self._probe.is_void or before is None or before.changes(now, moved=True):
            self._look()
            self._looked_at = now
        return now

    def surroundings(self, data: Samples | Batches) -> Surroundings:
        """What makes the matrix beside θ, now.

        Args:
            data: The samples that the operator averages over, or some of them.
        """
        held = self._held() | (data.held if isinstance(data, Batches) else {})
        return Surroundings(self._bound, data.tensors, held)

    @property
    def tells_samples_apart(self) -> bool:
        """Whether outputs have samples along dimension 0, as far as can be seen.

        It cannot of a single sample, nor where the loss is not finite.
        """
        probe = self._probe
        return probe.tells_samples_apart or probe.is_void or len(self._first) == 1

    def _held(self) -> Held:
        model = self._bound.model
        own = {id(part) for part in (*model.parameters(), *model.buffers(), *model.modules())}
        held = held_by_layers(model, "model", own) | held_by_loss(self._loss_fn, own)
        return {name: leaves for name, leaves in held.items() if name not in self._written}

    def _look(self) -> None:
        with self._bound.recording():
            self._probe = MeanProbe(self._first, self._bound, self._loss_fn)
        self._probed: set[tuple[int, int]] = set()

    def bytes_each(self, record: Record) -> int:
        """Bytes that a graph holds a sample."""
        bound = self._bound
        known = (*bound.model.parameters(), *bound.leaves, *bound.buffers(), *self._first.tensors)
        with torch.inference_mode(False), self._bound.evaluation():
            each = bytes_per_sample(
                lambda chosen: self(self._first.chunk(chosen), record, None),
                len(self._first),
                known,
            )
        return int(each * self._data.growth) if isinstance(self._data, Batches) else each

    def __call__(self, chunk: Chunk, record: Record, weights: Tensor | None) -> RecordedChunk:
        """Record a chunk.

        Args:
            chunk: Its samples.
            record: The operator's.
            weights: Of all samples of a weighted sum, ``(m,)``; ``None`` for the mean.
        """
        with self._bound.recording(), torch.enable_grad():
            outputs, targets = chunk.outputs(self._bound.evaluated), chunk.targets
            scale: float | Tensor
            if weights is not None:
                scale = chunk.size * weights[chunk.start : chunk.start + chunk.size]
            else:
                self._probe_weights(outputs, chunk)
                # A sum too, to be divided by the mean count, so that half precision holds it.
                scale = (1 if self.loss.sums else chunk.size) / len(self._data)
            count = self.loss.count(outputs, targets, chunk.size)
            product = record(outputs, targets, scale)
            return RecordedChunk(product=product, count=count, is_finite=self.loss.is_finite)

    def loss_of(self, chunk: Chunk) -> tuple[Tensor, float]:
        """A chunk's part of the mean, recorded, and what the chunk counts.

        Of pairs it is the chunk's sum over the number of samples, to be divided by the mean count.
        """
        with self._bound.recording(), torch.enable_grad():
            outputs, targets = chunk.outputs(self._bound.evaluated), chunk.targets
            self._probe_weights(outputs, chunk)
            scale = (1 if self.loss.sums else chunk.size) / len(self._data)
            count = self.loss.count(outputs, targets, chunk.size)
            return scale * self.loss(outputs, targets), count

    def _probe_weights(self, outputs: Nested, chunk: Chunk) -> None:
        """Set real outputs of a chunk beside the probe's: once, not at each θ."""
        key = (chunk.start, chunk.size)
        if key in self._probed:
            return
        if self._probe.tells_samples_apart:
            self._probe.refuse_unless_equal_weights(outputs, chunk.targets, first=chunk.start)
        elif isinstance(self._data, Batches):  # of samples in tensors all were seen
            MeanProbe(Samples(chunk.inputs, chunk.targets), self._bound, self._loss_fn)
        self._probed.add(key)


def scaled(scale: float | Tensor, parts: Tensors) -> Tensors:
    """Tensors times one number, or each sample's part times the sample's own."""
    if isinstance(scale, float):
        return tuple(scale * part for part in parts)
    size = len(scale)
    for part in parts:
        refuse_unless_samples_lead(part, size)
    return tuple(scale.view(size, *(1,) * (part.ndim - 1)).to(part.dtype) * part for part in parts)
