"""What methods make of one switch: their losses, and the ratios to one of them, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import (
    RELATIVE_LOSS,
    diverged_seeds,
    draw_curve,
    draw_seeds,
    mark_divergence,
    mark_switch,
)
from sharpflat.figures.grid import finish_steps
from sharpflat.figures.pairs import curve_ratios, sgd_name
from sharpflat.figures.points import say_if_empty
from sharpflat.figures.style import (
    SERIES_COLOURS,
    STEPS_AFTER_SWITCH,
    dashed,
    label_log_axis,
    line_style,
)

#: How much is shown before the switch, as a share of what is after it: the start of training would
#: hide what the methods do.
SHOWN_BEFORE = 0.5
#: For the same reason, the highest training loss there, over that at the switch, up to the last
#: record above it.
HIGHEST_BEFORE = 1.3
#: Least half height of a panel of ratios, so that rounding does not fill it.
LEAST_RATIO_SPAN = 1.02
#: Lines of alignments by the columns that they show.
ALIGNMENTS: dict[str, dict[str, Any]] = {
    "alignment": {"color": SERIES_COLOURS[0], "linestyle": "solid"},
    "batch_alignment": {"color": SERIES_COLOURS[1], "linestyle": dashed((4, 1.5))},
    "update_alignment": {"color": SERIES_COLOURS[2], "linestyle": dashed((1, 1))},
}
ALIGNMENT_LABELS = {
    "alignment": "full gradient",
    "batch_alignment": "mini-batch gradient",
    "update_alignment": "update",
}
ALIGNMENT_WIDTH = 1.1


def plot_losses(axes: Axes, rows: pd.DataFrame) -> None:
    """Training losses over that at the switch; ``rows`` have them so.

    Call :func:`finish_losses` when every panel that shares an axis with it is drawn.
    """
    axes.set(yscale="log", ylabel=RELATIVE_LOSS)
    near = shown(rows)
    plot_curves(axes, near, "train_loss", log=True)
    finish_shown(axes, near)


def finish_losses(axes: Axes, rows: pd.DataFrame) -> None:
    """Crosses and numbers of a panel of losses, whose limits are final."""
    for method, own in rows.groupby("method", sort=False):
        mark_divergence(axes, own, "train_loss", color=line_style(str(method))["color"])
    label_log_axis(axes, "y")


def plot_ratios(axes: Axes, rows: pd.DataFrame, *, base: str = "SGD") -> None:
    """Training losses over that of one method, with the same seed at the same step.

    Args:
        axes: Where to draw; its limits are those of the methods that follow the whole Bulk part,
            others may leave it.
        rows: Of one cell.
        base: What the method with weights (1, 1) is called.
    """
    axes.set(yscale="log", ylabel=f"training loss\nover {base}'s")
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
    say_if_empty(axes, ratios["ratio"], f"{base} diverged, or is not\namong the methods")
    seeds = rows["seed"].nunique()
    if lost := len(diverged_seeds(after[after["method"] == name])):
        words = f"{base} diverged in\n{lost} of {seeds} seeds"
        axes.text(0.04, 0.04, words, transform=axes.transAxes, fontsize="x-small")
    finish_steps(axes, STEPS_AFTER_SWITCH, first=0, last=after["steps_after_switch"].max())
    label_log_axis(axes, "y")


def plot_alignments(axes: Axes, rows: pd.DataFrame, columns: list[str]) -> None:
    """Alignments along the method with weights (1, 1), with what comes before its switch.

    Args:
        axes: Where to draw.
        rows: Of one cell.
        columns: Some of :data:`ALIGNMENTS`.
    """
    near = shown(rows)
    base = sgd_name(near[near["method"] != BEFORE_SWITCH])
    own = near[near["method"].isin([BEFORE_SWITCH, base])]
    axes.set(ylim=(0, 1.02), ylabel=r"alignment $\chi_k$")
    for column in columns:
        # A run starts with the record that its prefix ends with.
        draw_curve(axes, own, column, linewidth=ALIGNMENT_WIDTH, **ALIGNMENTS[column])
    for column in columns:
        mark_divergence(axes, own, column, color=ALIGNMENTS[column]["color"])
    mark_switch(axes)
    finish_shown(axes, near)


def plot_curves(axes: Axes, rows: pd.DataFrame, column: str, *, log: bool) -> None:
    """The methods after the switch, and every seed before it: each has its switch elsewhere."""
    for method, own in rows.groupby("method", sort=False):
        style = line_style(str(method))
        if method == BEFORE_SWITCH:
            draw_seeds(axes, own, column, **style)
        else:
            draw_curve(axes, own, column, log=log, **style)
    mark_switch(axes)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows but for those before the switch that are long ago or of a high loss."""
    steps = rows["steps_after_switch"]
    recent = rows[steps >= -SHOWN_BEFORE * steps.max()]
    near: pd.DataFrame = recent[
        recent["steps_after_switch"] > recent["seed"].map(_last_high(recent))
    ]
    return near


def finish_shown(axes: Axes, rows: pd.DataFrame) -> int:
    """Limits and name of the axis of steps of rows that are shown; returns the last step."""
    first, last = rows["steps_after_switch"].agg(["min", "max"])
    finish_steps(axes, STEPS_AFTER_SWITCH, first=first, last=last)
    return int(last)


def switch_words(rows: pd.DataFrame) -> str:
    """How many seeds of a cell switched by their step, not by alignment; empty for none."""
    switches = rows.drop_duplicates("seed")
    by_step = int((switches["switch_reason"] == "max_steps").sum())
    if not by_step:
        return ""
    steps = switches["step"] - switches["steps_after_switch"]
    last = int(steps[switches["switch_reason"] == "max_steps"].max())
    seeds = len(switches)
    many = "" if by_step == seeds else f" in {by_step} of {seeds} seeds"
    return f"fixed switch at step {last}{many}"


def _last_high(rows: pd.DataFrame) -> Callable[[int], float]:
    """For a seed, the last step before the switch at which its loss is too high to be shown."""
    before = rows[(rows["method"] == BEFORE_SWITCH) & (rows["train_loss"] > HIGHEST_BEFORE)]
    last = before.groupby("seed")["steps_after_switch"].max()
    return lambda seed: last.get(seed, -math.inf)
