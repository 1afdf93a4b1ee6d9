"""The Dominant subspace along training: its basis, and what of a vector lies in it."""

from __future__ import annotations

import math
import warnings
from typing import Any, Protocol

import torch
from torch import Tensor

from sharpflat.curvature.checks import (
    ModelChangedError,
    as_count,
    refuse_autocast,
    refuse_unless_moving,
    refuse_unless_tensor,
)
from sharpflat.curvature.eigen import EigenResult
from sharpflat.curvature.krylov import SymmetricOperator
from sharpflat.curvature.sampled_tracking import SampledTracker, Samples
from sharpflat.curvature.surroundings import Surroundings
from sharpflat.curvature.tracked import TrackedVectors
from sharpflat.curvature.tracker import Refresh

#: Updates in a row whose surroundings changed, after which it is said what that costs.
MANY_CHANGES = 5


class MovingOperator(SymmetricOperator, Protocol):
    """A symmetric operator that depends on parameters."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that θ is made of, in order."""

    def theta(self) -> Tensor:
        """A copy of the parameters now, ``(P,)``."""


class DominantSubspace(SampledTracker):
    """The span of the top k eigenvectors of a curvature operator along training.

    Holds k + 2 vectors of length P, twice more of them while it tracks with a sample, and k² more
    once movement inside the subspace is seen (80 MB for k = 10 and P = 200,000 in float32; three
    times that during a full check).

    Args:
        operator: The curvature, read at the model's parameters of the moment.
        k: Dimension; the number of classes in the paper's protocol [Song et al.].
        refresh: ``"adaptive"`` keeps ``error_estimate`` under ``tol`` with as few products as it
            can; ``"every_step"`` and an integer n converge to ``tol`` at every (n-th) update.
        tol: Accepted ``‖sin Θ‖_F`` between ``basis`` and the true subspace.
        seed: Seeds the solver's random directions and the samples.
        samples: Of how many samples the products between full checks are made under the adaptive
            policy: ``None``, all of them; ``"auto"``, as many as full checks find to pay, or all.

    Raises:
        TypeError: What is given is no operator, or one without parameters.
        ValueError: k, tol, refresh or samples outside what is allowed, or parameters in float32
            and float64 together.

    Attributes:
        num_matvecs: Products over all samples until now.
    """

    def __init__(
        self,
        operator: MovingOperator,
        k: int,
        *,
        refresh: Refresh = "adaptive",
        tol: float = 0.05,
        seed: int = 0,
        samples: Samples = None,
    ) -> None:
        refuse_unless_moving(operator)
        if not 1 <= as_count(k) <= operator.shape[0]:
            raise ValueError(
                f"k is {k!r}; the operator of size {operator.shape[0]} allows integers, 1 to that"
            )
        if refresh not in ("adaptive", "every_step") and not (
            isinstance(refresh, int) and refresh >= 1
        ):
            raise ValueError(
                f"refresh is {refresh!r}; allowed are 'adaptive', 'every_step' or an interval >= 1"
            )
        if not 0 < tol < 1:
            raise ValueError(f"tol is {tol}, the sine of an angle; it must lie between 0 and 1")
        precisions = {torch.promote_types(p.dtype, torch.float32) for p in operator.parameters}
        if len(precisions) > 1:
            raise ValueError(
                f"parameters are {' and '.join(sorted(map(str, precisions)))}, and a basis has one "
                "precision: cast the model to one (model.double()), or choose parameters of one"
            )
        super().__init__(
            operator, as_count(k), refresh=refresh, tol=tol, seed=seed, samples=samples
        )
        self.operator: MovingOperator = operator
        self._last_theta: Tensor | None = None  # of the last update that succeeded
        self._surroundings: Surroundings | None = None  # as of the last update
        self._changes_in_a_row = 0

    @property
    def basis(self) -> Tensor:
        """Orthonormal basis ``(P, k)`` as of the last update."""
        return self._now.block[:, : self.k]

    @property
    def eigenvalues(self) -> Tensor:
        """``(k,)`` descending, float64, each from when its vector was last multiplied."""
        return self._now.eigenvalues

    @property
    def next_eigenvalue(self) -> float:
        """Estimate of ``λ_{k+1}`` from the last full check, a lower bound."""
        assert self._now is not None  # updated at first use
        return self._next_eigenvalue

    @property
    def error_estimate(self) -> float:
        """Estimated ``‖sin Θ‖_F`` between ``basis`` and the true subspace after the last update."""
        return self._now.error_estimate

    @property
    def _now(self) -> TrackedVectors:
        if self._tracked is None:
            self.update()
        assert self._tracked is not None
        return self._tracked

    def project(self, v: Tensor) -> Tensor:
        """The part ``P_k v`` of a vector ``(P,)``, or of each column of ``(P, m)``, in their dtype.

        Raises:
            TypeError: It is no tensor.
            ValueError: It has another length, or is not floating point.
        """
        refuse_unless_tensor(v)
        refuse_autocast(v.device)
        self._refuse_unlike(v, "(P,) or (P, m)", dimensions=(1, 2))
        basis = self.basis
        return (basis @ (basis.T @ v.to(basis.dtype))).to(v.dtype)

    def alignment(self, v: Tensor) -> float:
        """``χ_k(v) = ‖P_k v‖ / ‖v‖``, 0 for the zero vector, NaN for one that is not finite.

        Raises:
            TypeError: The vector is no tensor.
            ValueError: The shape is not ``(P,)``, or the vector is not floating point.
        """
        refuse_unless_tensor(v)
        refuse_autocast(v.device)
        self._refuse_unlike(v, "(P,)", dimensions=(1,))
        basis = self.basis
        if torch.finfo(v.dtype).max > torch.finfo(basis.dtype).max:  # which may not hold it
            v = v / v.abs().max().clamp_min(torch.finfo(v.dtype).tiny)
        v = v.to(basis.dtype)
        norm = torch.linalg.vector_norm(v).item()
        if not 0 < norm < math.inf:  # or its squares are not in the range of its precision
            largest = v.abs().max().item()
            if largest == 0:
                return 0.0
            v = v / largest
            norm = torch.linalg.vector_norm(v).item()
        return float(torch.linalg.vector_norm(basis.T @ v).item() / norm)

    def _refuse_unlike(self, v: Tensor, allowed: str, *, dimensions: tuple[int, ...]) -> None:
        size = self.operator.shape[0]
        if v.ndim not in dimensions or len(v) != size or not v.is_floating_point():
            raise ValueError(
                f"the vector is {v.dtype} of shape {tuple(v.shape)}; it must be floating point of "
                f"shape {allowed} with P = {size}, laid out as the gradients of the operator's "
                "parameters end to end"
            )

    def update(self) -> None:
        """Bring the basis up to date after the parameters moved, as the policy says.

        Parameters that did not move since the last update cost and count nothing, unless the data
        or the rest of model and loss changed: then it solves afresh, as after a jump. Only what
        evaluating writes itself, and running statistics where parameters moved, may change so.

        Raises:
            NonFiniteProductError: The parameters have diverged, or the loss is not finite.
            ModelChangedError: The model no longer has the operator's parameters, or the operator
                was bound to others.
            UnsupportedModelError: Inside ``torch.autocast``.
        """
        refuse_autocast(self.operator.device)
        with torch.inference_mode(False):
            theta = self._theta()
            moved = self._last_theta is None or not torch.equal(theta, self._last_theta)
            now, changed = self._look_around(moved=moved)
            if moved or changed:
                self._track(theta, changed=changed)
                self._last_theta = theta
            self._surroundings = now
            self._draw_sample()

    def refresh(self) -> EigenResult:
        """Converge over all samples at the parameters of the moment, whatever the policy.

        Returns:
            The eigenpairs, with residuals and an error estimate that rests on them. They have
            ``converged`` only if a search outside the block found no eigenvalue missing.
        """
        refuse_autocast(self.operator.device)
        with torch.inference_mode(False):
            theta = self._theta()
            now, changed = self._look_around(moved=False)
            found = self._solve(theta, changed=changed)
            self._last_theta, self._surroundings = theta, now
        return found

    def _theta(self) -> Tensor:
        theta, last = self.operator.theta(), self._last_theta
        if last is not None and (len(theta), theta.dtype) != (len(last), last.dtype):
            raise ModelChangedError(
                f"the operator was bound anew to {len(theta)} parameters in {theta.dtype}, and the "
                f"basis is of {len(last)} in {last.dtype}: make a new DominantSubspace"
            )
        return theta

    def _look_around(self, *, moved: bool) -> tuple[Surroundings | None, bool]:
        """What surrounds the parameters, and whether it changed the matrix where they are.

        Where they moved, running statistics may move with them: what is tracked then turns by
        both.
        """
        now = self._look()
        if now is None or self._surroundings is None:
            return now, False
        changes = self._surroundings.changes(now, moved=moved)
        self._changes_in_a_row = self._changes_in_a_row + 1 if changes else 0
        if self._changes_in_a_row == MANY_CHANGES:
            warnings.warn(
                f"{', '.join(changes)} changed at each of {MANY_CHANGES} updates in a row, and "
                "after each the subspace is solved afresh, which takes many times the products "
                "of following it: hold it fixed, or out of what model and loss read",
                stacklevel=3,
            )
        return now, bool(changes)

    def _look(self) -> Surroundings | None:
        look = getattr(self.operator, "surroundings", None)
        return None if look is None else look()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_surroundings": None}  # a copy has a model and data of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._last_theta is not None:
            self._surroundings = self._look()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, for an exact resume."""
        return {
            "made_with": self._made_with,
            "last_theta": self._last_theta,
            **self._tracked_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; seed, model and data are not part of it.

        Over other data at the same parameters the next update makes no product: call
        :meth:`refresh` there.

        Raises:
            ValueError: The state is of another k, number of parameters, policy or tolerance, or
                of something else.
        """
        if missing := self.state_dict().keys() - state.keys():
            raise ValueError(
                f"the state lacks {', '.join(sorted(missing))}: it is not that of a "
                "DominantSubspace of this version of sharpflat"
            )
        for name, own in self._made_with.items():
            if state["made_with"][name] != own:
                raise ValueError(
                    f"the state has {name} = {state['made_with'][name]!r}, this subspace {own!r}: "
                    "restore it into one that was made with the same arguments"
                )
        self._last_theta = state["last_theta"]
        self._load_tracked_state(state)

    @property
    def _made_with(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "parameters": self.operator.shape[0],
            "refresh": self.refresh_policy,
            "tol": self.tol,
            "samples": self.samples,
        }
