"""A quantity against the step, over seeds: its mean with an interval, and runs that diverged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy import stats

from sharpflat.analysis.intervals import CONFIDENCE
from sharpflat.figures.style import DIVERGED

BAND: dict[str, Any] = {"alpha": 0.15, "linewidth": 0}
SEED_LINE_WIDTH = 0.6
#: Name of what :func:`relative_to_switch` makes of the training loss.
RELATIVE_LOSS = "training loss,\nat the switch 1"
#: How far above its first training loss a run that diverges is followed: it may end at a hundred
#: times that, and on that scale nothing else could be read.
FOLLOWED = 2.0


def relative_to_switch(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every run's training loss divided by that at its switch.

    Seeds switch at different losses; what a method does from there on is what is compared.
    """
    run = ["task", "loss", "method", "value", "seed"]
    at_switch = rows["train_loss"].where(rows["steps_after_switch"] == 0)
    at_switch = at_switch.groupby([rows[name] for name in run], dropna=False).transform("first")
    return rows.assign(train_loss=rows["train_loss"] / at_switch)


def draw_curve(
    axes: Axes,
    rows: pd.DataFrame,
    column: str,
    *,
    x: str = "steps_after_switch",
    log: bool = False,
    band: bool = True,
    **line: Any,
) -> None:
    """Draw the mean over seeds with its 95 % interval, at the steps that every seed has.

    Where a seed diverged, every seed is drawn by itself as a thin line: a mean over those that are
    left would flatter the method, and one over all of them would be that of the one that blew up.

    Args:
        axes: Where to draw.
        rows: Of one method, from a figure's table.
        column: What to draw.
        x: Against which column.
        log: Whether the mean is geometric, as a log axis shows it.
        band: Whether to draw the interval.
        line: Colour and dashes.
    """
    if _diverged_seeds(rows):
        draw_seeds(axes, rows, column, x=x, **line)
        return
    measured = rows[rows[column].notna()].drop_duplicates(["seed", x])
    common = measured.pivot(index=x, columns="seed", values=column).dropna()
    centre, low, high = over_seeds(common.to_numpy(), log=log)
    axes.plot(common.index, centre, **line)
    if band:
        axes.fill_between(common.index, low, high, color=line["color"], **BAND)


def draw_seeds(
    axes: Axes, rows: pd.DataFrame, column: str, *, x: str = "steps_after_switch", **line: Any
) -> None:
    """Draw every seed by itself as a thin line; one that diverges may leave the panel."""
    diverged = _diverged_seeds(rows)
    for seed, run in rows[rows[column].notna()].groupby("seed"):
        run = run.drop_duplicates(x)
        axes.add_artist(Line2D(run[x], run[column], **{**line, "linewidth": SEED_LINE_WIDTH}))
        followed = run
        if seed in diverged and "train_loss" in run:
            followed = run[run["train_loss"] <= FOLLOWED * run["train_loss"].iloc[0]]
        axes.update_datalim(followed[[x, column]].to_numpy())
    axes.autoscale_view()


def mark_divergence(
    axes: Axes, rows: pd.DataFrame, column: str, *, x: str = "steps_after_switch", color: Any
) -> None:
    """A cross at the last measurement of each run that diverged, or on the panel's edge near it.

    Call it when the limits are final.
    """
    low, high = axes.get_ylim()
    for seed in _diverged_seeds(rows):
        run = rows[rows["seed"] == seed]
        measured = run[run[column].notna()]
        last = (run if measured.empty else measured).iloc[-1]
        y = high if measured.empty else min(max(last[column], low), high)
        cross = Line2D([last[x]], [y], color=color, clip_on=False, zorder=5, **DIVERGED)
        axes.add_artist(cross)


def over_seeds(values: np.ndarray, *, log: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and 95 % intervals of many steps at once.

    Args:
        values: ``(steps, seeds)``.
        log: Whether the mean is geometric.

    Returns:
        Mean, low and high, each ``(steps,)``, as :mod:`sharpflat.analysis.intervals` has them.
    """
    sample = np.log(values) if log else values
    count = sample.shape[1]
    centre, half = sample.mean(axis=1), np.zeros(len(sample))
    if count > 1:
        half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * stats.sem(sample, axis=1)
    low, high = centre - half, centre + half
    return (np.exp(centre), np.exp(low), np.exp(high)) if log else (centre, low, high)


def mark_switch(axes: Axes) -> None:
    """A line at the switch, on an axis of steps after it."""
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)


def _diverged_seeds(rows: pd.DataFrame) -> list[int]:
    return list(rows.loc[rows["status"] == "diverged", "seed"].unique())
