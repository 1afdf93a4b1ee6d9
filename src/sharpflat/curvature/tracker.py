"""The top eigenvectors of an operator that moves: tracked, with an estimate of their error.

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
single steps turn the eigenspace by several times as much. ``refresh`` gives pairs with residuals. A
full check also searches outside the block, since an eigenvalue that rises from the bulk without
turning what is tracked shows nowhere else; between full checks it is not looked for.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any, Literal

from torch import Tensor

from sharpflat.curvature.check import Check, converge
from sharpflat.curvature.eigen import EigenResult
from sharpflat.curvature.krylov import SymmetricOperator
from sharpflat.curvature.schedule import Schedule
from sharpflat.curvature.tracked import TrackedVectors

#: A partial refresh ends once the predicted error is this share of the tolerance. A lower share
#: bunches products at fewer parameter vectors, each of which costs a recorded graph.
PARTIAL_SHARE = 0.7
#: A check converges to this share of the tolerance.
CHECK_SHARE = 0.5
#: Where a check could not meet the tolerance (a gap too small), growth over what it reached
#: that makes the next one come before it is due.
UNREACHED_GROWTH = 1.5

Refresh = Literal["adaptive", "every_step"] | int


class EigenspaceTracker:
    """Decides when the eigenvectors that are tracked are followed, corrected and solved for.

    :class:`~sharpflat.curvature.DominantSubspace` tells it where the parameters are.

    Args:
        operator, k, refresh, tol, seed: Of :class:`~sharpflat.curvature.DominantSubspace`.

    Attributes:
        num_matvecs: Products over all samples.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        k: int,
        *,
        refresh: Refresh,
        tol: float,
        seed: int,
    ) -> None:
        self.operator = operator
        self.k = k
        self.refresh_policy = refresh
        self.tol = tol
        self.seed = seed
        self.num_matvecs = 0
        self._tracked: TrackedVectors | None = None
        self._next_eigenvalue = -math.inf  # from the last full check
        self._schedule = Schedule()
        self._checks = 0
        self._followed_theta: Tensor | None = None  # where the vectors have been turned to
        self._has_warned = False

    def _track(self, theta: Tensor, *, changed: bool) -> None:
        """Bring the vectors up to date at other parameters, or at a matrix that changed there.

        Args:
            theta: The operator's parameters now.
            changed: Whether the matrix changed by more than they moved it: it is solved afresh.
        """
        self._follow(theta)
        if self._tracked is None:
            self._check_all(theta, search=True)
        elif changed:
            self._check_afresh(theta)
        elif self.refresh_policy == "adaptive":
            self._update_adaptively(theta)
        elif self._schedule.updates % _interval(self.refresh_policy) == 0:
            self._check_all(theta, search=True)
        else:
            self._tracked.error_estimate = self._tracked.error_at(theta)
        self._schedule.updates += 1

    def _solve(self, theta: Tensor, *, changed: bool) -> EigenResult:
        """Converge over all samples at the operator's parameters, whatever the policy."""
        self._follow(theta)
        return self._check_afresh(theta) if changed else self._check_all(theta, search=True)

    def _follow(self, theta: Tensor) -> None:
        """Between products the adaptive policy turns the basis; an interval leaves it in place."""
        if self._tracked is not None and self.refresh_policy == "adaptive":
            assert self._followed_theta is not None
            self._tracked.follow(theta - self._followed_theta)
        self._followed_theta = theta

    def _update_adaptively(self, theta: Tensor) -> None:
        assert self._tracked is not None
        if self._tracked.jumped(theta):
            self._check_afresh(theta)
        else:
            self._correct(self._tracked, theta)

    def _correct(self, tracked: TrackedVectors, theta: Tensor) -> None:
        """Keep the predicted error of tracking within what the tolerance leaves it."""
        if tracked.rates is None or self._schedule.check_is_due:
            self._check(theta)
            return
        error = tracked.error_at(theta)
        allowed = max(self._tracking_tol, UNREACHED_GROWTH * tracked.reached)
        if error > allowed:
            products = tracked.refresh_vectors(
                self._near, theta, target=PARTIAL_SHARE * self._tracking_tol
            )
            self._count(products)
            error = tracked.error_at(theta)
            if error > allowed:
                self._check(theta)
                return
        tracked.error_estimate = error

    @property
    def _near(self) -> SymmetricOperator:
        """What the vectors are tracked with between checks."""
        return self.operator

    @property
    def _tracking_tol(self) -> float:
        """What of the tolerance is left to the errors that are predicted here."""
        return self.tol

    def _count(self, products: int) -> None:
        """Count products that corrected single vectors."""
        self.num_matvecs += products

    def _check(self, theta: Tensor) -> None:
        self._check_all(theta, search=self._schedule.search_is_due)

    def _check_all(self, theta: Tensor, *, search: bool) -> EigenResult:
        """Converge over all samples."""
        if self._tracked is None or self._tracked.jumped(theta):
            return self._check_afresh(theta)
        before = self._tracked
        check = self._converge(
            self.operator, theta, start=before, tol=CHECK_SHARE * self.tol, search=search
        )
        risen = not before.holds(check.vectors)
        self._learn_from_all(before, check, theta, risen=risen)
        if search:
            self._schedule.searched(found=risen)
        return self._checked_all(check)

    def _learn_from_all(
        self, before: TrackedVectors, check: Check, theta: Tensor, *, risen: bool
    ) -> None:
        """Put what a check over all samples found in place of what was tracked."""
        self._learn(before, check.vectors, theta, rates_too=not risen)

    def _check_afresh(self, theta: Tensor) -> EigenResult:
        """Solve where nothing is known, or nothing that still holds."""
        check = self._converge(
            self.operator, theta, start=self._tracked, tol=CHECK_SHARE * self.tol, search=True
        )
        self._learn(self._tracked, check.vectors, theta, rates_too=False)
        self._schedule.searched_afresh()
        return self._checked_all(check)

    def _checked_all(self, check: Check) -> EigenResult:
        self.num_matvecs += check.found.num_matvecs
        self._next_eigenvalue = check.found.next_eigenvalue
        if check.found.error_estimate > self.tol and not self._has_warned:
            self._warn_of(check.found)
        return check.found

    def _warn_of(self, found: EigenResult) -> None:
        self._has_warned = True
        last, following = float(found.eigenvalues[-1]), found.next_eigenvalue
        warnings.warn(
            f"the Dominant subspace is known to {found.error_estimate:.2g} alone, where tol is "
            f"{self.tol:g}, with λ_k = {last:.6g} and λ_(k+1) = {following:.6g}. Where these are "
            "close, choose a k below which the spectrum has a gap; error_estimate says at every "
            "step what this says once",
            stacklevel=2,
        )

    def _learn(
        self,
        before: TrackedVectors | None,
        after: TrackedVectors,
        theta: Tensor,
        *,
        rates_too: bool,
    ) -> None:
        """Put what a check found in place, and learn from how far off what was tracked was."""
        if before is not None:
            surprise = after.learn_from(before, theta, rates_too=rates_too)
            self._schedule.learn(surprise)
        self._tracked = after
        self._schedule.checked()

    def _converge(
        self,
        operator: SymmetricOperator,
        theta: Tensor,
        *,
        start: TrackedVectors | None,
        tol: float,
        search: bool,
    ) -> Check:
        # Each check searches from a random vector of its own: what the one before reached lies in
        # the block already, and what it missed it would miss again.
        self._checks += 1
        return converge(
            operator,
            start,
            theta,
            k=self.k,
            tol=tol,
            seed=self.seed + self._checks,
            search=search,
        )

    def _tracked_state(self) -> dict[str, Any]:
        # Copied, since later updates write into these tensors.
        tracked = None if self._tracked is None else copy.deepcopy(vars(self._tracked))
        return {
            "num_matvecs": self.num_matvecs,
            "next_eigenvalue": self._next_eigenvalue,
            "schedule": vars(self._schedule).copy(),
            "checks": self._checks,
            "followed_theta": self._followed_theta,
            "tracked": tracked,
        }

    def _load_tracked_state(self, state: dict[str, Any]) -> None:
        self.num_matvecs = state["num_matvecs"]
        self._next_eigenvalue = state["next_eigenvalue"]
        self._schedule = Schedule(**state["schedule"])
        self._checks = state["checks"]
        self._followed_theta = state["followed_theta"]
        tracked = copy.deepcopy(state["tracked"])
        self._tracked = None if tracked is None else TrackedVectors(**tracked)


def _interval(refresh: Refresh) -> int:
    return 1 if isinstance(refresh, str) else refresh
