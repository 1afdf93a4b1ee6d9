"""The Dominant subspace of an operator that moves: tracked, with an estimate of its error.

What makes tracking cheap is that the eigenspace turns in proportion to how far the parameters are
from where it was last computed: along SGD and Bulk-SGD on the MNIST MLP the ratio of
``‖sin Θ‖_F`` to ``‖θ - θ_ref‖`` stays within 15 % of its mean over steps and learning rates. That
distance costs no product. So each basis vector carries the point at which it was last multiplied
and the rate at which it turned before; an update sums the predicted errors and, when they pass the
tolerance, multiplies the vectors that hold most of it, one product each. Every product also shows
how wrong its vector was, which corrects the vector and the rate.

Movement inside the Dominant subspace, as Dom-SGD's, turns it too fast for that: every vector would
need a product in every step. But it has k directions only. So the tracker learns, from the same
corrections, how the vectors turn along each of them, and turns them with the parameters; rates and
predicted errors are then those of what is left. This is a secant method for the derivative of the
eigenspace, and costs no product.

The error is predicted, not bounded: it is held on average, and a step may pass the tolerance where
single steps turn the eigenspace by several times as much. ``refresh`` gives pairs with residuals.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sharpflat.curvature.eigen import EigenResult, iterate, result, solve, start
from sharpflat.curvature.krylov import SymmetricOperator
from sharpflat.curvature.tracked import TrackedVectors

#: A partial refresh ends once the predicted error is this share of the tolerance. A lower share
#: bunches products at fewer parameter vectors, each of which costs a recorded graph.
PARTIAL_SHARE = 0.7
#: A full check converges to this share of the tolerance.
CHECK_SHARE = 0.5
#: Updates between two full checks: at the start, and at the most.
FIRST_CHECK, LONGEST_CHECK = 10, 100
#: Ratio of found to predicted error beyond which a full check makes the next one come earlier.
SURPRISE = 1.3
#: Products that a solve may use, for each tracked vector: afresh, and from a block close by.
MATVECS_AFRESH, MATVECS_NEARBY = 20, 4
#: Where a full check could not meet the tolerance (a gap too small), growth over what it reached
#: that makes the next one come before it is due.
UNREACHED_GROWTH = 1.5
#: Vectors tracked beyond k, for the gap below the Dominant subspace.
OVERSAMPLING = 2

Refresh = Literal["adaptive", "every_step"] | int


class MovingOperator(SymmetricOperator, Protocol):
    """A symmetric operator that depends on parameters."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that θ is made of, in order."""

    def theta(self) -> Tensor:
        """A copy of the parameters now, ``(P,)``."""


