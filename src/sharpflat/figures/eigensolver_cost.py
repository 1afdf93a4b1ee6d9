"""Figure ``eigensolver_cost``: what a solve takes, beside what its arithmetic alone would."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflat.figures.style import PAGE_WIDTH, SERIES_COLOURS, TASK_LABELS, apply_style
from sharpflat.methods import LABELS

OURS, PEERS, UNREACHED = SERIES_COLOURS[0], "#9a9a9a", "#e3e3e3"
FLOOR = "#e69f00"
BAR_HEIGHT = 0.24
#: Space for the text at the end of the longest bar, as a factor on the log axis.
TEXT_ROOM = 10


def plot_eigensolver_cost(table: pd.DataFrame) -> Figure:
    """One bar a method: its time, its products and its angle, with the arithmetic's floor.

    Args:
        table: Rows of :class:`sharpflat.benchmarks.rows.CostRow`.
    """
    apply_style()
    measured = table[table["seconds"].notna()]
    groups = list(measured.groupby("task", sort=False))
    heights = [BAR_HEIGHT * len(rows) + 0.5 for _, rows in groups]
    figure, axes = plt.subplots(
        len(groups),
        1,
        figsize=(PAGE_WIDTH, sum(heights) + 0.5),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
    )
    for task_axes, (task, rows) in zip(axes[:, 0], groups, strict=True):
        _plot_task(task_axes, rows)
        task_axes.set_title(TASK_LABELS.get(str(task), str(task)), loc="left")
    axes[-1, 0].set_xlabel("seconds, of a cold solve or of a whole tracked training step")
    low, high = axes[-1, 0].get_xlim()
    axes[-1, 0].set_xlim(low, high * TEXT_ROOM)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


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
            f" {row['seconds']:.3g} s, {row['products']:.3g} products, "
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
    return f"{row['method']}, {training} step, lr {row['learning_rate']:g}{unreached}"
