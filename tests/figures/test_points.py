"""Points against a setting. Oracle: medians by hand, and the counts of runs without a value."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from sharpflat.figures.points import draw_infinite, draw_points, median, say_if_empty
from sharpflat.figures.style import METHOD_MARKERS

INF = math.inf


@pytest.fixture
def axes() -> Axes:
    return plt.figure().add_subplot()


@pytest.fixture
def runs() -> pd.DataFrame:
    """Three seeds at x = 1, 2, 3: at 2 one diverged and at 3 two ended without the loss asked."""
    return pd.DataFrame(
        {
            "x": np.repeat([1, 2, 3], 3),
            "seed": [0, 1, 2] * 3,
            "method": "bulk_sgd",
            "stability": ["stable"] * 3 + ["stable", "stable", "diverged"] + ["stable"] * 3,
            "final": [1.0, 4.0, 2.0, 3.0, 5.0, INF, 7.0, INF, INF],
        }
    )


def test_seeds_are_points_and_a_line_joins_their_medians(axes: Axes, runs: pd.DataFrame) -> None:
    draw_points(axes, runs, "final", method="bulk_sgd")
    seeds, medians = axes.get_lines()
    assert list(seeds.get_ydata()) == [1, 4, 2, 3, 5, 7]
    assert seeds.get_linestyle() == "None"
    assert list(medians.get_xdata()) == [1, 2, 3]
    # Of 3, 5 and a run that diverged the median is 5; of 7 and two without, there is none.
    assert list(medians.get_ydata()[:2]) == [2, 5]
    assert math.isnan(medians.get_ydata()[2])
    assert seeds.get_marker() == medians.get_marker() == METHOD_MARKERS["bulk_sgd"]
    assert not axes.collections  # no intervals


def test_a_median_with_infinite_values_is_finite_where_most_are() -> None:
    assert median(pd.Series([1.0, 3.0, INF])) == 3
    assert median(pd.Series([1.0, 3.0])) == 2
    assert math.isnan(median(pd.Series([1.0, INF])))
    assert math.isnan(median(pd.Series([1.0, INF, INF])))


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_runs_without_a_value_stand_above_all_others_with_their_number(
    axes: Axes, runs: pd.DataFrame, scale: str
) -> None:
    axes.set(yscale=scale, xlim=(0, 4), ylim=(0.5, 8))
    draw_infinite(axes, runs, "final")
    cross, hollow = axes.get_lines()
    assert (cross.get_marker(), list(cross.get_xdata())) == ("x", [2])
    assert (hollow.get_marker(), list(hollow.get_xdata())) == (METHOD_MARKERS["bulk_sgd"], [3])
    assert hollow.get_markerfacecolor() == "white"
    assert [text.get_text() for text in axes.texts] == ["1", "2"]
    for line in (cross, hollow):
        place = axes.transData.inverted().transform(
            line.get_transform().transform(np.column_stack(line.get_data()))
        )
        assert place[0, 1] > 8


def test_limits_stay_where_every_run_has_a_value(axes: Axes, runs: pd.DataFrame) -> None:
    axes.set_ylim(0, 5)
    draw_infinite(axes, runs[runs["x"] == 1], "final")
    assert axes.get_ylim() == (0, 5)


def test_an_empty_panel_says_why(axes: Axes) -> None:
    say_if_empty(axes, pd.Series([1.0, math.nan]), "nothing")
    assert not axes.texts
    say_if_empty(axes, pd.Series([INF, math.nan]), "nothing")
    assert [text.get_text() for text in axes.texts] == ["nothing"]
