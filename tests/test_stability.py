"""The class of a run. Oracles: losses whose class the definition gives by hand, gradient descent on
a quadratic, and losses of real runs whose curves leave no doubt."""

import math

import numpy as np
import pytest

from sharpflat.stability import EXCURSION_FACTOR, PEAK_FACTOR, START_FACTOR, classify

FALLING = [0.99**i for i in range(41)]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (FALLING, "stable"),
        ([1.0] * 41, "stable"),  # no progress, and no excursion either
        ([1.0, 0.9, START_FACTOR - 0.01], "stable"),  # ends a little above its start
        ([1.0, 0.9, START_FACTOR + 0.01], "unstable"),
        ([*FALLING[:20], 1.9, *FALLING[20:]], "stable"),  # one recorded step decides nothing,
        ([*FALLING[:20], 1.9, 1.9, 1.9, *FALLING[20:]], "unstable"),  # three of 43 do,
        ([*FALLING[:20], PEAK_FACTOR + 0.01, *FALLING[20:]], "unstable"),  # and so does a peak
        ([1.0, 0.5, 0.5, 0.65, 0.65, 0.5], "unstable"),  # below its start, far above its least
        ([1.0, 0.5, 0.5, EXCURSION_FACTOR * 0.5 - 0.01, 0.59, 0.5], "stable"),
        ([1.0, 0.9, math.inf], "diverged"),
    ],
)
def test_the_class_follows_from_the_losses(losses: list[float], expected: str) -> None:
    assert classify(losses, diverged=False) == expected


def test_a_run_that_ended_early_has_diverged_whatever_it_recorded() -> None:
    for losses in (FALLING, [1.0], [math.nan], []):
        assert classify(losses, diverged=True) == "diverged"


def test_records_without_a_loss_count_for_nothing() -> None:
    sparse = np.full(3 * len(FALLING), np.nan)
    sparse[::3] = FALLING
    assert classify(sparse, diverged=False) == "stable"
    sparse[30:36:3] = 1.5
    sparse[36] = 1.5
    assert classify(sparse, diverged=False) == "unstable"


def test_a_short_and_high_excursion_counts_however_long_the_run() -> None:
    short = [1.0, 3.0, *FALLING]
    long = [1.0, 3.0, *(0.999**i for i in range(20_000))]
    assert classify(short, diverged=False) == classify(long, diverged=False) == "unstable"


@pytest.mark.parametrize("losses", [[], [1.0], [math.nan, 1.0, 0.9], [1.0, math.nan]])
def test_too_few_losses_are_refused(losses: list[float]) -> None:
    with pytest.raises(ValueError, match=r"loss at the switch and at least one after it"):
        classify(losses, diverged=False)


def test_it_finds_the_edge_of_gradient_descent_on_a_quadratic() -> None:
    """Oracle: along an eigenvector λ the loss is multiplied by (1 - η λ)² in a step."""
    for rate in (0.5, 1.0, 1.9, 1.99, 2.01, 2.1, 3.0):
        losses = [(1 - rate) ** (2 * step) for step in range(101)]
        assert classify(losses, diverged=False) == ("stable" if rate < 2 else "unstable")


#: MNIST, squared error, seed 0, the first 20 records from the switch, one in 20 steps.
SGD_AT_THE_STUDYS_RATE = """
.179 .178 .177 .175 .176 .174 .172 .171 .170 .169 .169 .168 .166 .166 .165 .163 .162 .162 .162 .161
"""
SGD_BELOW_ITS_EDGE = """
.179 .179 .185 .174 .182 .169 .166 .163 .163 .160 .165 .155 .152 .151 .154 .149 .147 .147 .144 .143
"""
BULK_SGD_WITH_A_SEVENFOLD_RISE = """
.179 .189 .191 .180 .179 .171 .171 .162 .168 .279 1.25 .574 .189 .161 .147 .136 .131 .122 .123 .119
"""
DOM_SGD_AT_TWICE_THE_STEP = """
.179 .179 .181 .179 .182 .180 .180 .180 .180 .180 .182 .181 .181 .181 .182 .181 .181 .182 .182 .183
"""


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (SGD_AT_THE_STUDYS_RATE, "stable"),
        (SGD_BELOW_ITS_EDGE, "stable"),  # η λ_1 = 1.6, and up to 3 % above its start
        (BULK_SGD_WITH_A_SEVENFOLD_RISE, "unstable"),
        (DOM_SGD_AT_TWICE_THE_STEP, "stable"),
    ],
)
def test_real_losses_have_the_class_that_their_curves_show(recorded: str, expected: str) -> None:
    losses = [float(loss) for loss in recorded.split()]
    assert classify(losses, diverged=False) == expected
    assert classify(losses[:15], diverged=False) == expected  # a shorter run of the same
