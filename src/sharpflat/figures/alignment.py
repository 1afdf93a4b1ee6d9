"""Figure ``alignment``: gradients turn into the Dominant subspace."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval, mean_interval
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
        shown = _steps_of_all_seeds(rows)
        _plot_alignment(alignment_axes, shown)
        _plot_eigenvalues(eigenvalue_axes, shown)
        for panel in (alignment_axes, eigenvalue_axes):
            _mark_switches(panel, rows)
        alignment_axes.set_title(panel_title(rows), loc="left")
    return figure


def _steps_of_all_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a seed and step, for the steps that every seed has: seeds end at different ones."""
    once = rows.drop_duplicates(["seed", "step"])  # the switch ends a prefix and starts a run
    seeds_at = once.groupby("step")["seed"].transform("size")
    return once[seeds_at == rows["seed"].nunique()]


def _plot_alignment(axes: Axes, rows: pd.DataFrame) -> None:
    for column, (label, colour, dashes) in SERIES.items():
        sns.lineplot(
            rows,
            x="step",
            y=column,
            label=label,
            color=colour,
            dashes=dashes,
            errorbar=mean_interval,
            err_kws={"alpha": 0.2, "linewidth": 0},
            ax=axes,
        )
    axes.set(ylim=(0, 1.02), ylabel=r"alignment $\chi_k$")
    axes.legend(loc="lower right")


def _plot_eigenvalues(axes: Axes, rows: pd.DataFrame) -> None:
    k = int(rows["k"].iloc[0])
    shades = sns.color_palette("viridis", 3)
    notes = ("", "", ", from below")
    for index, shade, note in zip((1, k, k + 1), shades, notes, strict=True):
        column = f"eigenvalue_{index}"
        sns.lineplot(
            rows[rows[column] > 0],
            x="step",
            y=column,
            label=rf"$\lambda_{{{index}}}${note}",
            color=shade,
            estimator=geometric_mean,
            errorbar=geometric_mean_interval,
            err_kws={"alpha": 0.2, "linewidth": 0},
            ax=axes,
        )
    axes.set_yscale("log")
    axes.set(ylabel="Hessian eigenvalue", ylim=(None, 2 * axes.get_ylim()[1]))
    axes.legend(loc="upper center", ncols=3)


def _mark_switches(axes: Axes, rows: pd.DataFrame) -> None:
    for step in rows.loc[rows["steps_after_switch"] == 0, "step"].unique():
        axes.axvline(step, color="0.6", linewidth=0.6, zorder=0)
    axes.set(xlabel="SGD steps; grey: each seed's switch")
