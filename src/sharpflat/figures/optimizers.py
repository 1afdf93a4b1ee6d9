"""Figure ``optimizers``: the Dominant and Bulk part of the updates of other optimizers."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.figures.comparison import (
    ALIGNMENT_LABELS,
    ALIGNMENTS,
    finish_losses,
    finish_shown,
    plot_alignments,
    plot_losses,
    plot_ratios,
    shown,
    switch_words,
)
from sharpflat.figures.curves import (
    draw_curve,
    draw_seeds,
    mark_divergence,
    mark_switch,
    relative_to_switch,
)
from sharpflat.figures.grid import one_row_each, title_row
from sharpflat.figures.points import say_if_empty
from sharpflat.figures.style import (
    apply_style,
    dashed,
    divergence_handles,
    label_log_axis,
    legend_below,
    line_style,
    method_label,
    panel_title,
    seed_handle,
)
from sharpflat.plan import FULL_BATCH

WIDTHS = (1.0, 1.0, 0.9, 0.9)
NAMES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSProp",
    "muon": "Muon",
    "sam": "SAM",
}
#: Those that divide an update by roots of second moments.
ADAPTIVE = ("adam", "adamw", "rmsprop")
#: What the points (1, 1), (1, 0) and (0, 1) are here, where they are no SGD.
METHODS = {
    BEFORE_SWITCH: "base before the switch",
    "sgd": "Base",
    "dom_sgd": "Dom",
    "bulk_sgd": "Bulk",
}
COLUMNS = ["alignment", "update_alignment"]
#: Where steps along the first eigenvector grow, in units of 2/η: without momentum, and with it.
EDGES: dict[str, dict[str, Any]] = {
    "edge, 2/η": {"color": "0.35", "linewidth": 0.8, "linestyle": dashed((1, 1.5))},
    "edge with momentum": {"color": "0.35", "linewidth": 0.8, "linestyle": "solid"},
}


def plot_optimizers(table: pd.DataFrame) -> Figure:
    """Losses after the switch, alignments and sharpness, a row an optimizer.

    The loss is divided by that at the switch, and in the second panel by that of the base optimizer
    with the same seed at the same step. The third has χ_k of the full gradient and of the whole
    update along the base optimizer. The fourth has, in units of 2/η, λ_1 of ``D^{-1/2} H D^{-1/2}``
    for optimizers that divide by D, the root of their second moments, and λ_1 of H for SGD, with or
    without momentum. Its lines are 1 and, with momentum β, ``1 + β`` or, where β averages
    gradients as in Adam, ``(1 + β) / (1 - β)`` [Cohen et al. 2022]. Muon and
    SAM have other edges, and nothing is drawn.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, with the varied setting
            ``optimizer``.
    """
    apply_style()
    relative = relative_to_switch(table)
    figure, groups = one_row_each(relative, WIDTHS, by=("task", "loss", "value"))
    for rows, panels in groups:
        losses, ratios, alignments, sharpness = panels
        title_row(panels, f"{panel_title(rows)}: {row_title(rows)}")
        plot_losses(losses, rows)
        plot_ratios(ratios, rows, base="Base")
        plot_alignments(alignments, rows, COLUMNS)
        finish_losses(losses, rows)
        _plot_sharpness(sharpness, rows)
        for panel in panels:
            panel.set_xlabel(panel.get_xlabel().replace("after ", "after\n"))
    legend_below(figure, _handles(table), columns=4)
    return figure


def optimizer_label(value: str) -> str:
    """An optimizer as figures and pages call it, from the name that its table has.

    Example:
        >>> optimizer_label("sgd(momentum=0.9, nesterov)")
        'SGD, momentum 0.9, nesterov'
        >>> optimizer_label("sgd, full batch")
        'gradient descent'
    """
    if value == f"sgd{FULL_BATCH}":
        return "gradient descent"
    name, options = _name_and_options(value)
    words = [NAMES.get(name, name), *(part.replace("=", " ") for part in options)]
    return ", ".join(words) + (FULL_BATCH if value.endswith(FULL_BATCH) else "")


def row_title(rows: pd.DataFrame) -> str:
    """An optimizer, its learning rate, and whether it switched by step."""
    words = switch_words(rows)
    label = optimizer_label(str(rows["value"].iloc[0]))
    return f"{label}, η = {rows['learning_rate'].iloc[0]:g}" + (f"; {words}" if words else "")


def momentum_edge(value: str) -> float:
    """η λ_1 / 2 above which steps on a quadratic grow; NaN where none is known.

    Example:
        >>> momentum_edge("sgd(momentum=0.9)"), round(momentum_edge("adam"), 9)
        (1.9, 19.0)
    """
    name, options = _name_and_options(value)
    given = dict(part.partition("=")[::2] for part in options)
    if "nesterov" in given or name not in ("sgd", *ADAPTIVE):
        return math.nan
    if name in ("adam", "adamw"):
        beta = float(given.get("betas", "0.9").split(",")[0])
        return (1 + beta) / (1 - beta)
    return 1 + float(given.get("momentum", 0))


def sharpness_column(value: str) -> str | None:
    """The column of the eigenvalue that decides whether an optimizer's steps are stable, if any."""
    name, _ = _name_and_options(value)
    if name in ADAPTIVE:
        return "preconditioned_eigenvalue_1"
    return "eigenvalue_1" if name == "sgd" else None


