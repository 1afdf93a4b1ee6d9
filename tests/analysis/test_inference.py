"""Estimates over few seeds. Oracles: the true value of simulated seeds, SciPy's tests, and tables
of Student's t and of the binomial distribution."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import special, stats

from sharpflat.analysis.inference import (
    LOG,
    LOGIT,
    NOT_MEASURED,
    Estimate,
    Scale,
    holm,
    inverse,
    least_of_largest,
    location,
    ratio_of_means,
    share,
)

TRIALS = 1000
#: Of the share of 1,000 trials in which something of probability 0.95 or 0.05 happens.
ERROR = 4 * math.sqrt(0.95 * 0.05 / TRIALS)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def _trials(draw: Draw, n: int, threshold: float, scale: Scale) -> list[Estimate]:
    generator = np.random.default_rng(n)
    return [location(draw(generator, n), threshold, scale) for _ in range(TRIALS)]


def _normal(generator: np.random.Generator, n: int) -> np.ndarray:
    """Ratios that scatter evenly around 1 by a tenth."""
    return generator.normal(1.0, 0.1, size=n)


def _skewed(generator: np.random.Generator, n: int) -> np.ndarray:
    """Ratios around 1, of which one in six is above 2.7 times the middle."""
    return generator.lognormal(0.0, 1.0, size=n)


def _near_one(generator: np.random.Generator, n: int) -> np.ndarray:
    """Shares around 0.95, skewed towards lower ones."""
    return special.expit(generator.normal(special.logit(0.95), 0.8, size=n))


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize(
    ("draw", "truth", "scale"),
    [(_normal, 1.0, LOG), (_skewed, 1.0, LOG), (_near_one, 0.95, LOGIT)],
)
def test_intervals_cover_and_a_row_at_its_threshold_is_rarely_decided(
    n: int, draw: Draw, truth: float, scale: Scale
) -> None:
    """Oracle: the middle of the distribution that the seeds are drawn from."""
    trials = _trials(draw, n, truth, scale)
    covered = np.mean([trial.low <= truth <= trial.high for trial in trials])
    assert covered == pytest.approx(0.95, abs=ERROR)
    for side in ("above", "below"):
        called = np.mean([getattr(trial, side) < 0.025 for trial in trials])
        assert called == pytest.approx(0.025, abs=ERROR)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_means_of_skewed_values_would_not_be_covered(n: int) -> None:
    """Why logs: Student's t on the values themselves covers the mean of skewed ones too seldom."""
    generator = np.random.default_rng(n)
    samples = generator.lognormal(0.0, 1.0, size=(TRIALS, n))
    half = stats.t.ppf(0.975, n - 1) * stats.sem(samples, axis=1)
    assert np.mean(np.abs(samples.mean(axis=1) - math.exp(0.5)) <= half) < 0.91


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("truth", [0.0, 0.5])
def test_the_ratio_of_means_is_covered_where_denominators_come_near_zero(
    n: int, truth: float
) -> None:
    """Oracle: the ratio of the means of correlated pairs. Unbounded sets cover everything."""
    generator = np.random.default_rng(n)
    covered = []
    for _ in range(TRIALS):
        denominator = 1.0 + generator.normal(scale=0.4, size=n)
        numerator = truth + 0.3 * (denominator - 1.0) + generator.normal(scale=0.2, size=n)
        found = ratio_of_means(numerator, denominator, truth)
        covered.append(math.isnan(found.low) or found.low <= truth <= found.high)
        assert (found.p_value < 0.05) <= (not covered[-1])
    assert np.mean(covered) >= 0.95 - ERROR


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9])
def test_shares_are_covered_at_least_as_often_as_is_said(n: int, truth: float) -> None:
    """Oracle: the probability of every number of successes."""
    estimates = [share(k, n, truth) for k in range(n + 1)]
    probability = stats.binom.pmf(np.arange(n + 1), n, truth)
    covered = [estimate.low <= truth <= estimate.high for estimate in estimates]
    assert probability @ covered >= 0.95
    for side in ("above", "below"):
        called = [getattr(estimate, side) < 0.025 for estimate in estimates]
        assert probability @ called <= 0.025


