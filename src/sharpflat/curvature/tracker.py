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

With ``samples`` the products between full checks are over a weighted sample of the data, corrected
so that they are exact on the tracked block where all of it was last seen. What that leaves of the
eigenspace's turn since then is measured at every full check, and decides how many samples are drawn
and when the next full check comes. A full check then multiplies the tracked block with all samples,
and searches where a search is due, but converges over the sample drawn next: along Bulk-SGD on the
MNIST MLP (width 200, squared error, learning rate 0.03) it takes 16 or 17 products that way, 12 of
them the block's.

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
from sharpflat.curvature.sampled_tracking import SampledTracking
from sharpflat.curvature.tracked import TrackedVectors

#: A partial refresh ends once the predicted error is this share of the tolerance. A lower share
#: bunches products at fewer parameter vectors, each of which costs a recorded graph.
PARTIAL_SHARE = 0.7
#: A check converges to this share of the tolerance.
CHECK_SHARE = 0.5
#: Updates between two checks: at the start, and at the most.
FIRST_CHECK, LONGEST_CHECK = 10, 100
#: Ratio of found to predicted error beyond which a check makes the next one come earlier.
SURPRISE = 1.3
#: Updates from one complete search outside the block to the next, at the most. ``refresh`` always
#: searches; a check that finds an eigenvalue missing makes the next ones search too.
LONGEST_SEARCH = 50
#: Where a check could not meet the tolerance (a gap too small), growth over what it reached
#: that makes the next one come before it is due.
UNREACHED_GROWTH = 1.5

#: What a state holds as plain numbers.
COUNTERS = (
    "num_matvecs",
    "_next_eigenvalue",
    "_updates",
    "_checks",
    "_last_check",
    "_check_interval",
    "_last_search",
    "_search_interval",
)

#: What a state of the tracker holds.
STATE = (*COUNTERS, "followed_theta", "tracked", "sampling")

Refresh = Literal["adaptive", "every_step"] | int
Samples = Literal["auto"] | int | None


