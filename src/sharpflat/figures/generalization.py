"""Figure ``generalization``: what each method's training loss is worth in test accuracy."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.intervals import geometric_mean
from sharpflat.analysis.statistics import run_statistics
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.accuracy import (
    ERROR_BAR,
    accuracy_handles,
    chance_words,
    dataset_of,
    draw_chance,
    standard_error,
)
from sharpflat.figures.grid import is_lowest, one_panel_each
from sharpflat.figures.pairs import sgd_name
from sharpflat.figures.style import (
    DIVERGED,
    apply_style,
    divergence_handles,
    label_log_axis,
    legend_below,
    method_colour,
    method_label,
    method_marker,
)

ROW_HEIGHT = 1.9
#: From one cross to the next above it, as a share of the panel.
CROSS_DISTANCE = 0.07
#: Room for words below the lowest accuracy, as a share of the panel.
WORDS_ROOM = 0.1
SEED: dict[str, Any] = {
    "markersize": 3.6,
    "markeredgecolor": "white",
    "markeredgewidth": 0.3,
    "linestyle": "none",
    "zorder": 3,
}
MEAN: dict[str, Any] = {
    "markersize": 7.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.8,
    "linestyle": "none",
    "alpha": 0.75,
    "zorder": 3.5,
}
#: Joins the runs of a seed to that of SGD.
PAIR: dict[str, Any] = {"color": "0.7", "linewidth": 0.6, "zorder": 1.5}


def plot_generalization(table: pd.DataFrame) -> Figure:
    """Test accuracy against training loss at the end of every run.

    Small marks are seeds with the binomial standard error of their accuracy, and a line joins each
    to SGD of the same seed; large marks are means over seeds, geometric for the loss. A run that
    diverged has no place: it is a cross at the panel's lower right corner, and its method has no
    mean.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.
    """
    apply_style()
    figure, groups = one_panel_each(table, ROW_HEIGHT)
    methods: list[str] = []
    for rows, (panel,) in groups:
        runs = run_statistics(rows)
        methods = list(dict.fromkeys([*methods, *runs["method"]]))
        _plot_runs(panel, rows, runs)
        if is_lowest(panel):
            panel.set_xlabel("final training loss")
        panel.set_ylabel("final test accuracy")
    handles = [Line2D([], [], label=method_label(name), **_look(name), **MEAN) for name in methods]
    handles.append(Line2D([], [], label="a seed", color="0.35", marker="o", **SEED))
    handles.append(Line2D([], [], label="same seed", **PAIR))
    handles += accuracy_handles(table, figure)
    handles += divergence_handles(table[table["method"] != BEFORE_SWITCH])
    legend_below(figure, handles, columns=4)
    return figure


def _plot_runs(axes: Axes, rows: pd.DataFrame, runs: pd.DataFrame) -> None:
    axes.set_xscale("log")
    lost, dataset = runs["stability"] == "diverged", dataset_of(rows)
    finished = runs[~lost]
    _join_pairs(axes, finished, sgd_name(rows[rows["method"] != BEFORE_SWITCH]))
    for method, own in finished.groupby("method", sort=False):
        look = _look(str(method))
        loss, accuracy = own["final_train_loss"], own["final_test_accuracy"]
        if dataset is not None:
            error = standard_error(accuracy, dataset.num_test)
            bars = {"color": look["color"], "alpha": 0.4, "zorder": 2, **ERROR_BAR}
            axes.errorbar(loss, accuracy, error, fmt="none", **bars)
        axes.plot(loss, accuracy, **look, **SEED)
        if not lost[runs["method"] == method].any():
            axes.plot([geometric_mean(loss)], [accuracy.mean()], **look, **MEAN)
    low, high = axes.get_ylim()
    if words := chance_words(finished["final_test_accuracy"], dataset):
        low -= WORDS_ROOM * (high - low)
        axes.text(0.03, 0.03, words, transform=axes.transAxes, fontsize="x-small", color="0.35")
    axes.set_ylim(max(low, 0), min(high, 1))
    draw_chance(axes, dataset)
    label_log_axis(axes, "x")
    for place, method in enumerate(runs.loc[lost, "method"]):
        height, colour = CROSS_DISTANCE * (place + 0.5), _look(method)["color"]
        cross = Line2D([1.0], [height], color=colour, clip_on=False, **DIVERGED)
        axes.add_artist(cross).set_transform(axes.transAxes)


def _join_pairs(axes: Axes, runs: pd.DataFrame, sgd: str | None) -> None:
    """A line from SGD of a seed to every other run of the seed."""
    columns = ["final_train_loss", "final_test_accuracy"]
    starts = runs[runs["method"] == sgd].set_index("seed")[columns]
    for run in runs[runs["method"] != sgd].to_dict("records"):
        if run["seed"] in starts.index:
            loss, accuracy = starts.loc[run["seed"]]
            xs, ys = [loss, run[columns[0]]], [accuracy, run[columns[1]]]
            axes.add_artist(Line2D(xs, ys, **PAIR))


def _look(method: str) -> dict[str, Any]:
    return {"color": method_colour(method), "marker": method_marker(method)}
