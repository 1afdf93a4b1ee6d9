"""Figure ``interpolation``: the methods between SGD, Dom-SGD and Bulk-SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.intervals import geometric_mean
from sharpflat.analysis.statistics import run_statistics
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import (
    RELATIVE_LOSS,
    draw_curve,
    mark_divergence,
    relative_to_switch,
)
from sharpflat.figures.grid import finish_steps, is_lowest, one_row_each
from sharpflat.figures.points import draw_infinite, draw_means, leave_zone, point_handles
from sharpflat.figures.style import (
    METHOD_COLOURS,
    METHOD_MARKERS,
    PATH_LABELS,
    STEPS_AFTER_SWITCH,
    apply_style,
    divergence_handles,
    label_log_axis,
    legend_below,
    method_label,
)
from sharpflat.figures.value_axis import ValueAxis, as_value, value_colour_bar
from sharpflat.methods import PATHS, POINTS

#: Relative widths of the panels: a path each, and what all paths come to.
WIDTHS = (1.0, 1.0, 1.0, 1.3)
#: The weights along each path, as its panel names them.
PATH_WEIGHTS = {
    "sgd_to_bulk": "(1 − α, 1)",
    "sgd_to_dom": "(1, 1 − α)",
    "convex": "(2 − 2α, 2α)",
}
#: The named methods on each path, by their α; ``convex`` has only SGD, at its middle.
NAMED = {
    path: {
        alpha: name
        for alpha in (0.0, 0.5, 1.0)
        for name, point in POINTS.items()
        if weights(alpha) == point
    }
    for path, weights in PATHS.items()
}
NAMED_MARK: dict[str, Any] = {
    "markersize": 6.0,
    "markeredgecolor": "white",
    "markeredgewidth": 0.7,
    "linestyle": "none",
    "zorder": 4,
}
#: Distance of two paths at one α.
APART = 0.03


def plot_interpolation(table: pd.DataFrame) -> Figure:
    """Loss curves along each path, and the final training loss against α for all of them.

    Losses are divided by those at the switch. A row a task and loss. Curves are means over seeds,
    coloured by α; the last panel has means with 95 % intervals. Where a named method lies on a
    path, its own mark stands.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, with points of the
            paths; the named methods stand in for points that equal them.
    """
    apply_style()
    after = relative_to_switch(table[table["method"] != BEFORE_SWITCH])
    figure, groups = one_row_each(after, WIDTHS)
    for rows, (*panels, final) in groups:
        paths = {path: on_path(rows, path) for path in PATHS}
        axis = ValueAxis.of(alpha for points in paths.values() for alpha in points["alpha"])
        for panel in panels[1:]:
            panel.sharey(panels[0])
            panel.tick_params(labelleft=False)
        panels[0].set(yscale="log", ylabel=RELATIVE_LOSS)
        for panel, (path, points) in zip(panels, paths.items(), strict=True):
            _plot_path(panel, points, path, axis)
        for panel, (path, points) in zip(panels, paths.items(), strict=True):
            _mark_ends(panel, points, path, axis)
        label_log_axis(panels[0], "y")
        value_colour_bar(panels[-1], axis, "α")
        _plot_final(final, paths)
        if is_lowest(final):
            final.set_xlabel("α")
    legend_below(figure, _handles() + divergence_handles(after), columns=4)
    return figure


def on_path(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    """The runs of a path's points, each point once, with a column ``alpha``."""
    named = {name: alpha for alpha, name in NAMED[path].items()}
    alphas = {
        method: named.get(method, _alpha(method) if method.startswith(f"{path}(") else np.nan)
        for method in rows["method"].unique()
    }
    points = rows.assign(alpha=rows["method"].map(alphas)).dropna(subset="alpha")
    return points.drop_duplicates(["alpha", "seed", "step"])


def _alpha(method: str) -> float:
    return float(method.removesuffix(")").split("(")[1])


def _plot_path(panel: Axes, points: pd.DataFrame, path: str, axis: ValueAxis) -> None:
    for alpha, of_alpha in points.groupby("alpha"):
        style = {"color": axis.colours()[as_value(alpha)], "linewidth": 1.0}
        draw_curve(panel, of_alpha, "train_loss", log=True, band=False, **style)
    finish_steps(panel, STEPS_AFTER_SWITCH, first=0, last=points["steps_after_switch"].max())
    weights = f"{PATH_LABELS[path]}\n{PATH_WEIGHTS[path]}"
    panel.text(0.05, 0.04, weights, transform=panel.transAxes, fontsize="x-small")


def _mark_ends(panel: Axes, points: pd.DataFrame, path: str, axis: ValueAxis) -> None:
    """Crosses where runs diverged; the marks of the named methods where their curves end."""
    for alpha, of_alpha in points.groupby("alpha"):
        mark_divergence(panel, of_alpha, "train_loss", color=axis.colours()[as_value(alpha)])
    runs = _statistics(points)
    _mark_named(panel, runs.assign(x=runs["steps"]), path)


def _plot_final(axes: Axes, paths: dict[str, pd.DataFrame]) -> None:
    axes.set(yscale="log", ylabel="relative final loss")
    shifts = APART * np.linspace(-1, 1, len(paths))
    runs = {path: _statistics(points) for path, points in paths.items()}
    for (path, own), shift in zip(runs.items(), shifts, strict=True):
        runs[path] = own.assign(x=own["alpha"] + shift)
        draw_means(axes, runs[path], "final_train_loss", stem=path, log=True)
    if any(own["diverged"].any() for own in runs.values()):
        leave_zone(axes)
    for path, own in runs.items():
        draw_infinite(axes, own, "final_train_loss", stem=path, diverged=True)
        _mark_named(axes, own, path)
    label_log_axis(axes, "y")


def _statistics(points: pd.DataFrame) -> pd.DataFrame:
    """Statistics of a path's runs, with their ``alpha``."""
    alphas = points.drop_duplicates("method").set_index("method")["alpha"]
    runs = run_statistics(points)
    return runs.assign(alpha=runs["method"].map(alphas))


def _mark_named(axes: Axes, runs: pd.DataFrame, path: str) -> None:
    """The marks of the named methods at their mean final training losses."""
    for alpha, name in NAMED[path].items():
        own = runs[runs["alpha"] == alpha]
        if own.empty or own["diverged"].any():
            continue
        mean = geometric_mean(own["final_train_loss"])
        axes.plot([own["x"].iloc[0]], [mean], clip_on=False, **_named_mark(name))


def _named_mark(name: str) -> dict[str, Any]:
    return {"marker": METHOD_MARKERS[name], "color": METHOD_COLOURS[name], **NAMED_MARK}


def _handles() -> list[Line2D]:
    """Paths in the upper row of the legend, named methods in the lower: it fills by columns."""
    paths = point_handles(list(PATHS))
    named = [Line2D([], [], label=method_label(name), **_named_mark(name)) for name in POINTS]
    return [handle for pair in zip(paths, named, strict=True) for handle in pair]
