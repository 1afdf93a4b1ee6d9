"""Figures ``ablation_*``: what one setting does to the methods, beside SGD."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import (
    RELATIVE_LOSS,
    draw_curve,
    mark_divergence,
    relative_to_switch,
)
from sharpflat.figures.grid import blocks, finish_steps
from sharpflat.figures.pairs import run_pairs, sgd_name
from sharpflat.figures.points import (
    draw_infinite,
    draw_points,
    point_handles,
    say_if_empty,
)
from sharpflat.figures.style import (
    STEPS_AFTER_SWITCH,
    apply_style,
    divergence_handles,
    label_log_axis,
    legend_below,
    line_style,
    method_colour,
    seed_handle,
)
from sharpflat.figures.value_axis import SETTING_LABELS, ValueAxis, as_value, value_colour_bar

#: Width of all methods together at one value, as a share of the axis or of the distance to the
#: next value, whichever is less.
GROUP_WIDTH, GROUP_SHARE = 0.09, 0.6
#: How the bars show what became of runs: colours are the methods', stable runs have no bar.
CLASSES: dict[str, dict[str, Any]] = {
    "diverged": {"alpha": 0.9, "hatch": None},
    "unstable": {"alpha": 0.35, "hatch": "/////"},
}
CLASS_LABELS = {"diverged": "share that diverged", "unstable": "share that was unstable"}
#: Least limits of a panel of ratios to either side of 1, and room beyond its points.
RATIO_SPAN, RATIO_ROOM = 1.005, 1.01
#: Room for a marker beyond its point, as a share of the axis.
MARKER_ROOM = 0.04
#: Upper limit of the axes of shares, so that a full bar's edge is seen.
FULL = 1.03


def plot_ablation(table: pd.DataFrame) -> Figure:
    """Losses after the switch for every value of a setting, and what they come to beside SGD.

    Four panels a task and loss: geometric means over seeds of the loss curves, divided by the loss
    at the switch; the final training loss over that of SGD at the same value and seed; steps to
    the final loss of SGD over the steps that SGD took to it; loss spikes a run, and below them the
    shares of runs that were unstable or diverged. Points are seeds, lines join their medians.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, with one varied
            setting.

    Raises:
        ValueError: The table varies no setting, or several.
    """
    varied = list(table["varied"].dropna().unique())
    if len(varied) != 1:
        names = ", ".join(varied) or "none"
        raise ValueError(
            f"an ablation's table varies one setting, this one {names}: name one under the "
            "figure's `vary`"
        )
    label = SETTING_LABELS.get(varied[0], varied[0])
    apply_style()
    after = table[table["method"] != BEFORE_SWITCH]
    after = relative_to_switch(after.assign(value=after["value"].map(as_value)))
    figure, groups = blocks(after)
    for rows, (curves, final, steps, spikes, classes) in groups:
        axis = ValueAxis.of(rows["value"])
        _plot_curves(curves, rows, axis)
        value_colour_bar(curves, axis, label)
        runs = run_pairs(rows)
        slots = _slots(axis, list(runs["method"].unique()))
        runs["x"] = [
            axis.position(value, sum(slots[method]) / 2)
            for value, method in zip(runs["value"], runs["method"], strict=True)
        ]
        _plot_ratios(final, runs, "final_ratio")
        final.set_ylabel("final training loss\nover SGD's")
        _plot_ratios(steps, runs, "steps_ratio")
        steps.set_ylabel("steps to SGD's final loss\nover SGD's steps to it")
        _plot_spikes(spikes, runs)
        _plot_classes(classes, runs, axis, slots)
        axis.finish(spikes, None)
        for panel in (final, steps, classes):
            axis.finish(panel, label)
    legend_below(figure, _handles(after), columns=4)
    return figure


def _plot_curves(axes: Axes, rows: pd.DataFrame, axis: ValueAxis) -> None:
    axes.set(yscale="log", ylabel=RELATIVE_LOSS)
    colours = axis.colours()
    curves = []
    for (method, value), of_value in rows.groupby(["method", "value"], sort=False):
        style = {**line_style(str(method)), "color": colours[as_value(value)], "linewidth": 1.0}
        curves.append((of_value, style))
    for of_value, style in curves:
        draw_curve(axes, of_value, "train_loss", log=True, seeds=False, **style)
    for of_value, style in curves:
        mark_divergence(axes, of_value, "train_loss", color=style["color"])
    last = rows["steps_after_switch"].max()
    finish_steps(axes, STEPS_AFTER_SWITCH, first=0, last=last)
    axes.set_xlabel(STEPS_AFTER_SWITCH)
    label_log_axis(axes, "y")


def _slots(axis: ValueAxis, methods: list[str]) -> dict[str, tuple[float, float]]:
    """Where each method begins and ends beside a value, as shares of the axis."""
    width = min(GROUP_WIDTH, GROUP_SHARE * axis.least_distance())
    edges = width * (np.arange(len(methods) + 1) / len(methods) - 0.5)
    return dict(zip(methods, pairwise(edges.tolist()), strict=True))


def _plot_ratios(axes: Axes, runs: pd.DataFrame, column: str) -> None:
    """A ratio to SGD by seed; at the top the runs that have none, SGD's where it diverged."""
    axes.set_yscale("log")
    others = runs[runs["method"] != sgd_name(runs)]
    for method, own in others.groupby("method", sort=False):
        draw_points(axes, own, column, method=str(method))
    axes.axhline(1, **line_style("sgd"))
    finite = others.loc[np.isfinite(others[column]), column]
    low, high = finite.min(), finite.max()  # NaN without any, which min and max then pass over
    room = max(RATIO_ROOM, (max(high, 1) / min(low, 1)) ** MARKER_ROOM)
    axes.set_ylim(min(1 / RATIO_SPAN, low / room), max(RATIO_SPAN, high * room))
    draw_infinite(axes, _diverged_as_infinite(runs, column), column)
    say_if_empty(axes, others[column], "SGD diverged, or is not\namong the methods")
    label_log_axis(axes, "y")


