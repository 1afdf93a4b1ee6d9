"""What every curvature operator shares: data in chunks, recorded graphs, products with vectors.

All operators differentiate twice in reverse mode through a graph that is recorded once per
parameter vector and shared by every product. ``torch.func.jacrev`` is not used: as the inner
derivative it gives wrong second derivatives for LayerNorm weights (torch 2.14: by 4 % of the whole
Hessian of a Transformer encoder layer, and not symmetric), while double backward agrees with
central differences to 4e-11.

Double backward leaves slack that is not taken. ReLU and pooling give their inputs second
derivatives of zeros, which are filled and added. On a CNN of 3×3 convolutions (width 32, 250
images, one core) an own autograd function for ReLU saved 3 % of a product and one for pooling 3.5 %
more, to the bit; ReLU by ``torch.where`` or ``masked_fill`` cost 24 % and 29 % more. Replacing the
functions that a module calls is not worth 6 %: two thirds of a product are its convolutions.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sharpflat.curvature.algebra import OperatorAlgebra, real_vectors
from sharpflat.curvature.batches import Batches, data_of
from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.checks import (
    as_count,
    refuse_compiled,
    refuse_unless_loss,
    refuse_unless_module,
    refuse_unless_tensor,
    refuse_wrong_second_derivatives,
)
from sharpflat.curvature.differentiation import (
    LossFunction,
    Tensors,
    gradient,
    parameter_gradient,
    refuse_unless_counted,
)
from sharpflat.curvature.graphs import Product, RecordedChunk, RecordedGraphs
from sharpflat.curvature.memory import default_memory_limit
from sharpflat.curvature.nested import Nested
from sharpflat.curvature.processes import Processes
from sharpflat.curvature.recorder import Recorder
from sharpflat.curvature.sample_choice import SampleChoice
from sharpflat.curvature.samples import Chunk, Samples
from sharpflat.curvature.selection import Chosen
from sharpflat.curvature.snapshot import Snapshot
from sharpflat.curvature.surroundings import Surroundings

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class CurvatureOperator(OperatorAlgebra, SampleChoice, ABC):
    """A symmetric ``(P, P)`` matrix ``(1/n) Σ_i M_i(θ)`` that is only ever multiplied.

    ``P`` counts the parameters that require gradients, flattened in ``model.parameters()`` order.
    The parameters are read at each call: after a training step the same operator is the curvature
    at the new point. So are buffers and the data, if they are written to in place (through NumPy or
    ``.data`` it shows if one of 4,096 values spread over a tensor changes), and what else model and
    loss read: attributes of modules that are numbers, texts, arrays, tensors or functions, alone or
    in lists, dicts, dataclasses and namespaces, forward hooks, and of functions, hooks, losses and
    the model's own methods their closures, defaults, the globals and attributes that they name.
    Attributes of objects of other kinds are not watched, nor what functions of other files read,
    nor what evaluating writes itself.
    Layers are evaluated in the mode that they had when the operator was built, whatever their mode
    is now, and left as they were. Backward hooks of parameters and modules are left out, since they
    change no loss. Where the loss is not finite, products are NaN.

    Built as ``Operator(model, loss_fn, inputs, targets)``, or as ``Operator(model, loss_fn,
    batches)`` over data that are read batch by batch, in any order, at each product (at each θ if
    all graphs fit into ``memory_limit``). Batches that another pass would bring with other samples
    are refused at that pass.

    Args:
        model: Any module without batch-dependent or random layers. It is called as
            ``model(*inputs)`` if ``inputs`` is a tuple or list, as ``model(**inputs)`` if it is a
            mapping, else as ``model(inputs)``. One in half precision, wholly or in part, is
            evaluated in float32, data in half precision too: so are products and bases.
        loss_fn: ``loss_fn(outputs, targets)``, the mean over samples; outputs are whatever the
            model returns. Or a pair ``(sum, count)``, such as the sum over all tokens that are
            not padding and their number: the loss is then all sums over all counts.
        inputs: Tensors with samples along dimension 0, alone or in tuples, lists and mappings, or
            batches: an iterable, not an iterator, of pairs ``(inputs, targets)``, such as a
            ``torch.utils.data.DataLoader``. They are read once to build the operator, moved to
            the parameters' device, and draw from random numbers of their own.
        targets: Like inputs; left out with batches.
        chunk_size: Samples a graph. Default: from the memory of a sample's graph, which is
            measured on a few of them: all in one if that takes at most 128 MiB (on a GPU 4 GiB),
            else chunks of that much. Products depend on it by rounding alone.
        memory_limit: Bytes that recorded graphs may take together. Those that fit are recorded
            once per θ and kept; others are recorded again in every call, one at a time, so ask
            for several products at once (``operator @ V``). 0 holds one graph at a time.
            Default: a quarter of the memory that is free when the operator is built, of the
            parameters' device.
        parameters: The block that is differentiated: patterns of names as in a shell
            (``"layers.0.*"``), modules and parameters of the model. Default: all.
        process_group: Of ``torch.distributed``, such as ``torch.distributed.group.WORLD``: its
            processes hold a share of the samples each, of any size, and the mean is over all of
            them. Every process must then build and use the operator alike; each gets the same
            products to the bit. Default: this process holds all samples.

    Every product, size, sample and θ raises ``ModelChangedError`` if the model no longer has the
    parameters that the operator was built over: they were cast, moved, frozen or replaced.

    Raises:
        TypeError: The model is no module, or the loss cannot be called, as a class of losses.
        UnsupportedModelError: A layer depends on the rest of the batch or on chance, evaluating
            the model draws random numbers or writes to its parameters, buffers or inputs,
            ``torch.autocast`` rounds it, ``torch.compile`` made it, a reentrant checkpoint hides a
            part of it, it hangs a hook on a tensor, an autograd function of it or of the loss is
            marked ``once_differentiable``, parameters are complex, or torch differentiates a layer
            wrongly twice.
        UnsupportedLossError: The loss is neither a deterministic mean over samples nor a pair that
            adds up, or depends on none of the parameters.
        ValueError: No samples, numbers of samples that differ, batches that can be read once
            only or not beside an epoch of training, no trainable parameter, a choice of parameters
            that matches none, a chunk size that is no integer or below 1, or a memory limit below
            0.
        UnequalProcessesError: Other processes have other parameters or buffers, or raised one of
            these; at a product also: they multiply other vectors.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Nested,
        targets: Nested = None,
        *,
        chunk_size: int | None = None,
        memory_limit: int | None = None,
        parameters: Chosen | None = None,
        process_group: ProcessGroup | None = None,
    ) -> None:
        refuse_unless_module(model)
        refuse_unless_loss(loss_fn)
        self._model, self._loss_fn = model, loss_fn
        if chunk_size is not None and as_count(chunk_size) < 1:
            raise ValueError(f"chunk_size is {chunk_size!r}; it must be an integer, at least 1")
        if memory_limit is not None and memory_limit < 0:
            raise ValueError(f"memory_limit is {memory_limit} bytes; it must be at least 0")
        self.chunk_size = None if chunk_size is None else as_count(chunk_size)
        self._given_limit = memory_limit
        self._weights: Tensor | None = None
        self._processes = Processes(process_group)
        with self._processes.in_step(state=self._state()):
            bound = BoundModel(model, chosen=parameters)
            self._bind(bound, data_of(inputs, targets, bound))
        self._count_samples()

    def _bind(self, bound: BoundModel, data: Samples | Batches) -> None:
        self._bound = bound
        self.parameters = bound.parameters
        self._leaves = bound.leaves
        self.dtype = bound.dtype
        self.device = bound.device
        self._sizes = [p.numel() for p in self.parameters]
        self.shape = (sum(self._sizes), sum(self._sizes))
        limit = self._given_limit
        self.memory_limit = default_memory_limit(self.device) if limit is None else limit
        refuse_compiled(self.loss_fn)
        self._derivatives_checked = False
        self._recorder = Recorder(bound, self.loss_fn, data)
        self.loss = self._recorder.loss
        self._bytes_each = self._recorder.bytes_each(self._record)
        self._set_data(data)

    def _set_data(self, data: Samples | Batches) -> None:
        self._data = data
        self.num_samples = len(data)  # of this process
        self._graphs = RecordedGraphs(
            data,
            chunk_size=self.chunk_size,
            bytes_each=self._bytes_each,
            memory_limit=self.memory_limit,
            device=self.device,
        )

    @property
    def model(self) -> nn.Module:
        """The model; of another one build another operator."""
        return self._model

    @property
    def loss_fn(self) -> LossFunction:
        """The loss as it was given; for another one build another operator."""
        return self._loss_fn

    @property
    def inputs(self) -> Nested:
        """Inputs of the samples; ``None`` of batches, which are not held."""
        return self._data.inputs if isinstance(self._data, Samples) else None

    @property
    def targets(self) -> Nested:
        """Likewise."""
        return self._data.targets if isinstance(self._data, Samples) else None

    def _count_samples(self) -> None:
        own = torch.tensor(len(self._data), device=self.device)
        self.num_samples = int(self._processes.total(own))

    @abstractmethod
    def _record(self, outputs: Nested, targets: Nested, scale: float | Tensor) -> Product:
        """Record the graph of a chunk and return its product, to be summed over the chunks.

        Args:
            outputs: Of the chunk's samples, recorded.
            targets: Theirs.
            scale: What the derivative ``∂L/∂f`` of the chunk's loss is multiplied with: for a
                mean the chunk's share of the data, for a sum one over the number of samples; in
                a weighted sum the chunk's size times the samples' weights, ``(m,)``.
        """

    def rebind(self) -> None:
        """Take the model as it is now, after it was moved, cast, frozen or changed on purpose.

        Reads its trainable parameters, their dtype and device anew (``shape`` may change), moves
        inputs and targets to that device, casts those that had the parameters' old dtype, and
        probes again. Layers that were there keep the mode that they were checked in.

        Raises:
            UnsupportedModelError: As when built.
            UnsupportedLossError: As when built.
            ValueError: No trainable parameter, none of those that were chosen, or batches that
                yield other samples.
        """
        new = copy.copy(self)
        with self._processes.in_step(state=self._state()):
            bound = BoundModel(self.model, chosen=self._bound.chosen, before=self._bound)
            if self._weights is not None:
                new._weights = self._weights.to(dtype=bound.dtype, device=bound.device)
            new._bind(bound, self._data.moved(self._bound, bound))
        new._count_samples()
        self.__dict__.update(new.__dict__)  # at once: a refusal leaves the old binding

    def theta(self) -> Tensor:
        """A copy of the parameters now, ``(P,)``, in float32 where they are in half precision.

        Raises:
            ModelChangedError: The parameters are not those that the operator was built over.
        """
        if not self._processes.are_several:  # there all stop together, at the next product
            self._bound.refuse_if_changed()
        theta = self._flatten(tuple(p.detach() for p in self.parameters))
        return theta.to(torch.promote_types(theta.dtype, torch.float32))

    def surroundings(self) -> Surroundings | None:
        """What makes the matrix beside θ: the data, and the rest of model and loss.

        ``None`` where other processes have data of their own, and may not see what changed here.
        """
        return None if self._processes.are_several else self._recorder.surroundings(self._data)

    def matvec(self, v: Tensor) -> Tensor:
        """Multiply with one vector.

        Args:
            v: Shape ``(P,)``; cast to the parameters' dtype for the product.

        Returns:
            Shape ``(P,)``, in the dtype of ``v``, or in the parameters' if that is no real number's
            (integers, such as random signs, would lose what the product has behind the point).
        """
        refuse_unless_tensor(v)
        return self.matmat(v[:, None])[:, 0]

    def matmat(self, V: Tensor) -> Tensor:
        """Multiply with the columns of a matrix, sharing one graph.

        Args:
            V: Shape ``(P, m)``; cast to the parameters' dtype for the product.

        Returns:
            Shape ``(P, m)``, in the dtype of ``V``, or in the parameters' if ``V`` is not floating
            point.

        Raises:
            TypeError: ``V`` is no tensor.
            ValueError: ``V`` does not have ``P`` rows, or is complex.
            ModelChangedError: The parameters are not those that the operator was built over.
        """
        refuse_unless_tensor(V)
        if V.ndim != 2 or V.shape[0] != self.shape[1]:
            raise ValueError(f"cannot multiply {self.shape} with {tuple(V.shape)}")
        V = real_vectors(V, self.dtype)
        with torch.inference_mode(False):
            # One vector's entries lie side by side in a row: splitting it copies nothing.
            rows = V.to(dtype=self.dtype).T.contiguous()
            result, count = torch.zeros_like(rows), 0.0
            with self._evaluation(rows) as surroundings:
                now = (self._snapshot(), surroundings)
                for chunk in self._graphs.chunks(now, self._recorded):
                    for row, total in zip(rows, result, strict=True):
                        total.add_(self._flatten(chunk.product(self._unflatten(row))))
                    if not chunk.is_finite:  # whatever its derivatives are
                        result.fill_(math.nan)
                    count += chunk.count
                    del chunk  # before the next chunk's graph is built
            return self._mean(result, count).T.to(dtype=V.dtype)

    def loss_and_gradient(self) -> tuple[float, Tensor]:
        """The loss over all samples and its gradient now, ``(P,)``, in one pass over the chunks.

        Raises:
            ModelChangedError: The parameters are not those that the operator was built over.
            ValueError: The operator is a weighted sum over some samples.
        """
        if self._weights is not None:
            raise ValueError("a weighted sum over some samples has no loss of its own: use all")
        with torch.inference_mode(False), self._evaluation():
            loss = torch.zeros((), dtype=torch.float64, device=self.device)
            total, count = torch.zeros(self.shape[0], dtype=self.dtype, device=self.device), 0.0
            for chunk in self._data.chunks(self._graphs.chunk_size):
                part, counted = self._recorder.loss_of(chunk)
                total += self._flatten(gradient(part, self._leaves))
                loss += part.detach()
                count += counted
                del chunk, part  # before the next chunk's graph is built
            return float(self._mean(loss, count)), self._mean(total, count)

    @contextmanager
    def _evaluation(self, *vectors: Tensor) -> Iterator[Surroundings]:
        """The model as it was bound, in every process or in none, and what surrounds θ."""
        kinds = (type(self).__name__, f"a pair: {self.loss.sums}")
        with self._processes.in_step(kinds=kinds, state=self._state(), vectors=vectors):
            self._bound.refuse_if_changed()
            with self._bound.evaluation():
                yield self._recorder.look_again(self._data)

    def _mean(self, own: Tensor, count: float) -> Tensor:
        """Over all samples, from a mean over this process's own, or a sum over their number."""
        if self._processes.are_several:
            own *= len(self._data) / self.num_samples
            counts = torch.tensor(count, dtype=torch.float64, device=self.device)
            own, count = self._processes.total(own), float(self._processes.total(counts))
        if self.loss.sums:
            refuse_unless_counted(count)
            own /= count / self.num_samples
        return own

    def _state(self) -> tuple[Tensor, ...]:
        return (*self.model.parameters(), *self.model.buffers())

    def _snapshot(self) -> Snapshot:
        # Parameters outside the block shape it too.
        return Snapshot(whole=(*self.model.parameters(), *self.model.buffers()))

    def _recorded(self, chunk: Chunk) -> RecordedChunk:
        return self._recorder(chunk, self._record, self._weights)

    def _unflatten(self, v: Tensor) -> Tensors:
        parts = torch.split(v, self._sizes)
        return tuple(part.view_as(p) for part, p in zip(parts, self.parameters, strict=True))

    def _flatten(self, tensors: Tensors) -> Tensor:
        return torch.cat([t.reshape(-1) for t in tensors])

    def _second_derivative(
        self, outputs: Tensor | Tensors, cotangents: Tensors | None = None
    ) -> Product:
        if not self._derivatives_checked:
            refuse_wrong_second_derivatives((outputs,) if isinstance(outputs, Tensor) else outputs)
            self._derivatives_checked = True
        first = parameter_gradient(outputs, self._leaves, cotangents)
        return lambda v: gradient(first, self._leaves, v)
