"""Figure ``stability_plane``: Dominant against Bulk weight at one learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.stability import stability_cells
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.grid import is_lowest, one_row_each
from sharpflat.figures.pairs import run_pairs
from sharpflat.figures.points import say_if_empty
from sharpflat.figures.stability_map import (
    BOX,
    BULK_EDGE,
    COLOUR_MAP,
    DIVERGED_CELL,
    DOMINANT_EDGE,
    between,
    verdict,
)
from sharpflat.figures.style import apply_style, legend_below, panel_title

#: Rows are as high as squares of half a page's width need.
ROW_HEIGHT = 2.9
#: Paler the better it ended, so that the classes differ in grey too.
CLASS_COLOURS = {"stable": "#cfe3f2", "unstable": "#e69f00", "diverged": "#882255"}
CELL_EDGE: dict[str, Any] = {"edgecolor": "0.45", "linewidth": 0.4}
#: Around the pairs with a < 1 < b.
STRETCHED: dict[str, Any] = {"color": "#009e73", "linewidth": 2.2, "linestyle": "dotted"}
#: How far that outline keeps within the cells.
INSET = 0.06
PAIR = ["dom_weight", "bulk_weight"]


def plot_stability_plane(table: pd.DataFrame) -> Figure:
    """How runs at every pair of weights (a, b) ended, and their loss beside SGD's.

    In the left panel a cell is divided among the classes of its seeds' runs. In the right one its
    colour and number are the geometric mean over seeds of final training loss over that of SGD, the
    pair (1, 1), with the same seed; where a seed diverged a cell is grey and says how many did.
    Lines are the edges at which a quadratic is no longer stable, η a λ_1 = 2 and η b λ_{k+1} = 2,
    with the eigenvalues at the switch, means over seeds, and the title says in how many cells they
    foresee whether all seeds were stable. The dotted outline holds the pairs a < 1 < b, which damp
    the Dominant and stretch the Bulk part as the projector of BSFA does (arXiv 2510.25244).

    Cells stand at even distances, whatever the distance of their values, and the lines are drawn
    between them.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.

    Raises:
        ValueError: A task and loss have several learning rates.
    """
    apply_style()
    all_cells = plane_cells(table)
    widest = np.nanmax([*np.abs(np.log(all_cells["final_ratio"])), 0.1])
    mappable = ScalarMappable(CenteredNorm(halfrange=float(widest)), COLOUR_MAP)
    figure, groups = one_row_each(table, (1, 1), height=ROW_HEIGHT)
    for rows, (classes, losses) in groups:
        here = all_cells["task"].eq(rows["task"].iloc[0]) & all_cells["loss"].eq(
            rows["loss"].iloc[0]
        )
        cells = all_cells[here]
        rate = cells["learning_rate"].iloc[0]
        classes.set_title(f"{panel_title(rows)}, η = {rate:g}\n{verdict(cells)}", loc="left")
        losses.set_title("final training loss over SGD's", loc="left")
        for cell, square in zip(cells.to_dict("records"), _squares(cells), strict=True):
            _fill_by_class(classes, cell, *square)
            _fill_by_ratio(losses, cell, *square, mappable)
        for panel in (classes, losses):
            _finish(panel, cells)
        say_if_empty(losses, cells["seeds_compared"].replace(0, np.nan), "no SGD to compare with")
    legend_below(figure, _handles(), columns=3)
    return figure


def plane_cells(table: pd.DataFrame) -> pd.DataFrame:
    """The cells of a plane with the ratio of their final losses to SGD's.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.

    Returns:
        The columns of :func:`sharpflat.analysis.stability.stability_cells`, and ``final_ratio``:
        the geometric mean over seeds of final training loss over SGD's, NaN where a seed diverged
        or none has an SGD that finished; ``seeds_compared``: how many have.

    Raises:
        ValueError: A task and loss have several learning rates.
    """
    cells = stability_cells(table)
    rates = cells.groupby(SETTING)["learning_rate"].unique()
    for group, several in rates[rates.map(len) > 1].items():
        raise ValueError(
            f"a stability plane has one learning rate, this table of {group} {several.tolist()}: "
            "give each loss one, and let `vary` name none"
        )
    runs = run_pairs(table[table["method"] != BEFORE_SWITCH]).dropna(subset="final_ratio")
    logs = np.log(runs["final_ratio"]).groupby([runs[name] for name in (*SETTING, *PAIR)])
    compared = pd.DataFrame({"log_final_ratio": logs.mean(), "seeds_compared": logs.size()})
    cells = cells.merge(compared.reset_index(), on=[*SETTING, *PAIR], how="left")
    finished = cells["diverged_share"] == 0
    return cells.drop(columns="log_final_ratio").assign(
        final_ratio=np.exp(cells["log_final_ratio"].where(finished)),
        seeds_compared=cells["seeds_compared"].fillna(0).astype(int),
    )


def _squares(cells: pd.DataFrame) -> list[tuple[int, int]]:
    """Column and row of each cell."""
    places = [np.unique(cells[name], return_inverse=True)[1] for name in reversed(PAIR)]
    return list(zip(*(place.tolist() for place in places), strict=True))


def _fill_by_class(axes: Axes, cell: dict[Any, Any], column: int, row: int) -> None:
    unstable, diverged = cell["unstable_share"], cell["diverged_share"]
    left = column - 0.5
    for name, share in (
        ("stable", 1 - unstable - diverged),
        ("unstable", unstable),
        ("diverged", diverged),
    ):
        axes.add_patch(Rectangle((left, row - 0.5), share, 1, facecolor=CLASS_COLOURS[name]))
        left += share
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, **CELL_EDGE))


def _fill_by_ratio(
    axes: Axes, cell: dict[Any, Any], column: int, row: int, mappable: ScalarMappable
) -> None:
    ratio = cell["final_ratio"]
    colour = DIVERGED_CELL if np.isnan(ratio) else mappable.to_rgba(np.log(ratio))
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, **CELL_EDGE))
    text = "" if np.isnan(ratio) else f"{ratio:.2f}"
    if cell["diverged_share"] > 0:
        text = f"{cell['diverged_share'] * cell['seeds']:.0f}/{cell['seeds']} diverged"
    if text:
        place: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": "x-small"}
        axes.text(column, row, text.replace(" ", "\n"), bbox=BOX, zorder=5, **place)


def _finish(axes: Axes, cells: pd.DataFrame) -> None:
    """Both predicted edges, the outline of the pairs a < 1 < b, and the axes."""
    dominant, bulk = (np.unique(cells[name]) for name in PAIR)
    axes.set(xlim=(-0.5, len(bulk) - 0.5), ylim=(-0.5, len(dominant) - 0.5))
    axes.set_xticks(range(len(bulk)), [f"{weight:g}" for weight in bulk])
    axes.set_yticks(range(len(dominant)), [f"{weight:g}" for weight in dominant])
    axes.set_ylabel("Dominant weight $a$")
    if is_lowest(axes):
        axes.set_xlabel("Bulk weight $b$")
    first = cells.iloc[0]
    for draw, weights, part, look in (
        (axes.axhline, dominant, "dominant", DOMINANT_EDGE),
        (axes.axvline, bulk, "bulk", BULK_EDGE),
    ):
        curvature = first["learning_rate"] * first[f"eigenvalue_{part}"]
        if curvature > 0:
            places = np.arange(len(weights), dtype=np.float64)
            draw(between(np.array([2 / curvature]), weights, places)[0], **look)
    damped, stretched = int((dominant < 1).sum()), int((bulk > 1).sum())
    if damped and stretched:
        corner = len(bulk) - stretched - 0.5 + INSET, -0.5 + INSET
        size = stretched - 2 * INSET, damped - 2 * INSET
        axes.add_patch(Rectangle(corner, *size, fill=False, zorder=3, **STRETCHED))


def _handles() -> list[Line2D | Patch]:
    return [
        *(
            Patch(facecolor=colour, label=f"share of seeds: {name}", **CELL_EDGE)
            for name, colour in CLASS_COLOURS.items()
        ),
        Line2D([], [], label=r"predicted edge $a = 2\,/\,\eta\lambda_1$", **DOMINANT_EDGE),
        Line2D([], [], label=r"predicted edge $b = 2\,/\,\eta\lambda_{k+1}$", **BULK_EDGE),
        Line2D([], [], label="damped and stretched, $a < 1 < b$", **STRETCHED),
    ]
