"""Figure ``stability_plane``. Oracle: λ_1 = 4 and λ_3 = 1 at η = 1, so edges at a = 1/2, b = 2."""

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from sharpflat.figures.stability_map import DIVERGED_CELL
from sharpflat.figures.stability_plane import (
    CLASS_COLOURS,
    INSET,
    plane_cells,
    plot_stability_plane,
)

Make = Callable[..., pd.DataFrame]
DOMINANT, BULK = (0.0, 0.25, 1.0), (0.5, 1.0, 4.0)


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    """Stable but for (1, 4), where one of two seeds diverged, and (0, 4), where one is unstable."""
    runs = [trajectory("before_switch", [2.0, 1.5, 1.0], learning_rate=0.1, seed=1)]
    for (a, b), seed in product(product(DOMINANT, BULK), (0, 1)):
        losses: Sequence[float] = [1.0, 0.5, 0.1 * (1 + seed) / b]
        if seed and b == 4 and a != 0.25:
            losses = [1.0, 50.0, math.nan] if a else [1.0, 5.0, 0.05]
        status = "diverged" if math.isnan(losses[-1]) else "finished"
        changes = {"learning_rate": 1.0, "seed": seed, "status": status}
        runs.append(trajectory(f"weights({a:g}, {b:g})", losses, **changes))
    return as_read(runs)


def _cell(axes: Axes, a: float, b: float) -> list[Rectangle]:
    """The filled rectangles within a cell."""
    column, row = BULK.index(b), DOMINANT.index(a)
    return [
        patch
        for patch in axes.patches
        if patch.get_fill()
        and column - 0.5 <= patch.get_x() < column + 0.5
        and patch.get_y() == row - 0.5
        and patch.get_width() > 0
    ]


@pytest.mark.parametrize(
    ("pair", "shares"),
    [
        ((0.25, 4), {"stable": 1}),
        ((1, 4), {"stable": 0.5, "diverged": 0.5}),
        ((0, 4), {"stable": 0.5, "unstable": 0.5}),
    ],
)
def test_a_cell_is_divided_among_the_classes_of_its_seeds(
    table: pd.DataFrame, pair: tuple[float, float], shares: dict[str, float]
) -> None:
    parts = _cell(plot_stability_plane(table).axes[0], *pair)
    assert {to_hex(part.get_facecolor()): part.get_width() for part in parts} == {
        CLASS_COLOURS[name]: share for name, share in shares.items()
    }


def test_the_right_panel_has_the_ratio_to_sgd_or_how_many_seeds_diverged(
    table: pd.DataFrame,
) -> None:
    axes = plot_stability_plane(table).axes[1]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(texts) == 9
    assert texts[1, 2] == "1.00"  # SGD itself
    assert texts[0, 0] == "2.00"
    assert texts[2, 1] == "0.25"
    assert texts[2, 2] == "1/2\ndiverged"
    (grey,) = _cell(axes, 1, 4)
    assert grey.get_facecolor()[:3] == pytest.approx([float(DIVERGED_CELL)] * 3)
    (better,), (worse,) = _cell(axes, 0.25, 4), _cell(axes, 0, 0.5)
    assert better.get_facecolor()[2] > better.get_facecolor()[0]
    assert worse.get_facecolor()[0] > worse.get_facecolor()[2]


def test_both_edges_pass_where_the_quadratic_model_puts_them(table: pd.DataFrame) -> None:
    for axes in plot_stability_plane(table).axes:
        horizontal, vertical = axes.get_lines()
        assert horizontal.get_ydata()[0] == pytest.approx(1 + 1 / 3)  # a = 0.5 of 0.25 to 1
        assert vertical.get_xdata()[0] == pytest.approx(1 + 1 / 3)  # b = 2 of 1 to 4
        assert vertical.get_linestyle() != "solid"


def test_the_outline_holds_the_pairs_that_damp_and_stretch(table: pd.DataFrame) -> None:
    axes = plot_stability_plane(table).axes[0]
    (outline,) = [patch for patch in axes.patches if patch.get_linestyle() == "dotted"]
    assert outline.get_xy() == pytest.approx((1.5 + INSET, -0.5 + INSET))  # b = 4
    assert outline.get_height() == pytest.approx(2 - 2 * INSET)  # a = 0 and 0.25


def test_the_title_says_how_often_the_edges_were_right(table: pd.DataFrame) -> None:
    """Stable are all of b below 4 and (0.25, 4); foreseen are those with a, b below the edges."""
    title = plot_stability_plane(table).axes[0].get_title(loc="left")
    assert title == "MLP, MNIST-5k, MSE, η = 1\n6 of 9 cells as predicted (67 %)"


def test_without_sgd_the_right_panel_says_so(table: pd.DataFrame) -> None:
    without = table[(table["dom_weight"] != 1) | (table["method"] == "before_switch")]
    assert plane_cells(without)["final_ratio"].isna().all()
    axes = plot_stability_plane(without).axes[1]
    assert [text.get_text() for text in axes.texts if "SGD" in text.get_text()] == [
        "no SGD to compare with"
    ]


def test_a_seed_whose_sgd_diverged_is_not_compared(table: pd.DataFrame) -> None:
    lost = table["method"].eq("weights(1, 1)") & table["seed"].eq(1)
    cells = plane_cells(table.assign(status=table["status"].mask(lost, "diverged")))
    assert set(cells["seeds_compared"]) == {1}
    pairs = cells.set_index(["dom_weight", "bulk_weight"])["final_ratio"]
    assert pairs[0.25, 4] == pytest.approx(0.25)
    assert np.isnan(pairs[1, 1])


def test_several_learning_rates_are_refused(table: pd.DataFrame) -> None:
    both = [table.assign(learning_rate=rate, varied="learning_rate", value=rate) for rate in (1, 2)]
    with pytest.raises(ValueError, match=r"one learning rate, this table of .*mnist_mlp.*\[1, 2\]"):
        plot_stability_plane(pd.concat(both))


def test_a_plane_of_a_single_cell_is_drawn(trajectory: Make) -> None:
    axes = plot_stability_plane(trajectory("weights(1, 1)", [1.0, 0.5])).axes
    assert len(axes) == 2
