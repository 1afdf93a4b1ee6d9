"""Means against a setting. Oracle: the analysis' own means and intervals."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval
from sharpflat.figures.points import draw_infinite, draw_means, leave_zone, zone_centre
from sharpflat.figures.style import METHOD_MARKERS


@pytest.fixture
def axes() -> Axes:
    return plt.figure().add_subplot()


@pytest.fixture
def runs() -> pd.DataFrame:
    """Two seeds at x = 1, 2 and 3; one diverged at 2, and at 3 nothing is defined."""
    finals = [1.0, 4.0, 2.0, math.inf, math.nan, math.nan]
    return pd.DataFrame({"x": [1, 1, 2, 2, 3, 3], "seed": [0, 1] * 3, "final": finals})


def test_means_stand_where_every_seed_has_a_value(axes: Axes, runs: pd.DataFrame) -> None:
    draw_means(axes, runs, "final", stem="bulk_sgd", log=True)
    seeds, means = axes.get_lines()
    assert means.get_xdata().tolist() == [1, 2]
    assert means.get_ydata()[0] == pytest.approx(geometric_mean([1, 4]))
    assert math.isnan(means.get_ydata()[1])
    bar = axes.collections[0].get_segments()[0]
    assert bar[:, 1] == pytest.approx(geometric_mean_interval([1, 4]))
    assert (list(seeds.get_xdata()), list(seeds.get_ydata())) == ([2], [2.0])
    assert means.get_marker() == seeds.get_marker() == METHOD_MARKERS["bulk_sgd"]


@pytest.mark.parametrize("diverged", [True, False])
def test_infinite_runs_are_stacked_in_the_zone_at_the_top(
    axes: Axes, runs: pd.DataFrame, diverged: bool
) -> None:
    runs.loc[runs["x"] == 2, "final"] = math.inf
    axes.set_ylim(0, 5)
    leave_zone(axes)
    draw_infinite(axes, runs, "final", stem="bulk_sgd", diverged=diverged)
    (line,) = axes.get_lines()
    assert line.get_marker() == ("x" if diverged else METHOD_MARKERS["bulk_sgd"])
    places = axes.transData.inverted().transform(
        line.get_transform().transform(np.column_stack(line.get_data()))
    )
    assert places[:, 0] == pytest.approx([2, 2])
    assert places[:, 1].min() > 5
    assert places[:, 1].mean() == pytest.approx(zone_centre(axes))


def test_the_zone_lies_above_all_values_on_a_log_axis_too(axes: Axes) -> None:
    axes.set(yscale="log", ylim=(0.01, 1))
    leave_zone(axes)
    top = axes.transAxes.inverted().transform(axes.transData.transform((1, 1)))[1]
    assert top == pytest.approx(1 - 0.24)
