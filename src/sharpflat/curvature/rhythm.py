"""How many samples to track with, and how rarely to see all: learned from what full checks find."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Samples of the first sample, as a share of all, and at the least: a twentieth of MNIST-5k's
#: left 0.07 to 0.14 of the turn of the MNIST MLP's eigenspace with squared error.
FIRST_SHARE, LEAST_SAMPLES = 1 / 20, 50
#: Largest share of all samples that is tracked with: beyond it too little is saved.
LARGEST_SHARE = 1 / 2
#: Share of the turn that a sample is taken to leave before a full check has told, and the least
#: that a full check is believed to tell: single checks found a fifth of what the next ones did.
FIRST_LEFT, LEAST_LEFT = 0.3, 0.1
#: Predicted over expected sampling error: what a sample leaves differs from check to check.
SAFETY = 1.5
#: Updates from one full check to the next at the most: at first, and ever. In between the interval
#: grows fourfold with each check that finds no more than was predicted.
FIRST_INTERVAL, LONGEST_INTERVAL, GROWTH = 20, 400, 4
#: Factors by which the size may change from one sample to the next.
RESIZES = (0.5, 1.0, 2.0, 4.0)
#: Stretches without a sample, after one that did not pay, before the next is tried, at the most.
LONGEST_PAUSE = 8
#: Updates between full checks without a sample, until there has been such a stretch.
USUAL_INTERVAL = 100
#: A sample is drawn again if it is expected to cost at most this share of going without: what is
#: expected is known to some tenths.
PAYS = 0.75
#: Updates from which on a stretch tells what an update costs.
TELLING_UPDATES = 5


@dataclass(kw_only=True)
class SamplingRhythm:
    """Sample size and rhythm of full checks of one subspace.

    Attributes:
        num_samples: All samples, n.
        allowed: Largest accepted sampling error, ``‖sin Θ‖_F``.
        fixed: The size that was asked for; ``None``: chosen here.
        size: Samples of the next draw, m.
        left: Share of the eigenspace's turn since the last full check that tracking with a sample
            of this size leaves, as full checks found it.
        known: Whether a full check has told ``left``.
        interval: Updates after which a full check is due, whatever is predicted.
        tracking: Products over the sample an update; ``None``: not known.
        alone: Products an update without a sample, full checks included; likewise.
        pause: Full checks to come for which no sample is drawn.
        next_pause: The pause after the next sample that does not pay.
    """

    num_samples: int
    allowed: float
    fixed: int | None
    size: int
    left: float = FIRST_LEFT
    known: bool = False
    interval: int = FIRST_INTERVAL
    tracking: float | None = None
    alone: float | None = None
    pause: int = 0
    next_pause: int = 1

    @classmethod
    def start(cls, num_samples: int, allowed: float, fixed: int | None) -> SamplingRhythm:
        """Before the first sample."""
        first = max(round(FIRST_SHARE * num_samples), LEAST_SAMPLES)
        size = first if fixed is None else fixed
        return cls(num_samples=num_samples, allowed=allowed, fixed=fixed, size=size)

    def wants_sample(self) -> bool:
        """Whether the next stretch is to be tracked with a sample; counts a pause down."""
        if self.fixed is not None:
            return True
        if self.pause > 0:
            self.pause -= 1
            return False
        return self.size <= LARGEST_SHARE * self.num_samples

    def error(self, turn: float) -> float:
        """Predicted error that the sample leaves where the eigenspace has turned by a sine."""
        return SAFETY * self.left * turn

    def count(self, *, updates: int, tracking: int, full: int, with_sample: bool) -> None:
        """Count the products of a stretch that ended, whatever it was tracked with.

        Args:
            updates: Its length.
            tracking: Products that kept up the vectors, over the sample if there was one.
            full: Products of the full check that ended it.
            with_sample: Whether it was tracked with a sample.
        """
        if updates >= TELLING_UPDATES and with_sample:
            self.tracking = _mean(self.tracking, tracking / updates)
        elif updates >= TELLING_UPDATES:
            self.alone = _mean(self.alone, (tracking + full) / updates)

    def learn(self, *, left: float, turn: float, updates: int, full: int, overhead: int) -> None:
        """Learn from a stretch that was tracked with a sample, and choose what comes next.

        Args:
            left: What the full check found the sample to have left of the turn.
            turn: Sine by which the eigenspace turned in the stretch.
            updates: Length of the stretch.
            full: Products over all samples that end it.
            overhead: Products over the sample that corrected it to the block.
        """
        if left <= self.error(turn) and updates >= self.interval:
            self.interval = min(GROWTH * self.interval, LONGEST_INTERVAL)
        share = max(min(left / turn, 1.0) if turn > 0 else 0.0, LEAST_LEFT)
        self.left = math.hypot(self.left, share) / math.sqrt(2) if self.known else share
        self.known = True
        if self.fixed is not None:
            return
        if self.tracking is None and self.alone is None:
            if self._updates_until_check(self.size, turn, updates) < TELLING_UPDATES:
                self.pause = 1  # a stretch without a sample will tell
            return
        costs = {size: self._cost(size, turn, updates, full, overhead) for size in self._sizes()}
        best = min(costs, key=lambda size: costs[size])
        alone = self.alone
        if alone is None:
            alone = (self.tracking or 0.0) + full / USUAL_INTERVAL
        if costs[best] < PAYS * alone:
            self.next_pause = 1
        else:
            self.pause, self.next_pause = self.next_pause, min(2 * self.next_pause, LONGEST_PAUSE)
        self.left, self.size = self._left_by(best), best

    def _cost(self, size: int, turn: float, updates: int, full: int, overhead: int) -> float:
        """Expected cost of an update with samples of a size, in products over all."""
        share = size / self.num_samples
        ends = (full + overhead * share) / self._updates_until_check(size, turn, updates)
        tracking = self.alone if self.tracking is None else self.tracking
        return ends + share * (tracking or 0.0)

    def _sizes(self) -> list[int]:
        largest = max(math.floor(LARGEST_SHARE * self.num_samples), LEAST_SAMPLES)
        return [min(max(round(factor * self.size), LEAST_SAMPLES), largest) for factor in RESIZES]

    def _left_by(self, size: int) -> float:
        return min(self.left * math.sqrt(self.size / size), 1.0)

    def _updates_until_check(self, size: int, turn: float, updates: int) -> float:
        """The turn goes with the root of the updates at the fastest; in a third of them, often."""
        if turn == 0:
            return self.interval
        allowed_turn = self.allowed / (SAFETY * self._left_by(size))
        return min(max(updates * (allowed_turn / turn) ** 2, 1.0), self.interval)


def _mean(before: float | None, now: float) -> float:
    return now if before is None else (before + now) / 2
