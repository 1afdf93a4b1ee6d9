"""Figure ``dom_bulk``: what happens when only one part of the update is followed."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.accuracy import (
    ERROR_BAR,
    accuracy_handles,
    chance_words,
    dataset_of,
    draw_chance,
    standard_error,
)
from sharpflat.figures.comparison import (
    finish_losses,
    finish_shown,
    plot_curves,
    plot_losses,
    plot_ratios,
    shown,
)
from sharpflat.figures.curves import (
    diverged_seeds,
    mark_divergence,
    mean_over_seeds,
    relative_to_switch,
)
from sharpflat.figures.grid import one_row_each
from sharpflat.figures.style import (
    apply_style,
    legend_below,
    line_style,
    method_handles,
    seed_handle,
)

WIDTHS = (1.0, 1.0, 1.0)
#: Room for the error bars behind the last step, and from one to the next, as shares of the steps.
BAR_ROOM, BAR_DISTANCE = 0.12, 0.035


def plot_dom_bulk(table: pd.DataFrame) -> Figure:
    """Training loss, its ratio to that of SGD, and test accuracy against steps after the switch.

    A row a task and loss. Thin lines are seeds, thick ones their means, geometric for losses and
    ratios. The loss is divided by that at the switch, and in the second panel by that of SGD with
    the same seed at the same step, so that the seeds show how methods differ and not where each
    switched. The ratios' limits are those of the methods that follow the whole Bulk part; others
    may leave the panel, and the first has them. Bars at the end of the accuracies are the binomial
    standard error of one of them.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.
    """
    apply_style()
    figure, groups = one_row_each(relative_to_switch(table), WIDTHS)
    accuracy_panels: dict[str, Axes] = {}
    for rows, (loss_axes, ratio_axes, accuracy_axes) in groups:
        # The losses of one task are compared by their accuracies.
        first = accuracy_panels.setdefault(rows["task"].iloc[0], accuracy_axes)
        if first is not accuracy_axes:
            accuracy_axes.sharey(first)
        plot_losses(loss_axes, rows)
        plot_ratios(ratio_axes, rows)
        _plot_accuracies(accuracy_axes, rows)
    for rows, (loss_axes, _, accuracy_axes) in groups:
        for method, own in rows.groupby("method", sort=False):
            colour = line_style(str(method))["color"]
            mark_divergence(accuracy_axes, own, "test_accuracy", color=colour)
        finish_losses(loss_axes, rows)
        draw_chance(accuracy_axes, dataset_of(rows))
    legend_below(figure, _handles(table, figure), columns=4)
    return figure


def _plot_accuracies(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylabel("test accuracy")
    near = shown(rows)
    plot_curves(axes, near, "test_accuracy", log=False)
    last = finish_shown(axes, near)
    dataset = dataset_of(rows)
    if dataset is None:
        return
    axes.set_xlim(right=(1 + BAR_ROOM) * last)
    after = rows[rows["method"] != BEFORE_SWITCH]
    ends = after[after["step"] == after.groupby(["method", "seed"])["step"].transform("max")]
    words = chance_words(ends["test_accuracy"].dropna(), dataset)
    axes.set_title(words, loc="right", fontsize="x-small", color="0.35")
    for place, (method, own) in enumerate(after.groupby("method", sort=False)):
        _, means = mean_over_seeds(own, "test_accuracy", x="steps_after_switch", log=False)
        if diverged_seeds(own) or not len(means):
            continue
        error, style = standard_error(means[-1:], dataset.num_test), line_style(str(method))
        x = (1 + BAR_DISTANCE * (place + 0.6)) * last
        axes.errorbar([x], means[-1:], error, color=style["color"], fmt="none", **ERROR_BAR)


def _handles(table: pd.DataFrame, figure: Figure) -> list[Line2D]:
    return [*method_handles(table), seed_handle(), *accuracy_handles(table, figure)]
