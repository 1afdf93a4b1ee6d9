"""Figure ``transfer``: does the predicted edge of stability hold on other tasks and losses?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.edges import edge_means, stability_edges
from sharpflat.figures.stability_edge import IDENTITY
from sharpflat.figures.style import (
    COLUMN_WIDTH,
    LEGEND_HEIGHT,
    LOSS_LABELS,
    PAGE_WIDTH,
    TASK_LABELS,
    apply_style,
    label_log_axis,
    legend_below,
    method_label,
)

PANEL_HEIGHT, MOST_COLUMNS = 3.3, 2
#: Room around the outermost edges, as a factor.
ROOM = 1.5
#: Tol's muted palette and markers; their numbers share no factor, so that 56 tasks differ.
COLOURS = (
    *("#332288", "#cc6677", "#117733", "#88ccee"),
    *("#882255", "#999933", "#44aa99", "#ddcc77"),
)
MARKERS = ("o", "s", "D", "P", "X", "p", "h")
#: How marks of the losses are filled.
FILLS = ("full", "none", "left", "bottom")
SEED: dict[str, Any] = {"markersize": 2.8, "markeredgewidth": 0.5, "alpha": 0.55}
MEAN: dict[str, Any] = {"markersize": 7.0, "markeredgewidth": 1.1, "zorder": 4}
#: A seed whose edge lies beyond the trials, at the last of them, by where the edge lies.
BEYOND = {"above": "^", "below": "v"}
Look = dict[str, Any]


def plot_transfer(table: pd.DataFrame) -> Figure:
    """Observed against predicted edge of stability, a point a task and loss, a panel a method.

    Large marks are geometric means over seeds, small ones seeds. On a quadratic SGD's edge is
    2 / λ_1 and Bulk-SGD's 2 / λ_{k+1}, with the eigenvalues at the switch of the seed. A seed
    whose search ended without an edge is a triangle at its last trial that points to where the edge
    lies, and its task and loss then have no mean.

    Args:
        table: As for :func:`sharpflat.figures.stability_edge.plot_stability_edge`.
    """
    apply_style()
    edges = stability_edges(table)
    means = edge_means(edges)
    methods = list(edges["method"].unique())
    looks = _looks(list(edges["task"].unique()), list(edges["loss"].unique()))
    columns = min(len(methods), MOST_COLUMNS)
    lines = -(-len(methods) // columns)
    width = COLUMN_WIDTH if columns == 1 else PAGE_WIDTH
    figure, grid = plt.subplots(
        lines, columns, squeeze=False, figsize=(width, PANEL_HEIGHT * lines + 2 * LEGEND_HEIGHT)
    )
    limits = _limits(edges)
    for method, panel in zip(methods, grid.flat, strict=False):
        panel.set(xscale="log", yscale="log", xlim=limits, ylim=limits, box_aspect=1)
        panel.set_title(method_label(method), loc="left")
        panel.axline((limits[0], limits[0]), (limits[1], limits[1]), zorder=1, **IDENTITY)
        for name in ("x", "y"):
            label_log_axis(panel, name)
        _plot_seeds(panel, edges[edges["method"] == method], looks)
        _plot_means(panel, means[means["method"] == method], looks)
        panel.set_xlabel(r"predicted edge, min of $2/a\lambda_1$ and $2/b\lambda_{k+1}$")
        panel.set_ylabel(r"observed edge $\eta^*$")
    for panel in list(grid.flat)[len(methods) :]:
        panel.set_axis_off()
    legend_below(figure, _handles(edges, looks), columns=4)
    return figure


def _looks(tasks: Sequence[str], losses: Sequence[str]) -> dict[tuple[str, str], Look]:
    """Colour and marker of each task, and the filling of each loss."""
    return {
        (task, loss): {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "fillstyle": FILLS[place % len(FILLS)],
            "linestyle": "none",
        }
        for number, task in enumerate(tasks)
        for place, loss in enumerate(losses)
    }


def _limits(edges: pd.DataFrame) -> tuple[float, float]:
    """Of both axes, around all that is drawn."""
    ends = ["predicted", "edge", "largest_stable", "smallest_not_stable"]
    drawn = edges[ends].to_numpy(dtype=float)
    drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
    return float(drawn.min() / ROOM), float(drawn.max() * ROOM)


def _plot_seeds(axes: Axes, edges: pd.DataFrame, looks: dict[tuple[str, str], Look]) -> None:
    for edge in edges.to_dict("records"):
        look = looks[edge["task"], edge["loss"]] | SEED
        y, censored = edge["edge"], edge["censored"]
        if censored:
            y = edge["largest_stable" if censored == "above" else "smallest_not_stable"]
            look |= {"marker": BEYOND[censored], "markersize": 4.5, "alpha": 1.0}
        axes.plot([_within(axes, edge["predicted"])], [y], **look)


def _plot_means(axes: Axes, means: pd.DataFrame, looks: dict[tuple[str, str], Look]) -> None:
    for cell in means[means["edge"].notna()].to_dict("records"):
        look = looks[cell["task"], cell["loss"]] | MEAN
        axes.plot([_within(axes, cell["predicted"])], [cell["edge"]], **look)


def _within(axes: Axes, predicted: float) -> float:
    """Where a quadratic finds any learning rate stable, the right end of the axis."""
    return min(predicted, axes.get_xlim()[1])


def _handles(edges: pd.DataFrame, looks: dict[tuple[str, str], Look]) -> list[Line2D]:
    tasks, losses = list(edges["task"].unique()), list(edges["loss"].unique())
    first = {task: looks[task, losses[0]] for task in tasks}
    handles = [
        Line2D([], [], label=TASK_LABELS.get(task, task), **first[task] | MEAN) for task in tasks
    ]
    grey = {**MEAN, "color": "0.35", "marker": "o", "linestyle": "none"}
    for loss in losses if len(losses) > 1 else []:
        fill = looks[tasks[0], loss]["fillstyle"]
        handles.append(Line2D([], [], label=LOSS_LABELS.get(loss, loss), fillstyle=fill, **grey))
    handles.append(Line2D([], [], label="a seed", **grey | SEED | {"alpha": 1.0}))
    handles.append(Line2D([], [], label="as predicted", **IDENTITY))
    if (edges["censored"] != "").any():
        handles.append(
            Line2D([], [], label="edge beyond the trials", **grey | {"marker": "^"} | SEED)
        )
    return handles
