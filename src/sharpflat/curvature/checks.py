"""Refusal of models for which the full-batch Hessian is not well defined."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd


class UnsupportedModelError(ValueError):
    """The model's output depends on the rest of the batch, on chance or on what came before."""


class ModelChangedError(RuntimeError):
    """The model no longer has the parameters that an operator was built over."""


class UnequalProcessesError(RuntimeError):
    """Processes that share an operator's samples differ in what must be equal, or one failed."""


class UnsupportedLossError(ValueError):
    """The loss is not the mean of per-sample losses, or changes from call to call."""


def as_count(value: object) -> int:
    """An integer of any library as Python's own; 0, which counts nothing, for what is none."""
    if isinstance(value, bool):
        return 0
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return 0


def refuse_unless_operator(given: Any) -> None:
    """Raise unless something multiplies, as an operator does.

    Raises:
        TypeError: With the remedy.
    """
    if not all(hasattr(given, name) for name in ("shape", "dtype", "device", "matmat")):
        raise TypeError(
            f"the operator is a {type(given).__name__}: give a curvature operator, such as "
            "HessianOperator(model, loss_fn, inputs, targets), or MatrixOperator(tensor)"
        )


def refuse_unless_moving(given: Any) -> None:
    """Raise unless something multiplies and says where its parameters are.

    Raises:
        TypeError: With the remedy.
    """
    refuse_unless_operator(given)
    if not all(hasattr(given, name) for name in ("parameters", "theta")):
        raise TypeError(
            f"a {type(given).__name__} has no parameters that it could be followed along: give a "
            "curvature operator of a model; a factor of the loss belongs in loss_fn, and "
            "top_eigenpairs solves for any symmetric operator once"
        )


def refuse_unless_module(given: Any) -> None:
    """Raise unless a model is a module, and no class or function.

    Raises:
        TypeError: With the remedy.
    """
    if not isinstance(given, nn.Module):
        name = getattr(given, "__name__", type(given).__name__)
        raise TypeError(
            f"the model is {name}: give an instance of a torch.nn.Module, in whose parameters the "
            "loss is differentiated"
        )


def refuse_unless_loss(given: Any) -> None:
    """Raise unless a loss can be called with outputs and targets.

    Raises:
        TypeError: With the remedy.
    """
    if isinstance(given, type):
        raise TypeError(
            f"loss_fn is the class {given.__name__}: give an instance of it, {given.__name__}(), "
            "or a function of outputs and targets"
        )
    if not callable(given):
        raise TypeError(
            f"loss_fn is a {type(given).__name__}: give a function of outputs and targets that "
            "returns their mean loss, such as torch.nn.functional.cross_entropy"
        )


def refuse_unless_tensor(given: Any) -> None:
    """Raise unless what is multiplied or projected is a tensor.

    Raises:
        TypeError: With the remedy.
    """
    if not isinstance(given, Tensor):
        raise TypeError(
            f"the vector is a {type(given).__name__}: give a tensor of shape (P,), such as "
            "torch.from_numpy(array) or the gradients end to end, torch.cat([g.flatten() for g in "
            "gradients]); operator.to_scipy() multiplies NumPy's arrays"
        )


def refuse_batch_dependent_layers(model: nn.Module) -> None:
    """Raise if a layer's output depends on the rest of the batch or on chance.

    Raises:
        UnsupportedModelError: Names every offending layer and the remedy.
    """
    offenders = [
        f"{name or type(model).__name__} ({type(layer).__name__})"
        for name, layer in model.named_modules()
        if _depends_on_batch(layer) or _depends_on_chance(layer)
    ]
    if offenders:
        raise UnsupportedModelError(
            f"the full-batch Hessian is ill-defined for {', '.join(offenders)}: "
            "call model.eval(), set dropout to 0, or use a normalisation without batch statistics"
        )


def refuse_embeddings(model: nn.Module) -> None:
    """Raise if an embedding writes to its weight, or gives no gradient to differentiate again.

    Raises:
        UnsupportedModelError: Names every offending layer and the remedy.
    """
    offenders = [
        f"{name or type(model).__name__} ({type(layer).__name__} with {option})"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and (option := _option_of(layer))
    ]
    if offenders:
        raise UnsupportedModelError(
            f"the curvature is not that of the loss for {', '.join(offenders)}: max_norm writes to "
            "the weight at every evaluation, scale_grad_by_freq changes the gradient, and sparse "
            "gradients cannot be differentiated again. Build the layer without that option, or "
            "freeze its weight where it is not max_norm"
        )


