"""Figure ``dom_bulk``. Oracle: means over two seeds whose losses are powers of two."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.dom_bulk import plot_dom_bulk
from sharpflat.figures.style import METHOD_COLOURS

Make = Callable[..., pd.DataFrame]
RATES = {"before_switch": 1, "sgd": 1, "dom_sgd": 0, "bulk_sgd": 2}


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    """Seed 1 has twice the loss of seed 0 and, before its switch, twice as many steps."""
    runs = []
    for seed in (0, 1):
        for method, rate in RATES.items():
            steps = np.arange(5 * (seed + 1)) if method == "before_switch" else np.arange(5)
            start = steps[-1] if method == "before_switch" else 0
            losses = 2.0 ** (seed - rate * (steps - start))
            runs.append(trajectory(method, losses, seed=seed, test_accuracy=0.5 + 0.01 * seed))
    return as_read(runs)


def _lines(axes: Axes, method: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_color() == METHOD_COLOURS[method]]


def test_means_over_seeds_are_geometric_for_losses(table: pd.DataFrame) -> None:
    loss_axes, accuracy_axes = plot_dom_bulk(table).axes
    assert (loss_axes.get_yscale(), accuracy_axes.get_yscale()) == ("log", "linear")
    for method in ("sgd", "dom_sgd", "bulk_sgd"):
        (line,) = _lines(loss_axes, method)
        expected = 2.0 ** (-RATES[method] * np.arange(5))  # over the loss at the switch
        assert line.get_ydata() == pytest.approx(expected)
        assert line.get_xdata().tolist() == [0, 10, 20, 30, 40]
        (line,) = _lines(accuracy_axes, method)
        assert line.get_ydata() == pytest.approx(np.full(5, 0.505))


def test_before_the_switch_every_seed_is_a_line_of_its_last_steps(table: pd.DataFrame) -> None:
    lines = _lines(plot_dom_bulk(table).axes[1], "before_switch")
    assert [line.get_xdata().tolist() for line in lines] == [[-20, -10, 0]] * 2


def test_losses_far_above_that_at_the_switch_are_left_out(trajectory: Make, as_read: Make) -> None:
    """Up to the last of them, so that no line bridges a spike."""
    before = trajectory("before_switch", [9.0, 2.2, 4.0, 2.5, 2.4, 2.0])
    table = as_read([before, trajectory("sgd", [2.0] * 13)])
    (line,) = _lines(plot_dom_bulk(table).axes[0], "before_switch")
    assert line.get_ydata().tolist() == pytest.approx([1.25, 1.2, 1])


def test_axes_and_legend_name_what_is_drawn_once(table: pd.DataFrame) -> None:
    figure = plot_dom_bulk(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SGD before the switch", "SGD", "Dom-SGD", "Bulk-SGD"]
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss,\nat the switch 1",
        "test accuracy",
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"steps after the switch"}
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["MLP, MNIST-5k, MSE", ""]


def test_the_accuracies_of_a_task_share_their_axis_and_those_of_tasks_do_not(
    trajectory: Make,
) -> None:
    kinds = {("mnist_mlp", "mse"): 0.9, ("mnist_mlp", "cross_entropy"): 0.8, ("cnn", "mse"): 0.4}
    table = pd.concat(
        trajectory(
            "sgd", [1.0, 0.5], task=task, loss=loss, test_accuracy=[accuracy, accuracy + 0.01]
        )
        for (task, loss), accuracy in kinds.items()
    )
    first, second, other = plot_dom_bulk(table).axes[1::2]
    low, high = first.get_ylim()
    assert low < 0.8 < 0.91 < high
    assert second.get_ylim() == (low, high)
    assert other.get_ylim()[1] < 0.5


def test_a_diverged_run_ends_in_a_cross_in_both_panels(trajectory: Make, as_read: Make) -> None:
    table = as_read(
        [
            trajectory("sgd", [1.0, 0.5, 0.25]),
            trajectory(
                "bulk_sgd",
                [1.0, 90.0, math.nan],
                status="diverged",
                test_accuracy=[0.5, 0.1, math.nan],
            ),
        ]
    )
    figure = plot_dom_bulk(table)
    for axes in figure.axes:
        (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
        assert cross.get_color() == METHOD_COLOURS["bulk_sgd"]
        assert list(cross.get_xdata()) == [10]
    assert figure.axes[0].get_ylim()[1] < 5  # not at 90
    assert "end of a run that diverged" in {t.get_text() for t in figure.legends[0].get_texts()}
