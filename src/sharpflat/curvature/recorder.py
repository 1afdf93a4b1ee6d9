"""From samples to the graph of their outputs: evaluated, probed and weighed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sharpflat.curvature.batches import Batches
from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.differentiation import Loss, LossFunction, Tensors
from sharpflat.curvature.graphs import Product, RecordedChunk
from sharpflat.curvature.mean_probe import MeanProbe
from sharpflat.curvature.memory import bytes_per_sample
from sharpflat.curvature.nested import Nested
from sharpflat.curvature.samples import Chunk, Samples, refuse_unless_samples_lead
from sharpflat.curvature.snapshot import Snapshot

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
        self._loss_state = self._state_of_loss()
        with torch.inference_mode(False), bound.evaluation():
            self._look()
        self.loss: Loss = self._probe.loss

    def look_again(self) -> None:
        """Probe a loss that was changed since, or whose value was not finite then."""
        now = self._state_of_loss()
        if self._probe.is_void or not now.matches(self._loss_state):
            self._look()
            self._loss_state = now

    def _look(self) -> None:
        with self._bound.recording():
            self._probe = MeanProbe(self._first, self._bound, self._loss_fn)
        self._probed: set[tuple[int, int]] = set()

    @property
    def loss_layers(self) -> tuple[nn.Module, ...]:
        """The modules of a loss that is one."""
        return tuple(self._loss_fn.modules()) if isinstance(self._loss_fn, nn.Module) else ()

    @property
    def loss_tensors(self) -> tuple[Tensor, ...]:
        """Their parameters and buffers."""
        loss = self._loss_fn
        return (*loss.parameters(), *loss.buffers()) if isinstance(loss, nn.Module) else ()

    def _state_of_loss(self) -> Snapshot:
        return Snapshot((), self.loss_tensors, (), self.loss_layers)

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