def _name_and_options(value: str) -> tuple[str, list[str]]:
    """Oracle of the spelling: :func:`sharpflat.optimizers.label`."""
    name, _, rest = value.removesuffix(FULL_BATCH).removesuffix(")").partition("(")
    return name, [part for part in re.split(", ", rest) if part]


def _plot_sharpness(axes: Axes, rows: pd.DataFrame) -> None:
    near = shown(rows)
    value = str(rows["value"].iloc[0])
    column = sharpness_column(value)
    axes.set(yscale="log", ylabel=r"$\lambda_1\,/\,(2/\eta)$")
    found = near[column] if column in near else pd.Series(math.nan, near.index)
    near = near.assign(sharpness=found.where(found > 0) * near["learning_rate"] / 2)
    for method, own in near.groupby("method", sort=False):
        draw = draw_seeds if method == BEFORE_SWITCH else _draw_mean
        draw(axes, own, "sharpness", **line_style(str(method)))
    if near["sharpness"].notna().any():
        for edge, look in zip((1.0, momentum_edge(value)), EDGES.values(), strict=True):
            if edge != 1 or look is EDGES["edge, 2/η"]:
                axes.axhline(edge, zorder=1, **look)
        for method, own in near.groupby("method", sort=False):
            colour = line_style(str(method))["color"]
            mark_divergence(axes, own, "sharpness", color=colour)
        label_log_axis(axes, "y")
    else:
        axes.set_yticks([])
        axes.minorticks_off()
    say_if_empty(axes, near["sharpness"], r"its edge is" "\n" r"not $2/\eta$")
    mark_switch(axes)
    finish_shown(axes, near)


def _draw_mean(axes: Axes, rows: pd.DataFrame, column: str, **line: Any) -> None:
    draw_curve(axes, rows, column, log=True, **line)


def _handles(table: pd.DataFrame) -> list[Line2D]:
    methods = [
        Line2D([], [], label=METHODS.get(name, method_label(name)), **line_style(name))
        for name in table["method"].unique()
    ]
    lines = [
        Line2D([], [], label=rf"$\chi_k$, {ALIGNMENT_LABELS[name]}", **ALIGNMENTS[name])
        for name in COLUMNS
    ]
    edges = [Line2D([], [], label=name, **look) for name, look in EDGES.items()]
    return [*methods, *divergence_handles(table), seed_handle(), *lines, *edges]
