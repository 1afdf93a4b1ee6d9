"""Figure ``architectures``: the same comparison on one architecture and data set after another."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.figures.comparison import (
    ALIGNMENT_LABELS,
    ALIGNMENTS,
    finish_losses,
    plot_alignments,
    plot_losses,
    plot_ratios,
    switch_words,
)
from sharpflat.figures.curves import relative_to_switch
from sharpflat.figures.grid import one_row_each, title_row
from sharpflat.figures.style import (
    apply_style,
    legend_below,
    method_handles,
    panel_title,
    seed_handle,
)

WIDTHS = (1.0, 1.0, 1.0)
COLUMNS = ["alignment", "batch_alignment"]


def plot_architectures(table: pd.DataFrame) -> Figure:
    """Training loss, its ratio to that of SGD, and alignments of SGD, a row a task and loss.

    As in ``dom_bulk``, the loss is divided by that at the switch, and in the second panel by that
    of SGD with the same seed at the same step. Titles say where the switch came by its step.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it.
    """
    apply_style()
    figure, groups = one_row_each(relative_to_switch(table), WIDTHS)
    for rows, panels in groups:
        losses, ratios, alignments = panels
        title_row(panels, row_title(rows))
        plot_losses(losses, rows)
        plot_ratios(ratios, rows)
        plot_alignments(alignments, rows, COLUMNS)
        finish_losses(losses, rows)
    legend_below(figure, _handles(table), columns=4)
    return figure


def row_title(rows: pd.DataFrame) -> str:
    """A task and loss with its k, and whether it switched by step."""
    words = switch_words(rows)
    title = f"{panel_title(rows)}, k = {int(rows['k'].iloc[0])}"
    return title + (f"; {words}" if words else "")


def _handles(table: pd.DataFrame) -> list[Line2D]:
    lines = [
        Line2D([], [], label=rf"$\chi_k$ of SGD's {ALIGNMENT_LABELS[name]}", **ALIGNMENTS[name])
        for name in COLUMNS
    ]
    return [*method_handles(table), seed_handle(), *lines]
