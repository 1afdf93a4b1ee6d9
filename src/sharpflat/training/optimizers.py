"""Base optimizers from their names, and the update that one is about to make."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sharpflat.optimizers import Options
from sharpflat.training.sam import SAM

#: Those that divide by a root of second moments, and the name of these in their state.
_SECOND_MOMENTS = {
    torch.optim.Adam: "exp_avg_sq",
    torch.optim.AdamW: "exp_avg_sq",
    torch.optim.RMSprop: "square_avg",
}
_BY_NAME: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sam": SAM,
}


def base_optimizers(
    name: str, options: Options, parameters: Sequence[Tensor], *, learning_rate: float
) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers that step all parameters together: one, or two for ``muon``.

    Args:
        name: In :data:`sharpflat.optimizers.OPTIMIZERS`.
        options: All of its options.
        parameters: What is stepped.
        learning_rate: η.

    Raises:
        ValueError: Muon without a matrix to step.
    """
    values: dict[str, Any] = dict(options)
    if name != "muon":
        return (_BY_NAME[name](parameters, lr=learning_rate, **values),)
    matrices = [p for p in parameters if p.dim() == 2]
    rest = [p for p in parameters if p.dim() != 2]
    if not matrices:
        raise ValueError("optimizer muon steps matrices, and the model has none: take another")
    adam = {option: values.pop(option) for option in ("betas", "eps")}
    muon = torch.optim.Muon(matrices, lr=learning_rate, adjust_lr_fn="match_rms_adamw", **values)
    if not rest:
        return (muon,)
    decay = values["weight_decay"]
    return (muon, torch.optim.AdamW(rest, lr=learning_rate, weight_decay=decay, **adam))


def load_states(
    optimizers: Sequence[torch.optim.Optimizer], states: Sequence[dict[str, Any]]
) -> None:
    """Take over what optimizers of the same kind have gathered, but none of their settings.

    So the learning rate may change at the switch, which momenta and moments cross.
    """
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})


def reevaluates(optimizers: Sequence[torch.optim.Optimizer]) -> bool:
    """Whether a step takes the gradient at other points too, by a closure."""
    return any(isinstance(optimizer, SAM) for optimizer in optimizers)


def next_update(
    optimizers: Sequence[torch.optim.Optimizer],
    parameters: Sequence[Tensor],
    closure: Callable[[], Any] | None,
) -> tuple[Tensor, Tensor | None]:
    """What the optimizers would do to the parameters now; nothing is changed.

    Args:
        optimizers: They step the parameters together, whose gradients are there.
        parameters: What is stepped.
        closure: Of one that needs it.

    Returns:
        The update ``(P,)``, and ``√v + ε``, ``(P,)``, by which Adam, AdamW or RMSProp divides it;
        ``None`` for the others.
    """
    before = [p.detach().clone() for p in parameters]
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in optimizers]
    for optimizer in optimizers:
        optimizer.step(closure)
    with torch.no_grad():
        parts = [p - old for p, old in zip(parameters, before, strict=True)]
        update = torch.cat([part.reshape(-1) for part in parts])
        diagonal = _diagonal(optimizers[0], parameters) if len(optimizers) == 1 else None
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old)
    for p, gradient in zip(parameters, gradients, strict=True):
        p.grad = gradient
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)
    return update, diagonal


def _diagonal(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Tensor | None:
    """``√v̂ + ε`` after a step, with Adam's correction of v for its start at zero."""
    moments = _SECOND_MOMENTS.get(type(optimizer))
    if moments is None:
        return None
    options = optimizer.param_groups[0]
    parts = []
    for p in parameters:
        state = optimizer.state.get(p)
        if not state:  # never had a gradient: its second moment is zero
            parts.append(torch.full_like(p, options["eps"]).reshape(-1))
            continue
        corrected = state[moments]
        if "betas" in options:
            corrected = corrected / (1 - options["betas"][1] ** state["step"].item())
        parts.append((corrected.sqrt() + options["eps"]).reshape(-1))
    return torch.cat(parts)
