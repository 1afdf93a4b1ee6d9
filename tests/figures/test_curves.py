"""Curves over seeds. Oracle: means by hand."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from sharpflat.figures.curves import (
    draw_curve,
    draw_seeds,
    mark_divergence,
    mean_over_seeds,
    relative_to_switch,
)
from sharpflat.figures.style import DIVERGED, SEED_LINE

Make = Callable[..., pd.DataFrame]
STYLE = {"color": "#0072b2", "linestyle": "solid"}


@pytest.fixture
def axes() -> Axes:
    return plt.figure().add_subplot()


def _crosses(axes: Axes) -> list[tuple[float, float]]:
    lines = [line for line in axes.get_lines() if line.get_marker() == DIVERGED["marker"]]
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in lines]


@pytest.mark.parametrize("log", [False, True])
def test_means_of_many_steps_are_those_of_each_step(
    trajectory: Make, as_read: Make, log: bool
) -> None:
    values = np.random.default_rng(0).uniform(1, 2, (4, 3))
    table = as_read([trajectory("sgd", values[:, seed], seed=seed) for seed in range(3)])
    steps, means = mean_over_seeds(table, "train_loss", x="steps_after_switch", log=log)
    assert steps.tolist() == [0, 10, 20, 30]
    expected = np.exp(np.log(values).mean(axis=1)) if log else values.mean(axis=1)
    assert means == pytest.approx(expected)


def test_a_column_that_is_recorded_less_often_is_one_line_without_breaks(
    axes: Axes, trajectory: Make, as_read: Make
) -> None:
    """Eigenvalues stand on every second record, of the seeds in opposite phases."""
    losses, nothing = [1.0, 0.9, 0.8, 0.7, 0.6], math.nan
    table = as_read(
        [
            trajectory("sgd", losses, seed=0, eigenvalue_1=[4, nothing, 6, nothing, 8]),
            trajectory("sgd", losses, seed=1, eigenvalue_1=[nothing, 5, nothing, 7, 8]),
        ]
    )
    draw_curve(axes, table, "eigenvalue_1", **STYLE)
    first, second, mean = axes.get_lines()
    assert first.get_xdata().tolist() == [0, 20, 40]
    assert second.get_xdata().tolist() == [10, 30, 40]
    assert mean.get_xdata().tolist() == [10, 20, 30, 40]  # where both seeds have been measured
    assert mean.get_ydata() == pytest.approx([5, 6, 7, 8])


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


def test_every_seed_is_a_thin_line_and_their_mean_stands_where_all_of_them_go(
    axes: Axes, trajectory: Make, as_read: Make
) -> None:
    table = as_read(
        [trajectory("sgd", [8, 4, 2, 1], seed=0), trajectory("sgd", [2, 1, 0.5], seed=1)]
    )
    draw_curve(axes, table, "train_loss", log=True, **STYLE)
    *seeds, mean = axes.get_lines()
    assert [line.get_ydata().tolist() for line in seeds] == [[8, 4, 2, 1], [2, 1, 0.5]]
    assert {line.get_linewidth() for line in seeds} == {SEED_LINE["linewidth"]}
    assert mean.get_linewidth() > SEED_LINE["linewidth"]
    assert mean.get_xdata().tolist() == [0, 10, 20]
    assert mean.get_ydata() == pytest.approx([4, 2, 1])
    assert not axes.collections  # no band


def test_the_mean_may_stand_alone(axes: Axes, trajectory: Make, as_read: Make) -> None:
    table = as_read([trajectory("sgd", [1, 0.5], seed=seed) for seed in (0, 1)])
    draw_curve(axes, table, "train_loss", seeds=False, **STYLE)
    assert len(axes.get_lines()) == 1


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
