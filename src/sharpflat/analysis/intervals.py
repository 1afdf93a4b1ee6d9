"""Means with intervals over seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

CONFIDENCE = 0.95


def mean_interval(values: ArrayLike) -> tuple[float, float]:
    """Student's 95 % interval of the mean, the unit of repetition being the seed.

    With three seeds a bootstrap can only return means of three numbers and covers far less than it
    says, so the interval assumes normal values instead; a single value has an interval of width 0.

    Example:
        >>> low, high = mean_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)  # 2 ± 4.303 / √3
        (-0.484, 4.484)
    """
    sample = np.asarray(values, dtype=np.float64)
    centre = sample.mean()
    if sample.size < 2:
        return float(centre), float(centre)
    half = half_width(sample)
    return float(centre - half), float(centre + half)


def half_width(sample: NDArray[np.float64], confidence: float = CONFIDENCE) -> float:
    """Half the width of Student's interval of a mean, of two values or more."""
    quantile = special.stdtrit(sample.size - 1, (1 + confidence) / 2)
    return float(quantile * sample.std(ddof=1) / np.sqrt(sample.size))


def geometric_mean(values: ArrayLike) -> float:
    """Geometric mean of positive values: the mean that a log axis shows."""
    return float(np.exp(np.log(np.asarray(values, dtype=np.float64)).mean()))


def geometric_mean_interval(values: ArrayLike) -> tuple[float, float]:
    """95 % interval of the geometric mean of positive values."""
    low, high = mean_interval(np.log(np.asarray(values, dtype=np.float64)))
    return float(np.exp(low)), float(np.exp(high))
