"""Small multiples: where the panels of every task and loss stand on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sharpflat.analysis.columns import SETTING
from sharpflat.figures.style import (
    BLOCK_ROW_HEIGHT,
    COLUMN_WIDTH,
    LEGEND_HEIGHT,
    LONE_ROW_HEIGHT,
    PAGE_WIDTH,
    PANEL_HEIGHT,
    SMALL_PANEL_HEIGHT,
    panel_title,
)

#: A task and loss: their rows of the table, and their panels from left to right.
Group = tuple[pd.DataFrame, list[Axes]]
#: Steps from which on their numbers are written in thousands, since panels are narrow.
THOUSANDS_FROM = 4000


def loss_pairs(table: pd.DataFrame) -> tuple[Figure, list[Group]]:
    """A row a task, and in it two panels a loss, which its title names once."""
    tasks, losses = list(table["task"].unique()), list(table["loss"].unique())
    height = PANEL_HEIGHT if len(losses) == 1 else SMALL_PANEL_HEIGHT
    figure = plt.figure(figsize=(PAGE_WIDTH, height * len(tasks) + LEGEND_HEIGHT))
    grid = figure.add_gridspec(len(tasks), 2 * len(losses))
    groups = []
    for rows in _groups(table):
        row, loss = tasks.index(rows["task"].iloc[0]), losses.index(rows["loss"].iloc[0])
        panels = [figure.add_subplot(grid[row, 2 * loss + column]) for column in (0, 1)]
        panels[0].set_title(panel_title(rows), loc="left")
        groups.append((rows, panels))
    return figure, groups


def one_row_each(
    table: pd.DataFrame,
    widths: Sequence[float],
    *,
    by: Sequence[str] = SETTING,
    height: float | None = None,
) -> tuple[Figure, list[Group]]:
    """A row a task and loss, or whatever else tells rows apart, of panels of relative widths.

    The rows have a height in inches, or one that suits their number.
    """
    all_rows = list(_groups(table, by))
    if height is None:
        height = LONE_ROW_HEIGHT if len(all_rows) == 1 else SMALL_PANEL_HEIGHT
    figure = plt.figure(figsize=(PAGE_WIDTH, height * len(all_rows) + LEGEND_HEIGHT))
    grid = figure.add_gridspec(len(all_rows), len(widths), width_ratios=widths)
    groups = []
    for row, rows in enumerate(all_rows):
        panels = [figure.add_subplot(grid[row, column]) for column in range(len(widths))]
        panels[0].set_title(panel_title(rows), loc="left")
        groups.append((rows, panels))
    return figure, groups


def blocks(table: pd.DataFrame) -> tuple[Figure, list[Group]]:
    """Two rows of two panels a task and loss, the last of them split into a higher and a lower."""
    all_rows = list(_groups(table))
    figure = plt.figure(figsize=(PAGE_WIDTH, 2 * BLOCK_ROW_HEIGHT * len(all_rows) + LEGEND_HEIGHT))
    grid = figure.add_gridspec(4 * len(all_rows), 2)
    groups = []
    for number, rows in enumerate(all_rows):
        top = 4 * number
        places = [grid[top : top + 2, 0], grid[top : top + 2, 1], grid[top + 2 : top + 4, 0]]
        places += [grid[top + 2, 1], grid[top + 3, 1]]
        panels = [figure.add_subplot(place) for place in places]
        panels[0].set_title(panel_title(rows), loc="left")
        groups.append((rows, panels))
    return figure, groups


def one_panel_each(table: pd.DataFrame, height: float) -> tuple[Figure, list[Group]]:
    """A row a task, a column a loss; one loss alone fills one column of the page."""
    tasks, losses = list(table["task"].unique()), list(table["loss"].unique())
    width = COLUMN_WIDTH if len(losses) == 1 else PAGE_WIDTH
    figure = plt.figure(figsize=(width, height * len(tasks) + LEGEND_HEIGHT))
    grid = figure.add_gridspec(len(tasks), len(losses))
    groups = []
    for rows in _groups(table):
        row, column = tasks.index(rows["task"].iloc[0]), losses.index(rows["loss"].iloc[0])
        panel = figure.add_subplot(grid[row, column])
        panel.set_title(panel_title(rows), loc="left")
        groups.append((rows, [panel]))
    return figure, groups


def title_row(panels: Sequence[Axes], text: str) -> None:
    """A row's title, which may run on over its other panels."""
    # A title's own middle must lie over its panel, or the panels beside it move away.
    panels[0].set_title(" ", loc="left")
    panels[0].annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, mpl.rcParams["axes.titlepad"]),
        textcoords="offset points",
        fontsize=mpl.rcParams["axes.titlesize"],
        annotation_clip=False,
    ).set_in_layout(False)


def finish_steps(panel: Axes, label: str, *, first: float, last: float) -> None:
    """Limits and round numbers for a panel's axis of steps, and its name in the lowest row."""
    panel.set_xlim(first, last)
    panel.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10]))
    if last >= THOUSANDS_FROM:
        panel.xaxis.set_major_formatter(FuncFormatter(lambda step, _: _thousands(step)))
    if is_lowest(panel):
        panel.set_xlabel(label)


def is_lowest(panel: Axes) -> bool:
    """Whether a panel is in the lowest row, so that it names the x axis."""
    place = panel.get_subplotspec()
    return place is not None and place.is_last_row()


def _thousands(step: float) -> str:
    return f"{step / 1000:g}k".replace("-", "−") if step else "0"


def _groups(table: pd.DataFrame, by: Sequence[str] = SETTING) -> Iterator[pd.DataFrame]:
    for _, rows in table.groupby(list(by), sort=False):
        yield rows
