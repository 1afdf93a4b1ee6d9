"""Tracking with a sample between full checks: what is drawn, when, and what it is taken to err."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from sharpflat.curvature.inner import inner
from sharpflat.curvature.krylov import SymmetricOperator
from sharpflat.curvature.rhythm import SamplingRhythm
from sharpflat.curvature.sampling import Sample, SampleableOperator, SampledCurvature, draw

#: Largest share of the tolerance for what the sample errs in.
SAMPLING_SHARE = math.sqrt(0.5)

#: Share of what a full check finds that is laid to the sample at the least: the errors that it is
#: not to blame for are predictions, and may be too large.
LEAST_BLAME = 0.5


class TrackingSample:
    """The sample that a subspace is tracked with, from one full check to the next.

    Args:
        operator: The curvature over all samples.
        k: Dimension of the subspace.
        tol: Its tolerance.
        samples: Size of every sample; ``None``: chosen by what full checks find.
    """

    def __init__(
        self, operator: SampleableOperator, k: int, tol: float, samples: int | None
    ) -> None:
        self.surrogate: SampledCurvature | None = None
        self.led_astray = False  # whether its eigenspace has been seen not to be that of all
        self._operator, self._k, self._tol = operator, k, tol
        self._rhythm = SamplingRhythm.start(operator.num_samples, SAMPLING_SHARE * tol, samples)
        self._checked: tuple[Tensor, Tensor] | None = None  # block and images, until a draw
        self._equivalents = 0.0  # of the samples before this one
        self._updates = 0  # since the last full check
        self._tracking = 0  # products since then that corrected single vectors
        self._turned: tuple[Tensor, float] | None = None  # the last block asked for, and its turn

    @classmethod
    def wanted(
        cls, operator: SymmetricOperator, k: int, tol: float, samples: object
    ) -> TrackingSample | None:
        """What ``samples`` of :class:`~sharpflat.curvature.DominantSubspace` asks for.

        Raises:
            ValueError: It is not allowed, or the operator has no samples to choose from.
        """
        if samples is None:
            return None
        if not (isinstance(operator, SampleableOperator) and operator.can_be_sampled):
            raise ValueError(
                f"samples is {samples!r}, but {type(operator).__name__} has no samples to choose "
                "from, as where they come in batches, are spread over processes or count as the "
                "loss's pairs (sum, count) say: leave samples at None"
            )
        if samples == "auto":
            return cls(operator, k, tol, None)
        most = operator.num_samples
        if isinstance(samples, int) and not isinstance(samples, bool) and 1 <= samples <= most:
            return cls(operator, k, tol, samples)
        raise ValueError(f"samples is {samples!r}; allowed are None, 'auto' and 1 to {most}")

    @property
    def equivalents(self) -> float:
        """Products over samples, each by its share of all samples."""
        return self._equivalents + self._cost_of(self.surrogate)

    def _cost_of(self, surrogate: SampledCurvature | None) -> float:
        if surrogate is None:
            return 0.0
        share = len(surrogate.sample.indices) / self._rhythm.num_samples
        return surrogate.num_matvecs * share

    def moved(self) -> None:
        """Take note of an update at new parameters."""
        self._updates += 1
        self._checked = None

    def tracked(self, products: int) -> None:
        """Take note of products that corrected single vectors."""
        self._tracking += products

    def checked(self, block: Tensor, images: Tensor) -> None:
        """Take note of what a full check found: ``V`` and ``H V`` at the parameters of the moment.

        The sample is drawn by the update that wants it, if the parameters are then still these: a
        subspace that only measures never needs one.
        """
        self._end()
        self._checked = block, images

    def _end(self) -> None:
        self._equivalents += self._cost_of(self.surrogate)
        self.surrogate, self._tracking, self._turned = None, 0, None
        self._updates = 0
        self.led_astray = False

    def draw(self, *, seed: int) -> None:
        """Draw a sample, if a full check was made at these parameters and a sample is wanted."""
        if self._checked is None:
            return
        block, images = self._checked
        self._checked = None
        if not self._rhythm.wants_sample():
            return
        self.surrogate = self.sample(block, images, seed=seed)

    def sample(self, block: Tensor, images: Tensor, *, seed: int) -> SampledCurvature:
        """A new sample's curvature, corrected to ``H V`` at the parameters of the moment."""
        sample = draw(self._operator.sample_sizes(), self._rhythm.size, seed=seed)
        return SampledCurvature.exact_on(self._operator, sample, block, images)

    @property
    def renews(self) -> bool:
        """Whether the next sample may take over from this one without a full check."""
        return self.surrogate is not None and not self.led_astray and not self._rhythm.pause

    def renew(self, surrogate: SampledCurvature) -> None:
        """Track with another sample from here on."""
        self._end()
        self.surrogate = surrogate

    def discard(self, surrogate: SampledCurvature) -> None:
        """Count a sample that led astray at once."""
        self._equivalents += self._cost_of(surrogate)

    def error(self, block: Tensor) -> float:
        """Predicted error of tracked vectors ``(P, k or more)`` that the sample is to blame for."""
        return 0.0 if self.surrogate is None else self._rhythm.error(self._turn(block))

    def is_spent(self, block: Tensor) -> bool:
        """Whether all samples must be seen again."""
        if self.surrogate is None:
            return False
        late = self._updates >= self._rhythm.interval
        return late or self.led_astray or self.error(block) > self._rhythm.allowed

    def tracking_tolerance(self, block: Tensor) -> float:
        """What the sample's error leaves of the tolerance."""
        return math.sqrt(max(self._tol**2 - self.error(block) ** 2, self._tol**2 / 2))

    def learn(self, before: Tensor, after: Tensor, *, own_errors: float, products: int) -> None:
        """Learn from a full check what the sample left of the turn since the one before.

        Args:
            before: Vectors as they were tracked, ``(P, k or more)``.
            after: What the full check found, likewise.
            own_errors: What the sample is not to blame for: the errors of the vectors before to the
                sample's own eigenspace, and of those after.
            products: Of the full check.
        """
        surrogate = self.surrogate
        corrected = 0 if surrogate is None else surrogate.block.shape[1]
        # Checks over the sample do what without one corrections of single vectors would have to.
        self._rhythm.count(
            updates=self._updates,
            tracking=self._tracking if surrogate is None else surrogate.num_matvecs - corrected,
            full=products,
            with_sample=surrogate is not None,
        )
        if surrogate is None:
            return
        k = self._k
        turn = sine_between(surrogate.block[:, :k], after[:, :k])
        apart = turn if self.led_astray else sine_between(before[:, :k], after[:, :k])
        left = max(math.sqrt(max(apart**2 - own_errors**2, 0.0)), LEAST_BLAME * apart)
        self._rhythm.learn(
            left=left,
            turn=turn,
            updates=max(self._updates, 1),
            full=products,
            overhead=corrected,
        )

    def _turn(self, block: Tensor) -> float:
        assert self.surrogate is not None
        if self._turned is None or self._turned[0] is not block:
            turn = sine_between(self.surrogate.block[:, : self._k], block[:, : self._k])
            self._turned = block, turn
        return self._turned[1]

    def state_dict(self) -> dict[str, Any]:
        """All that later draws and checks depend on."""
        surrogate = self.surrogate
        return {
            "rhythm": vars(self._rhythm).copy(),
            "checked": self._checked,
            "equivalents": self._equivalents,
            "updates": self._updates,
            "tracking": self._tracking,
            "led_astray": self.led_astray,
            "surrogate": None
            if surrogate is None
            else {
                "indices": surrogate.sample.indices,
                "weights": surrogate.sample.weights,
                "block": surrogate.block,
                "correction": surrogate.correction,
                "num_matvecs": surrogate.num_matvecs,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._rhythm = SamplingRhythm(**state["rhythm"])
        self._checked = state["checked"]
        self._equivalents = state["equivalents"]
        self._updates, self._tracking = state["updates"], state["tracking"]
        self.led_astray = state["led_astray"]
        self._turned, self.surrogate = None, None
        stored = state["surrogate"]
        if stored is not None:
            sample = Sample(indices=stored["indices"], weights=stored["weights"])
            self.surrogate = SampledCurvature(
                self._operator, sample, stored["block"], stored["correction"]
            )
            self.surrogate.num_matvecs = stored["num_matvecs"]


def sine_between(first: Tensor, second: Tensor) -> float:
    """``‖sin Θ‖_F`` between the spans of two orthonormal ``(P, k)`` blocks."""
    cosines = inner(first, second)
    return math.sqrt(max(first.shape[1] - float(cosines.square().sum()), 0.0))
