"""Figure ``stability_edge``. Oracle: searches around edges that are set by hand."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.stability_edge import APART, TRIALS, plot_stability_edge
from sharpflat.figures.style import method_colour, method_marker
from sharpflat.methods import parse_method

#: λ_1 and λ_{k+1}: SGD's edge is predicted at 0.04, Bulk-SGD's and that of a = 0.1 at 0.2.
DOMINANT, BULK = 50.0, 10.0
METHODS = ("sgd", "bulk_sgd", "sgd_to_bulk(0.9)")


def _search(
    method: str, rates: Sequence[float], edge: float, *, seed: int = 0, diverged: float = 1.0
) -> pd.DataFrame:
    """Trials that are stable below the edge, and diverge from a rate on."""
    rate = np.array(rates)
    classes = np.where(rate < edge, "stable", np.where(rate < diverged, "unstable", "diverged"))
    parsed = parse_method(method)
    return pd.DataFrame(
        {
            "task": "mnist_mlp",
            "loss": "mse",
            "method": method,
            "dom_weight": parsed.dom_weight,
            "bulk_weight": parsed.bulk_weight,
            "seed": seed,
            "learning_rate": rate,
            "stability": classes,
            "eigenvalue_dominant": DOMINANT,
            "eigenvalue_bulk": BULK,
            "k": 10,
        }
    )


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.concat(
        [
            _search("sgd", [0.01, 0.04, 0.09], 0.05, diverged=0.08),
            _search("bulk_sgd", [0.1, 0.4], 0.2),
            _search("sgd_to_bulk(0.9)", [0.1, 0.4], 0.2),
        ]
    )


def _edges(axes: Axes, method: str) -> list[Line2D]:
    marker = method_marker(method)
    colour = method_colour(method)
    return [
        line
        for line in axes.get_lines()
        if line.get_marker() == marker and line.get_color() == colour
    ]


def test_an_edge_stands_at_what_was_predicted_and_what_was_observed(table: pd.DataFrame) -> None:
    axes = plot_stability_edge(table).axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    expected = {"sgd": (0.04 / APART, 0.06), "bulk_sgd": (0.2, 0.2)}
    expected["sgd_to_bulk(0.9)"] = (0.2 * APART, 0.2)  # 2 / (0.1 · 50) is beyond 2 / 10
    for method, (predicted, observed) in expected.items():
        (mark,) = _edges(axes, method)
        assert mark.get_xdata()[0] == pytest.approx(predicted)
        assert mark.get_ydata()[0] == pytest.approx(observed)


def test_every_trial_is_a_tick_that_says_what_became_of_it(table: pd.DataFrame) -> None:
    axes = plot_stability_edge(table).axes[0]
    found = {}
    for stability, look in TRIALS.items():
        ticks = [
            line
            for line in axes.get_lines()
            if line.get_marker() == look["marker"]
            and line.get_markersize() == look["markersize"]
            and line.get_color() == method_colour("sgd")
        ]
        found[stability] = [list(line.get_ydata()) for line in ticks if len(line.get_ydata())]
    assert found == {"stable": [[0.01, 0.04]], "unstable": [], "diverged": [[0.09]]}


def test_the_line_of_equal_edges_goes_through_both_axes_at_the_same_value(
    table: pd.DataFrame,
) -> None:
    axes = plot_stability_edge(table).axes[0]
    (identity,) = [line for line in axes.get_lines() if type(line).__name__ == "AxLine"]
    for point in (identity.get_xy1(), identity.get_xy2()):
        assert point[0] == point[1]


@pytest.mark.parametrize(("edge", "start"), [(1.0, 0.04), (0.001, 0.01)])
def test_a_censored_edge_is_an_arrow_from_the_last_trial_and_no_mark(
    edge: float, start: float
) -> None:
    figure = plot_stability_edge(_search("sgd", [0.01, 0.02, 0.04], edge, diverged=9.0))
    axes = figure.axes[0]
    assert _edges(axes, "sgd") == []
    (arrow,) = axes.texts
    head, tail = arrow.xy[1], arrow.get_position()[1]
    assert tail == start
    assert (head > tail) == (edge == 1.0)
    low, high = axes.get_ylim()
    assert low < head < high
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "edge beyond the trials" in labels


def test_a_point_for_every_seed_and_an_entry_for_every_method(table: pd.DataFrame) -> None:
    second = table.assign(seed=1, eigenvalue_dominant=40.0)
    figure = plot_stability_edge(pd.concat([table, second]))
    assert [len(_edges(figure.axes[0], method)) for method in METHODS] == [2, 2, 2]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:3] == ["SGD", "Bulk-SGD", "SGD to Bulk, α = 0.9"]
    assert "edge beyond the trials" not in labels


def test_a_method_that_no_quadratic_limits_is_drawn(table: pd.DataFrame) -> None:
    """λ_{k+1} of an estimate from below may be negative."""
    bulk = _search("bulk_sgd", [0.1, 0.4], 0.2).assign(eigenvalue_bulk=-1.0)
    axes = plot_stability_edge(pd.concat([table[table["method"] == "sgd"], bulk])).axes[0]
    (mark,) = _edges(axes, "bulk_sgd")
    assert mark.get_xdata()[0] == axes.get_xlim()[1]


def test_every_task_and_loss_has_a_panel_of_its_own(table: pd.DataFrame) -> None:
    both = pd.concat([table, table.assign(loss="cross_entropy")])
    titles = [axes.get_title(loc="left") for axes in plot_stability_edge(both).axes]
    assert titles == ["MLP, MNIST-5k, MSE", "MLP, MNIST-5k, cross-entropy"]
