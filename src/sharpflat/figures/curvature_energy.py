"""Figure ``curvature_energy``: how much of the curvature lies in the Dominant subspace."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.curves import draw_curve, draw_seeds, mark_divergence, mark_switch
from sharpflat.figures.grid import finish_steps, is_lowest, one_row_each
from sharpflat.figures.style import (
    SERIES_COLOURS,
    STEPS_AFTER_SWITCH,
    apply_style,
    divergence_handles,
    legend_below,
    line_style,
    method_label,
    method_marker,
    seed_handle,
)

WIDTHS = (1.0, 1.0, 1.0, 1.0)
MATRICES = ("hessian", "ggn", "functional_hessian")
MATRIX_LABELS = dict(
    zip(MATRICES, ("Hessian $H$", "GGN $G$", "functional Hessian $F$"), strict=True)
)
#: The matrices differ by colour and by how a marker is filled.
MATRIX_LOOKS: dict[str, dict[str, Any]] = {
    "hessian": {"color": SERIES_COLOURS[0], "fillstyle": "full"},
    "ggn": {"color": SERIES_COLOURS[1], "fillstyle": "none"},
    "functional_hessian": {"color": SERIES_COLOURS[2], "fillstyle": "left"},
}
LINE: dict[str, Any] = {"linewidth": 1.0, "markersize": 3.2, "markeredgewidth": 0.8}
SHARE_LIMITS = (0.0, 1.02)


def plot_curvature_energy(table: pd.DataFrame) -> Figure:
    """Shares of H, G and F in the Dominant subspace of H, for SGD and Bulk-SGD.

    A row a task and loss: Frobenius share; trace share of H and G, since that of the indefinite F
    has no bounds; overlap of the top-k eigenspaces of H and G; Rayleigh quotients of H, G and F in
    the top k eigenvectors of H at the last step. Thin lines are seeds, thick ones their means, and
    bars the standard errors of the random probes, propagated to the mean over seeds. Before the
    switch there are no means, since each seed has its switch elsewhere, and trace shares of H may
    leave the panel: its trace can be close to zero there.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it for a figure with
            snapshots: a row a step and matrix.
    """
    apply_style()
    figure, groups = one_row_each(table, WIDTHS)
    for rows, (frobenius, trace, overlap, quotients) in groups:
        _plot_share(frobenius, rows, "frobenius_share", MATRICES)
        _plot_share(trace, rows, "trace_share", MATRICES[:2])
        _plot_overlap(overlap, rows)
        _plot_quotients(quotients, rows)
        for panel in (frobenius, trace, overlap):
            mark_switch(panel)
            first, last = rows["steps_after_switch"].agg(["min", "max"])
            margin = 0.04 * (last - first)
            finish_steps(panel, STEPS_AFTER_SWITCH, first=first - margin, last=last + margin)
        frobenius.set(ylabel="Frobenius share", ylim=SHARE_LIMITS)
        trace.set(ylabel="trace share", ylim=_trace_limits(rows))
        overlap.set(ylabel="eigenspace overlap", ylim=SHARE_LIMITS)
    legend_below(figure, _handles(table), columns=4)
    return figure


def _plot_share(axes: Axes, rows: pd.DataFrame, column: str, matrices: tuple[str, ...]) -> None:
    for matrix in matrices:
        of_matrix = rows[rows["matrix"] == matrix]
        for method, own in of_matrix.groupby("method", sort=False):
            _plot_lines(axes, own, column, str(method), MATRIX_LOOKS[matrix])
            if method != BEFORE_SWITCH:
                _plot_probe_errors(axes, own, column, MATRIX_LOOKS[matrix]["color"])


def _plot_overlap(axes: Axes, rows: pd.DataFrame) -> None:
    once = rows[rows["matrix"] == MATRICES[0]]  # the same on the rows of all matrices
    for method, own in once.groupby("method", sort=False):
        _plot_lines(axes, own, "overlap", str(method), {"color": line_style(str(method))["color"]})


def _plot_lines(
    axes: Axes, rows: pd.DataFrame, column: str, method: str, look: dict[str, Any]
) -> None:
    if method == BEFORE_SWITCH:
        draw_seeds(axes, rows, column, color=look["color"])
    else:
        draw_curve(axes, rows, column, **_line(method), **look)
        mark_divergence(axes, rows, column, color=look["color"])


def _plot_probe_errors(axes: Axes, rows: pd.DataFrame, column: str, colour: str) -> None:
    """± one standard error of the probes of a mean over seeds, whose probes are independent."""
    at_step = rows.groupby("steps_after_switch")
    errors = at_step[f"{column}_se"].agg(lambda se: np.sqrt(np.sum(se**2)) / len(se))
    axes.errorbar(
        errors.index,
        at_step[column].mean(),
        errors,
        color=colour,
        linestyle="none",
        elinewidth=0.8,
        capsize=2,
    )


def _plot_quotients(axes: Axes, rows: pd.DataFrame) -> None:
    after = rows[rows["method"] != BEFORE_SWITCH]
    last = after[after["step"] == after.groupby(["method", "seed"])["step"].transform("max")]
    k = int(rows["k"].iloc[0])
    columns = {f"rayleigh_quotient_{i}": i for i in range(1, k + 1)}
    identity = ["method", "seed", "status", "matrix"]
    long = last.melt(identity, list(columns), "direction", "quotient")
    long = long.assign(direction=long["direction"].map(columns))
    for (matrix, method), own in long.groupby(["matrix", "method"], sort=False):
        look = {**_line(str(method)), **MATRIX_LOOKS[str(matrix)]}
        draw_curve(axes, own, "quotient", x="direction", **look)
    axes.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_ylabel("Rayleigh quotient")
    if is_lowest(axes):
        axes.set_xlabel("eigenvector of $H$")


def _trace_limits(rows: pd.DataFrame) -> tuple[float, float]:
    """From 0 to 1 and whatever comes after the switch: before it tr(H) may be close to zero."""
    after = rows[(rows["method"] != BEFORE_SWITCH) & rows["matrix"].isin(MATRICES[:2])]
    low, high = after["trace_share"].min(), after["trace_share"].max()
    return min(1.05 * low, SHARE_LIMITS[0]), max(1.05 * high, SHARE_LIMITS[1])


def _line(method: str) -> dict[str, Any]:
    """Dashes and marker of a method, without its colour: that says which matrix."""
    style = {key: value for key, value in line_style(method).items() if key != "color"}
    return {**style, **LINE, "marker": method_marker(method)}


def _handles(table: pd.DataFrame) -> list[Line2D]:
    matrices = [
        Line2D([], [], label=MATRIX_LABELS[name], marker="o", **LINE, **MATRIX_LOOKS[name])
        for name in MATRICES
    ]
    methods = [
        Line2D([], [], label=method_label(name), color=line_style(name)["color"], **_line(name))
        for name in table["method"].unique()
        if name != BEFORE_SWITCH
    ]
    bar = Line2D([], [], color="0.35", marker="|", markersize=7, linestyle="none")
    bar.set_label("± standard error of the probes")
    return [*matrices, *methods, seed_handle(), bar, *divergence_handles(table)]
