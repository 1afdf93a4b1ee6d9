"""Figure ``interpolation``: the methods between SGD, Dom-SGD and Bulk-SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import (
    draw_curve,
    mark_divergence,
    mean_over_seeds,
)
from sharpflat.figures.grid import finish_steps, is_lowest, one_row_each
from sharpflat.figures.pairs import curve_ratios, run_pairs, sgd_name
from sharpflat.figures.points import (
    draw_infinite,
    draw_points,
    median,
    point_handles,
    say_if_empty,
)
from sharpflat.figures.style import (
    METHOD_COLOURS,
    METHOD_MARKERS,
    PATH_LABELS,
    STEPS_AFTER_SWITCH,
    apply_style,
    divergence_handles,
    label_log_axis,
    legend_below,
    line_style,
    method_label,
    seed_handle,
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
NO_SGD = "SGD diverged, or is not\namong the methods"
NO_POINTS = "no runs of its own"
#: Share of an axis below which a curve begins near its foot.
BEGIN_LOW = 0.25


def plot_interpolation(table: pd.DataFrame) -> Figure:
    """Loss along each path over that of SGD, step by step and at the end against α.

    A row a task and loss. Every ratio is of two runs of the same seed, which share checkpoint and
    mini-batches. Curves are geometric means over seeds, coloured by α. In the last panel points are
    seeds and lines join their medians. Where a named method lies on a path, its own mark stands.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, with points of the
            paths; the named methods stand in for points that equal them.
    """
    apply_style()
    after = table[table["method"] != BEFORE_SWITCH]
    figure, groups = one_row_each(after, WIDTHS)
    for rows, (*panels, final) in groups:
        paths = {path: on_path(rows, path) for path in PATHS}
        axis = ValueAxis.of(alpha for points in paths.values() for alpha in points["alpha"])
        for panel in panels[1:]:
            panel.sharey(panels[0])
            panel.tick_params(labelleft=False)
        panels[0].set(yscale="log", ylabel="training loss\nover SGD's")
        curves = {path: _with_sgd(rows, points) for path, points in paths.items()}
        for panel, (path, points) in zip(panels, curves.items(), strict=True):
            _plot_path(panel, points, path, axis, last=rows["steps_after_switch"].max())
        for panel, (path, points) in zip(panels, curves.items(), strict=True):
            _mark_ends(panel, points, path, axis)
            _name_path(panel, points, path)
        label_log_axis(panels[0], "y")
        value_colour_bar(panels[-1], axis, "α")
        _plot_final(final, rows, paths)
        if is_lowest(final):
            final.set_xlabel("α")
    legend_below(figure, _handles(after), columns=4)
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


def _with_sgd(rows: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """The points of a path with the ratio of their losses to SGD's; that of SGD itself is 1."""
    sgd = rows[rows["method"] == sgd_name(rows)].assign(method="reference", alpha=np.nan)
    both = pd.concat([points, sgd], ignore_index=True)
    return curve_ratios(both, sgd="reference")


def _plot_path(panel: Axes, points: pd.DataFrame, path: str, axis: ValueAxis, *, last: int) -> None:
    for alpha, of_alpha in points.groupby("alpha"):
        style = {"color": axis.colours()[as_value(alpha)], "linewidth": 1.2}
        draw_curve(panel, of_alpha, "ratio", log=True, seeds=False, **style)
    finish_steps(panel, STEPS_AFTER_SWITCH, first=0, last=last)
    say_if_empty(panel, points["ratio"], NO_SGD)


def _name_path(panel: Axes, points: pd.DataFrame, path: str) -> None:
    """Its weights, where the curves, which all begin at 1, leave room."""
    words = [PATH_LABELS[path], PATH_WEIGHTS[path]]
    if not points["method"].str.startswith(f"{path}(").any():
        words.append(NO_POINTS)
    low, high = np.log(panel.get_ylim())
    begin_low = -low < BEGIN_LOW * (high - low)
    y, side = (0.96, "top") if begin_low else (0.04, "baseline")
    place: dict[str, Any] = {"transform": panel.transAxes, "va": side, "fontsize": "x-small"}
    panel.text(0.05, y, "\n".join(words), **place)


def _mark_ends(panel: Axes, points: pd.DataFrame, path: str, axis: ValueAxis) -> None:
    """Crosses where runs diverged; the marks of the named methods where their curves end."""
    for alpha, of_alpha in points.groupby("alpha"):
        mark_divergence(panel, of_alpha, "ratio", color=axis.colours()[as_value(alpha)])
    for alpha, name in NAMED[path].items():
        own = points[points["alpha"] == alpha]
        if own.empty or (own["status"] == "diverged").any():
            continue
        steps, ratios = mean_over_seeds(own, "ratio", x="steps_after_switch", log=True)
        panel.plot(steps[-1:], ratios[-1:], clip_on=False, **_named_mark(name))


def _plot_final(axes: Axes, rows: pd.DataFrame, paths: dict[str, pd.DataFrame]) -> None:
    axes.set(yscale="log", ylabel="final training loss\nover SGD's")
    shifts = APART * np.linspace(-1, 1, len(paths))
    pairs = run_pairs(rows)
    # The ratio of SGD to itself does not say where it diverged.
    pairs["final_ratio"] = pairs["final_ratio"].mask(pairs["stability"] == "diverged", np.inf)
    parts = []
    for (path, points), shift in zip(paths.items(), shifts, strict=True):
        alphas = points.drop_duplicates("method").set_index("method")["alpha"]
        own = pairs[pairs["method"].isin(alphas.index)]
        own = own.assign(alpha=own["method"].map(alphas), method=path)
        parts.append(own.assign(x=own["alpha"] + shift))
        draw_points(axes, parts[-1], "final_ratio", method=path)
    runs = pd.concat(parts, ignore_index=True)
    axes.axhline(1, **{**line_style("sgd"), "zorder": 1})
    if np.isinf(runs["final_ratio"]).any():
        draw_infinite(axes, runs, "final_ratio")
    for path in paths:
        for alpha, name in NAMED[path].items():
            own = runs[(runs["method"] == path) & (runs["alpha"] == alpha)]
            if len(own) and np.isfinite(middle := median(own["final_ratio"].dropna())):
                axes.plot([own["x"].iloc[0]], [middle], clip_on=False, **_named_mark(name))
    say_if_empty(axes, runs["final_ratio"], NO_SGD)
    label_log_axis(axes, "y")


def _named_mark(name: str) -> dict[str, Any]:
    return {"marker": METHOD_MARKERS[name], "color": METHOD_COLOURS[name], **NAMED_MARK}


def _handles(table: pd.DataFrame) -> list[Line2D]:
    """Paths in the upper row of the legend, named methods in the lower: it fills by columns."""
    paths = point_handles(list(PATHS))
    named = [Line2D([], [], label=method_label(name), **_named_mark(name)) for name in POINTS]
    pairs = [handle for pair in zip(paths, named, strict=True) for handle in pair]
    return [*pairs, seed_handle("o"), *divergence_handles(table)]
