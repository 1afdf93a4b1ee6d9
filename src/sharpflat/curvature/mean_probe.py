"""Refusal of losses that are not a mean over samples, whose chunks could not be put together."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from sharpflat.curvature.bound_model import BoundModel
from sharpflat.curvature.checks import (
    UnsupportedLossError,
    UnsupportedModelError,
    refuse_once_differentiable,
    refuse_reentrant_checkpoints,
)
from sharpflat.curvature.differentiation import Loss, LossFunction, loss_derivative
from sharpflat.curvature.full_precision import HALF
from sharpflat.curvature.hooks import TensorHooksRefused
from sharpflat.curvature.nested import Nested, map_tensors, real_tensors, tensors_in
from sharpflat.curvature.samples import Samples

#: Samples whose loss is evaluated with the model: enough to meet several classes, and cheap.
PROBE_SAMPLES = 16
#: Groups that all the targets are looked at in, and outputs that are held for one of them.
GROUPS = 64
GROUP_OUTPUTS = 2**22
#: Relative rounding error allowed between a mean and its parts. Single precision sums samples in
#: another order, 1e3 units in the last place.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


class MeanProbe:
    """A few samples beside which the weight of all others is told.

    A mean over ``m`` samples has the derivative ``∂L/∂f_i = (1/m) ∂ℓ_i/∂f_i`` in one's outputs. So
    ``m ∂L/∂f_i`` of the probed samples is the same alone and beside any others, unless those
    count more or less, as padded sequences do (``ignore_index``), or the classes of a weighted
    loss. The outputs of the others need not be theirs, so that the loss alone is evaluated, over
    every target. Likewise ``∂S/∂f_i`` of a loss that gives pairs ``(S, count)``.

    Attributes:
        loss: The loss as one number.
        is_void: Whether the loss was not finite, so that nothing was told of it.
        tells_samples_apart: Whether all outputs have samples along dimension 0, so that any of
            them can be looked at.

    Args:
        samples: All samples, or the first batch.
        bound: The model.
        loss_fn: The user's loss.

    Raises:
        UnsupportedLossError: The loss is not a scalar, changes from call to call, or is neither a
            mean over samples nor a pair that adds up.
        UnsupportedModelError: The model or the loss computes in half precision, draws random
            numbers, hangs a hook on a tensor or holds an autograd function that is marked
            ``once_differentiable``; or the model holds a reentrant checkpoint.
    """

    def __init__(self, samples: Samples, bound: BoundModel, loss_fn: LossFunction) -> None:
        model, num_samples = bound.evaluated, len(samples)
        self._size = min(PROBE_SAMPLES, num_samples)
        # Spread over the data, which may be sorted by class.
        probe = torch.linspace(0, num_samples - 1, self._size).round().long()

        def loss(chosen: Tensor) -> Tensor:
            chunk = samples.chunk(chosen)
            return self.loss(chunk.outputs(model), chunk.targets)

        def count(chosen: Tensor) -> float:
            chunk = samples.chunk(chosen)
            return self.loss.count(chunk.outputs(model), chunk.targets, chunk.size)

        precisions = {bound.dtype}
        with torch.enable_grad(), _precisions_into(precisions), TensorHooksRefused():
            chunk = samples.chunk(probe)
            outputs = chunk.outputs(model)
            refuse_reentrant_checkpoints(tensors_in(outputs))
            refuse_once_differentiable(tensors_in(outputs))
            self._outputs = map_tensors(Tensor.detach, outputs)
            self._targets = chunk.targets
        real = real_tensors(self._outputs)
        if not real:
            raise UnsupportedLossError(
                "the model's outputs hold no tensor of real numbers: let forward() return the "
                "tensors that loss_fn reads in tuples, lists, mappings or dataclasses"
            )
        of_loss: set[torch.dtype] = set()
        with torch.enable_grad(), _precisions_into(of_loss), TensorHooksRefused():
            value = loss_fn(map_tensors(_recorded, self._outputs), self._targets)
            refuse_once_differentiable(tensors_in(value))
        precisions |= of_loss - {tensor.dtype for tensor in tensors_in(self._targets)}
        with torch.no_grad():
            self.loss = Loss(loss_fn, sums=isinstance(value, tuple | list))
            chance = _random_states(bound.device)
            whole = loss(probe)
            self._refuse_bad_value(whole, loss(probe))
            if not all(map(np.array_equal, chance, _random_states(bound.device))):
                raise UnsupportedModelError(
                    "evaluating the model or the loss draws random numbers, so that two "
                    f"evaluations may differ: {_WITHOUT_CHANCE}"
                )
            self.is_void = not self.loss.is_finite
            seen = {whole.dtype, *(tensor.dtype for tensor in real)}
            _refuse_half(precisions | seen)
            self._precision = _lowest(seen)
            tolerance = TOLERANCE[_lowest(precisions | seen)]
            self.tells_samples_apart = False
            if self._size == 1 or not bool(torch.isfinite(whole)):
                return
            first, rest = probe[:1], probe[1:]
            alone = samples.chunk(first).outputs(model)
            self._refuse_unless_parts(loss, whole, first, rest, tolerance)
            if self.loss.sums:
                counts = [count(chosen) for chosen in (probe, first, rest)]
                _refuse_unless_counts(*counts, tolerance=tolerance)
            self.tells_samples_apart = _lead(self._outputs, self._size) and _lead(alone, 1)
            others = self._groups(num_samples)
            if not self.tells_samples_apart:
                for group in others:
                    union = loss(torch.cat([probe, group]))
                    self._refuse_unless_parts(loss, union, probe, group, tolerance)
                return
        self._alone = self._derivative(self._outputs, self._targets, self._size)
        for group in others:
            tiled = map_tensors(partial(_tiled, indices=group, size=self._size), self._outputs)
            targets = samples.chunk(group).targets
            self.refuse_unless_equal_weights(tiled, targets, first=int(group[0]))

    def _groups(self, num_samples: int) -> list[Tensor]:
        outputs_each = sum(tensor.numel() for tensor in tensors_in(self._outputs)) // self._size
        largest = max(1, GROUP_OUTPUTS // max(1, outputs_each))
        size = min(-(-num_samples // GROUPS), largest)
        return list(torch.split(torch.arange(num_samples), size))

    def _refuse_bad_value(self, whole: Tensor, again: Tensor) -> None:
        if whole.ndim != 0:
            raise UnsupportedLossError(
                f"the loss has shape {tuple(whole.shape)}, not a scalar: return its mean over "
                "samples"
            )
        if not torch.equal(whole, again) and bool(torch.isfinite(whole)):
            raise UnsupportedLossError(
                f"two evaluations of the loss on the same samples differ: {_WITHOUT_CHANCE}"
            )

    def _refuse_unless_parts(
        self,
        loss: Callable[[Tensor], Tensor],
        whole: Tensor,
        first: Tensor,
        second: Tensor,
        tolerance: float,
    ) -> None:
        """A mean satisfies ``m L(all) = m_1 L(first) + m_2 L(second)``; a sum does not."""
        size = len(first) + len(second)
        shares = [1.0, 1.0] if self.loss.sums else [len(part) / size for part in (first, second)]
        parts = [
            float(loss(part)) * share for part, share in zip((first, second), shares, strict=True)
        ]
        mean, found = sum(parts), float(whole)
        if math.isfinite(found) and not math.isfinite(mean):
            raise UnsupportedLossError(
                f"the loss is not a mean over samples: {size} samples together give "
                f"{found:.6g}, {len(first)} and {len(second)} of them alone {parts[0]:.6g} and "
                f"{parts[1]:.6g}; {_REMEDY}"
            )
        if abs(mean - found) > tolerance * sum(map(abs, parts)):
            one, other = _told_apart(found, mean)
            if self.loss.sums:
                raise UnsupportedLossError(
                    f"the loss returns a pair whose first is not a sum over samples: {size} "
                    f"samples give {one}, their parts add up to {other}; {_REMEDY}"
                )
            raise UnsupportedLossError(
                f"the loss is not a mean over samples: {size} samples give {one}, the mean of "
                f"their losses is {other}; {_REMEDY}"
            )

    def _derivative(self, outputs: Nested, targets: Nested, size: int) -> Tensor:
        """``m ∂L/∂f`` of the first ``size`` samples, of a sum ``∂S/∂f``, as one vector."""
        with torch.enable_grad():
            leaves, derivatives = loss_derivative(self.loss, outputs, targets)
        factor = 1 if self.loss.sums else len(leaves[0])
        return torch.cat([factor * part[:size].double().flatten() for part in derivatives])

    def refuse_unless_equal_weights(self, outputs: Nested, targets: Nested, *, first: int) -> None:
        """Raise if some samples count more or less than the probed ones.

        Samples whose outputs or targets have other shapes than the probed ones, as in a batch
        that is padded to a length of its own, are set beside the first of themselves.

        Args:
            outputs: Samples along dimension 0, outputs that they have or might have.
            targets: Theirs.
            first: The number of the first of them, for the message.

        Raises:
            UnsupportedLossError: Names the samples and how much a sample counts beside them.
        """
        if not self.tells_samples_apart:
            return
        outputs = map_tensors(Tensor.detach, outputs)
        size = len(real_tensors(outputs)[0])
        own = (self._outputs, self._targets)
        if _shapes(own) == _shapes((outputs, targets)):
            alone = self._alone
            joined = map_tensors(_joined, own, (outputs, targets))
            beside = self._derivative(joined[0], joined[1], self._size)
        elif size > 1 and _lead(outputs, size) and _lead(targets, size):
            some = min(self._size, size // 2)
            part = map_tensors(lambda tensor: tensor[:some], (outputs, targets))
            alone = self._derivative(part[0], part[1], some)
            beside = self._derivative(outputs, targets, some)
        else:
            return
        square = float(alone.square().sum())
        ratio = float((alone * beside).sum()) / square if square else 1.0
        # Not finite where the loss of outputs and targets that do not belong together is not.
        if abs(ratio - 1) > TOLERANCE[self._precision]:
            raise UnsupportedLossError(
                f"the loss is not a mean over samples: beside samples {first} to "
                f"{first + size - 1} every other counts {ratio:.6g} times what it counts "
                f"without them, as with padding (ignore_index) or class weights; {_REMEDY}"
            )


def _random_states(device: torch.device) -> tuple[Any, ...]:
    """Of every generator that evaluating a model may draw from: torch's, NumPy's and Python's."""
    places = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.empty(0)
    _, keys, position, *_ = np.random.get_state()  # the user's, only looked at
    return torch.get_rng_state(), places, keys, position, random.getstate()[1]


