"""Intervals from resampling whole seeds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharpflat.analysis.intervals import CONFIDENCE

#: Resamples of an interval, and the seed that draws them.
RESAMPLES, SEED = 10_000, 0

Array = NDArray[np.float64]
#: From ``(resamples, seeds, cells)`` to ``(resamples,)``; the order of the seeds must not matter.
Statistic = Callable[[Array], Array]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        estimate: Of all seeds; NaN without any.
        low: Lower end; NaN with fewer than two seeds.
        high: Upper end; likewise.
        n: Number of seeds.
    """

    estimate: float
    low: float
    high: float
    n: int


#: Of a statistic that was not measured.
NOT_MEASURED = Interval(math.nan, math.nan, math.nan, 0)


def seed_interval(values: ArrayLike, statistic: Statistic, *, reflected: bool = False) -> Interval:
    """95 % bootstrap interval of a statistic, the seed being the unit of repetition.

    A resample draws seeds with replacement and takes everything that was measured with a drawn seed
    along, so that pairs stay pairs and cells of one seed stay together. Equal numbers of seeds see
    the same resamples. The ends are order statistics: nothing is interpolated, and infinite values,
    which diverged runs have, take part like any others.

    **With three seeds the interval is coarse and covers less than it says**: there are at most 10
    distinct resamples, and the interval of a mean or a median reaches from the least seed to the
    greatest, which covers a median in 3 cases of 4. It says whether the seeds agree.

    Args:
        values: ``(seeds, cells)``, no NaN.
        statistic: What is estimated.
        reflected: Reflect the interval at the estimate, ``2 t - q`` for each percentile ``q`` (the
            basic bootstrap). For statistics that repeated seeds push to one side, whose percentiles
            would miss the truth on that side.

    Raises:
        ValueError: The values hold NaN.

    Example:
        >>> interval = seed_interval([[1.0], [2.0], [6.0]], mean)
        >>> interval.estimate, interval.low, interval.high, interval.n
        (3.0, 1.0, 6.0, 3)
    """
    sample = np.asarray(values, dtype=np.float64)
    if not sample.size:
        return NOT_MEASURED
    if np.isnan(sample).any():
        raise ValueError("the values hold NaN: say what a run that measured none counts as")
    n = len(sample)
    estimate = float(statistic(sample[None])[0])
    if n < 2:
        return Interval(estimate, math.nan, math.nan, n)
    distinct, drawn = _resamples(n)
    resampled = np.sort(statistic(sample[distinct])[drawn])
    tail = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    low, high = float(resampled[tail]), float(resampled[-1 - tail])
    if reflected:
        low, high = 2 * estimate - high, 2 * estimate - low
    return Interval(estimate, low, high, n)


def mean(samples: Array) -> Array:
    """Mean over seeds and cells."""
    return np.asarray(samples.mean(axis=(1, 2)))


def geometric_mean(samples: Array) -> Array:
    """Geometric mean over seeds and cells of positive values."""
    return np.exp(mean(np.log(samples)))


def median(samples: Array) -> Array:
    """Median over seeds and cells; infinite where most of them are."""
    with np.errstate(invalid="ignore"):  # between infinities of either sign it is not defined
        return np.asarray(np.median(samples, axis=(1, 2)))


@lru_cache
def _resamples(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct resamples ``(distinct, n)``, and which of them each resample is."""
    indices = np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))
    distinct, drawn = np.unique(np.sort(indices, axis=1), axis=0, return_inverse=True)
    return distinct, drawn.reshape(-1)