@pytest.mark.parametrize("n", [6, 7, 8, 20])
def test_the_median_is_covered_where_seeds_diverge(n: int) -> None:
    """Oracle: seeds of which four in ten diverge, whose median is a known quantile of the rest."""
    generator = np.random.default_rng(n)
    truth = stats.norm.ppf(0.5 / 0.6)
    covered, called = [], []
    for _ in range(TRIALS):
        values = generator.normal(size=n)
        values[generator.random(n) < 0.4] = math.inf
        values[0] = math.inf if np.isfinite(values).all() else values[0]
        found = location(np.exp(values), math.exp(truth), LOG)
        covered.append(found.low <= math.exp(truth) <= found.high)
        called.append(found.below < 0.025)
    assert np.mean(covered) >= 0.95 - ERROR
    assert np.mean(called) <= 0.025 + ERROR


@pytest.mark.parametrize("n", [3, 8])
@pytest.mark.parametrize("apart", [0.0, 0.05, 1.0])
def test_the_best_of_several_is_covered_and_not_flattered(n: int, apart: float) -> None:
    """Oracle: points that lie evenly apart in truth, each compared with two ends."""
    generator = np.random.default_rng(n)
    points, ends = np.arange(4) * apart, np.array([0.0, 0.3])
    truth = math.exp(points.min() - ends.min())
    covered, below = [], []
    for _ in range(300):
        noisy = points[:, None] + generator.normal(scale=0.1, size=(4, n))
        others = ends[:, None] + generator.normal(scale=0.1, size=(2, n))
        ratios = [[np.exp(point - end) for end in others] for point in noisy]
        found = least_of_largest(ratios, truth)
        covered.append(found.low <= truth <= found.high)
        below.append(found.p_value < 0.05)
        assert found.low <= found.estimate <= found.high
    assert np.mean(covered) >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300)
    assert np.mean(below) <= 0.05 + 4 * math.sqrt(0.95 * 0.05 / 300)


def test_choosing_on_the_other_seeds_would_not_hold() -> None:
    """Why all are compared: points chosen on all seeds but one make noise look like agreement."""
    generator, called = np.random.default_rng(0), 0
    for _ in range(400):
        losses = generator.normal(size=(8, 5))
        chosen = [np.median(np.delete(losses, seed, 0), axis=0).argmin() for seed in range(8)]
        held_out = losses[np.arange(8), chosen] - losses.mean(axis=1)
        called += stats.ttest_1samp(held_out, 0.0).pvalue < 0.05
    assert called / 400 > 0.08


def test_one_ratio_is_the_best_of_one() -> None:
    values = np.array([0.5, 0.6, 0.8])
    alone, best = location(values, 0.9, LOG), least_of_largest([[values]], 0.9)
    for name in ("estimate", "low", "high", "above", "below", "n"):
        assert getattr(best, name) == getattr(alone, name)
    over = inverse(best)
    turned = location(1 / values, 1 / 0.9, LOG)
    for name in ("estimate", "low", "high", "above", "below"):
        assert getattr(over, name) == pytest.approx(getattr(turned, name))


def test_three_values_against_the_table_of_students_t() -> None:
    """Oracle: t(0.975, 2) = 4.30265, printed in any table, and SciPy's one-sample test."""
    logs = np.array([0.1, 0.2, 0.6])
    found = location(np.exp(logs), 1.0, LOG)
    half = 4.30265 * logs.std(ddof=1) / math.sqrt(3)
    expected = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    assert (found.estimate, found.low, found.high) == pytest.approx(expected, rel=1e-5)
    assert found.above == pytest.approx(stats.ttest_1samp(logs, 0.0, alternative="greater").pvalue)
    assert found.p_value == pytest.approx(stats.ttest_1samp(logs, 0.0).pvalue)


