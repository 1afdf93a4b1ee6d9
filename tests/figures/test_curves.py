"""Curves over seeds. Oracle: means by hand, and the intervals of the analysis step by step."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from sharpflat.analysis.intervals import geometric_mean_interval, mean_interval
from sharpflat.figures.curves import (
    draw_curve,
    draw_seeds,
    mark_divergence,
    over_seeds,
    relative_to_switch,
)
from sharpflat.figures.style import DIVERGED

Make = Callable[..., pd.DataFrame]
STYLE = {"color": "#0072b2", "linestyle": "solid"}


@pytest.fixture
def axes() -> Axes:
    return plt.figure().add_subplot()


def _crosses(axes: Axes) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_marker() == DIVERGED["marker"]]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


@pytest.mark.parametrize("log", [False, True])
def test_intervals_of_many_steps_are_those_of_each_step(log: bool) -> None:
    values = np.random.default_rng(0).uniform(1, 2, (4, 3))
    centre, low, high = over_seeds(values, log=log)
    interval = geometric_mean_interval if log else mean_interval
    for step, sample in enumerate(values):
        assert (low[step], high[step]) == pytest.approx(interval(sample))
        mean = math.exp(np.log(sample).mean()) if log else sample.mean()
        assert centre[step] == pytest.approx(mean)


def test_losses_are_divided_by_that_of_the_same_run_at_its_switch(
    trajectory: Make, as_read: Make
) -> None:
    """Oracle: by hand. A run has its own method, value and seed; one may diverge at the switch."""
    runs = [
        trajectory("sgd", [4.0, 2.0, math.nan], seed=0, value=1),
        trajectory("sgd", [8.0, 2.0, 1.0], seed=1, value=1),
        trajectory("sgd", [5.0, 10.0, 20.0], seed=0, value=2),
        trajectory("bulk_sgd", [math.nan], seed=0, value=1, status="diverged"),
    ]
    relative = relative_to_switch(as_read(runs))["train_loss"]
    expected = [1, 0.5, math.nan, 1, 0.25, 0.125, 1, 2, 4, math.nan]
    assert relative.tolist() == pytest.approx(expected, nan_ok=True)


def test_one_seed_has_an_interval_of_width_zero() -> None:
    centre, low, high = over_seeds(np.array([[2.0], [3.0]]), log=False)
    assert centre.tolist() == low.tolist() == high.tolist() == [2.0, 3.0]


def test_the_mean_is_drawn_where_every_seed_has_a_record(
    axes: Axes, trajectory: Make, as_read: Make
) -> None:
    table = as_read(
        [trajectory("sgd", [8, 4, 2, 1], seed=0), trajectory("sgd", [2, 1, 0.5], seed=1)]
    )
    draw_curve(axes, table, "train_loss", log=True, **STYLE)
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [0, 10, 20]
    assert line.get_ydata() == pytest.approx([4, 2, 1])
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.max() == pytest.approx(geometric_mean_interval([8, 2])[1])
    assert edges.min() == pytest.approx(geometric_mean_interval([2, 0.5])[0])


def test_seeds_stand_alone_where_one_diverged_and_its_end_is_a_cross(
    axes: Axes, trajectory: Make, as_read: Make
) -> None:
    table = as_read(
        [
            trajectory("sgd", [1, 0.5, 0.25, 0.125], seed=0),
            trajectory("sgd", [1, 0.5, 80, math.nan], seed=1, status="diverged"),
        ]
    )
    axes.set_yscale("log")
    draw_curve(axes, table, "train_loss", log=True, **STYLE)
    mark_divergence(axes, table, "train_loss", color="k")
    lines = [line for line in axes.get_lines() if line.get_marker() == "None"]
    assert [list(line.get_ydata()) for line in lines] == [[1, 0.5, 0.25, 0.125], [1, 0.5, 80]]
    assert not axes.collections  # no band
    high = axes.get_ylim()[1]
    assert high < 2  # the finished run can still be read
    assert _crosses(axes) == [(20, pytest.approx(high))]


def test_a_cross_within_the_panel_stands_at_the_last_measurement(
    axes: Axes, trajectory: Make
) -> None:
    table = trajectory("sgd", [1.0, 1.5, math.nan], status="diverged")
    draw_curve(axes, table, "train_loss", **STYLE)
    mark_divergence(axes, table, "train_loss", color="k")
    assert _crosses(axes) == [(10, 1.5)]


def test_a_run_that_was_never_measured_is_marked_all_the_same(axes: Axes, trajectory: Make) -> None:
    table = trajectory("sgd", [math.nan], status="diverged")
    axes.set_ylim(0, 3)
    draw_curve(axes, table, "train_loss", **STYLE)
    mark_divergence(axes, table, "train_loss", color="k")
    assert _crosses(axes) == [(0, 3)]


def test_every_seed_is_a_line(axes: Axes, trajectory: Make) -> None:
    table = pd.concat(
        [
            trajectory("before_switch", [4, 2], seed=0),
            trajectory("before_switch", [3, 2, 1], seed=1),
        ]
    )
    draw_seeds(axes, table, "train_loss", **STYLE)
    assert [line.get_xdata().tolist() for line in axes.get_lines()] == [[-10, 0], [-20, -10, 0]]
    low, high = axes.get_ylim()
    assert low < 1 < 4 < high
