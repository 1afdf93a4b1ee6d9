"""Refusal of models for which the full-batch Hessian is not well defined."""

from __future__ import annotations

from torch import nn
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
