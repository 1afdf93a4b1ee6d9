"""Estimates over few seeds: intervals that cover what they say, and tests against a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from sharpflat.analysis.intervals import CONFIDENCE, half_width

Array = NDArray[np.float64]
#: Distance from 0 and 1 within which a float32 share is not told from them.
RESOLUTION = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval, and how surely it lies on either side of a threshold.

    Attributes:
        estimate: Of all seeds; NaN without any.
        low: Lower end; NaN where there are too few seeds for an interval.
        high: Upper end; likewise.
        n: Number of seeds.
        above: p-value against "it does not lie above the threshold"; 1 with too few seeds.
        below: p-value against "it does not lie below the threshold"; likewise.
        kind: Where the interval comes from.
    """

    estimate: float
    low: float
    high: float
    n: int
    above: float = 1.0
    below: float = 1.0
    kind: str = "too few seeds"

    @property
    def p_value(self) -> float:
        """Two-sided p-value."""
        return min(1.0, 2 * min(self.above, self.below))


#: Corrected p-value from which on nothing is decided, as intervals cover 95 %.
LEVEL = 0.05
#: Of a statistic that was not measured.
NOT_MEASURED = Estimate(math.nan, math.nan, math.nan, 0, kind="not measured")


@dataclass(frozen=True)
class Scale:
    """A scale on which seeds scatter evenly to both sides; ``forward`` goes there."""

    name: str
    forward: Callable[[Array], Array]
    back: Callable[[Array], Array]


