"""Figure ``alignment``: gradients turn into the Dominant subspace."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.figures.curves import draw_curve, mark_divergence
from sharpflat.figures.grid import finish_steps, loss_pairs
from sharpflat.figures.style import (
    SERIES_COLOURS,
    apply_style,
    dashed,
    divergence_handles,
    label_log_axis,
    legend_below,
    seed_handle,
)

#: The lines of the two panels, by the names that the legend gives them.
GRADIENTS: dict[str, dict[str, Any]] = {
    "full gradient": {"color": SERIES_COLOURS[0], "linestyle": "solid"},
    "mini-batch gradient": {"color": SERIES_COLOURS[1], "linestyle": dashed((4, 1.5))},
}
EIGENVALUES: dict[str, dict[str, Any]] = {
    r"$\lambda_1$": {"color": "#662506", "linestyle": "solid"},
    r"$\lambda_k$": {"color": "#cc4c02", "linestyle": dashed((4, 1.5))},
    r"$\lambda_{k+1}$, an estimate from below": {"color": "#fe9929", "linestyle": dashed((1, 1))},
}
RANDOM: dict[str, Any] = {"color": "0.45", "linewidth": 0.9, "linestyle": dashed((1, 1.5))}
SWITCH: dict[str, Any] = {"color": "0.35", "linewidth": 0.8}
MEAN_WIDTH = 1.1
#: Height of the mark of a seed's switch, as a share of the panel.
SWITCH_HEIGHT = 0.07


def plot_alignment(table: pd.DataFrame) -> Figure:
    """χ_k of the gradients and the leading eigenvalues along SGD.

    Thin lines are seeds, thick ones their means, geometric for eigenvalues. Beside the alignments
    stands what a random direction has, √(k/P): of the squared length of an isotropic vector of P
    entries, k/P lies in any k-dimensional subspace on average.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, for SGD.
    """
    apply_style()
    figure, groups = loss_pairs(table)
    for rows, (alignment_axes, eigenvalue_axes) in groups:
        _plot_alignment(alignment_axes, rows)
        _plot_eigenvalues(eigenvalue_axes, rows)
        for panel in (alignment_axes, eigenvalue_axes):
            _finish(panel, rows)
        title = alignment_axes.get_title(loc="left")
        alignment_axes.set_title(f"{title}, $k = {rows['k'].iloc[0]}$", loc="left")
    legend_below(figure, _handles(table), columns=3)
    return figure


def _plot_alignment(axes: Axes, rows: pd.DataFrame) -> None:
    columns = ("alignment", "batch_alignment")
    for column, style in zip(columns, GRADIENTS.values(), strict=True):
        draw_curve(axes, rows, column, x="step", linewidth=MEAN_WIDTH, **style)
    axes.set(ylim=(0, 1.02), ylabel=r"alignment $\chi_k$")
    if "num_parameters" in rows:
        axes.axhline(math.sqrt(rows["k"].iloc[0] / rows["num_parameters"].iloc[0]), **RANDOM)
    for column, style in zip(columns, GRADIENTS.values(), strict=True):
        mark_divergence(axes, rows, column, x="step", color=style["color"])


def _plot_eigenvalues(axes: Axes, rows: pd.DataFrame) -> None:
    k = int(rows["k"].iloc[0])
    columns = [f"eigenvalue_{index}" for index in (1, k, k + 1)]
    positive = rows.assign(**{column: rows[column].where(rows[column] > 0) for column in columns})
    axes.set(yscale="log", ylabel="Hessian eigenvalue")
    for column, style in zip(columns, EIGENVALUES.values(), strict=True):
        draw_curve(axes, positive, column, x="step", log=True, linewidth=MEAN_WIDTH, **style)
    for column, style in zip(columns, EIGENVALUES.values(), strict=True):
        mark_divergence(axes, positive, column, x="step", color=style["color"])
    label_log_axis(axes, "y")


def _finish(panel: Axes, rows: pd.DataFrame) -> None:
    for step in rows.loc[rows["steps_after_switch"] == 0, "step"].unique():
        panel.axvline(step, ymax=SWITCH_HEIGHT, zorder=4, **SWITCH)
    finish_steps(panel, "steps of SGD", first=0, last=_last_step(rows))


def _last_step(rows: pd.DataFrame) -> int:
    """Up to which every run goes that finished, or any that diverged."""
    ends = rows.groupby("seed")["step"].max()
    diverged = ends.index.isin(rows.loc[rows["status"] == "diverged", "seed"])
    return int(max([*ends[diverged], *ends[~diverged].nsmallest(1)]))


def _handles(table: pd.DataFrame) -> list[Line2D]:
    """A column for the alignments, one for the eigenvalues, one for the rest."""
    alignments = dict(GRADIENTS)
    if "num_parameters" in table:
        alignments[r"random direction, $\sqrt{k/P}$"] = RANDOM
    lines = {**alignments, **EIGENVALUES}
    handles = [Line2D([], [], label=label, **style) for label, style in lines.items()]
    switch = Line2D([], [], color=SWITCH["color"], marker="|", markersize=6, linestyle="none")
    switch.set_label("switch of a seed")
    return [*handles, seed_handle(), switch, *divergence_handles(table)]