def refuse_compiled(called: object) -> None:
    """Raise if ``torch.compile`` made a model, a loss or a part of them.

    What ``Module.compile()`` compiled in place is evaluated as it was before.

    Raises:
        UnsupportedModelError: Names every offender and the remedy.
    """
    layers = called.named_modules() if isinstance(called, nn.Module) else ()
    offenders = [
        f"{name or type(layer).__name__}"
        for name, layer in layers
        # By its name, since importing its class takes a second.
        if type(layer).__name__ == "OptimizedModule" or _is_compiled(vars(layer).get("forward"))
    ]
    if not offenders and _is_compiled(called):
        offenders = [getattr(called, "__name__", repr(called))]
    if offenders:
        raise UnsupportedModelError(
            f"{', '.join(offenders)} is made by torch.compile, whose default backend cannot be "
            "differentiated twice: give the operator what torch.compile was given; a compiled "
            "model has the same parameters, so that it can be trained"
        )


def _is_compiled(function: object) -> bool:
    return hasattr(function, "_torchdynamo_orig_callable")


def _option_of(layer: nn.Embedding | nn.EmbeddingBag) -> str | None:
    if layer.max_norm is not None:
        return f"max_norm={layer.max_norm}"
    trained = isinstance(layer.weight, Tensor) and layer.weight.requires_grad
    options = [name for name in ("scale_grad_by_freq", "sparse") if getattr(layer, name)]
    return f"{options[0]}=True" if trained and options else None


#: Nodes of a graph whose own derivative is wrong: of 2.9 to 2.14 torch's fused weight norm gives a
#: Hessian that is off by half of itself, and not symmetric; its first derivative is right.
WRONG_TWICE = {
    "WeightNormInterfaceBackward0": (
        "torch's weight_norm: register a parametrization of your own with forward(g, v) = v * (g / "
        "torch.linalg.vector_norm(v, dim=1, keepdim=True)), or freeze that layer's parameters"
    )
}


def refuse_wrong_second_derivatives(outputs: Sequence[Tensor]) -> None:
    """Raise if the graph of outputs holds what torch is known to differentiate wrongly twice.

    Raises:
        UnsupportedModelError: Names it and the remedy.
    """
    for node in _nodes(outputs):
        if node.name() in WRONG_TWICE:
            raise UnsupportedModelError(
                f"the second derivative is wrong through {WRONG_TWICE[node.name()]}; products of "
                "GGNOperator need first derivatives alone and are right"
            )


def refuse_reentrant_checkpoints(outputs: Sequence[Tensor]) -> None:
    """Raise if activations are recomputed in a way that ``torch.autograd.grad`` passes by.

    It then gives zeros, without an error, to the parameters behind a reentrant checkpoint.

    Raises:
        UnsupportedModelError: With the remedy.
    """
    if any(node.name() == "CheckpointFunctionBackward" for node in _nodes(outputs)):
        raise UnsupportedModelError(
            "the model recomputes activations by torch.utils.checkpoint with use_reentrant=True, "
            "through which torch.autograd.grad gives no gradient: take use_reentrant=False, of "
            "which all derivatives are right"
        )


#: What the decorator makes of any function.
_ONCE_DIFFERENTIABLE = once_differentiable(lambda context: None).__code__


def refuse_once_differentiable(outputs: Sequence[Tensor]) -> None:
    """Raise if a function in the graph of outputs hides its second derivative from torch.

    Where the gradient that reaches it depends on no parameter, torch then takes that derivative
    for zero, without an error.

    Raises:
        UnsupportedModelError: Names the function and the remedy.
    """
    for node in _nodes(outputs):
        function = getattr(type(node), "_forward_cls", None)
        backward = getattr(function, "backward", None)
        if getattr(backward, "__code__", None) is _ONCE_DIFFERENTIABLE:
            raise UnsupportedModelError(
                f"the autograd function {getattr(function, '__name__', function)} is marked "
                "once_differentiable, so that torch leaves its second derivative out: write its "
                "backward() in differentiable operations and take the mark away, or let torch "
                "differentiate its forward()"
            )


def _nodes(outputs: Sequence[Tensor]) -> Iterator[Node]:
    """The nodes of the graph of outputs."""
    left = [tensor.grad_fn for tensor in outputs if tensor.grad_fn is not None]
    seen = set(left)
    while left:
        node = left.pop()
        yield node
        following = {after for after, _ in node.next_functions if after is not None} - seen
        seen |= following
        left += following


def refuse_autocast(device: torch.device) -> None:
    """Raise inside ``torch.autocast``, which rounds products.

    Raises:
        UnsupportedModelError: With the remedy.
    """
    if torch.is_autocast_enabled(device.type):
        kind = device.type
        raise UnsupportedModelError(
            f"torch.autocast is on, and would round products to "
            f"{torch.get_autocast_dtype(kind)}: call the operator, the solver and the "
            f"subspace outside of it, or inside torch.autocast('{kind}', enabled=False)"
        )


def _depends_on_batch(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None)


def _depends_on_chance(layer: nn.Module) -> bool:
    if not layer.training:
        return False
    if isinstance(layer, _DropoutNd):
        return layer.p > 0
    # Attention and recurrent layers carry their dropout as a plain number, not as a layer.
    return isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout > 0
