"""Bootstrap over seeds. Oracles: coverage of a known normal mean, resamples enumerated by hand, and
SciPy's own bootstrap."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sharpflat.analysis.bootstrap import (
    NOT_MEASURED,
    geometric_mean,
    mean,
    median,
    seed_interval,
)


def test_the_interval_of_a_normal_mean_covers_it_as_often_as_it_says() -> None:
    """Oracle: 1,000 samples of 40 seeds from a known normal distribution."""
    samples = np.random.default_rng(0).normal(5.0, 2.0, size=(1000, 40, 1))
    intervals = [seed_interval(sample, mean) for sample in samples]
    covered = [interval.low <= 5.0 <= interval.high for interval in intervals]
    assert np.mean(covered) == pytest.approx(0.94, abs=0.02)


def test_three_seeds_cover_a_median_in_three_cases_of_four() -> None:
    """Oracle: all three fall on one side of the median with probability 2 · 2⁻³."""
    samples = np.random.default_rng(1).normal(size=(4000, 3, 1))
    intervals = [seed_interval(sample, median) for sample in samples]
    covered = [interval.low <= 0.0 <= interval.high for interval in intervals]
    assert np.mean(covered) == pytest.approx(0.75, abs=0.02)


def test_the_ends_are_percentiles_of_the_enumerated_resamples() -> None:
    """Oracle: all 4⁴ resamples of four seeds, each equally likely."""
    values = np.array([0.0, 1.0, 10.0, 100.0])
    means = np.mean(list(itertools.product(values, repeat=4)), axis=1)
    interval = seed_interval(values[:, None], mean)
    assert interval.estimate == values.mean()
    for end, share in ((interval.low, 0.025), (interval.high, 0.975)):
        assert (means < end).mean() <= share + 0.005
        assert (means <= end).mean() >= share - 0.005


def test_it_agrees_with_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(2).exponential(size=30)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, random_state=0
    ).confidence_interval
    ours = seed_interval(values[:, None], mean)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.02)


def test_reflection_is_about_the_estimate() -> None:
    values = [[0.0], [1.0], [5.0], [5.5]]
    plain, reflected = seed_interval(values, mean), seed_interval(values, mean, reflected=True)
    assert reflected.estimate == plain.estimate
    assert plain.low + reflected.high == pytest.approx(2 * plain.estimate)
    assert plain.high + reflected.low == pytest.approx(2 * plain.estimate)


def test_the_cells_of_a_seed_stay_together() -> None:
    """Cells that cancel within each seed leave nothing to vary, though each varies a lot."""
    first = np.random.default_rng(3).normal(size=(10, 1))
    interval = seed_interval(np.hstack([first, 1.0 - first]), mean)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_infinities_take_part() -> None:
    interval = seed_interval([[0.5], [0.6], [math.inf]], median)
    assert (interval.estimate, interval.low, interval.high) == (0.6, 0.5, math.inf)
    interval = seed_interval([[0.5], [math.inf], [math.inf]], median)
    assert (interval.estimate, interval.low, interval.high) == (math.inf, 0.5, math.inf)
    assert seed_interval([[-math.inf], [0.0], [0.1]], median).low == -math.inf


def test_a_geometric_mean_is_the_mean_of_logs() -> None:
    values = np.array([[0.5, 2.0], [4.0, 1.0], [3.0, 3.0]])
    logs = seed_interval(np.log(values), mean)
    interval = seed_interval(values, geometric_mean)
    assert interval.estimate == pytest.approx(np.exp(logs.estimate))
    assert (interval.low, interval.high) == pytest.approx((np.exp(logs.low), np.exp(logs.high)))


def test_fewer_than_two_seeds_have_no_interval() -> None:
    one = seed_interval([[3.0, 5.0]], mean)
    assert (one.estimate, one.n) == (4.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert seed_interval(np.empty((0, 2)), mean) is NOT_MEASURED
    assert NOT_MEASURED.n == 0


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="hold NaN: say what"):
        seed_interval([[1.0], [math.nan]], mean)


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=(5, 2))
    assert seed_interval(values, mean) == seed_interval(values, mean)