class DominantSubspace:
    """The span of the top k eigenvectors of a curvature operator along training.

    Holds k + 2 vectors of length P, and k² more once movement inside the subspace is seen (80 MB
    for k = 10 and P = 200,000 in float32; three times that during a full check).

    Args:
        operator: The curvature, read at the model's parameters of the moment.
        k: Dimension; the number of classes in the paper's protocol [Song et al.].
        refresh: ``"adaptive"`` keeps ``error_estimate`` under ``tol`` with as few products as it
            can; ``"every_step"`` and an integer n converge to ``tol`` at every (n-th) update.
        tol: Accepted ``‖sin Θ‖_F`` between ``basis`` and the true subspace.
        seed: Seeds the solver's random directions.

    Raises:
        ValueError: k, tol or refresh outside what is allowed.
    """

    def __init__(
        self,
        operator: MovingOperator,
        k: int,
        *,
        refresh: Refresh = "adaptive",
        tol: float = 0.05,
        seed: int = 0,
    ) -> None:
        if not 1 <= k <= operator.shape[0]:
            raise ValueError(f"k is {k}; the operator of size {operator.shape[0]} allows 1 to that")
        if refresh not in ("adaptive", "every_step") and not (
            isinstance(refresh, int) and refresh >= 1
        ):
            raise ValueError(
                f"refresh is {refresh!r}; allowed are 'adaptive', 'every_step' or an interval >= 1"
            )
        if not 0 < tol < 1:
            raise ValueError(f"tol is {tol}, the sine of an angle; it must lie between 0 and 1")
        self.operator = operator
        self.k = k
        self.refresh_policy = refresh
        self.tol = tol
        self.seed = seed
        self.num_matvecs = 0
        self._updates = 0
        self._last_check = 0
        self._last_theta: Tensor | None = None  # of the last update that succeeded
        self._followed_theta: Tensor | None = None  # where the vectors have been turned to
        self._check_interval = FIRST_CHECK
        self._tracked: TrackedVectors | None = None

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
        return self._now.next_eigenvalue

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
        """The part ``P_k v`` of a vector ``(P,)`` in the Dominant subspace."""
        return self.basis @ (self.basis.T @ v)

    def alignment(self, v: Tensor) -> float:
        """``χ_k(v) = ‖P_k v‖ / ‖v‖``, 0 for the zero vector."""
        norm = torch.linalg.vector_norm(v).item()
        return torch.linalg.vector_norm(self.basis.T @ v).item() / norm if norm > 0 else 0.0

    def update(self) -> None:
        """Bring the basis up to date after the parameters moved, as the policy says.

        Parameters that did not move since the last update cost and count nothing.

        Raises:
            NonFiniteProductError: The parameters have diverged.
        """
        theta = self.operator.theta()
        if self._last_theta is not None and torch.equal(theta, self._last_theta):
            return
        self._follow(theta)
        if self._tracked is None:
            self.refresh()
        elif self.refresh_policy == "adaptive":
            self._update_adaptively(self._tracked, theta)
        elif self._updates % _interval(self.refresh_policy) == 0:
            self.refresh()
        else:
            self._tracked.error_estimate = self._tracked.error_at(theta)
        self._updates += 1
        self._last_theta = theta

    def _follow(self, theta: Tensor) -> None:
        """Between products the adaptive policy turns the basis; an interval leaves it in place."""
        if self._tracked is not None and self.refresh_policy == "adaptive":
            assert self._followed_theta is not None
            self._tracked.follow(theta - self._followed_theta)
        self._followed_theta = theta

    def refresh(self) -> EigenResult:
        """Converge at the parameters of the moment, whatever the policy.

        Returns:
            The eigenpairs, with residuals and an error estimate that rests on them.
        """
        theta = self.operator.theta()
        before = self._tracked
        self._follow(theta)
        block = None if before is None else before.block
        basis = start(self.operator, block, seed=self.seed + self._updates)
        tolerance, tracked_vectors = CHECK_SHARE * self.tol, self.k + OVERSAMPLING
        afresh = before is None or before.jumped(theta)
        if afresh:
            converged = solve(basis, self.k, tolerance, MATVECS_AFRESH * tracked_vectors)
        else:
            converged = iterate(basis, self.k, tolerance, MATVECS_NEARBY * tracked_vectors)
        found = result(basis, self.k, converged=converged)
        self.num_matvecs += basis.num_matvecs
        values, coordinates, _ = basis.ritz()
        after = TrackedVectors(
            block=basis.vectors(coordinates[:, :tracked_vectors]),
            eigenvalues=found.eigenvalues.clone(),
            next_eigenvalue=found.next_eigenvalue,
            smallest_eigenvalue=float(values[-1]),
            references=[theta] * self.k,
            start_errors=found.errors.clone(),
            moves=torch.zeros(self.k, self.k, dtype=torch.float64),
            error_estimate=found.error_estimate,
            reached=found.error_estimate,
        )
        if before is not None:
            after.smallest_eigenvalue = min(before.smallest_eigenvalue, after.smallest_eigenvalue)
            surprise = after.learn_from(before, theta, rates_too=not afresh)
            if self._updates - self._last_check >= self._check_interval:
                self._adapt_check_interval(surprise)
        self._tracked = after
        self._last_check = self._updates
        self._last_theta = theta
        return found

    def _adapt_check_interval(self, surprise: float) -> None:
        doubled_or_halved = (
            self._check_interval * 2 if surprise <= SURPRISE else self._check_interval // 2
        )
        self._check_interval = min(max(doubled_or_halved, FIRST_CHECK), LONGEST_CHECK)

    def _update_adaptively(self, tracked: TrackedVectors, theta: Tensor) -> None:
        due = self._updates - self._last_check >= self._check_interval
        if tracked.rates is None or due or tracked.jumped(theta):
            self.refresh()
            return
        error = tracked.error_at(theta)
        allowed = max(self.tol, UNREACHED_GROWTH * tracked.reached)
        if error > allowed:
            self.num_matvecs += tracked.refresh_vectors(
                self.operator, theta, target=PARTIAL_SHARE * self.tol
            )
            error = tracked.error_at(theta)
            if error > allowed:
                self.refresh()
                return
        tracked.error_estimate = error

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, for an exact resume."""
        return {
            "num_matvecs": self.num_matvecs,
            "updates": self._updates,
            "last_check": self._last_check,
            "last_theta": self._last_theta,
            "check_interval": self._check_interval,
            # Copied, since later updates write into these tensors.
            "tracked": None if self._tracked is None else copy.deepcopy(vars(self._tracked)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; k, refresh, tol and seed are not part of it."""
        self.num_matvecs = state["num_matvecs"]
        self._updates = state["updates"]
        self._last_check = state["last_check"]
        self._last_theta = self._followed_theta = state["last_theta"]
        self._check_interval = state["check_interval"]
        tracked = copy.deepcopy(state["tracked"])
        self._tracked = None if tracked is None else TrackedVectors(**tracked)


def _interval(refresh: Refresh) -> int:
    return 1 if isinstance(refresh, str) else refresh
