"""Figure ``generalization``: what each method's training loss is worth in test accuracy."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.intervals import geometric_mean
from sharpflat.analysis.statistics import run_statistics
from sharpflat.figures.grid import is_lowest, one_panel_each
from sharpflat.figures.style import (
    DIVERGED,
    METHOD_COLOURS,
    METHOD_MARKERS,
    apply_style,
    divergence_handles,
    label_log_axis,
    legend_below,
    method_label,
)

ROW_HEIGHT = 1.9
#: From one cross to the next above it, as a share of the panel.
CROSS_DISTANCE = 0.07
SEED: dict[str, Any] = {
    "markersize": 4.2,
    "markeredgecolor": "white",
    "markeredgewidth": 0.4,
    "linestyle": "none",
    "zorder": 3,
}
MEAN: dict[str, Any] = {
    "markersize": 7.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.8,
    "linestyle": "none",
    "alpha": 0.75,
}


def plot_generalization(table: pd.DataFrame) -> Figure:
    """Test accuracy against training loss at the end of every run.

    Small marks are seeds, large ones means over them, geometric for the loss. A run that diverged
    has no place: it is a cross at the panel's lower right corner, and its method has no mean.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.
    """
    apply_style()
    figure, groups = one_panel_each(table, ROW_HEIGHT)
    methods: list[str] = []
    for rows, (panel,) in groups:
        runs = run_statistics(rows)
        methods = list(dict.fromkeys([*methods, *runs["method"]]))
        _plot_runs(panel, runs)
        if is_lowest(panel):
            panel.set_xlabel("final training loss")
        panel.set_ylabel("final test accuracy")
    handles = [Line2D([], [], label=method_label(name), **_look(name), **MEAN) for name in methods]
    handles.append(Line2D([], [], label="a seed", color="0.35", marker="o", **SEED))
    legend_below(figure, handles + divergence_handles(table), columns=5)
    return figure


def _plot_runs(axes: Axes, runs: pd.DataFrame) -> None:
    axes.set_xscale("log")
    finished = runs[~runs["diverged"]]
    for method, own in finished.groupby("method", sort=False):
        look = _look(str(method))
        axes.plot(own["final_train_loss"], own["final_test_accuracy"], **look, **SEED)
        if not runs.loc[runs["method"] == method, "diverged"].any():
            loss = geometric_mean(own["final_train_loss"])
            axes.plot([loss], [own["final_test_accuracy"].mean()], **look, **MEAN)
    label_log_axis(axes, "x")
    for place, method in enumerate(runs.loc[runs["diverged"], "method"]):
        height, colour = CROSS_DISTANCE * (place + 0.5), _look(method)["color"]
        cross = Line2D([1.0], [height], color=colour, clip_on=False, **DIVERGED)
        axes.add_artist(cross).set_transform(axes.transAxes)


def _look(method: str) -> dict[str, Any]:
    stem = method.split("(")[0]
    return {"color": METHOD_COLOURS[stem], "marker": METHOD_MARKERS[stem]}
