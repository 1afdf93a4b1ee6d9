"""First derivatives whose graph can be differentiated again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from sharpflat.curvature.checks import UnsupportedLossError

Tensors: TypeAlias = tuple[Tensor, ...]
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


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
    outputs: Tensor, parameters: Tensors, cotangent: Tensor | None = None
) -> Tensors:
    """:func:`gradient` in the parameters, to be differentiated again; zeros for unused ones.

    Raises:
        UnsupportedLossError: Nothing depends on any parameter.
    """
    parts: tuple[Tensor | None, ...] = (None,)
    if outputs.requires_grad:
        parts = torch.autograd.grad(
            outputs, parameters, cotangent, create_graph=True, allow_unused=True
        )
    if all(part is None for part in parts):
        raise UnsupportedLossError(
            "the loss depends on none of the parameters that require gradients, so its curvature "
            "would be zero: let the model's own parameters compute the outputs, without detach() "
            "or torch.no_grad() in forward() or in loss_fn"
        )
    return tuple(
        torch.zeros_like(p) if part is None else part
        for p, part in zip(parameters, parts, strict=True)
    )


def loss_derivative(
    loss_fn: LossFunction,
    outputs: Tensor,
    targets: Tensor,
    parameters: Tensors,
    *,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """The outputs as a leaf, and ``∂L/∂f`` there.

    Raises:
        UnsupportedLossError: The loss depends on the parameters other than through the outputs.
    """
    leaf = outputs.detach().requires_grad_()
    loss = loss_fn(leaf, targets)
    if not loss.requires_grad:  # a loss that does not look at the outputs
        return leaf, torch.zeros_like(leaf)
    derivative, *others = torch.autograd.grad(
        loss, (leaf, *parameters), create_graph=create_graph, allow_unused=True
    )
    if any(other is not None for other in others):
        raise UnsupportedLossError(
            "the loss depends on the parameters other than through the model's outputs, as with a "
            "penalty on the weights: the Gauss-Newton decomposition H = G + F and a weighted sum "
            "over samples leave that part out; take it out of loss_fn and add its own second "
            "derivative to the products"
        )
    return leaf, torch.zeros_like(leaf) if derivative is None else derivative
