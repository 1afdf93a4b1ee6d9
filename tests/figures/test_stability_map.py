"""Figure ``stability_map``. Oracle: λ_1 = 4 and λ_3 = 1, so edges at a η = 1/2 and η = 2."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from sharpflat.figures.stability_map import BULK_EDGE, DIVERGED_CELL, plot_stability_map

Make = Callable[..., pd.DataFrame]
RATES, ALPHAS = (0.25, 0.5, 1.0, 4.0), (0, 0.5, 1)


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    """Stable exactly where the quadratic model says, but for one seed at (0.25, a = 1/2)."""
    runs = []
    for rate in RATES:
        for alpha in ALPHAS:
            for seed in (0, 1):
                stable = rate * (1 - alpha) < 0.5 and rate < 2
                if (rate, alpha, seed) == (0.25, 0.5, 1):
                    stable = False
                losses = [1.0, 0.1] if stable else [1.0, 50.0, math.nan]
                changes = {"learning_rate": rate, "varied": "learning_rate", "value": rate}
                changes |= {"seed": seed, "status": "finished" if stable else "diverged"}
                runs.append(trajectory(f"sgd_to_bulk({alpha})", losses, **changes))
    return as_read(runs)


def _cells(axes: Axes) -> dict[tuple[float, float], object]:
    return {(patch.get_x() + 0.5, patch.get_y() + 0.5): patch for patch in axes.patches}


def test_every_cell_stands_at_its_rate_and_weight(table: pd.DataFrame) -> None:
    axes = plot_stability_map(table).axes[0]
    assert set(_cells(axes)) == {(x, y) for x in range(4) for y in range(3)}
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.25", "0.5", "1", "4"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["0", "0.5", "1"]


def test_unstable_cells_are_hatched_and_say_how_many_diverged(table: pd.DataFrame) -> None:
    axes = plot_stability_map(table).axes[0]
    cells = _cells(axes)
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    stable = {place for place, cell in cells.items() if cell.get_hatch() is None}
    # Rates 0.25, 0.5 and 1 at a = 0; 0.5 at a = 1/2 (η a = 1/4); 0.25 at a = 1.
    assert stable == {(0, 0), (1, 0), (2, 0), (1, 1), (0, 2)}
    assert set(texts) == set(cells) - stable
    assert texts[0, 1] == "1/2"
    assert texts[3, 0] == "2/2"
    assert cells[3, 0].get_facecolor()[:3] == pytest.approx([float(DIVERGED_CELL)] * 3)


def test_a_cell_where_any_seed_diverged_is_grey_and_has_no_colour_of_the_others(
    table: pd.DataFrame,
) -> None:
    cells = _cells(plot_stability_map(table).axes[0])
    assert cells[0, 1].get_facecolor()[:3] == pytest.approx([float(DIVERGED_CELL)] * 3)


def test_edges_pass_where_the_quadratic_model_puts_them(table: pd.DataFrame) -> None:
    axes = plot_stability_map(table).axes[0]
    (dominant,) = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    x, y = dominant.get_data()
    assert np.interp(1, x, y) == pytest.approx(2, abs=0.01)  # η = 0.5: a = 1, the third row
    assert np.interp(2, x, y) == pytest.approx(1, abs=0.01)  # η = 1: a = 1/2
    (bulk,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert bulk.get_xdata()[0] == pytest.approx(2.5)  # η = 2, halfway from 1 to 4
    assert bulk.get_linestyle() != "solid"
    assert BULK_EDGE["linestyle"] != "solid"


def test_the_title_says_how_often_the_edges_were_right(table: pd.DataFrame) -> None:
    title = plot_stability_map(table).axes[0].get_title(loc="left")
    assert title == "MLP, MNIST-5k, MSE\n11 of 12 cells as predicted (92 %)"


def test_the_colour_is_the_ratio_of_losses(table: pd.DataFrame) -> None:
    figure = plot_stability_map(table)
    axes, bar = figure.axes
    cell = _cells(axes)[0, 0]
    low = bar.get_ylim()[0]
    assert low == pytest.approx(-1)  # log10 of 0.1 over 1
    red, _, blue, _ = cell.get_facecolor()
    assert blue > red  # the loss fell


def test_several_bulk_weights_are_refused(trajectory: Make) -> None:
    table = pd.concat([trajectory("sgd", [1.0, 0.5]), trajectory("dom_sgd", [1.0, 0.5])])
    with pytest.raises(ValueError, match="one Bulk weight"):
        plot_stability_map(table)


def test_a_map_of_a_single_cell_is_drawn(trajectory: Make) -> None:
    axes = plot_stability_map(trajectory("sgd", [1.0, 0.5])).axes[0]
    assert len(axes.patches) == 1
