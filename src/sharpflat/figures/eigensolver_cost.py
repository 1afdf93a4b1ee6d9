"""Figure ``eigensolver_cost``: what a solve and a tracked step take, also with more samples."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from sharpflat.figures.style import (
    LONE_ROW_HEIGHT,
    PAGE_WIDTH,
    SERIES_COLOURS,
    TASK_LABELS,
    apply_style,
    label_log_axis,
)
from sharpflat.methods import LABELS

OURS, PEERS, UNREACHED = SERIES_COLOURS[0], "#9a9a9a", "#e3e3e3"
FLOOR = "#e69f00"
BAR_HEIGHT = 0.24
#: Space for the text at the end of the longest bar, as a factor on the log axis.
TEXT_ROOM = 100
#: How the name of a peer ends that solves from nothing in every step.
COLD = "cold"
#: Products over all samples, or over a sample of them between full ones.
SAMPLES_LABELS = {True: "products over all samples", False: "sampled products"}


def plot_eigensolver_cost(table: pd.DataFrame) -> Figure:
    """One bar a method with the arithmetic's floor; below, a tracked step against the samples.

    Of the warm peers of tracked steps the fastest of each accuracy is shown, of those that work in
    every step and of those at an interval; the table has all of them.

    Args:
        table: Rows of :class:`sharpflat.benchmarks.rows.CostRow`.
    """
    apply_style()
    measured = table[table["seconds"].notna()]
    scaling = measured[measured["mode"] == "scaling"]
    groups = [
        (task, _shown(rows))
        for task, rows in measured[measured["mode"] != "scaling"].groupby("task", sort=False)
    ]
    heights = [BAR_HEIGHT * len(rows) + 0.5 for _, rows in groups]
    bars_height, lines_height = sum(heights) + 0.5, 0.0 if scaling.empty else LONE_ROW_HEIGHT + 0.4
    figure = plt.figure(figsize=(PAGE_WIDTH, bars_height + lines_height))
    if scaling.empty:
        _plot_bars(figure, groups, heights)
    else:
        above, below = figure.subfigures(
            2, 1, squeeze=False, height_ratios=[bars_height, lines_height]
        )[:, 0]
        _plot_bars(above, groups, heights)
        _plot_scaling(below, scaling)
    return figure


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows but for warm peers that another one beats at the same accuracy along the same run.

    Those that work in every step and those at an interval are held against their own kind.
    """
    warm = rows[
        (rows["mode"] == "tracked")
        & (rows["method"] != "sharpflat")
        & ~rows["method"].str.endswith(COLD)
    ]
    kinds = ["training", "learning_rate", "accuracy", warm["interval"] == 1]
    fastest = warm[warm["reached"]].groupby(kinds)["seconds"].idxmin()
    return rows.drop(warm.index.difference(fastest.to_list()))


def _plot_bars(
    figure: Figure | SubFigure,
    groups: Sequence[tuple[Hashable, pd.DataFrame]],
    heights: list[float],
) -> None:
    axes = figure.subplots(len(groups), 1, height_ratios=heights, sharex=True, squeeze=False)
    for task_axes, (task, rows) in zip(axes[:, 0], groups, strict=True):
        _plot_task(task_axes, rows)
        task_axes.set_title(TASK_LABELS.get(str(task), str(task)), loc="left")
    axes[-1, 0].set_xlabel("seconds, of a cold solve or of a whole tracked training step")
    low, high = axes[-1, 0].get_xlim()
    axes[-1, 0].set_xlim(low, high * TEXT_ROOM)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _plot_task(axes: Axes, rows: pd.DataFrame) -> None:
    names = [_name(row) for row in rows.to_dict("records")]
    colours = [
        UNREACHED if not reached else OURS if method == "sharpflat" else PEERS
        for method, reached in zip(rows["method"], rows["reached"], strict=True)
    ]
    positions = range(len(rows))
    axes.barh(positions, rows["seconds"], color=colours, edgecolor="0.4", linewidth=0.5)
    axes.plot(
        rows["floor_seconds"],
        positions,
        linestyle="none",
        marker="|",
        markersize=9,
        markeredgewidth=1.6,
        color=FLOOR,
        label="its products' arithmetic at the machine's matrix-product rate",
    )
    for position, row in zip(positions, rows.to_dict("records"), strict=True):
        text = (
            f" {row['seconds']:.3g} s, {row['equivalent_products']:.3g} products, "
            f"sine {row['sine_largest_angle']:.1g}"
        )
        axes.text(row["seconds"], position, text, va="center", fontsize="x-small")
    axes.set_xscale("log")
    axes.set_yticks(positions, names)
    axes.invert_yaxis()


def _name(row: Mapping[Hashable, Any]) -> str:
    unreached = "" if row["reached"] else ", less accurate"
    if row["mode"] == "cold":
        return f"{row['method']}{unreached}"
    training = LABELS.get(row["training"], row["training"])
    step = f"{training} step, lr {row['learning_rate']:g}"
    if row["method"] != "sharpflat":
        return f"{row['method']}, {step}, error ≤ {row['accuracy']:.2g}{unreached}"
    sampled = "" if row["samples"] == "all" else ", sampled"
    return f"sharpflat{sampled}, {step}{unreached}"


def _plot_scaling(figure: SubFigure, rows: pd.DataFrame) -> None:
    seconds, work = figure.subplots(1, 2, sharex=True)
    rows = rows.assign(work=rows["equivalent_products"] * rows["num_samples"])
    for full, of_option in rows.groupby(rows["samples"] == "all", sort=False):
        of_option = of_option.sort_values("num_samples")
        colour = PEERS if full else OURS
        for axes, column in ((seconds, "seconds"), (work, "work")):
            axes.plot(
                of_option["num_samples"],
                of_option[column],
                marker="o",
                color=colour,
                label=SAMPLES_LABELS[bool(full)],
            )
    for axes, column in ((seconds, "seconds"), (work, "work")):
        first = rows.sort_values("num_samples").iloc[0]
        counts = np.unique(rows["num_samples"])
        axes.plot(
            counts,
            first[column] * counts / first["num_samples"],
            linestyle=":",
            color="0.5",
            label="in proportion to n",
        )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("samples n in the Hessian")
        label_log_axis(axes, "x")
        label_log_axis(axes, "y")
    seconds.set_ylabel("seconds a tracked step")
    work.set_ylabel("samples multiplied a step")
    task = str(rows["task"].iloc[0])
    seconds.set_title(TASK_LABELS.get(task, task), loc="left")
    handles, labels = seconds.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
