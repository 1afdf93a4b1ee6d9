"""A statistic of runs against a setting: means with intervals, and runs that have none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval, mean_interval
from sharpflat.figures.style import (
    DIVERGED,
    METHOD_MARKERS,
    PATH_LABELS,
    line_style,
    method_label,
)

#: Height of the zone at a panel's top for runs without a finite value, as a share of the panel.
ZONE = 0.24
MARKER_SIZE, SEED_MARKER_SIZE = 3.6, 2.5


def draw_means(
    axes: Axes, runs: pd.DataFrame, column: str, *, stem: str, log: bool = False
) -> None:
    """Draw means over seeds with 95 % intervals, joined by a line.

    Where a seed's value is infinite there is no mean: the others are small hollow markers, and
    :func:`draw_infinite` shows that one.

    Args:
        axes: Where to draw.
        runs: Rows of :func:`sharpflat.analysis.statistics.run_statistics` with a column ``x``.
        column: Statistic; NaN where it is not defined.
        stem: Method or path whose colour, dashes and marker are drawn.
        log: Whether the mean is geometric, as a log axis shows it.
    """
    style, marker = line_style(stem), METHOD_MARKERS[stem]
    defined = runs[runs[column].notna()]
    centres, lows, highs = [], [], []
    positions = sorted(defined["x"].unique())
    for x in positions:
        values = defined.loc[defined["x"] == x, column].to_numpy(dtype=np.float64)
        if np.isinf(values).any():
            finite = values[np.isfinite(values)]
            hollow: dict[str, Any] = {
                "marker": marker,
                "markersize": SEED_MARKER_SIZE,
                "markerfacecolor": "white",
            }
            axes.plot([x] * len(finite), finite, color=style["color"], linestyle="none", **hollow)
            values = np.array([np.nan])
        interval = geometric_mean_interval(values) if log else mean_interval(values)
        centres.append(geometric_mean(values) if log else values.mean())
        lows.append(interval[0])
        highs.append(interval[1])
    error = np.array([np.subtract(centres, lows), np.subtract(highs, centres)])
    axes.errorbar(
        positions, centres, error, marker=marker, markersize=MARKER_SIZE, elinewidth=0.8, **style
    )


def draw_infinite(
    axes: Axes, runs: pd.DataFrame, column: str, *, stem: str, diverged: bool
) -> None:
    """Stack the runs whose value is infinite at the panel's top.

    Args:
        axes: Where to draw.
        runs: As for :func:`draw_means`.
        column: Statistic.
        stem: Method or path whose colour and marker are drawn.
        diverged: Whether infinite means diverged, a cross, and not never reached, hollow.
    """
    colour = line_style(stem)["color"]
    look = DIVERGED
    if not diverged:
        look = {"marker": METHOD_MARKERS[stem], "markersize": MARKER_SIZE, "linestyle": "none"}
    for x, group in runs[np.isinf(runs[column])].groupby("x"):
        heights = 1 - ZONE * (np.arange(len(group)) + 0.5) / runs["seed"].nunique()
        axes.plot(
            [x] * len(group),
            heights,
            color=colour,
            markerfacecolor="white",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            **look,
        )


def leave_zone(axes: Axes) -> None:
    """Raise the upper limit of a y axis, so that the zone at its top holds no finite value."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, low * (high / low) ** (1 / (1 - ZONE)))
    else:
        axes.set_ylim(low, low + (high - low) / (1 - ZONE))


def zone_centre(axes: Axes) -> float:
    """Where the middle of the zone lies on a linear y axis."""
    low, high = axes.get_ylim()
    return high - ZONE / 2 * (high - low)


def point_handles(stems: list[str]) -> list[Line2D]:
    """Entries of a legend for methods or paths."""
    return [
        Line2D(
            [],
            [],
            label=PATH_LABELS.get(stem) or method_label(stem),
            marker=METHOD_MARKERS[stem],
            markersize=MARKER_SIZE,
            **line_style(stem),
        )
        for stem in stems
    ]