def _refuse_half(precisions: set[torch.dtype]) -> None:
    """A model in half precision is evaluated in float32: this one casts in ``forward()``."""
    for dtype in precisions & set(HALF):
        raise UnsupportedModelError(
            f"the model or its loss computes in {dtype} whatever the precision of its parameters, "
            "and products rounded to that tell no eigenvectors apart: take torch.autocast and "
            "casts to it out of forward() and loss_fn; a model whose parameters are in half "
            "precision is evaluated in float32"
        )


def _refuse_unless_counts(whole: float, first: float, rest: float, *, tolerance: float) -> None:
    if min(first, rest) < 0 or abs(first + rest - whole) > tolerance * whole:
        raise UnsupportedLossError(
            f"the loss returns a pair whose count does not add up: {whole:g} for some samples, "
            f"{first:g} and {rest:g} for their parts; count what the sum is over, not its mean"
        )


def _lead(tree: Nested, size: int) -> bool:
    """Whether all tensors have that many samples along dimension 0."""
    return all(tensor.ndim > 0 and len(tensor) == size for tensor in tensors_in(tree))


def _shapes(tree: Nested) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape[1:]) for tensor in tensors_in(tree)]


def _recorded(outputs: Tensor) -> Tensor:
    """Outputs on which a loss is recorded."""
    return outputs.detach().requires_grad_() if outputs.is_floating_point() else outputs