class EigenspaceTracker:
    """Decides when the eigenvectors that are tracked are followed, corrected and solved for.

    :class:`~sharpflat.curvature.DominantSubspace` tells it where the parameters are.

    Args:
        operator, k, refresh, tol, seed, samples: Of
            :class:`~sharpflat.curvature.DominantSubspace`.

    Attributes:
        num_matvecs: Products over all samples.

    Raises:
        ValueError: The operator has no such samples.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        k: int,
        *,
        refresh: Refresh,
        tol: float,
        seed: int,
        samples: Samples,
    ) -> None:
        self.operator = operator
        self.k = k
        self.refresh_policy = refresh
        self.tol = tol
        self.seed = seed
        self.samples = samples
        self.num_matvecs = 0
        self._tracked: TrackedVectors | None = None
        self._next_eigenvalue = -math.inf  # from the last full check
        self._sampling = SampledTracking.wanted(operator, k, tol, samples)
        self._updates = 0
        self._checks = 0
        self._followed_theta: Tensor | None = None  # where the vectors have been turned to
        self._last_check = 0  # over all samples, or over those that are tracked with
        self._check_interval = FIRST_CHECK
        self._last_search = 0
        self._search_interval = 1
        self._has_warned = False

    def _track(self, theta: Tensor, *, changed: bool) -> None:
        """Bring the vectors up to date at other parameters, or at a matrix that changed there.

        Args:
            theta: The operator's parameters now.
            changed: Whether the matrix changed by more than they moved it: it is solved afresh.
        """
        if self._sampling is not None:
            self._sampling.moved()
        self._follow(theta)
        if self._tracked is None:
            self._check_all(theta, search=True)
        elif changed:
            self._check_afresh(theta)
        elif self.refresh_policy == "adaptive":
            self._update_adaptively(theta)
        elif self._updates % _interval(self.refresh_policy) == 0:
            self._check_all(theta, search=True)
        else:
            self._tracked.error_estimate = self._tracked.error_at(theta)
        self._updates += 1

    def _solve(self, theta: Tensor, *, changed: bool) -> EigenResult:
        """Converge over all samples at the operator's parameters, whatever the policy."""
        self._follow(theta)
        return self._check_afresh(theta) if changed else self._check_all(theta, search=True)

    @property
    def equivalent_matvecs(self) -> float:
        """Products over all samples, and those over some of them by their share."""
        return self.num_matvecs + (0.0 if self._sampling is None else self._sampling.equivalents)

    def _draw_sample(self) -> None:
        """Draw the sample that the update before wants, at its parameters."""
        if self._sampling is not None:
            self._sampling.draw(seed=self.seed + self._checks)

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
            return
        if not self._sample_is_spent:
            self._correct(self._tracked, theta)
        if self._sample_is_spent and not self._renew_sample(theta):
            self._check_all(theta, search=self._search_is_due)
        if self._sampling is not None:
            left = self._sampling.error(self._tracked.block)
            self._tracked.error_estimate = math.hypot(self._tracked.error_estimate, left)

    def _correct(self, tracked: TrackedVectors, theta: Tensor) -> None:
        """Keep the predicted error of tracking within what the tolerance leaves it."""
        due = self._updates - self._last_check >= self._check_interval
        if tracked.rates is None or due:
            self._check(theta)
            return
        error = tracked.error_at(theta)
        allowed = max(self._tracking_tol, UNREACHED_GROWTH * tracked.reached)
        if error > allowed:
            products = tracked.refresh_vectors(
                self._near, theta, target=PARTIAL_SHARE * self._tracking_tol
            )
            self.num_matvecs += 0 if self._has_sample else products
            if self._sampling is not None:
                self._sampling.tracked(products)
            error = tracked.error_at(theta)
            if error > allowed:
                self._check(theta)
                return
        tracked.error_estimate = error

    @property
    def _has_sample(self) -> bool:
        return self._sampling is not None and self._sampling.surrogate is not None

    @property
    def _sample_is_spent(self) -> bool:
        assert self._tracked is not None
        return self._sampling is not None and self._sampling.is_spent(self._tracked.block)

    @property
    def _near(self) -> SymmetricOperator:
        """What the vectors are tracked with between full checks."""
        if self._sampling is not None and self._sampling.surrogate is not None:
            return self._sampling.surrogate
        return self.operator

    @property
    def _tracking_tol(self) -> float:
        if self._sampling is None or self._tracked is None:
            return self.tol
        return self._sampling.tracking_tolerance(self._tracked.block)

    @property
    def _search_is_due(self) -> bool:
        return self._updates - self._last_search >= self._search_interval

    def _check(self, theta: Tensor) -> None:
        if self._has_sample:
            self._check_sample(theta)
        else:
            self._check_all(theta, search=self._search_is_due)

    def _check_sample(self, theta: Tensor) -> None:
        """Converge to the eigenspace that the sample sees, unless that has left the block behind.

        A sample has eigenvalues of its own, and one that outgrows λ_k leads astray: the vectors
        then stay as they are, and all samples are seen again.
        """
        assert self._tracked is not None and self._sampling is not None
        after = self._converge(
            self._near,
            theta,
            start=self._tracked,
            tol=CHECK_SHARE * self._tracking_tol,
            search=False,
        ).vectors
        if self._tracked.holds(after):
            self._learn(self._tracked, after, theta, rates_too=True)
        else:
            self._sampling.led_astray = True

    def _renew_sample(self, theta: Tensor) -> bool:
        """See all samples on the tracked block alone, and converge over a new sample of them.

        Corrected to the block, the new sample has the residuals that all samples have, and errs
        only in the little that they still turn it: a product a vector where a full check also
        converges, and the eigenvalue that is left out with it. A search is made where one is due.

        Returns:
            Whether it could be. If not, what is tracked stays, for a full check.
        """
        sampling = self._sampling
        assert self._tracked is not None and sampling is not None
        if not sampling.renews:
            return False
        self._check_sample(theta)
        if sampling.led_astray:
            return False
        before, search = self._tracked, self._search_is_due
        seen = self._converge(self.operator, theta, start=before, tol=math.inf, search=search)
        self.num_matvecs += seen.found.num_matvecs
        if not before.holds(seen.vectors):
            self._last_search = self._updates - self._search_interval  # what rose is searched for
            return False
        surrogate = sampling.sample(
            seen.vectors.block, seen.images(), seed=self.seed + self._checks
        )
        after = self._converge(
            surrogate, theta, start=seen.vectors, tol=CHECK_SHARE * self.tol, search=False
        )
        if not seen.vectors.holds(after.vectors):
            sampling.discard(surrogate)
            return False
        own_errors = math.hypot(before.error_at(theta), after.found.error_estimate)
        sampling.learn(
            before.block,
            after.vectors.block,
            own_errors=own_errors,
            products=seen.found.num_matvecs,
        )
        sampling.renew(surrogate)
        after.vectors.take_over(before)
        self._tracked, self._last_check = after.vectors, self._updates
        self._next_eigenvalue = seen.found.next_eigenvalue
        if search:
            self._searched(found=False)
        return True

    def _searched(self, *, found: bool) -> None:
        longer = min(2 * self._search_interval, LONGEST_SEARCH)
        self._search_interval = 1 if found else longer
        self._last_search = self._updates

    def _check_all(self, theta: Tensor, *, search: bool) -> EigenResult:
        """Converge over all samples; where a sample was tracked with, learn what that left."""
        if self._tracked is None or self._tracked.jumped(theta):
            return self._check_afresh(theta)
        sampling = self._sampling
        if sampling is not None and sampling.surrogate is not None and not sampling.led_astray:
            self._check_sample(theta)
        led_astray = sampling is not None and sampling.led_astray
        before, search = self._tracked, search or led_astray
        check = self._converge(
            self.operator, theta, start=before, tol=CHECK_SHARE * self.tol, search=search
        )
        risen = not before.holds(check.vectors)
        if sampling is not None:
            own_errors = math.hypot(before.error_at(theta), check.found.error_estimate)
            sampling.learn(
                before.block,
                check.vectors.block,
                own_errors=own_errors,
                products=check.found.num_matvecs,
            )
        if self._has_sample and not led_astray and not risen:
            # Over the sample they were brought here a moment ago, and learned from there.
            check.vectors.take_over(before)
            self._tracked, self._last_check = check.vectors, self._updates
        else:
            self._learn(before, check.vectors, theta, rates_too=not risen)
        if search:
            self._searched(found=risen)
        return self._checked_all(check)

    def _check_afresh(self, theta: Tensor) -> EigenResult:
        """Solve where nothing is known, or nothing that still holds."""
        check = self._converge(
            self.operator, theta, start=self._tracked, tol=CHECK_SHARE * self.tol, search=True
        )
        self._learn(self._tracked, check.vectors, theta, rates_too=False)
        self._last_search = self._updates
        return self._checked_all(check)

    def _checked_all(self, check: Check) -> EigenResult:
        self.num_matvecs += check.found.num_matvecs
        self._next_eigenvalue = check.found.next_eigenvalue
        if check.found.error_estimate > self.tol and not self._has_warned:
            self._warn_of(check.found)
        if self._sampling is not None:
            self._sampling.checked(check.vectors.block, check.images())
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
            if self._updates - self._last_check >= self._check_interval:
                longer = surprise <= SURPRISE
                interval = self._check_interval * 2 if longer else self._check_interval // 2
                self._check_interval = min(max(interval, FIRST_CHECK), LONGEST_CHECK)
        self._tracked, self._last_check = after, self._updates

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
            **{name: getattr(self, name) for name in COUNTERS},
            "followed_theta": self._followed_theta,
            "tracked": tracked,
            "sampling": None if self._sampling is None else self._sampling.state_dict(),
        }

    def _load_tracked_state(self, state: dict[str, Any]) -> None:
        for name in COUNTERS:
            setattr(self, name, state[name])
        self._followed_theta = state["followed_theta"]
        tracked = copy.deepcopy(state["tracked"])
        self._tracked = None if tracked is None else TrackedVectors(**tracked)
        if self._sampling is not None:
            self._sampling.load_state_dict(state["sampling"])


def _interval(refresh: Refresh) -> int:
    return 1 if isinstance(refresh, str) else refresh
