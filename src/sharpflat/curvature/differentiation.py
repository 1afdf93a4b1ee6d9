"""First derivatives whose graph can be differentiated again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sharpflat.curvature.checks import UnsupportedLossError
from sharpflat.curvature.nested import Nested, real_tensors, tensors_in, with_real_tensors
from sharpflat.curvature.snapshot import version

Tensors: TypeAlias = tuple[Tensor, ...]
#: What users give: a mean over samples, or a pair of a sum and its count.
LossFunction: TypeAlias = Callable[[Any, Any], Tensor | tuple[Tensor, Tensor | float]]


class Loss:
    """A user's loss as one number: its mean over samples, or the sum of a pair ``(sum, count)``.

    Attributes:
        sums: Whether it gives pairs.
        is_finite: Whether its last value was.

    Args:
        loss_fn: The user's.
        sums: Whether it gives pairs.
    """

    def __init__(self, loss_fn: LossFunction, *, sums: bool) -> None:
        self._loss_fn, self.sums, self._last = loss_fn, sums, torch.zeros(())

    def __call__(self, outputs: Nested, targets: Nested) -> Tensor:
        """The mean, or the sum."""
        value = self._evaluated(outputs, targets)[0]
        self._last = value.detach()
        return value

    @property
    def is_finite(self) -> bool:
        """Whether the last value was."""
        return bool(self._last.isfinite().all())

    def count(self, outputs: Nested, targets: Nested, size: int) -> float:
        """What the samples count in the mean: their number, or the count of the pair."""
        if not self.sums:
            return size
        with torch.no_grad():
            return float(self._evaluated(outputs, targets)[1])

    def _evaluated(self, outputs: Nested, targets: Nested) -> tuple[Tensor, Tensor | float]:
        parts = tensors_in(targets)
        before = list(map(version, parts))
        value = self._loss_fn(outputs, targets)
        if before != list(map(version, parts)):
            raise UnsupportedLossError(
                "the loss writes into its targets, so that every evaluation sees other data: let "
                "loss_fn compute with a copy, targets.clone()"
            )
        if isinstance(value, Tensor):
            if not self.sums:
                return value, 0.0
        elif self.sums and isinstance(value, tuple | list) and len(value) == 2:
            total, count = value
            if isinstance(count, Tensor) and count.requires_grad:
                raise UnsupportedLossError(
                    "the count of the pair (sum, count) that the loss returns depends on the "
                    "parameters, and its derivative would be left out: count with detach()"
                )
            return total, count
        raise UnsupportedLossError(
            f"the loss returned a {type(value).__name__}; it must return the mean over samples as "
            "a tensor, or a pair (sum, count), and the same of them at every call"
        )


def refuse_unless_counted(count: float) -> None:
    """Raise unless the counts of all samples make a mean.

    Raises:
        UnsupportedLossError: They are not above 0 together.
    """
    if not 0 < count < float("inf"):
        raise UnsupportedLossError(
            f"the counts of the pairs (sum, count) that the loss returned add up to {count:g}: "
            "there is nothing to take the mean over; look at what loss_fn counts"
        )


def gradient(
    outputs: Tensor | Tensors,
    inputs: Tensors,
    cotangents: Tensors | None = None,
    *,
    create_graph: bool = False,
) -> Tensors:
    """``torch.autograd.grad`` that keeps the graph and gives zeros where nothing depends."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    if cotangents is None:
        cotangents = tuple(torch.ones_like(output) for output in outputs)
    dependent = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not dependent:
        return tuple(torch.zeros_like(part) for part in inputs)
    return torch.autograd.grad(
        [o for o, _ in dependent],
        inputs,
        [c for _, c in dependent],
        retain_graph=True,
        create_graph=create_graph,
        materialize_grads=True,
    )


def parameter_gradient(
    outputs: Tensor | Tensors, parameters: Tensors, cotangents: Tensors | None = None
) -> Tensors:
    """:func:`gradient` in the parameters, to be differentiated again; zeros for unused ones.

    Raises:
        UnsupportedLossError: Nothing depends on any parameter.
    """
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    parts: tuple[Tensor | None, ...] = (None,)
    pairs = zip(outputs, cotangents or (None,) * len(outputs), strict=True)
    dependent = [(o, c) for o, c in pairs if o.requires_grad]
    if dependent:
        parts = torch.autograd.grad(
            [o for o, _ in dependent],
            parameters,
            [c for _, c in dependent],
            create_graph=True,
            allow_unused=True,
        )
    if all(part is None for part in parts):
        raise UnsupportedLossError(
            "the loss depends on none of the parameters that require gradients and were chosen, so "
            "its curvature would be zero: let the model's own parameters compute the outputs, "
            "without detach() or torch.no_grad() in forward() or in loss_fn"
        )
    return tuple(
        torch.zeros_like(p) if part is None else part
        for p, part in zip(parameters, parts, strict=True)
    )


def loss_derivative(
    loss_fn: Loss,
    outputs: Nested,
    targets: Nested,
    parameters: Tensors = (),
    *,
    create_graph: bool = False,
) -> tuple[Tensors, Tensors]:
    """The real tensors of the outputs as leaves, and ``∂L/∂f`` there.

    Raises:
        UnsupportedLossError: The loss depends on the parameters other than through the outputs.
    """
    leaves = tuple(tensor.detach().requires_grad_() for tensor in real_tensors(outputs))
    loss = loss_fn(with_real_tensors(outputs, leaves), targets)
    if not loss.requires_grad:  # a loss that does not look at the outputs
        return leaves, tuple(map(torch.zeros_like, leaves))
    derivatives = torch.autograd.grad(
        loss, (*leaves, *parameters), create_graph=create_graph, allow_unused=True
    )
    if any(other is not None for other in derivatives[len(leaves) :]):
        raise UnsupportedLossError(
            "the loss depends on the parameters other than through the model's outputs, as with a "
            "penalty on the weights: the Gauss-Newton decomposition H = G + F and a weighted sum "
            "over samples leave that part out; take it out of loss_fn and add its own second "
            "derivative to the products"
        )
    return leaves, tuple(
        torch.zeros_like(leaf) if derivative is None else derivative
        for leaf, derivative in zip(leaves, derivatives[: len(leaves)], strict=True)
    )