def _joined(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one, other])


def _tiled(outputs: Tensor, *, indices: Tensor, size: int) -> Tensor:
    return outputs[torch.arange(len(indices), device=outputs.device) % size]


_WITHOUT_CHANCE = (
    "call model.eval() before the operator is built, or remove the randomness from the model or "
    "the loss, such as stochastic depth or functional.dropout without training=self.training"
)
_MIXING = (
    "let neither the model nor the loss mix samples, as statistics of a batch do that they compute "
    "themselves"
)
_REMEDY = (
    f"{_MIXING}; use reduction='mean' without class weights or padding, divide the sum over "
    "samples by their number, or let loss_fn return the pair (sum, count), such as the sum over "
    "tokens that are not padding and their number"
)


def _precisions_into(found: set[torch.dtype]) -> saved_tensors_hooks:
    """Collects the precisions that a model or a loss computes in, autocast within it included."""

    def pack(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            found.add(tensor.dtype)
        return tensor.detach()  # the tensor itself would hold its own graph, for ever

    return saved_tensors_hooks(pack, lambda tensor: tensor)


def _lowest(precisions: set[torch.dtype]) -> torch.dtype:
    known = [dtype for dtype in precisions if dtype in TOLERANCE]
    return max(known, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart, at least 6."""
    for digits in range(6, 18):
        texts = f"{one:.{digits}g}", f"{other:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
