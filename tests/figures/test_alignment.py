"""Figure ``alignment``. Oracle: alignments and eigenvalues that are set by hand."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sharpflat.figures.alignment import EIGENVALUES, GRADIENTS, plot_alignment

Make = Callable[..., pd.DataFrame]


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    """Two seeds that switch at the same step; the second goes on for longer."""
    runs = []
    for seed in (0, 1):
        for method, records in (("before_switch", 5), ("sgd", 5 + seed)):
            changes = {"seed": seed, "batch_alignment": 0.5 + 0.1 * seed}
            changes["eigenvalue_1"] = 4.0 ** (1 + seed)
            runs.append(trajectory(method, [1.0] * records, **changes))
    return as_read(runs)


def test_both_gradients_are_drawn_over_all_steps_that_every_seed_has(table: pd.DataFrame) -> None:
    axes = plot_alignment(table).axes[0]
    lines = {line.get_color(): line for line in axes.get_lines()}
    for name, value in (("full gradient", 0.9), ("mini-batch gradient", 0.55)):
        line = lines[GRADIENTS[name]["color"]]
        assert line.get_xdata().tolist() == list(range(0, 81, 10))
        assert line.get_ydata() == pytest.approx(np.full(9, value))
    assert axes.get_xlim() == (0, 80)


def test_eigenvalues_around_the_gap_are_geometric_means(table: pd.DataFrame) -> None:
    axes = plot_alignment(table).axes[1]
    assert axes.get_yscale() == "log"
    lines = {line.get_color(): line for line in axes.get_lines()}
    values = [lines[style["color"]].get_ydata()[0] for style in EIGENVALUES.values()]
    assert values == pytest.approx([math.sqrt(4 * 16), 3.0, 1.0])


def test_every_switch_is_a_line(table: pd.DataFrame) -> None:
    table.loc[table["seed"].eq(1), "step"] += 10
    axes = plot_alignment(table).axes[0]
    verticals = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert [list(line.get_xdata()) for line in verticals] == [[40, 40], [50, 50]]


def test_the_estimate_from_below_and_k_are_said(table: pd.DataFrame) -> None:
    figure = plot_alignment(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum("from below" in label for label in labels) == 1
    assert figure.axes[0].get_title(loc="left") == "MLP, MNIST-5k, MSE, $k = 2$"


def test_an_eigenvalue_that_is_not_positive_is_left_out_of_the_log_axis(trajectory: Make) -> None:
    table = trajectory("sgd", [1.0, 1.0, 1.0], eigenvalue_3=[1.0, -0.1, 1.0])
    axes = plot_alignment(table).axes[1]
    colour = list(EIGENVALUES.values())[2]["color"]
    (line,) = [line for line in axes.get_lines() if line.get_color() == colour]
    assert line.get_xdata().tolist() == [40, 60]


def test_a_seed_that_diverged_is_marked_in_both_panels(trajectory: Make) -> None:
    nothing = [0.9, math.nan]
    changes = {"alignment": nothing, "batch_alignment": nothing}
    changes |= {f"eigenvalue_{i}": nothing for i in (1, 2, 3)}
    diverged = trajectory("sgd", [1.0, math.nan], seed=1, status="diverged", **changes)
    figure = plot_alignment(pd.concat([trajectory("sgd", [1.0, 1.0, 1.0]), diverged]))
    for axes, curves in zip(figure.axes, (2, 3), strict=True):
        crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
        assert [list(cross.get_xdata()) for cross in crosses] == [[40]] * curves
