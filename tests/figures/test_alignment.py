"""Figure ``alignment``. Oracle: alignments and eigenvalues that are set by hand."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from sharpflat.figures.alignment import EIGENVALUES, GRADIENTS, RANDOM, plot_alignment

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
    lines = {line.get_color(): line for line in axes.get_lines()}  # of each colour the mean
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


def test_every_switch_is_a_short_mark(table: pd.DataFrame) -> None:
    table.loc[table["seed"].eq(1), "step"] += 10
    axes = plot_alignment(table).axes[0]
    verticals = [line for line in axes.get_lines() if line.get_ydata()[0] == 0]
    assert [list(line.get_xdata()) for line in verticals] == [[40, 40], [50, 50]]
    assert all(line.get_ydata()[1] < 0.1 for line in verticals)  # hides no curve


def test_the_estimate_from_below_and_k_are_said(table: pd.DataFrame) -> None:
    figure = plot_alignment(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum("from below" in label for label in labels) == 1
    assert figure.axes[0].get_title(loc="left") == "MLP, MNIST-5k, MSE, $k = 2$"


def test_an_eigenvalue_that_is_not_positive_is_left_out_of_the_log_axis(trajectory: Make) -> None:
    table = trajectory("sgd", [1.0, 1.0, 1.0], eigenvalue_3=[1.0, -0.1, 1.0])
    axes = plot_alignment(table).axes[1]
    colour = list(EIGENVALUES.values())[2]["color"]
    lines = [line for line in axes.get_lines() if line.get_color() == colour]
    assert [line.get_xdata().tolist() for line in lines] == [[40, 60]] * 2  # the seed, the mean


def test_a_seed_that_diverged_is_marked_in_both_panels(trajectory: Make) -> None:
    nothing = [0.9, math.nan]
    changes = {"alignment": nothing, "batch_alignment": nothing}
    changes |= {f"eigenvalue_{i}": nothing for i in (1, 2, 3)}
    diverged = trajectory("sgd", [1.0, math.nan], seed=1, status="diverged", **changes)
    figure = plot_alignment(pd.concat([trajectory("sgd", [1.0, 1.0, 1.0]), diverged]))
    for axes, curves in zip(figure.axes, (2, 3), strict=True):
        crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
        assert [list(cross.get_xdata()) for cross in crosses] == [[40]] * curves


def test_a_random_direction_has_the_square_root_of_k_over_the_parameters(
    table: pd.DataFrame,
) -> None:
    figure = plot_alignment(table.assign(num_parameters=200))
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_color() == RANDOM["color"]]
    assert list(line.get_ydata()) == pytest.approx([0.1, 0.1])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum("random direction" in label for label in labels) == 1
    assert not any("random" in t.get_text() for t in plot_alignment(table).legends[0].get_texts())


def test_nothing_is_drawn_outside_zero_and_one_however_far_seeds_are_apart(
    trajectory: Make,
) -> None:
    """Oracle: alignments lie between 0 and 1, and so does every mean of them."""
    ends = [trajectory("sgd", [1.0] * 3, seed=s, alignment=s, batch_alignment=s) for s in (0, 1)]
    axes = plot_alignment(pd.concat(ends)).axes[0]
    assert not axes.collections
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.get_lines()])
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_alignments_recorded_less_often_than_losses_are_lines(trajectory: Make) -> None:
    """The seeds' records are in opposite phases: no step has both."""
    nothing = math.nan
    columns = ("alignment", "batch_alignment", "eigenvalue_1", "eigenvalue_2", "eigenvalue_3")
    phases = ([0.9, nothing] * 4, [nothing, 0.8] * 4)
    runs = [
        trajectory("sgd", [1.0] * 8, seed=seed, **dict.fromkeys(columns, phase))
        for seed, phase in enumerate(phases)
    ]
    figure = plot_alignment(pd.concat(runs))
    for axes, looks in zip(figure.axes, (GRADIENTS, EIGENVALUES), strict=True):
        for look in looks.values():
            *seeds, mean = [ln for ln in axes.get_lines() if ln.get_color() == look["color"]]
            assert [len(line.get_xdata()) for line in seeds] == [4, 4]
            assert len(mean.get_xdata()) == 6
            assert not np.isnan(mean.get_ydata()).any()
