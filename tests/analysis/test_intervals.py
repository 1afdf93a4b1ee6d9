"""Means and intervals over seeds; oracle: statsmodels-free textbook values and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval, mean_interval


def test_three_values_against_the_table_of_students_t() -> None:
    """Oracle: t(0.975, 2) = 4.30265, printed in any table."""
    half = 4.30265 * np.std([0.9, 1.0, 1.4], ddof=1) / np.sqrt(3)
    assert mean_interval([0.9, 1.0, 1.4]) == pytest.approx((1.1 - half, 1.1 + half), rel=1e-5)


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    """Oracle: 4,000 samples of three from a known normal distribution."""
    samples = np.random.default_rng(0).normal(5.0, 2.0, size=(4000, 3))
    covered = [low <= 5.0 <= high for low, high in map(mean_interval, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_one_value_is_its_own_interval() -> None:
    assert mean_interval([3.0]) == (3.0, 3.0)


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=8))
def test_geometric_statistics_are_those_of_the_logs(values: list[float]) -> None:
    low, high = geometric_mean_interval(values)
    assert np.log(geometric_mean(values)) == pytest.approx(np.mean(np.log(values)), abs=1e-9)
    assert low <= geometric_mean(values) * (1 + 1e-12)
    assert high >= geometric_mean(values) * (1 - 1e-12)