def _plot_spikes(axes: Axes, runs: pd.DataFrame) -> None:
    """Spikes of the runs that went to their end; a run that diverged is a cross and no number."""
    counted = _diverged_as_infinite(runs, "spikes")
    for method, own in counted.groupby("method", sort=False):
        draw_points(axes, own, "spikes", method=str(method))
    highest = max(axes.get_ylim()[1], 1.0)
    axes.set(ylabel="spikes\na run", ylim=(-0.08 * highest, highest))
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    draw_infinite(axes, counted, "spikes")


def _diverged_as_infinite(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    return runs.assign(**{column: runs[column].mask(runs["stability"] == "diverged", np.inf)})


def _plot_classes(
    axes: Axes, runs: pd.DataFrame, axis: ValueAxis, slots: dict[str, tuple[float, float]]
) -> None:
    for (value, method), own in runs.groupby(["value", "method"], sort=False):
        left, right = (axis.position(as_value(value), shift) for shift in slots[str(method)])
        bottom = 0.0
        for name, look in CLASSES.items():
            share = float((own["stability"] == name).mean())
            colour = method_colour(str(method))
            bar = Rectangle((left, bottom), right - left, share, **look)
            bar.set(facecolor=colour, edgecolor=colour, linewidth=0.6)
            if share > 0:
                axes.add_patch(bar)
            bottom += share
    axes.set(ylabel="share\nof runs", ylim=(0, FULL), yticks=[0, 1])
    if (runs["stability"] == "stable").all():
        place: dict[str, Any] = {"ha": "center", "va": "center", "color": "0.35"}
        axes.text(0.5, 0.5, "all stable", transform=axes.transAxes, fontsize="x-small", **place)


def _handles(table: pd.DataFrame) -> list[Any]:
    handles: list[Any] = [*point_handles(list(table["method"].unique())), seed_handle("o")]
    for name, look in CLASSES.items():
        patch = Patch(
            facecolor="0.35",
            edgecolor="0.35",
            label=CLASS_LABELS[name],
            **look,
        )
        handles.append(patch)
    never = point_handles([m for m in table["method"].unique() if m != "sgd"][:1])
    for handle in never:
        handle.set(linestyle="none", markerfacecolor="white", label="runs that never reached it")
    return [*handles, *never, *divergence_handles(table)]
