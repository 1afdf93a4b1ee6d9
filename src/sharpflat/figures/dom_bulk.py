"""Figure ``dom_bulk``: what happens when only one part of the update is followed."""

from __future__ import annotations

import math
from collections.abc import Callable

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
from sharpflat.figures.curves import (
    RELATIVE_LOSS,
    diverged_seeds,
    draw_curve,
    draw_seeds,
    mark_divergence,
    mark_switch,
    mean_over_seeds,
    relative_to_switch,
)
from sharpflat.figures.grid import finish_steps, one_row_each
from sharpflat.figures.pairs import curve_ratios, sgd_name
from sharpflat.figures.points import say_if_empty
from sharpflat.figures.style import (
    STEPS_AFTER_SWITCH,
    apply_style,
    label_log_axis,
    legend_below,
    line_style,
    method_handles,
    seed_handle,
)

WIDTHS = (1.0, 1.0, 1.0)
#: How much is shown before the switch, as a share of what is after it: the start of training would
#: hide what the methods do.
SHOWN_BEFORE = 0.5
#: For the same reason, the highest training loss there, over that at the switch, up to the last
#: record above it.
HIGHEST_BEFORE = 1.3
#: Least half height of a panel of ratios, so that rounding does not fill it.
LEAST_RATIO_SPAN = 1.02
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
        _plot_losses(loss_axes, rows)
        _plot_ratios(ratio_axes, rows)
        _plot_accuracies(accuracy_axes, rows)
    for rows, (loss_axes, _, accuracy_axes) in groups:
        for method, own in rows.groupby("method", sort=False):
            colour = line_style(str(method))["color"]
            mark_divergence(loss_axes, own, "train_loss", color=colour)
            mark_divergence(accuracy_axes, own, "test_accuracy", color=colour)
        label_log_axis(loss_axes, "y")
        draw_chance(accuracy_axes, dataset_of(rows))
    legend_below(figure, _handles(table), columns=4)
    return figure


def _plot_losses(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set(yscale="log", ylabel=RELATIVE_LOSS)
    shown = _shown(rows)
    _plot_curves(axes, shown, "train_loss", log=True)
    _finish_steps(axes, shown)


def _plot_ratios(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set(yscale="log", ylabel="training loss\nover SGD's")
    after = rows[rows["method"] != BEFORE_SWITCH]
    name = sgd_name(after)
    ratios = curve_ratios(after, sgd=name)
    followed = ratios[ratios["bulk_weight"] >= 1]
    followed = ratios if followed.empty else followed
    for method, own in followed.groupby("method", sort=False):
        draw_curve(axes, own, "ratio", log=True, **line_style(str(method)))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 1 / LEAST_RATIO_SPAN), max(high, LEAST_RATIO_SPAN))
    axes.autoscale(enable=False)
    for method, own in ratios[~ratios["method"].isin(followed["method"])].groupby("method"):
        draw_curve(axes, own, "ratio", log=True, **line_style(str(method)))
    for method, own in ratios.groupby("method", sort=False):
        mark_divergence(axes, own, "ratio", color=line_style(str(method))["color"])
    axes.axhline(1, **line_style("sgd"))
    say_if_empty(axes, ratios["ratio"], "SGD diverged, or is not\namong the methods")
    seeds = rows["seed"].nunique()
    if lost := len(diverged_seeds(after[after["method"] == name])):
        words = f"SGD diverged in\n{lost} of {seeds} seeds"
        axes.text(0.04, 0.04, words, transform=axes.transAxes, fontsize="x-small")
    finish_steps(axes, STEPS_AFTER_SWITCH, first=0, last=after["steps_after_switch"].max())
    label_log_axis(axes, "y")


def _plot_accuracies(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylabel("test accuracy")
    shown = _shown(rows)
    _plot_curves(axes, shown, "test_accuracy", log=False)
    last = _finish_steps(axes, shown)
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


def _plot_curves(axes: Axes, rows: pd.DataFrame, column: str, *, log: bool) -> None:
    """The methods after the switch, and every seed before it: each has its switch elsewhere."""
    for method, own in rows.groupby("method", sort=False):
        style = line_style(str(method))
        if method == BEFORE_SWITCH:
            draw_seeds(axes, own, column, **style)
        else:
            draw_curve(axes, own, column, log=log, **style)
    mark_switch(axes)


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows but for those before the switch that are long ago or of a high loss."""
    steps = rows["steps_after_switch"]
    recent = rows[steps >= -SHOWN_BEFORE * steps.max()]
    shown: pd.DataFrame = recent[
        recent["steps_after_switch"] > recent["seed"].map(_last_high(recent))
    ]
    return shown


def _last_high(rows: pd.DataFrame) -> Callable[[int], float]:
    """For a seed, the last step before the switch at which its loss is too high to be shown."""
    before = rows[(rows["method"] == BEFORE_SWITCH) & (rows["train_loss"] > HIGHEST_BEFORE)]
    last = before.groupby("seed")["steps_after_switch"].max()
    return lambda seed: last.get(seed, -math.inf)


def _finish_steps(axes: Axes, rows: pd.DataFrame) -> int:
    first, last = rows["steps_after_switch"].agg(["min", "max"])
    finish_steps(axes, STEPS_AFTER_SWITCH, first=first, last=last)
    return int(last)


def _handles(table: pd.DataFrame) -> list[Line2D]:
    return [*method_handles(table), seed_handle(), *accuracy_handles(table)]
