"""A quantity against the step: every seed as a thin line, their mean, and runs that diverged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from sharpflat.figures.style import DIVERGED, SEED_LINE

#: Name of what :func:`relative_to_switch` makes of the training loss.
RELATIVE_LOSS = "training loss,\nat the switch 1"
#: How far above its first value a run that diverges is followed: it may end at a hundred times
#: that, and on that scale nothing else could be read.
FOLLOWED = 2.0

Numbers = NDArray[np.float64]


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
    seeds: bool = True,
    **line: Any,
) -> None:
    """Draw every seed as a thin line and, above them, their mean where all of them were measured.

    Where a seed diverged there is no mean: one over those that are left would flatter the method,
    and one over all of them would be that of the one that blew up.

    Args:
        axes: Where to draw.
        rows: Of one method, from a figure's table; rows without a value of the column are skipped,
            since losses and eigenvalues are recorded at rhythms of their own.
        column: What to draw.
        x: Against which column.
        log: Whether the mean is geometric, as a log axis shows it.
        seeds: Whether to draw the seeds where their mean can stand for them.
        line: Colour, dashes and marker; the seeds are plain lines.
    """
    diverged = bool(diverged_seeds(rows))
    if seeds or diverged:
        draw_seeds(axes, rows, column, x=x, **line)
    if not diverged:
        axes.plot(*mean_over_seeds(rows, column, x=x, log=log), **line)


def draw_seeds(
    axes: Axes, rows: pd.DataFrame, column: str, *, x: str = "steps_after_switch", **line: Any
) -> None:
    """Draw every seed by itself as a thin line; one that diverges may leave the panel."""
    diverged = diverged_seeds(rows)
    look = {**line, "marker": "None", **SEED_LINE}
    for seed, run in _measured(rows, column, x).groupby("seed"):
        axes.add_artist(Line2D(run[x].to_numpy(), run[column].to_numpy(), **look))
        followed = run
        if seed in diverged:
            followed = run[run[column] <= FOLLOWED * run[column].iloc[0]]
        axes.update_datalim(followed[[x, column]].to_numpy())
    axes.autoscale_view()


def mark_divergence(
    axes: Axes, rows: pd.DataFrame, column: str, *, x: str = "steps_after_switch", color: Any
) -> None:
    """A cross at the last measurement of each run that diverged, or on the panel's edge near it.

    Call it when the limits are final.
    """
    low, high = axes.get_ylim()
    for seed in diverged_seeds(rows):
        run = rows[rows["seed"] == seed]
        measured = run[run[column].notna()]
        last = (run if measured.empty else measured).iloc[-1]
        y = high if measured.empty else min(max(last[column], low), high)
        cross = Line2D([last[x]], [y], color=color, clip_on=False, zorder=5, **DIVERGED)
        axes.add_artist(cross)


def mean_over_seeds(
    rows: pd.DataFrame, column: str, *, x: str, log: bool
) -> tuple[Numbers, Numbers]:
    """Mean over seeds at every step that one of them was measured at and all of them reach.

    A seed that was not measured at a step, because its records have another phase, is interpolated
    between its neighbours, linearly or, for a geometric mean, in the logarithm.

    Returns:
        Steps and means, each ``(steps,)``.
    """
    runs = [run for _, run in _measured(rows, column, x).groupby("seed")]
    if not runs:
        return np.empty(0), np.empty(0)
    first = max(run[x].iloc[0] for run in runs)
    last = min(run[x].iloc[-1] for run in runs)
    steps = np.unique(np.concatenate([run[x].to_numpy(dtype=np.float64) for run in runs]))
    steps = steps[(first <= steps) & (steps <= last)]
    values = [run[column].to_numpy(dtype=np.float64) for run in runs]
    values = [np.log(value) if log else value for value in values]
    interpolated = [np.interp(steps, run[x], y) for run, y in zip(runs, values, strict=True)]
    mean = np.mean(interpolated, axis=0)
    return steps, np.exp(mean) if log else mean


def mark_switch(axes: Axes) -> None:
    """A line at the switch, on an axis of steps after it."""
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)


def diverged_seeds(rows: pd.DataFrame) -> list[int]:
    """Seeds of which a run among the rows diverged."""
    return list(rows.loc[rows["status"] == "diverged", "seed"].unique())


def _measured(rows: pd.DataFrame, column: str, x: str) -> pd.DataFrame:
    """The rows with a value, in order; of two at the same step, as at the switch, the first."""
    kept = rows[rows[column].notna()].drop_duplicates(["seed", x])
    return kept.sort_values(["seed", x])
