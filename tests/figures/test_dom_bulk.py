"""Figure ``dom_bulk``. Oracle: means over two seeds whose losses are powers of two."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.dom_bulk import plot_dom_bulk
from sharpflat.figures.style import METHOD_COLOURS, method_colour

Make = Callable[..., pd.DataFrame]
RATES = {"before_switch": 0.15, "sgd": 1, "dom_sgd": 0, "bulk_sgd": 2}


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
    """The seeds of a method, and at last its mean."""
    return [line for line in axes.get_lines() if line.get_color() == METHOD_COLOURS[method]]


def test_seeds_are_thin_lines_and_means_over_them_geometric_for_losses(
    table: pd.DataFrame,
) -> None:
    loss_axes, _, accuracy_axes = plot_dom_bulk(table).axes
    assert (loss_axes.get_yscale(), accuracy_axes.get_yscale()) == ("log", "linear")
    for method in ("sgd", "dom_sgd", "bulk_sgd"):
        expected = 2.0 ** (-RATES[method] * np.arange(5))  # over the loss at the switch
        for line in _lines(loss_axes, method):
            assert line.get_ydata() == pytest.approx(expected)
            assert line.get_xdata().tolist() == [0, 10, 20, 30, 40]
        *seeds, mean = _lines(accuracy_axes, method)
        assert [line.get_ydata()[0] for line in seeds] == [0.5, 0.51]
        assert mean.get_ydata() == pytest.approx(np.full(5, 0.505))
    for axes in (loss_axes, accuracy_axes):
        assert not axes.collections  # no bands


def test_losses_are_compared_with_sgd_seed_by_seed(table: pd.DataFrame) -> None:
    ratios = plot_dom_bulk(table).axes[1]
    *seeds, mean = _lines(ratios, "bulk_sgd")
    expected = 2.0 ** -np.arange(5)
    for line in (*seeds, mean):
        assert line.get_ydata() == pytest.approx(expected)
    assert len(seeds) == 2
    (sgd,) = _lines(ratios, "sgd")
    assert list(sgd.get_ydata()) == [1, 1]
    low, high = ratios.get_ylim()
    assert low < expected[-1]
    assert high < 2  # Dom-SGD goes to 16 and leaves the panel
    assert _lines(ratios, "dom_sgd")[-1].get_ydata()[-1] == pytest.approx(16)


def test_a_seed_whose_sgd_diverged_has_no_ratio_and_the_panel_says_so(
    trajectory: Make, as_read: Make
) -> None:
    table = as_read(
        [
            trajectory("sgd", [1.0, 0.5, 0.25], seed=0),
            trajectory("sgd", [1.0, 90.0, math.nan], seed=1, status="diverged"),
            *(trajectory("bulk_sgd", [1.0, 0.6, 0.3], seed=seed) for seed in (0, 1)),
        ]
    )
    ratios = plot_dom_bulk(table).axes[1]
    *seeds, _ = _lines(ratios, "bulk_sgd")
    assert [line.get_ydata().tolist() for line in seeds] == [pytest.approx([1, 1.2, 1.2])]
    assert "SGD diverged in\n1 of 2 seeds" in [text.get_text() for text in ratios.texts]


def test_bars_are_the_binomial_errors_of_accuracies(table: pd.DataFrame) -> None:
    figure = plot_dom_bulk(table.assign(dataset="sst2_1k"))
    accuracies = figure.axes[2]
    heights = [np.ptp(bar.get_segments()[0][:, 1]) for bar in accuracies.collections]
    assert heights == pytest.approx([2 * math.sqrt(0.505 * 0.495 / 872)] * 3)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-2:] == ["± binomial standard error", "chance"]
    assert accuracies.get_title(loc="right") == "6 of 6 runs end within 2 s.e. of chance, 0.5"


def test_before_the_switch_every_seed_is_a_line_of_its_last_steps(table: pd.DataFrame) -> None:
    lines = _lines(plot_dom_bulk(table).axes[2], "before_switch")
    assert [line.get_xdata().tolist() for line in lines] == [[-20, -10, 0]] * 2


def test_losses_far_above_that_at_the_switch_are_left_out(trajectory: Make, as_read: Make) -> None:
    """Up to the last of them, so that no line bridges a spike."""
    before = trajectory("before_switch", [9.0, 2.2, 4.0, 2.5, 2.4, 2.0])
    table = as_read([before, trajectory("sgd", [2.0] * 13)])
    for axes, shown in zip(
        plot_dom_bulk(table).axes[::2], ([1.25, 1.2, 1], [0.5] * 3), strict=True
    ):
        (line,) = _lines(axes, "before_switch")
        assert line.get_ydata().tolist() == pytest.approx(shown)
        assert axes.get_xlim()[0] == -20


def test_axes_and_legend_name_what_is_drawn_once(table: pd.DataFrame) -> None:
    figure = plot_dom_bulk(table)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SGD before the switch", "SGD", "Dom-SGD", "Bulk-SGD", "a seed"]
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "training loss,\nat the switch 1",
        "training loss\nover SGD's",
        "test accuracy",
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"steps after the switch"}
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["MLP, MNIST-5k, MSE", "", ""]


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
    first, second, other = plot_dom_bulk(table).axes[2::3]
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
    for axes in (figure.axes[0], figure.axes[2]):
        (cross,) = [line for line in axes.get_lines() if line.get_marker() == "x"]
        assert cross.get_color() == METHOD_COLOURS["bulk_sgd"]
        assert list(cross.get_xdata()) == [10]
    assert figure.axes[0].get_ylim()[1] < 5  # not at 90
    assert "a run that diverged" in {t.get_text() for t in figure.legends[0].get_texts()}


def test_points_of_paths_are_drawn_and_named(trajectory: Make, as_read: Make) -> None:
    methods = ["sgd", "sgd_to_bulk(0.9)", "convex(1)"]
    figure = plot_dom_bulk(as_read([trajectory(name, [1.0, 0.5, 0.4]) for name in methods]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:3] == ["SGD", "SGD to Bulk, α = 0.9", "Dom to Bulk, α = 1"]
    for axes in figure.axes:
        assert {method_colour(name) for name in methods[1:]} <= {
            line.get_color() for line in axes.get_lines()
        }
