"""A statistic of runs against a setting: a point a seed, their median, and runs that have none."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sharpflat.figures.style import (
    DIVERGED,
    SEED_POINT,
    line_style,
    method_colour,
    method_label,
    method_marker,
)

#: Height of a line in the zone at a panel's top for runs without a finite value, and of the whole
#: zone at the most, as shares of the panel.
ZONE_LINE, HIGHEST_ZONE = 0.11, 0.4
MARKER_SIZE = 3.6
#: From a mark in the zone to its number, points.
NUMBER_DISTANCE = 3.5


def draw_points(axes: Axes, runs: pd.DataFrame, column: str, *, method: str) -> None:
    """Draw every seed as a small point, and the median over seeds, joined by a line.

    A run that diverged, or never reached what was asked, counts as infinite: where that is most of
    them there is no median, and :func:`draw_infinite` shows them.

    Args:
        axes: Where to draw.
        runs: Statistics of runs with a column ``x``.
        column: Statistic; NaN where it is not defined.
        method: Method or path whose colour, dashes and marker are drawn.
    """
    style, marker = line_style(method), method_marker(method)
    defined = runs[runs[column].notna()]
    seeds = defined[np.isfinite(defined[column])]
    look = {**SEED_POINT, "marker": marker, "color": style["color"]}
    axes.plot(seeds["x"], seeds[column], **look)
    medians = defined.groupby("x")[column].apply(median)
    axes.plot(medians.index, medians, marker=marker, markersize=MARKER_SIZE, **style)


def median(values: pd.Series) -> float:
    """Median with infinite values among them; NaN where it is not finite."""
    ordered = np.sort(values.to_numpy(dtype=np.float64))
    middle = ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]]
    return float(middle.mean()) if np.isfinite(middle).all() else math.nan


def draw_infinite(axes: Axes, runs: pd.DataFrame, column: str) -> None:
    """Mark the runs whose value is infinite above all finite ones, with how many they are.

    A run that diverged is a cross, one that went to its end without what was asked is hollow. The
    upper limit is raised to make room for a line a method and kind.

    Args:
        axes: Where to draw, its limits as finite values want them.
        runs: As for :func:`draw_points`, of all methods, with their ``stability``.
        column: Statistic.
    """
    infinite = runs[np.isinf(runs[column])]
    lines = list(infinite.groupby(["method", infinite["stability"] == "diverged"], sort=False))
    zone = min(ZONE_LINE * len(lines), HIGHEST_ZONE)
    _raise_limit(axes, zone)
    for place, ((method, diverged), own) in enumerate(lines):
        colour = method_colour(method)
        look = DIVERGED
        if not diverged:
            marker = method_marker(method)
            look = {"marker": marker, "markersize": MARKER_SIZE, "linestyle": "none"}
        y = 1 - zone * (place + 0.5) / len(lines)
        where = axes.get_xaxis_transform()
        for x, count in own.groupby("x").size().items():
            style: dict[str, Any] = {"color": colour, "markerfacecolor": "white", **look}
            axes.plot([x], [y], transform=where, clip_on=False, **style)
            axes.annotate(
                str(count),
                (float(str(x)), y),
                xycoords=where,
                xytext=(NUMBER_DISTANCE, 0),
                textcoords="offset points",
                va="center",
                fontsize="x-small",
                color=colour,
            )


def _raise_limit(axes: Axes, zone: float) -> None:
    """Put the upper limit of a y axis so that the zone at its top holds no finite value."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, low * (high / low) ** (1 / (1 - zone)))
    else:
        axes.set_ylim(low, low + (high - low) / (1 - zone))


def say_if_empty(axes: Axes, values: pd.Series, words: str) -> None:
    """Say in words why a panel has nothing to show, where no value is finite."""
    if not np.isfinite(values).any():
        place: dict[str, Any] = {"ha": "center", "va": "center", "color": "0.35"}
        place["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over a line at 1
        axes.text(0.5, 0.5, words, transform=axes.transAxes, fontsize="x-small", **place)


def point_handles(methods: list[str]) -> list[Line2D]:
    """Entries of a legend for methods or paths."""
    return [
        Line2D(
            [],
            [],
            label=method_label(method),
            marker=method_marker(method),
            markersize=MARKER_SIZE,
            **line_style(method),
        )
        for method in methods
    ]
