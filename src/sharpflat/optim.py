"""Any optimizer's update, split along the Dominant subspace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from sharpflat.curvature.subspace import DominantSubspace

Closure = Callable[[], Any]


class ProjectedOptimizer(torch.optim.Optimizer):
    """Weighs the Dominant and the Bulk part of a base optimizer's update.

    With the base optimizer's update ``u``, a step is ``θ ← θ + a P_k u + b (u - P_k u)``. SGD is
    ``(a, b) = (1, 1)``, Dom-SGD ``(1, 0)``, Bulk-SGD ``(0, 1)`` [Zakarin & Singh]. ``u`` is all
    that the base optimizer changes: the projection comes after momentum and preconditioning, and
    decoupled weight decay (AdamW, Muon) is part of the update that is split, as coupled decay is:
    under (0, 1) the Dominant part of the parameters does not decay. A parameter without a gradient
    counts as one whose gradient is zero.

    It is a ``torch.optim.Optimizer``: learning-rate schedulers and hooks work around it, for its
    ``param_groups``, ``state`` and ``defaults`` are read from the base optimizers at each use.

    Args:
        base_optimizer: Steps the parameters of ``subspace.operator``, all of them and no others;
            or several that do so together without overlap, such as ``torch.optim.Muon`` for the
            matrices and AdamW for the rest. ``u`` is then that of all of them.
        subspace: The Dominant subspace; a step brings it up to date first.
        dom_weight: ``a``.
        bulk_weight: ``b``.

    Attributes:
        base_optimizers: The base optimizers, one or more.

    Raises:
        TypeError: Something else than optimizers and a subspace.
        ValueError: The optimizers' parameters are not the operator's, two of them step the same
            one, there is none, or a weight is not finite.

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
        base_optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        subspace: DominantSubspace,
        *,
        dom_weight: float,
        bulk_weight: float,
    ) -> None:
        for name, weight in (("dom_weight", dom_weight), ("bulk_weight", bulk_weight)):
            if not isinstance(weight, Real) or not abs(weight) < float("inf"):
                raise ValueError(f"{name} is {weight!r}; it must be a finite number")
        if not isinstance(base_optimizer, Iterable):
            base_optimizer = (base_optimizer,)
        self.base_optimizers = tuple(base_optimizer)
        _refuse_others(self.base_optimizers, subspace)
        self.subspace = subspace
        self.dom_weight = dom_weight
        self.bulk_weight = bulk_weight
        self._refuse_unless_covered()
        # Not Optimizer.__init__, which would make parameter groups of this one's own: they would
        # go stale when a base optimizer loads a state. This makes the hooks.
        self.__setstate__({})

    @property
    def base_optimizer(self) -> torch.optim.Optimizer:
        """The base optimizer, where there is one.

        Raises:
            AttributeError: There are several; see ``base_optimizers``.
        """
        if len(self.base_optimizers) > 1:
            raise AttributeError(
                f"there are {len(self.base_optimizers)} base optimizers: read base_optimizers"
            )
        return self.base_optimizers[0]

    @property
    def projects(self) -> bool:
        """Whether a step needs the subspace; with both weights 1 it is the base optimizer's own."""
        return not self.dom_weight == self.bulk_weight == 1.0

    def step(self, closure: Closure | None = None) -> Any:
        """Take one projected step.

        Args:
            closure: Computes the loss and its gradient. One base optimizer is given it, and may
                call it as often as it likes and anywhere (L-BFGS, SAM): only where its step
                ends is split. What it remembers of its own steps it remembers unsplit. Of
                several, none is given it: it is called once, before they step.

        Returns:
            The closure's loss, if there is a closure.

        Raises:
            NonFiniteProductError: The parameters have diverged, such as by the step before: a
                gradient that is not finite is applied, as the base optimizer does.
            ValueError: The optimizers' parameters are no longer the operator's.
        """
        if not self.projects:
            return self._step_base(closure)
        operator = self.subspace.operator
        with torch.no_grad():
            self.subspace.update()
            before = operator.theta()
        self._refuse_unless_covered()
        loss = self._step_base(closure)
        with torch.no_grad():
            update = operator.theta() - before
            dominant = self.subspace.project(update)
            step = self.dom_weight * dominant + self.bulk_weight * (update - dominant)
            after = torch.split(before + step, [p.numel() for p in operator.parameters])
            for parameter, values in zip(operator.parameters, after, strict=True):
                parameter.copy_(values.view_as(parameter))
        return loss

    def _step_base(self, closure: Closure | None) -> Any:
        if len(self.base_optimizers) == 1:
            return self.base_optimizers[0].step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for base in self.base_optimizers:
            base.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the base optimizers' parameters."""
        for base in self.base_optimizers:
            base.zero_grad(set_to_none=set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The base optimizers' parameter groups, learning rates among them."""
        return [group for base in self.base_optimizers for group in base.param_groups]

    @property
    def state(self) -> defaultdict[Tensor, Any]:  # type: ignore[override]
        """What the base optimizers keep for each parameter."""
        if len(self.base_optimizers) == 1:
            return self.base_optimizers[0].state
        kept = {p: values for base in self.base_optimizers for p, values in base.state.items()}
        return defaultdict(dict, kept)

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The first base optimizer's default options, those that all of them have."""
        first, *others = (base.defaults for base in self.base_optimizers)
        return {name: first[name] for name in first if all(name in other for other in others)}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused.

        Raises:
            NotImplementedError: Always, with the remedy.
        """
        raise NotImplementedError(
            "a parameter group cannot be added: the subspace has one direction a parameter of "
            "its operator. Build operator, subspace and optimizers anew over all parameters"
        )

    def state_dict(self) -> dict[str, Any]:
        """``base_optimizers``, the list of their states, and ``subspace``, for an exact resume.

        The weights are not part of it, so that one state can be continued by several methods.
        As with torch's optimizers the tensors are those in use: save or copy them at once.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state: dict[str, Any] = {
            "base_optimizers": [base.state_dict() for base in self.base_optimizers],
            "subspace": self.subspace.state_dict(),
        }
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; the model's parameters are its own matter.

        Raises:
            ValueError: The state is not of a ``ProjectedOptimizer``, or of another number of base
                optimizers, other parameter groups or another subspace.
        """
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state)
            state = state if changed is None else changed
        if not {"base_optimizers", "subspace"} <= state.keys():
            raise ValueError(
                f"the state holds {sorted(state)}, not base_optimizers and subspace: load the "
                "state of a plain optimizer into base_optimizer"
            )
        saved, bases = state["base_optimizers"], self.base_optimizers
        if len(saved) != len(bases):
            raise ValueError(
                f"the state is of {len(saved)} base optimizers, and here are {len(bases)}"
            )
        self.subspace.load_state_dict(state["subspace"])
        for base, base_state in zip(bases, saved, strict=True):
            base.load_state_dict(base_state)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        names = ("base_optimizers", "subspace", "dom_weight", "bulk_weight")
        return {name: vars(self)[name] for name in names}

    def _refuse_unless_covered(self) -> None:
        """Each parameter of the operator belongs to one base optimizer; cheap enough a step."""
        stepped = [
            id(p)
            for base in self.base_optimizers
            for group in base.param_groups
            for p in group["params"]
            if p.requires_grad
        ]
        seen = {id(p) for p in self.subspace.operator.parameters}
        if set(stepped) != seen:
            raise ValueError(
                f"the optimizer steps {len(set(stepped) - seen)} parameters that the "
                f"curvature does not see and lacks {len(seen - set(stepped))} that it sees: "
                "give it every parameter of the model that requires a gradient, and no other"
            )
        if len(stepped) != len(seen):
            raise ValueError(
                f"{len(stepped) - len(seen)} parameters are stepped by more than one base "
                "optimizer: give each parameter to one of them"
            )


def _refuse_others(bases: tuple[Any, ...], subspace: Any) -> None:
    """At construction, in place of an attribute that they lack at the first step."""
    if not all(hasattr(subspace, name) for name in ("operator", "update", "project")):
        raise TypeError(
            f"subspace is a {type(subspace).__name__}: give a DominantSubspace(operator, k), after "
            "the base optimizer"
        )
    others = {type(base).__name__ for base in bases if not isinstance(base, torch.optim.Optimizer)}
    if others:
        raise TypeError(
            f"base_optimizer is or holds a {', '.join(sorted(others))}: give an optimizer such as "
            "torch.optim.SGD(model.parameters(), lr=0.01), or several"
        )