def _log(values: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # of 0, and of a ratio that is negative
        return np.asarray(np.log(values))


def _logit(values: Array) -> Array:
    logits = special.logit(np.clip(values, RESOLUTION, 1 - RESOLUTION))
    return np.where(np.isinf(values), values, logits)


#: For positive numbers and ratios.
LOG = Scale("Student's t on logs", _log, np.exp)
#: For shares of something continuous, which an interval must not leave; infinity stays itself.
LOGIT = Scale("Student's t on logits", _logit, special.expit)


def location(
    values: ArrayLike,
    threshold: float,
    scale: Scale,
    *,
    upper: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The middle of what seeds measured.

    Student's t on a scale where the seeds scatter evenly: the estimate is their geometric mean (or
    the mean of logits, taken back). It covers 95 % of cases at any number of seeds from two on
    where the values are normal there. Where a seed's value is infinite, as of a diverged run, or
    known only between bounds, means do not exist: then the median, with the exact interval between
    order statistics and the sign test, which needs six seeds.

    Args:
        values: ``(seeds,)``, or lower bounds.
        threshold: What the p-values compare with.
        scale: :data:`LOG` or :data:`LOGIT`.
        upper: ``(seeds,)``, upper bounds where they differ from the values.
        confidence: Of the interval.

    Raises:
        ValueError: The values hold NaN.

    Example:
        >>> ratio = location([0.5, 1.0, 2.0], 0.9, LOG)
        >>> round(ratio.estimate, 3), round(ratio.low, 3), round(ratio.high, 3)
        (1.0, 0.179, 5.595)
    """
    sample = np.asarray(values, dtype=np.float64)
    bounds = sample if upper is None else np.asarray(upper, dtype=np.float64)
    if np.isnan(sample).any() or np.isnan(bounds).any():
        raise ValueError("the values hold NaN: say what a run that measured none counts as")
    if not sample.size:
        return NOT_MEASURED
    scaled = scale.forward(sample)
    if np.isfinite(scaled).all() and (sample == bounds).all():
        middle = float(scale.forward(np.asarray([threshold]))[0])
        return _student(scaled, middle, scale, confidence)
    return _sign(sample, bounds, threshold, confidence)


def least_of_largest(ratios: Sequence[Sequence[Array]], threshold: float) -> Estimate:
    """The least, over alternatives, of the largest of each alternative's ratios.

    Which alternative is least is not known but estimated from the same seeds, and choosing it on
    them, or on all seeds but one, makes seeds agree that have nothing in common. So nothing is
    chosen: below the threshold lies the result if any alternative has all its ratios there, at
    p-values times the number of alternatives; above if every alternative has a ratio there, at
    p-values times the number of its ratios. The ends of the interval are made in the same way, and
    cover at least as often as they say. The estimate itself leans towards the extreme.

    Args:
        ratios: For each alternative the ratios that it has, each ``(seeds,)`` and positive.
        threshold: What the p-values compare with.
    """
    tail = (1 - CONFIDENCE) / 2
    lows, highs, middles, above, below = [], [], [], [], []
    for alternative in ratios:
        apart = [
            location(values, threshold, LOG, confidence=1 - 2 * tail / len(alternative))
            for values in alternative
        ]
        together = [
            location(values, threshold, LOG, confidence=1 - 2 * tail / len(ratios))
            for values in alternative
        ]
        middles.append(max(each.estimate for each in apart))
        lows.append(max(0.0 if math.isnan(each.low) else each.low for each in apart))
        highs.append(max(math.inf if math.isnan(each.high) else each.high for each in together))
        above.append(min(1.0, len(alternative) * min(each.above for each in apart)))
        below.append(min(1.0, len(ratios) * max(each.below for each in apart)))
    n = len(ratios[0][0])
    if n < 2:
        return Estimate(min(middles), math.nan, math.nan, n)
    ends = min(lows), min(highs)
    return Estimate(min(middles), *ends, n, max(above), min(below), f"{LOG.name}, simultaneous")


def inverse(estimate: Estimate) -> Estimate:
    """The estimate of one over what was estimated."""
    with np.errstate(divide="ignore"):
        middle, low, high = 1 / np.array([estimate.estimate, estimate.high, estimate.low])
    return replace(
        estimate,
        estimate=float(middle),
        low=float(low),
        high=float(high),
        above=estimate.below,
        below=estimate.above,
    )


def share(successes: int, n: int, threshold: float) -> Estimate:
    """Share of the seeds with a property: exact binomial interval (Clopper and Pearson) and test.

    Example:
        >>> most = share(8, 8, 0.5)
        >>> most.estimate, round(most.low, 3), most.high, round(most.above, 4)
        (1.0, 0.631, 1.0, 0.0039)
    """
    if not n:
        return NOT_MEASURED
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="exact")
    above, below = (
        float(stats.binomtest(successes, n, threshold, alternative=side).pvalue)
        for side in ("greater", "less")
    )
    ends = float(interval.low), float(interval.high)
    return Estimate(successes / n, *ends, n, above, below, "exact binomial")


def ratio_of_means(numerator: ArrayLike, denominator: ArrayLike, threshold: float) -> Estimate:
    """Ratio of two paired means by Fieller's theorem, the denominator's mean being positive.

    Ratios of single seeds are useless where a denominator comes near zero. Here a ratio ρ lies in
    the interval iff Student's t does not reject that ``numerator - ρ denominator`` has mean zero.
    There is no interval, and no verdict, unless the denominator's own mean is surely positive.

    Args:
        numerator: ``(seeds,)``, finite.
        denominator: ``(seeds,)``, finite, of the same seeds.
        threshold: What the p-values compare with.

    Example:
        >>> half = ratio_of_means([2.1, 2.4, 3.0], [4.0, 5.0, 6.0], 0.1)
        >>> round(half.estimate, 2), round(half.low, 2), round(half.high, 2), half.above < 0.05
        (0.5, 0.46, 0.58, True)
    """
    x, y = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if not x.size:
        return NOT_MEASURED
    estimate = float(x.mean() / y.mean())
    if x.size < 2:
        return Estimate(estimate, math.nan, math.nan, x.size)
    positive = _t_above(y)
    above = max(_t_above(x - threshold * y), positive)
    below = max(_t_above(threshold * y - x), positive)
    squared = special.stdtrit(x.size - 1, (1 + CONFIDENCE) / 2) ** 2 / x.size
    covariance = np.cov(x, y)
    a = y.mean() ** 2 - squared * covariance[1, 1]
    b = x.mean() * y.mean() - squared * covariance[0, 1]
    c = x.mean() ** 2 - squared * covariance[0, 0]
    if a <= 0 or y.mean() <= 0:
        return Estimate(estimate, math.nan, math.nan, x.size, above, below, "Fieller, unbounded")
    root = math.sqrt(max(b**2 - a * c, 0.0))
    ends = float((b - root) / a), float((b + root) / a)
    return Estimate(estimate, *ends, x.size, above, below, "Fieller")


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's method, in the order given.

    The chance that any true hypothesis falls below α is at most α, however they depend.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def _student(scaled: Array, threshold: float, scale: Scale, confidence: float) -> Estimate:
    n, centre = scaled.size, float(scaled.mean())
    if n < 2:
        return Estimate(float(scale.back(scaled)[0]), math.nan, math.nan, n)
    half = half_width(scaled, confidence)
    middle, low, high = scale.back(np.array([centre, centre - half, centre + half]))
    above, below = _t_above(scaled - threshold), _t_above(threshold - scaled)
    return Estimate(float(middle), float(low), float(high), n, above, below, scale.name)


def _t_above(values: Array) -> float:
    """p-value of Student's t against "the mean is at most 0"."""
    spread, centre = values.std(ddof=1) / math.sqrt(values.size), values.mean()
    if spread == 0:
        return 0.0 if centre > 0 else 1.0
    return float(special.stdtr(values.size - 1, -centre / spread))


def _sign(lower: Array, upper: Array, threshold: float, confidence: float) -> Estimate:
    """Median between order statistics; a value at the threshold speaks for neither side."""
    n = lower.size
    above, below = (
        float(stats.binom.sf(count - 1, n, 0.5))
        for count in ((lower > threshold).sum(), (upper < threshold).sum())
    )
    left_out = int(stats.binom.ppf((1 - confidence) / 2, n, 0.5))
    with np.errstate(invalid="ignore"):  # between infinities of either sign it is not defined
        middle = float(np.median(lower))
    if left_out == 0:
        return Estimate(middle, math.nan, math.nan, n, above, below)
    ends = float(np.sort(lower)[left_out - 1]), float(np.sort(upper)[n - left_out])
    return Estimate(middle, *ends, n, above, below, "sign test")
