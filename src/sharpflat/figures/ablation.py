"""Figures ``ablation_*``: what one setting does to SGD and Bulk-SGD."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflat.analysis.statistics import CELL, run_statistics
from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import (
    RELATIVE_LOSS,
    draw_curve,
    mark_divergence,
    relative_to_switch,
)
from sharpflat.figures.grid import finish_steps, is_lowest, one_row_each
from sharpflat.figures.points import (
    draw_infinite,
    draw_means,
    leave_zone,
    point_handles,
    zone_centre,
)
from sharpflat.figures.style import (
    STEPS_AFTER_SWITCH,
    apply_style,
    divergence_handles,
    label_log_axis,
    legend_below,
    line_style,
)
from sharpflat.figures.value_axis import SETTING_LABELS, ValueAxis, as_value, value_colour_bar

#: Relative widths of the panels: the first holds the curves.
WIDTHS = (1.5, 1.0, 1.0, 1.0)
#: Distance of the two methods at one value, as a share of the axis.
APART = 0.05


def plot_ablation(table: pd.DataFrame) -> Figure:
    """Losses after the switch for every value of a setting, and what they come to.

    Losses are divided by those at the switch. A row a task and loss: loss curves, means over seeds;
    final training loss; steps to the final loss of SGD at the same value and seed, as a share of
    the run; loss spikes a run, and the share of runs that diverged. Means over seeds have 95 %
    intervals.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, with one varied
            setting.

    Raises:
        ValueError: The table varies no setting, or several.
    """
    varied = list(table["varied"].dropna().unique())
    if len(varied) != 1:
        names = ", ".join(varied) or "none"
        raise ValueError(f"an ablation's table varies one setting, this one {names}")
    label = SETTING_LABELS.get(varied[0], varied[0])
    apply_style()
    after = table[table["method"] != BEFORE_SWITCH]
    after = relative_to_switch(after.assign(value=after["value"].map(as_value)))
    figure, groups = one_row_each(after, WIDTHS, split_last=True)
    for rows, (curves, final, steps, spikes, diverged) in groups:
        axis = ValueAxis.of(rows["value"])
        _plot_curves(curves, rows, axis)
        value_colour_bar(curves, axis, label)
        runs = _placed(run_statistics(rows), axis)
        _plot_final(final, runs)
        _plot_steps(steps, runs)
        _plot_events(spikes, diverged, runs)
        axis.finish(spikes, None)
        for panel in (final, steps, diverged):
            axis.finish(panel, label if is_lowest(curves) else None)
    handles = point_handles(list(after["method"].unique()))
    legend_below(figure, handles + divergence_handles(after), columns=5)
    return figure


def _plot_curves(axes: Axes, rows: pd.DataFrame, axis: ValueAxis) -> None:
    axes.set(yscale="log", ylabel=RELATIVE_LOSS)
    colours = axis.colours()
    curves = []
    for (method, value), of_value in rows.groupby(["method", "value"], sort=False):
        style = {**line_style(str(method)), "color": colours[as_value(value)], "linewidth": 1.0}
        curves.append((of_value, style))
    for of_value, style in curves:
        draw_curve(axes, of_value, "train_loss", log=True, band=False, **style)
    for of_value, style in curves:
        mark_divergence(axes, of_value, "train_loss", color=style["color"])
    last = rows["steps_after_switch"].max()
    finish_steps(axes, STEPS_AFTER_SWITCH, first=0, last=last)
    label_log_axis(axes, "y")


def _placed(runs: pd.DataFrame, axis: ValueAxis) -> pd.DataFrame:
    """The runs with where they stand on the axis, and their steps to SGD's loss as a share."""
    methods = list(runs["method"].unique())
    shifts = {name: APART * (i - (len(methods) - 1) / 2) for i, name in enumerate(methods)}
    places = zip(runs["value"], runs["method"].map(shifts), strict=True)
    x = [axis.position(value, shift) for value, shift in places]
    # Where SGD diverged its final loss is no target: any run has "reached" infinity at once.
    sgd = runs.loc[runs["method"] == "sgd", [*CELL, "seed", "diverged"]]
    sgd = sgd.rename(columns={"diverged": "sgd_diverged"})
    target_diverged = runs.merge(sgd, on=[*CELL, "seed"], how="left")["sgd_diverged"]
    share = runs["steps_to_sgd"] / runs["steps"].max()
    return runs.assign(x=x, steps_share=share.mask(target_diverged.fillna(True).astype(bool)))


def _plot_final(axes: Axes, runs: pd.DataFrame) -> None:
    axes.set(yscale="log", ylabel="relative final loss")
    for method, own in runs.groupby("method", sort=False):
        draw_means(axes, own, "final_train_loss", stem=str(method), log=True)
    if runs["diverged"].any():
        leave_zone(axes)
    for method, own in runs.groupby("method", sort=False):
        draw_infinite(axes, own, "final_train_loss", stem=str(method), diverged=True)
    label_log_axis(axes, "y")


def _plot_steps(axes: Axes, runs: pd.DataFrame) -> None:
    for method, own in runs.groupby("method", sort=False):
        draw_means(axes, own, "steps_share", stem=str(method))
    axes.set(ylabel="steps to SGD's final\nloss, share of the run", ylim=(0, 1.1))
    leave_zone(axes)
    for method, own in runs.groupby("method", sort=False):
        draw_infinite(axes, own, "steps_share", stem=str(method), diverged=False)
    axes.set_yticks([0, 0.5, 1, zone_centre(axes)], ["0", "0.5", "1", "never"])


def _plot_events(spikes: Axes, diverged: Axes, runs: pd.DataFrame) -> None:
    for method, own in runs.groupby("method", sort=False):
        draw_means(spikes, own, "spikes", stem=str(method))
        shares = own.groupby("x")["diverged"].mean()
        draw_means(diverged, shares.rename("share").reset_index(), "share", stem=str(method))
    highest = max(spikes.get_ylim()[1], 1.0)
    spikes.set(ylabel="spikes\na run", ylim=(-0.08 * highest, highest))
    diverged.set(ylabel="diverged\nshare", ylim=(-0.08, 1.08), yticks=[0, 1])
