"""Figure ``alignment``: gradients turn into the Dominant subspace."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflat.analysis.intervals import mean_interval
from sharpflat.figures.style import PAGE_WIDTH, PANEL_HEIGHT, apply_style, panel_title

SERIES = {
    "alignment": ("full gradient", "#0072b2", ()),
    "batch_alignment": ("mini-batch gradient", "#e69f00", (4, 1.5)),
}


def plot_alignment(table: pd.DataFrame) -> Figure:
    """χ_k of the gradients and the leading eigenvalues along SGD, mean over seeds with bands.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, for SGD.
    """
    apply_style()
    groups = list(table.groupby(["task", "loss"], sort=False))
    figure, axes = plt.subplots(
        len(groups), 2, figsize=(PAGE_WIDTH, PANEL_HEIGHT * len(groups)), squeeze=False
    )
    for (alignment_axes, eigenvalue_axes), (_, rows) in zip(axes, groups, strict=True):
        _plot_alignment(alignment_axes, rows)
        _plot_eigenvalues(eigenvalue_axes, rows)
        alignment_axes.set_title(panel_title(rows), loc="left")
    return figure


def _plot_alignment(axes: Axes, rows: pd.DataFrame) -> None:
    for column, (label, colour, dashes) in SERIES.items():
        sns.lineplot(
            rows,
            x="steps_after_switch",
            y=column,
            label=label,
            color=colour,
            dashes=dashes,
            errorbar=mean_interval,
            err_kws={"alpha": 0.2, "linewidth": 0},
            ax=axes,
        )
    _mark_switch(axes)
    axes.set(ylim=(0, 1.02), ylabel=r"alignment $\chi_k$")
    axes.legend(loc="lower right")


def _plot_eigenvalues(axes: Axes, rows: pd.DataFrame) -> None:
    k = int(rows["k"].iloc[0])
    shades = sns.color_palette("viridis", 3)
    for index, shade in zip((1, k, k + 1), shades, strict=True):
        sns.lineplot(
            rows,
            x="steps_after_switch",
            y=f"eigenvalue_{index}",
            label=rf"$\lambda_{{{index}}}$",
            color=shade,
            errorbar=mean_interval,
            err_kws={"alpha": 0.2, "linewidth": 0},
            ax=axes,
        )
    _mark_switch(axes)
    axes.set_yscale("log")
    axes.set(ylabel="Hessian eigenvalue")
    axes.legend(loc="lower right")


def _mark_switch(axes: Axes) -> None:
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)
    axes.set(xlabel="SGD steps, from the switch")
