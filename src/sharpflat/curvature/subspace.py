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
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from sharpflat.curvature.check import Check, converge
from sharpflat.curvature.checks import refuse_autocast
from sharpflat.curvature.eigen import EigenResult
from sharpflat.curvature.krylov import SymmetricOperator
from sharpflat.curvature.sampled_tracking import SampledTracking
from sharpflat.curvature.snapshot import Snapshot
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

#: What :meth:`DominantSubspace.state_dict` holds as plain numbers.
COUNTERS = (
    "num_matvecs",
    "_updates",
    "_checks",
    "_last_check",
    "_check_interval",
    "_last_search",
    "_search_interval",
    "_next_eigenvalue",
)

Refresh = Literal["adaptive", "every_step"] | int
Samples = Literal["auto"] | int | None


class MovingOperator(SymmetricOperator, Protocol):
    """A symmetric operator that depends on parameters."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that θ is made of, in order."""

    def theta(self) -> Tensor:
        """A copy of the parameters now, ``(P,)``."""


class DominantSubspace:
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
        ValueError: k, tol, refresh or samples outside what is allowed.
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
        self.samples = samples
        self.num_matvecs = 0
        self._updates = 0
        self._checks = 0
        self._last_theta: Tensor | None = None  # of the last update that succeeded
        self._followed_theta: Tensor | None = None  # where the vectors have been turned to
        self._surroundings: tuple[Snapshot, Snapshot] | None = None  # as of the last update
        self._tracked: TrackedVectors | None = None
        self._next_eigenvalue = -math.inf  # from the last full check
        self._last_check = 0  # over all samples, or over those that are tracked with
        self._check_interval = FIRST_CHECK
        self._last_search = 0
        self._search_interval = 1
        self._sampling = SampledTracking.wanted(operator, k, tol, samples)

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
    def equivalent_matvecs(self) -> float:
        """Products over all samples, and those over m of n samples by their share ``m / n``."""
        return self.num_matvecs + (0.0 if self._sampling is None else self._sampling.equivalents)

    @property
    def _now(self) -> TrackedVectors:
        if self._tracked is None:
            self.update()
        assert self._tracked is not None
        return self._tracked

    def project(self, v: Tensor) -> Tensor:
        """The part ``P_k v`` of a vector ``(P,)`` in the Dominant subspace."""
        refuse_autocast(v.device)
        return self.basis @ (self.basis.T @ v)

    def alignment(self, v: Tensor) -> float:
        """``χ_k(v) = ‖P_k v‖ / ‖v‖``, 0 for the zero vector, NaN for one that is not finite."""
        refuse_autocast(v.device)
        norm = torch.linalg.vector_norm(v).item()
        if not 0 < norm < math.inf:  # or its squares are not in the range of its precision
            largest = v.abs().max().item()
            if largest == 0:
                return 0.0
            v = v / largest
            norm = torch.linalg.vector_norm(v).item()
        return float(torch.linalg.vector_norm(self.basis.T @ v).item() / norm)

    def update(self) -> None:
        """Bring the basis up to date after the parameters moved, as the policy says.

        Parameters that did not move since the last update cost and count nothing, unless the rest
        of the model changed. After changed data it solves afresh, as after a jump.

        Raises:
            NonFiniteProductError: The parameters have diverged, or the loss is not finite.
            ModelChangedError: The model no longer has the operator's parameters.
            UnsupportedModelError: Inside ``torch.autocast``.
        """
        refuse_autocast(self.operator.device)
        theta = self.operator.theta()
        moved = self._last_theta is None or not torch.equal(theta, self._last_theta)
        now, changed = self._look_around(moved=moved)
        if moved or changed:
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
            self._last_theta = theta
        self._surroundings = now
        if self._sampling is not None:
            self._sampling.draw(seed=self.seed + self._checks)

    def refresh(self) -> EigenResult:
        """Converge over all samples at the parameters of the moment, whatever the policy.

        Returns:
            The eigenpairs, with residuals and an error estimate that rests on them. They have
            ``converged`` only if a search outside the block found no eigenvalue missing.
        """
        refuse_autocast(self.operator.device)
        theta = self.operator.theta()
        now, changed = self._look_around(moved=False)
        self._follow(theta)
        found = self._check_afresh(theta) if changed else self._check_all(theta, search=True)
        self._last_theta, self._surroundings = theta, now
        return found

    def _look_around(self, *, moved: bool) -> tuple[tuple[Snapshot, Snapshot] | None, bool]:
        """What surrounds the parameters, and whether it changed the matrix where they are.

        Where they moved, the rest of the model may move with them, as running statistics do: what
        is tracked then turns by both. Data do not.
        """
        look = getattr(self.operator, "surroundings", None)
        now: tuple[Snapshot, Snapshot] | None = None if look is None else look()
        if now is None or self._surroundings is None:
            return now, False
        data, rest = self._surroundings
        return now, not data.matches(now[0]) or not (moved or rest.matches(now[1]))

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
        if self._sampling is not None:
            self._sampling.checked(check.vectors.block, check.images())
        return check.found

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

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_surroundings": None}  # a copy has a model and data of its own

    def state_dict(self) -> dict[str, Any]:
        """Everything that later updates depend on, for an exact resume."""
        values = {name: getattr(self, name) for name in COUNTERS}
        # Copied, since later updates write into these tensors.
        tracked = None if self._tracked is None else copy.deepcopy(vars(self._tracked))
        return {
            "made_with": self._made_with,
            **values,
            "last_theta": self._last_theta,
            "tracked": tracked,
            "sampling": None if self._sampling is None else self._sampling.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; the seed is not part of it.

        Raises:
            ValueError: The state is of another k, number of parameters, policy or tolerance.
        """
        for name, own in self._made_with.items():
            if state["made_with"][name] != own:
                raise ValueError(
                    f"the state has {name} = {state['made_with'][name]!r}, this subspace {own!r}: "
                    "restore it into one that was made with the same arguments"
                )
        for name in COUNTERS:
            setattr(self, name, state[name])
        self._last_theta = self._followed_theta = state["last_theta"]
        tracked = copy.deepcopy(state["tracked"])
        self._tracked = None if tracked is None else TrackedVectors(**tracked)
        if self._sampling is not None:
            self._sampling.load_state_dict(state["sampling"])

    @property
    def _made_with(self) -> dict[str, Any]:
        return {
            "k": self.k,
            "parameters": self.operator.shape[0],
            "refresh": self.refresh_policy,
            "tol": self.tol,
            "samples": self.samples,
        }


def _interval(refresh: Refresh) -> int:
    return 1 if isinstance(refresh, str) else refresh
