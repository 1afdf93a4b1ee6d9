"""An experiment of this repository, not of the study: each direction at the rate that it allows.

Bulk-SGD takes the Dominant part out of every update, and may then take larger steps: the Bulk's
curvature ends at λ_{k+1}. Here the Dominant part stays, each of its directions shortened to what
its own eigenvalue allows, while the Bulk is stretched to what λ_{k+1} allows. Whether that pays is
measured by ``python -m sharpflat.benchmarks.stretched``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sharpflat.curvature.subspace import DominantSubspace, MovingOperator
from sharpflat.curvature.surroundings import Surroundings
from sharpflat.optim import Closure, ProjectedOptimizer

BulkRate = Literal["curvature", "base"]


class NoCurvatureError(ArithmeticError):
    """No eigenvalue is positive, so that none bounds a step."""


class StretchedOptimizer(ProjectedOptimizer):
    """Steps every tracked direction, and the Bulk, as far as its curvature allows.

    An experiment of this repository; the study that is replicated here has no such method. With the
    base optimizer's whole update ``u`` and the tracked pairs ``(λ_i, v_i)`` a step is

        ``θ ← θ + s (Σ_i a_i v_i v_iᵀ u + u - P_k u)``,  ``a_i = min(1, λ / λ_i)``

    where λ is the Bulk's curvature. With ``bulk_rate="curvature"`` it is ``s = 1 / λ``, and the
    base optimizer's learning rate is no learning rate but the one knob ρ: SGD with ``lr=ρ`` has
    ``u = -ρ g``, and steps direction i at the rate ``ρ / max(λ_i, λ)`` and the Bulk at ``ρ / λ``.
    (These are the weights ``min(1, ρ / (η λ_i))`` of a step at ``η = ρ / λ``, the largest that the
    Bulk allows.) On a quadratic it is stable for ρ below 2, with momentum β below ``2 (1 + β)``;
    the noise of mini-batches asks for less. With ``bulk_rate="base"`` it is ``s = 1``: learning
    rates are what they were, and the sharp directions are shortened relative to the Bulk.

    λ is ``max(λ_{k+1} + ε² (λ_1 - λ_{k+1}), floor · λ_1)``, with the subspace's ``error_estimate``
    for ε, at most 1: no direction outside a subspace that is off by ε curves more than that. A
    useless subspace so makes plain steps at the rate ``ρ / λ_1``. The floor bounds the rate where
    λ_{k+1} is small, zero or negative; negative λ_i and λ_{k+1} count as zero. λ_{k+1} is the
    estimate of the last full check, from below: it may be stale, and ρ has to allow for that.

    The weights come after momentum and preconditioning, as in
    :class:`~sharpflat.optim.ProjectedOptimizer`, from which parameter groups, hooks, schedulers (of
    ρ, under ``"curvature"``) and states come.

    Args:
        base_optimizer: As for :class:`~sharpflat.optim.ProjectedOptimizer`.
        subspace: The Dominant subspace; a step brings it up to date. Of an
            :class:`AdamHessian`, directions and weights are those of Adam's own metric.
        bulk_rate: ``"curvature"`` or ``"base"``. Adam's and Muon's updates do not grow with the
            gradient, so in the Hessian's directions they take ``"base"``.
        floor: Least λ, as a share of λ_1, above 0 and at most 1.

    Raises:
        ValueError: bulk_rate or floor outside what is allowed, or parameters that do not match.

    Example:
        >>> import torch
        >>> from sharpflat.curvature import DominantSubspace, HessianOperator
        >>> model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> x, y = torch.eye(2, dtype=torch.float64) * torch.tensor([3.0, 1.0]), torch.zeros(2, 1)
        >>> hessian = HessianOperator(model, torch.nn.functional.mse_loss, x, y.double())
        >>> stretched = StretchedOptimizer(
        ...     torch.optim.SGD(model.parameters(), lr=0.5), DominantSubspace(hessian, k=1)
        ... )
        >>> torch.nn.functional.mse_loss(model(x), y.double()).backward()
        >>> stretched.step()
        >>> model.weight.detach().round(decimals=6)  # λ = 9 and 1: both directions halve
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """

    def __init__(
        self,
        base_optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        subspace: DominantSubspace,
        *,
        bulk_rate: BulkRate = "curvature",
        floor: float = 1e-3,
    ) -> None:
        if bulk_rate not in get_args(BulkRate):
            raise ValueError(
                f"bulk_rate is {bulk_rate!r}; allowed are {', '.join(get_args(BulkRate))}"
            )
        if not 0 < floor <= 1:
            raise ValueError(f"floor is {floor}, a share of λ_1; it must be above 0 and at most 1")
        super().__init__(base_optimizer, subspace, dom_weight=1.0, bulk_weight=1.0)
        self.bulk_rate = bulk_rate
        self.floor = floor

    @property
    def projects(self) -> bool:
        """Every step needs the subspace."""
        return True

    @property
    def bulk_curvature(self) -> float:
        """λ as of the subspace's last update; 0 where no eigenvalue is positive."""
        top = max(float(self.subspace.eigenvalues[0]), 0.0)
        below = max(self.subspace.next_eigenvalue, 0.0)
        error = min(self.subspace.error_estimate, 1.0)
        return max(below + error**2 * (top - below), self.floor * top)

    @property
    def weights(self) -> Tensor:
        """``a_i`` as of the subspace's last update, ``(k,)`` float64; 1 without any curvature."""
        bulk = self.bulk_curvature or 1.0  # without any, no eigenvalue is above 0 nor above that
        return bulk / self.subspace.eigenvalues.clamp_min(bulk)

    def step(self, closure: Closure | None = None) -> Any:
        """Take one stretched step.

        Args:
            closure: As for :meth:`sharpflat.optim.ProjectedOptimizer.step`.

        Returns:
            The closure's loss, if there is a closure.

        Raises:
            NoCurvatureError: No eigenvalue is positive under ``bulk_rate="curvature"``; parameters
                stay where they were.
            NonFiniteProductError: The parameters have diverged.
            ValueError: The optimizers' parameters are no longer the operator's.
        """
        operator = self.subspace.operator
        self._refuse_unless_covered()
        with torch.no_grad():
            before = operator.theta()
        loss = self._step_base(closure)
        with torch.no_grad():
            update = operator.theta() - before
            self._write(before)  # the curvature is that of where the step starts
            if isinstance(operator, AdamHessian):
                operator.read()  # Adam's metric is the one that this update was made in
            self.subspace.update()
            self._write(before + self._stretched(update))
        return loss

    def _stretched(self, update: Tensor) -> Tensor:
        bulk = self.bulk_curvature
        if self.bulk_rate == "curvature" and bulk == 0:
            raise NoCurvatureError(
                f"the largest eigenvalue is {float(self.subspace.eigenvalues[0]):.3g}: no "
                "direction curves up, and no rate follows. Step with the base optimizer until "
                'one does, or take bulk_rate="base"'
            )
        operator, basis = self.subspace.operator, self.subspace.basis
        root = operator.root if isinstance(operator, AdamHessian) else None
        seen = update if root is None else update * root
        shorter = (self.weights - 1).to(seen) * (basis.T @ seen)
        step = seen + basis @ shorter
        step = step if root is None else step / root
        return step / bulk if self.bulk_rate == "curvature" else step

    def _write(self, theta: Tensor) -> None:
        parameters = self.subspace.operator.parameters
        parts = torch.split(theta, [p.numel() for p in parameters])
        for parameter, values in zip(parameters, parts, strict=True):
            parameter.copy_(values.view_as(parameter))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"bulk_rate": self.bulk_rate, "floor": self.floor}


