"""Figure ``dom_bulk``: what happens when only one part of the update is followed."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval, mean_interval
from sharpflat.figures.style import (
    PAGE_WIDTH,
    PANEL_HEIGHT,
    apply_style,
    method_label,
    method_style,
    panel_title,
)


def plot_dom_bulk(table: pd.DataFrame) -> Figure:
    """Training loss and test accuracy against steps after the switch, mean over seeds with bands.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.
    """
    apply_style()
    groups = list(table.groupby(["task", "loss"], sort=False))
    figure, axes = plt.subplots(
        len(groups), 2, figsize=(PAGE_WIDTH, PANEL_HEIGHT * len(groups) + 0.4), squeeze=False
    )
    for (loss_axes, accuracy_axes), (_, rows) in zip(axes, groups, strict=True):
        # Half as much before the switch as after it: the start would hide what the methods do.
        shown = rows[rows["steps_after_switch"] >= -rows["steps_after_switch"].max() / 2]
        _plot_methods(loss_axes, shown, "train_loss", geometric_mean, geometric_mean_interval)
        _plot_methods(accuracy_axes, shown, "test_accuracy", "mean", mean_interval)
        loss_axes.set_yscale("log")
        loss_axes.set(ylabel="training loss")
        accuracy_axes.set(ylabel="test accuracy")
        loss_axes.set_title(panel_title(rows), loc="left")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    return figure


def _plot_methods(
    axes: Axes,
    rows: pd.DataFrame,
    column: str,
    estimator: str | Callable[[ArrayLike], float],
    errorbar: Callable[[ArrayLike], tuple[float, float]],
) -> None:
    finite = rows[rows[column].notna()]
    named = finite.assign(method_label=finite["method"].map(method_label))
    colours, dashes = method_style(list(named["method"].unique()))
    sns.lineplot(
        named,
        x="steps_after_switch",
        y=column,
        hue="method_label",
        style="method_label",
        palette=colours,
        dashes=dashes,
        estimator=estimator,
        errorbar=errorbar,
        err_kws={"alpha": 0.2, "linewidth": 0},
        ax=axes,
        legend="full",
    )
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)
    axes.set(xlabel="steps after the switch")
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()  # one legend serves the whole figure
