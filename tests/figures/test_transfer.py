"""Figure ``transfer``. Oracle: searches around edges that are set by hand."""

from itertools import product

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from planted import trials

from sharpflat.figures.transfer import BEYOND, MEAN, SEED, plot_transfer

TASKS, LOSSES = ("mnist_mlp", "cancer_mlp"), ("mse", "cross_entropy")


def _table() -> pd.DataFrame:
    """Edges of two seeds a factor 4 apart; λ_1 = 50 and λ_{k+1} = 10 predict 0.04 and 0.2."""
    return pd.concat(
        trials(method, seed, edge * factor, task=task, loss=loss)
        for task, loss, (method, edge) in product(TASKS, LOSSES, (("sgd", 0.02), ("bulk_sgd", 0.1)))
        for seed, factor in enumerate((1, 4))
    )


def _marks(axes: Axes, size: float) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_markersize() == size]


def test_a_panel_a_method_with_a_large_mark_a_task_and_loss() -> None:
    figure = plot_transfer(_table())
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["SGD", "Bulk-SGD"]
    for axes, predicted in zip(figure.axes, (0.04, 0.2), strict=True):
        means = _marks(axes, MEAN["markersize"])
        assert len(means) == len(TASKS) * len(LOSSES)
        for mark in means:
            assert mark.get_xdata()[0] == pytest.approx(predicted)
            assert mark.get_ydata()[0] == pytest.approx(predicted)  # of half and twice of it
        looks = {(line.get_color(), line.get_marker(), line.get_fillstyle()) for line in means}
        assert len(looks) == len(means)
        assert len(_marks(axes, SEED["markersize"])) == 2 * len(means)


def test_the_line_of_equal_edges_is_the_diagonal_of_both_panels() -> None:
    for axes in plot_transfer(_table()).axes:
        assert axes.get_xlim() == axes.get_ylim()
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        (identity,) = [line for line in axes.get_lines() if type(line).__name__ == "AxLine"]
        for point in (identity.get_xy1(), identity.get_xy2()):
            assert point[0] == point[1]


@pytest.mark.parametrize(("stability", "beyond"), [("stable", "above"), ("unstable", "below")])
def test_a_censored_seed_is_a_triangle_and_its_cell_has_no_mean(
    stability: str, beyond: str
) -> None:
    searched = [trials("sgd", seed, 0.04) for seed in (0, 1)]
    figure = plot_transfer(pd.concat([searched[0], searched[1].assign(stability=stability)]))
    (axes,) = figure.axes
    assert not _marks(axes, MEAN["markersize"])
    (triangle,) = [line for line in axes.get_lines() if line.get_marker() == BEYOND[beyond]]
    assert triangle.get_ydata()[0] == pytest.approx(0.16 if beyond == "above" else 0.01)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "edge beyond the trials" in labels


def test_a_cell_without_a_predicted_edge_stands_at_the_right_end() -> None:
    flat = trials("bulk_sgd", 0, 0.1, eigenvalue_bulk=-1.0)
    (axes,) = plot_transfer(flat).axes
    (mark,) = _marks(axes, MEAN["markersize"])
    assert mark.get_xdata()[0] == axes.get_xlim()[1]


def test_the_legend_names_tasks_and_losses_once() -> None:
    labels = [text.get_text() for text in plot_transfer(_table()).legends[0].get_texts()]
    assert labels == [
        *("MLP, MNIST-5k", "MLP, breast cancer", "MSE", "cross-entropy", "a seed", "as predicted"),
    ]
