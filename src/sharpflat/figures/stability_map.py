"""Figure ``stability_map``: learning rates and Dominant weights that train, and that do not."""

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
from numpy.typing import NDArray

from sharpflat.analysis.stability import agreement, stability_cells
from sharpflat.figures.grid import is_lowest, one_panel_each
from sharpflat.figures.style import apply_style, dashed, legend_below, panel_title

MAP_HEIGHT = 2.6
#: Diverges at zero, where the loss neither fell nor rose; its two ends differ for the colour-blind.
COLOUR_MAP = "RdBu_r"
DIVERGED_CELL, HATCH = "0.85", "////"
#: The predicted edges of the Dominant and of the Bulk part.
DOMINANT_EDGE: dict[str, Any] = {"color": "black", "linewidth": 1.6}
BULK_EDGE: dict[str, Any] = {**DOMINANT_EDGE, "linestyle": dashed((3, 1.2))}
#: Behind the number of seeds that diverged.
BOX: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
Numbers = NDArray[np.float64]


def plot_stability_map(table: pd.DataFrame) -> Figure:
    """How far the loss fell at every learning rate and weight a, and where that should end.

    A cell's colour is the mean over seeds of the log ratio of final to starting training loss. A
    cell where a seed diverged is grey, whatever became of the others, and a fraction says how many
    did; hatches mark these and all other cells where a seed was not stable. Lines are the edges of
    :func:`sharpflat.analysis.stability.stability_cells`, and each title says in how many cells they
    foresee what was observed. Cells stand at even distances, whatever the distance of their values,
    and the lines are drawn between them.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, with learning rates
            that change at the switch and one Bulk weight.

    Raises:
        ValueError: The table has several Bulk weights.
    """
    apply_style()
    all_cells = stability_cells(table)
    all_cells["log_ratio"] = all_cells["log_ratio"].where(all_cells["diverged_share"] == 0)
    weights = all_cells["bulk_weight"].unique()
    if len(weights) != 1:
        raise ValueError(
            f"a stability map has one Bulk weight b, this table {weights.tolist()}: give methods "
            "of one b, or the figure the kind `stability_plane`"
        )
    widest = np.nanmax([*all_cells["log_ratio"].abs(), 0.1]) / np.log(10)
    mappable = ScalarMappable(CenteredNorm(halfrange=float(widest)), COLOUR_MAP)
    figure, groups = one_panel_each(table, MAP_HEIGHT)
    for rows, (panel,) in groups:
        here = (all_cells["task"] == rows["task"].iloc[0]) & (
            all_cells["loss"] == rows["loss"].iloc[0]
        )
        _plot_map(panel, all_cells[here], mappable)
        panel.set_title(f"{panel_title(rows)}\n{verdict(all_cells[here])}", loc="left")
        panel.set_ylabel("Dominant weight $a$")
        if is_lowest(panel):
            panel.set_xlabel(r"learning rate $\eta$")
    bar = figure.colorbar(mappable, ax=[panel for _, (panel,) in groups], aspect=30, pad=0.02)
    bar.set_label(r"$\log_{10}$ of final over starting loss")
    bar.outline.set_visible(False)
    ratios = all_cells["log_ratio"] / np.log(10)
    bar.ax.set_ylim(min(0, ratios.min()), max(0, ratios.max()))
    legend_below(figure, _handles(), columns=2)
    return figure


def verdict(cells: pd.DataFrame) -> str:
    """In how many cells the edges foresee what was observed, for a title."""
    share = agreement(cells)
    return f"{round(share * len(cells))} of {len(cells)} cells as predicted ({100 * share:.0f} %)"


def _plot_map(axes: Axes, cells: pd.DataFrame, mappable: ScalarMappable) -> None:
    rates, weights = np.unique(cells["learning_rate"]), np.unique(cells["dom_weight"])
    for cell in cells.to_dict("records"):
        column = int(np.searchsorted(rates, cell["learning_rate"]))
        row = int(np.searchsorted(weights, cell["dom_weight"]))
        ratio = cell["log_ratio"] / np.log(10)
        colour = DIVERGED_CELL if np.isnan(ratio) else mappable.to_rgba(ratio)
        square = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour)
        square.set(edgecolor="0.45", linewidth=0.4, hatch=None if cell["observed"] else HATCH)
        axes.add_patch(square)
        if cell["diverged_share"] > 0:
            count = f"{cell['diverged_share'] * cell['seeds']:.0f}/{cell['seeds']}"
            axes.text(column, row, count, ha="center", va="center", fontsize="x-small", bbox=BOX)
    _plot_edges(axes, cells, rates, weights)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(weights)), [f"{weight:g}" for weight in weights])
    axes.set(xlim=(-0.5, len(rates) - 0.5), ylim=(-0.5, len(weights) - 0.5))


def _plot_edges(axes: Axes, cells: pd.DataFrame, rates: Numbers, weights: Numbers) -> None:
    first = cells.iloc[0]
    columns = np.arange(len(rates), dtype=np.float64)
    rows = np.arange(len(weights), dtype=np.float64)
    fine = np.linspace(-0.5, len(rates) - 0.5, 400)
    rate = np.exp(between(fine, columns, np.log(rates)))
    edge = 2 / (rate * first["eigenvalue_dominant"])
    axes.plot(fine, between(edge, weights, rows), **DOMINANT_EDGE)
    bulk_edge = np.log([2 / (first["bulk_weight"] * first["eigenvalue_bulk"])])
    axes.axvline(between(bulk_edge, np.log(rates), columns)[0], **BULK_EDGE)


def between(x: Numbers, known: Numbers, values: Numbers) -> Numbers:
    """Linear between the known points, and on beyond the outer ones."""
    if len(known) == 1:
        return np.full_like(x, values[0])
    segment = np.clip(np.searchsorted(known, x) - 1, 0, len(known) - 2)
    slope: Numbers = np.diff(values)[segment] / np.diff(known)[segment]
    result: Numbers = values[segment] + slope * (x - known[segment])
    return result


def _handles() -> list[Line2D | Patch]:
    unstable = Patch(facecolor="white", edgecolor="0.45", hatch=HATCH, linewidth=0.4)
    unstable.set_label("a seed was unstable or diverged (grey: how many)")
    return [
        Line2D([], [], label=r"predicted edge $a = 2\,/\,\eta\lambda_1$", **DOMINANT_EDGE),
        Line2D([], [], label=r"predicted edge $\eta = 2\,/\,\lambda_{k+1}$", **BULK_EDGE),
        unstable,
    ]
