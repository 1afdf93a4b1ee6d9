"""Refusal of models and losses for which the full-batch Hessian is not well defined."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

#: Samples that the probe of the loss looks at: enough to meet several classes, cheap to evaluate.
PROBE_SAMPLES = 16


class UnsupportedModelError(ValueError):
    """The model's output depends on the rest of the batch or on chance."""


class UnsupportedLossError(ValueError):
    """The loss is not the mean of per-sample losses, or changes from call to call."""


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


def _depends_on_batch(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None)


def _depends_on_chance(layer: nn.Module) -> bool:
    if not layer.training:
        return False
    if isinstance(layer, _DropoutNd):
        return layer.p > 0
    # Attention and recurrent layers carry their dropout as a plain number, not as a layer.
    return isinstance(layer, nn.MultiheadAttention | nn.RNNBase) and layer.dropout > 0


def refuse_unless_mean(loss: Callable[[Tensor], Tensor], num_samples: int) -> None:
    """Raise unless a loss is a deterministic mean over samples, judged on a small probe.

    A mean satisfies ``m L(all) = L(first) + (m - 1) L(rest)``; a sum, or a mean weighted by
    class, does not, and its chunks could not be put together.

    Args:
        loss: Evaluates the loss on a slice of the samples.
        num_samples: Samples in the data set.

    Raises:
        UnsupportedLossError: Says what was found.
    """
    size = min(PROBE_SAMPLES, num_samples)
    # Spread over the data, which may be sorted by class.
    probe = torch.linspace(0, num_samples - 1, size).round().long()
    whole = loss(probe)
    if whole.ndim != 0:
        raise UnsupportedLossError(
            f"the loss has shape {tuple(whole.shape)}, not a scalar: return its mean over samples"
        )
    if not torch.equal(whole, loss(probe)) and bool(torch.isfinite(whole)):
        raise UnsupportedLossError(
            "two evaluations of the loss on the same samples differ: "
            "remove the randomness from the model or the loss"
        )
    if size == 1 or not bool(torch.isfinite(whole)):
        return
    first, rest = loss(probe[:1]), loss(probe[1:])
    mean = (first + (size - 1) * rest) / size
    tolerance = 1e3 * torch.finfo(whole.dtype).eps * float(first.abs() + rest.abs())
    if float((mean - whole).abs()) > tolerance:
        raise UnsupportedLossError(
            f"the loss is not a mean over samples: {size} samples give {float(whole):.6g}, "
            f"the mean of their losses is {float(mean):.6g}; use reduction='mean' without "
            "class weights"
        )
