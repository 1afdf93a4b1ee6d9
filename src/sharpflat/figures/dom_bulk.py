"""Figure ``dom_bulk``: what happens when only one part of the update is followed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import (
    RELATIVE_LOSS,
    draw_curve,
    draw_seeds,
    mark_divergence,
    mark_switch,
    relative_to_switch,
)
from sharpflat.figures.grid import finish_steps, loss_pairs
from sharpflat.figures.style import (
    STEPS_AFTER_SWITCH,
    apply_style,
    label_log_axis,
    legend_below,
    line_style,
    method_handles,
)

#: How much is shown before the switch, as a share of what is after it: the start of training would
#: hide what the methods do.
SHOWN_BEFORE = 0.5
#: For the same reason, the highest training loss there, over that at the switch.
HIGHEST_BEFORE = 1.3
COLUMNS = {"train_loss": RELATIVE_LOSS, "test_accuracy": "test accuracy"}


def plot_dom_bulk(table: pd.DataFrame) -> Figure:
    """Training loss and test accuracy against steps after the switch, mean over seeds with bands.

    The loss is divided by that at the switch, so that bands show how methods differ and not where
    seeds switched.

    Before the switch every seed is a line of its own, since each has its switch elsewhere.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.
    """
    apply_style()
    figure, groups = loss_pairs(relative_to_switch(table))
    accuracy_panels: dict[str, Axes] = {}
    for rows, (loss_axes, accuracy_axes) in groups:
        # The losses of one task are compared by their accuracies.
        first = accuracy_panels.setdefault(rows["task"].iloc[0], accuracy_axes)
        if first is not accuracy_axes:
            accuracy_axes.sharey(first)
        loss_axes.set_yscale("log")
        _plot(loss_axes, rows, "train_loss")
        _plot(accuracy_axes, rows, "test_accuracy")
    for rows, panels in groups:
        for panel, column in zip(panels, COLUMNS, strict=True):
            for method, of_method in rows.groupby("method", sort=False):
                mark_divergence(panel, of_method, column, color=line_style(str(method))["color"])
        label_log_axis(panels[0], "y")
    legend_below(figure, method_handles(table), columns=5)
    return figure


def _last_high(rows: pd.DataFrame) -> Callable[[int], float]:
    """For a seed, the last step before the switch at which its loss is too high to be shown."""
    before = rows[(rows["method"] == BEFORE_SWITCH) & (rows["train_loss"] > HIGHEST_BEFORE)]
    last = before.groupby("seed")["steps_after_switch"].max()
    return lambda seed: last.get(seed, -math.inf)


def _plot(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    steps = rows["steps_after_switch"].max()
    shown = rows[rows["steps_after_switch"] >= -SHOWN_BEFORE * steps]
    if column == "train_loss":
        shown = shown[shown["steps_after_switch"] > shown["seed"].map(_last_high(shown))]
    for method, of_method in shown.groupby("method", sort=False):
        style = line_style(str(method))
        if method == BEFORE_SWITCH:
            draw_seeds(axes, of_method, column, **style)
        else:
            draw_curve(axes, of_method, column, log=column == "train_loss", **style)
    mark_switch(axes)
    axes.set(ylabel=COLUMNS[column])
    finish_steps(axes, STEPS_AFTER_SWITCH, first=-SHOWN_BEFORE * steps, last=steps)
