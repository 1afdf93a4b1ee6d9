"""Sharpness-aware minimisation, which torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class SAM(torch.optim.SGD):
    """SGD with the gradient at ``θ + ρ g / ‖g‖``, g the gradient at θ [Foret et al. 2021].

    Args:
        params: What is stepped, in one group.
        lr: η.
        rho: ρ, how far uphill the gradient is taken.
        momentum, nesterov, weight_decay: Of SGD.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        *,
        rho: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay
        )
        self.rho = rho

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes the loss at the parameters of the moment and its gradient; called at
                both points.

        Returns:
            The loss at θ.

        Raises:
            ValueError: There is no closure.
        """
        if closure is None:
            raise ValueError("SAM takes the gradient at a second point: give step() a closure")
        with torch.enable_grad():
            loss = closure()
        parameters = [
            p for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        with torch.no_grad():
            gradients = [p.grad.clone() for p in parameters]
            norm = torch.linalg.vector_norm(
                torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
            )
            before = [p.clone() for p in parameters]
            for p, gradient in zip(parameters, gradients, strict=True):
                # Where the gradient is zero there is no uphill.
                p.add_(gradient * (self.rho / norm.clamp_min(torch.finfo(norm.dtype).tiny)))
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)
        super().step()
        return loss
