"""Where panels stand: oracle is the grid cell of every panel."""

from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib.axes import Axes

from sharpflat.figures.grid import (
    blocks,
    finish_steps,
    is_lowest,
    loss_pairs,
    one_panel_each,
    one_row_each,
)
from sharpflat.figures.style import COLUMN_WIDTH, PAGE_WIDTH, apply_style

Make = Callable[..., pd.DataFrame]


@pytest.fixture
def table(trajectory: Make) -> pd.DataFrame:
    kinds = [
        (task, loss) for task in ("mnist_mlp", "cifar10_cnn") for loss in ("mse", "cross_entropy")
    ]
    return pd.concat(trajectory("sgd", [1.0], task=task, loss=loss) for task, loss in kinds)


def _cell(panel: Axes) -> tuple[int, int]:
    place = panel.get_subplotspec()
    assert place is not None
    return place.rowspan.start, place.colspan.start


def test_a_task_is_a_row_and_a_loss_two_columns(table: pd.DataFrame) -> None:
    figure, groups = loss_pairs(table)
    assert figure.get_figwidth() == PAGE_WIDTH
    assert [[_cell(panel) for panel in panels] for _, panels in groups] == [
        [(0, 0), (0, 1)],
        [(0, 2), (0, 3)],
        [(1, 0), (1, 1)],
        [(1, 2), (1, 3)],
    ]
    titles = [panel.get_title(loc="left") for _, panels in groups for panel in panels]
    assert titles[:4] == ["MLP, MNIST-5k, MSE", "", "MLP, MNIST-5k, cross-entropy", ""]
    assert [is_lowest(panels[0]) for _, panels in groups] == [False, False, True, True]


def test_one_task_and_loss_is_one_row(trajectory: Make) -> None:
    figure, groups = loss_pairs(trajectory("sgd", [1.0]))
    assert [_cell(panel) for panel in figure.axes] == [(0, 0), (0, 1)]
    assert len(groups) == 1


def test_every_task_and_loss_has_a_row(table: pd.DataFrame) -> None:
    figure, groups = one_row_each(table, (2.0, 1.0))
    assert [_cell(panel) for panel in groups[1][1]] == [(1, 0), (1, 1)]
    assert [is_lowest(panel) for panel in groups[3][1]] == [True, True]
    assert len(figure.axes) == 4 * 2


def test_or_a_block_of_two_rows_with_its_last_panel_split(table: pd.DataFrame) -> None:
    figure, groups = blocks(table)
    assert [_cell(panel) for panel in groups[1][1]] == [(4, 0), (4, 1), (6, 0), (6, 1), (7, 1)]
    assert len(figure.axes) == 4 * 5
    titles = [panel.get_title(loc="left") for panel in groups[0][1]]
    assert titles == ["MLP, MNIST-5k, MSE", "", "", "", ""]


def test_rows_of_a_group_are_of_its_task_and_loss_alone(table: pd.DataFrame) -> None:
    for rows, _ in one_row_each(table, (1.0,))[1]:
        assert len(rows[["task", "loss"]].drop_duplicates()) == 1


def test_single_panels_fill_the_page_or_a_column(table: pd.DataFrame) -> None:
    figure, groups = one_panel_each(table, 2.0)
    assert figure.get_figwidth() == PAGE_WIDTH
    assert [_cell(panel) for _, (panel,) in groups] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    lone, _ = one_panel_each(table[table["loss"] == "mse"], 2.0)
    assert lone.get_figwidth() == COLUMN_WIDTH


def test_steps_in_thousands_are_written_short_and_named_in_the_lowest_row(
    table: pd.DataFrame,
) -> None:
    apply_style()  # sizes of the text decide how many ticks fit
    figure, groups = loss_pairs(table)
    upper, lower = groups[0][1][0], groups[2][1][0]
    finish_steps(upper, "steps", first=-100, last=1000)
    finish_steps(lower, "steps", first=-10000, last=20000)
    figure.draw_without_rendering()
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", "steps")
    shown = {text.get_text() for text in lower.get_xticklabels()}
    assert {"−10k", "0", "10k", "20k"} <= shown
    assert not any("k" in text.get_text() for text in upper.get_xticklabels())
