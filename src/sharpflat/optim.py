"""Any optimizer's update, split along the Dominant subspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpflat.curvature.subspace import DominantSubspace


class ProjectedOptimizer:
    """Weighs the Dominant and the Bulk part of a base optimizer's update.

    With the base optimizer's update ``u``, a step is ``θ ← θ + a P_k u + b (u - P_k u)``. SGD is
    ``(a, b) = (1, 1)``, Dom-SGD ``(1, 0)``, Bulk-SGD ``(0, 1)`` [Zakarin & Singh]. The projection
    comes after momentum, weight decay and whatever else the base optimizer does. A parameter
    without a gradient counts as one whose gradient is zero.

    Args:
        base_optimizer: Steps the parameters of ``subspace.operator``, all of them and no others.
        subspace: The Dominant subspace; a step brings it up to date first.
        dom_weight: ``a``.
        bulk_weight: ``b``.

    Raises:
        ValueError: The optimizer's parameters are not the operator's, or a weight is not finite.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import DominantSubspace, HessianOperator
        >>> model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> x, y = torch.eye(2, dtype=torch.float64) * torch.tensor([3.0, 1.0]), torch.zeros(2, 1)
        >>> hessian = HessianOperator(model, torch.nn.functional.mse_loss, x, y.double())
        >>> bulk_sgd = ProjectedOptimizer(
        ...     torch.optim.SGD(model.parameters(), lr=0.1),
        ...     DominantSubspace(hessian, k=1),
        ...     dom_weight=0.0,
        ...     bulk_weight=1.0,
        ... )
        >>> torch.nn.functional.mse_loss(model(x), y.double()).backward()
        >>> bulk_sgd.step()
        >>> model.weight.detach().round(decimals=6)  # the sharp direction stays where it was
        tensor([[1.0000, 0.9000]], dtype=torch.float64)
    """

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer,
        subspace: DominantSubspace,
        *,
        dom_weight: float,
        bulk_weight: float,
    ) -> None:
        for name, weight in (("dom_weight", dom_weight), ("bulk_weight", bulk_weight)):
            if not abs(weight) < float("inf"):
                raise ValueError(f"{name} is {weight}; it must be a finite number")
        self.base_optimizer = base_optimizer
        self.subspace = subspace
        self.dom_weight = dom_weight
        self.bulk_weight = bulk_weight
        self._parameters = subspace.operator.parameters
        groups = base_optimizer.param_groups
        stepped = {id(p) for group in groups for p in group["params"] if p.requires_grad}
        differentiated = {id(p) for p in self._parameters}
        if stepped != differentiated:
            raise ValueError(
                f"the optimizer steps {len(stepped - differentiated)} parameters that the "
                f"curvature does not see and lacks {len(differentiated - stepped)} that it sees: "
                "give it every parameter of the model that requires a gradient, and no other"
            )

    @property
    def projects(self) -> bool:
        """Whether a step needs the subspace: with both weights 1 it is the base optimizer's own."""
        return not self.dom_weight == self.bulk_weight == 1.0

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Take one projected step; returns the closure's loss, if there is a closure.

        Raises:
            NonFiniteProductError: The parameters have diverged.
        """
        if not self.projects:
            return self.base_optimizer.step(closure)  # type: ignore[arg-type]
        self.subspace.update()
        before = self.subspace.operator.theta()
        loss = self.base_optimizer.step(closure)  # type: ignore[arg-type]
        update = self.subspace.operator.theta() - before
        dominant = self.subspace.project(update)
        step = self.dom_weight * dominant + self.bulk_weight * (update - dominant)
        after = torch.split(before + step, [p.numel() for p in self._parameters])
        for parameter, values in zip(self._parameters, after, strict=True):
            parameter.copy_(values.view_as(parameter))
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the base optimizer's parameters."""
        self.base_optimizer.zero_grad(set_to_none=set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups, learning rates among them."""
        return self.base_optimizer.param_groups