def test_fieller_agrees_with_the_test_that_it_inverts() -> None:
    """Oracle: SciPy's t test of numerator - ρ denominator is at 5 % where ρ is an end."""
    numerator, denominator = np.array([0.3, 0.1, 0.5, 0.2]), np.array([1.0, 1.4, 0.9, 1.2])
    found = ratio_of_means(numerator, denominator, 0.1)
    assert found.estimate == pytest.approx(numerator.sum() / denominator.sum())
    for end in (found.low, found.high):
        assert stats.ttest_1samp(numerator - end * denominator, 0.0).pvalue == pytest.approx(0.05)
    greater = stats.ttest_1samp(numerator - 0.1 * denominator, 0.0, alternative="greater").pvalue
    assert found.above == pytest.approx(greater)


@pytest.mark.parametrize("denominator", [[-1.0, -1.1, -0.9], [1.0, -1.0, 0.1]])
def test_a_denominator_that_may_not_be_positive_decides_nothing(denominator: list[float]) -> None:
    found = ratio_of_means([5.0, 5.1, 4.9], denominator, 0.1)
    assert math.isnan(found.low)
    assert found.p_value > 0.05


@pytest.mark.parametrize(("n", "ends"), [(5, None), (6, (0, 5)), (8, (0, 7)), (9, (1, 7))])
def test_the_ends_of_a_median_are_order_statistics(n: int, ends: tuple[int, int] | None) -> None:
    """Oracle: 2 P(Bin(n, 1/2) ≤ r - 1) ≤ 5 % for the r-th value from either side."""
    values = [*range(1, n), math.inf]
    found = location(values, 0.5, LOG)
    assert found.estimate == pytest.approx(np.median(values))
    assert found.above == pytest.approx(0.5**n)
    if ends is None:
        assert math.isnan(found.low)
        assert found.p_value > 0.05
    else:
        assert (found.low, found.high) == (values[ends[0]], values[ends[1]])


def test_a_value_between_bounds_speaks_only_where_both_agree() -> None:
    lower, upper = [1.2] * 7 + [0.5], [1.2] * 7 + [math.inf]
    found = location(lower, 1.0, LOG, upper=upper)
    assert found.kind == "sign test"
    assert found.above == pytest.approx(9 / 256)  # seven of eight for certain
    assert found.below == 1.0
    assert (found.low, found.high) == (0.5, math.inf)


def test_holms_correction_against_its_textbook_example() -> None:
    """Oracle: Holm 1979 by hand; the k-th smallest of m times m - k + 1, never decreasing."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_of_many_rows_at_their_thresholds_rarely_any_is_decided() -> None:
    """Oracle: 24 rows of three seeds each, none of whose thresholds is passed in truth."""
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        rows = generator.lognormal(size=(24, 3))
        wrong += min(holm([location(row, 1.0, LOG).p_value for row in rows])) < 0.05
    assert wrong / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_too_few_seeds_decide_nothing_and_say_so() -> None:
    for one in (location([3.0], 1.0, LOG), ratio_of_means([1.0], [2.0], 0.1)):
        assert (one.n, one.p_value, one.kind) == (1, 1.0, "too few seeds")
        assert math.isnan(one.low)
    for none in (location([], 1.0, LOG), ratio_of_means([], [], 0.1), share(0, 0, 0.5)):
        assert none is NOT_MEASURED


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="hold NaN: say what"):
        location([1.0, math.nan], 1.0, LOG)


def test_a_share_never_leaves_its_range() -> None:
    found = location([1.0, 1.0, 0.8], 0.9, LOGIT)
    assert 0.0 < found.low < found.estimate < found.high < 1.0
    diverged = location([0.95, 0.96, -math.inf], 0.9, LOGIT)
    assert (diverged.estimate, diverged.kind) == (0.95, "too few seeds")
