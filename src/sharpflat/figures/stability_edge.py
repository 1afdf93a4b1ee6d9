"""Figure ``stability_edge``: the largest stable learning rate, predicted and observed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.edges import stability_edges
from sharpflat.figures.grid import is_lowest, one_panel_each
from sharpflat.figures.style import (
    apply_style,
    dashed,
    label_log_axis,
    legend_below,
    method_colour,
    method_label,
    method_marker,
)

PANEL_HEIGHT = 2.9
#: Room around the outermost trial, for arrows, and around the outermost prediction, as factors.
ROOM, SIDE_ROOM = 1.6, 1.25
#: From one method to the next at the same prediction, as a factor: Bulk-SGD and a small weight of
#: the Dominant part have the same.
APART = 1.04
IDENTITY: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "linestyle": dashed((4, 2))}
EDGE: dict[str, Any] = {
    "markersize": 5.0,
    "markeredgecolor": "white",
    "markeredgewidth": 0.4,
    "linestyle": "none",
    "zorder": 4,
}
#: Marks of the trials, by what became of them.
TRIALS: dict[str, dict[str, Any]] = {
    "stable": {"marker": "_", "markersize": 4.0, "markeredgewidth": 0.7, "alpha": 0.6},
    "unstable": {"marker": "_", "markersize": 7.0, "markeredgewidth": 1.6, "alpha": 0.9},
    "diverged": {"marker": "x", "markersize": 3.6, "markeredgewidth": 0.9, "alpha": 0.9},
}
#: From a trial beyond which a censored edge lies, to the arrow's head, as a factor.
ARROW_LENGTH = 1.35
ARROW: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 7, "linewidth": 1.0}


def plot_stability_edge(table: pd.DataFrame) -> Figure:
    """The edge of stability η* that a search found, against the one that a quadratic predicts.

    A panel a task and loss, a mark a method and seed. On a quadratic the edge is the lesser of
    2 / (a λ_1) and 2 / (b λ_{k+1}), with the eigenvalues at the switch of the seed; methods are
    moved apart by a few per cent. Above and below a mark stand the learning rates that the search
    tried. Where all of them were stable, or none, the edge lies beyond them: an arrow from the last
    one.

    Args:
        table: A row a trial: ``task, loss, method, dom_weight, bulk_weight, seed, learning_rate,
            stability, eigenvalue_dominant, eigenvalue_bulk``.
    """
    apply_style()
    all_edges = stability_edges(table)
    figure, groups = one_panel_each(table, PANEL_HEIGHT)
    for rows, (panel,) in groups:
        here = all_edges["task"].eq(rows["task"].iloc[0])
        here &= all_edges["loss"].eq(rows["loss"].iloc[0])
        edges = all_edges[here]
        _finish(panel, rows, edges)
        methods = list(edges["method"].unique())
        for edge in edges.to_dict("records"):
            own = rows[(rows["method"] == edge["method"]) & (rows["seed"] == edge["seed"])]
            place = methods.index(edge["method"]) - (len(methods) - 1) / 2
            _plot_search(panel, own, edge, shift=APART**place)
        if is_lowest(panel):
            panel.set_xlabel(r"predicted edge, min of $2/a\lambda_1$ and $2/b\lambda_{k+1}$")
        panel.set_ylabel(r"observed edge $\eta^*$")
    censored = bool((all_edges["censored"] != "").any())
    legend_below(figure, _handles(list(table["method"].unique()), censored), columns=4)
    return figure


def _finish(axes: Axes, trials: pd.DataFrame, edges: pd.DataFrame) -> None:
    """Limits that hold all predictions, trials and arrows, and where the two edges are equal."""
    predicted = edges.loc[np.isfinite(edges["predicted"]), "predicted"]
    axes.set(xscale="log", yscale="log")
    for values, room, limit in (
        (predicted, SIDE_ROOM, axes.set_xlim),
        (trials["learning_rate"], ROOM, axes.set_ylim),
    ):
        if len(values):
            limit(values.min() / room, values.max() * room)
    lowest = min(axes.get_xlim()[0], axes.get_ylim()[0])
    axes.axline((lowest, lowest), (10 * lowest, 10 * lowest), zorder=1, **IDENTITY)
    for name in ("x", "y"):
        label_log_axis(axes, name)


def _plot_search(axes: Axes, trials: pd.DataFrame, edge: dict[Any, Any], *, shift: float) -> None:
    """One method and seed: its trials, and its edge or an arrow to where it lies.

    A method that a quadratic finds stable at any learning rate stands at the right end.
    """
    x = min(shift * edge["predicted"], axes.get_xlim()[1])
    method = str(edge["method"])
    colour = method_colour(method)
    for stability, look in TRIALS.items():
        own = trials[trials["stability"] == stability]
        axes.plot([x] * len(own), own["learning_rate"], color=colour, linestyle="none", **look)
    if edge["censored"] == "":
        axes.plot([x], [edge["edge"]], color=colour, marker=method_marker(method), **EDGE)
        return
    above = edge["censored"] == "above"
    start = edge["largest_stable"] if above else edge["smallest_not_stable"]
    end = start * ARROW_LENGTH if above else start / ARROW_LENGTH
    arrow = {**ARROW, "color": colour, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(x, end), xytext=(x, start), arrowprops=arrow)


def _handles(methods: list[str], censored: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], label=method_label(name), color=method_colour(name), **EDGE)
        for name in methods
    ]
    for handle, name in zip(handles, methods, strict=True):
        handle.set_marker(method_marker(name))
    handles.append(Line2D([], [], label="as predicted", **IDENTITY))
    for stability, look in TRIALS.items():
        handles.append(
            Line2D([], [], color="0.35", linestyle="none", label=f"trial: {stability}", **look)
        )
    if censored:
        arrow = Line2D([], [], color="0.35", marker=r"$\uparrow$", markersize=7, linestyle="none")
        arrow.set_label("edge beyond the trials")
        handles.append(arrow)
    return handles