@dataclass(frozen=True, kw_only=True)
class AdamSurroundings:
    """What makes an :class:`AdamHessian` beside θ.

    Attributes:
        operator: What makes its Hessian, where that can be seen.
        root: ``D^{1/2}``.
    """

    operator: Surroundings | None
    root: Tensor

    def changes(self, now: AdamSurroundings, *, moved: bool) -> list[str]:
        """Names of what changed until now; where θ moved too, the metric may move with it."""
        changed = []
        if self.operator is not None and now.operator is not None:
            changed = self.operator.changes(now.operator, moved=moved)
        same = moved or torch.equal(self.root, now.root)
        return changed if same else [*changed, "the optimizer's second moments"]


class AdamHessian:
    """``D^{-1/2} H D^{-1/2}`` with ``D = √v̂ + ε`` of an Adam optimizer: the curvature it sees.

    In the coordinates ``D^{1/2} θ`` Adam's update is that of SGD with averaged gradients. Until the
    first :meth:`read` it is H. A parameter that no batch has reached has ``D = ε``, and what
    curvature it has then counts ``1 / ε`` times: not for embeddings of rare words.

    Args:
        operator: ``H``.
        optimizer: Adam or AdamW over the same parameters, or another with their state.

    Raises:
        ValueError: The optimizer has no ``betas`` and ``eps``.
    """

    def __init__(self, operator: MovingOperator, optimizer: torch.optim.Optimizer) -> None:
        if not {"betas", "eps"} <= optimizer.defaults.keys():
            raise ValueError(
                f"{type(optimizer).__name__} keeps no second moments as Adam does: give Adam or "
                "AdamW, or track the Hessian itself"
            )
        self.operator = operator
        self.optimizer = optimizer
        self.shape, self.dtype, self.device = operator.shape, operator.dtype, operator.device
        self.root = torch.ones(self.shape[0], dtype=self.dtype, device=self.device)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Those of ``operator``."""
        return self.operator.parameters

    def theta(self) -> Tensor:
        """A copy of the parameters now, ``(P,)``."""
        return self.operator.theta()

    @torch.no_grad()
    def read(self) -> None:
        """Take over ``D^{1/2}``, ``root``, from the optimizer's moments as they are."""
        options = {
            p: (group["betas"][1], group["eps"])
            for group in self.optimizer.param_groups
            for p in group["params"]
        }
        parts = []
        for parameter in self.parameters:
            decay, eps = options[parameter]
            state = self.optimizer.state.get(parameter)
            mean = torch.zeros_like(parameter)  # of one that never had a gradient
            if state:
                # Under amsgrad Adam divides by the largest that they have been.
                squares = state.get("max_exp_avg_sq", state["exp_avg_sq"])
                mean = squares / (1 - decay ** float(state["step"]))
            parts.append((mean.sqrt() + eps).reshape(-1))
        self.root = torch.cat(parts).to(self.root).sqrt()

    def surroundings(self) -> AdamSurroundings:
        """What makes the matrix beside θ."""
        look = getattr(self.operator, "surroundings", None)
        return AdamSurroundings(operator=None if look is None else look(), root=self.root)

    def matmat(self, V: Tensor) -> Tensor:
        """``(P, m)`` to ``(P, m)``."""
        root = self.root[:, None]
        return self.operator.matmat(V / root) / root
