"""Figure of :mod:`sharpflat.benchmarks.stretched`: losses over steps and over seconds.

python -m sharpflat.figures.stretched results/benchmarks paper_figures/benchmarks
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sharpflat.analysis.intervals import geometric_mean, geometric_mean_interval
from sharpflat.benchmarks.stretched_setting import LOSS_FLOOR
from sharpflat.figures.style import (
    LEGEND_HEIGHT,
    PAGE_WIDTH,
    SMALL_PANEL_HEIGHT,
    apply_style,
    dashed,
    label_log_axis,
    legend_below,
    panel_title,
    save,
)

#: Base optimizers, by colour; a stretched one has its base's, dashed.
COLOURS = {"sgd": "#000000", "momentum": "#0072b2", "adamw": "#d55e00", "muon": "#cc79a7"}
LABELS = {
    "sgd": "SGD",
    "momentum": "SGD, momentum 0.9",
    "adamw": "AdamW",
    "muon": "Muon",
    "stretched_sgd": "stretched SGD",
    "stretched_momentum": "stretched momentum",
    "stretched_adamw": "stretched AdamW",
    "stretched_adamw_metric": "stretched AdamW, own metric",
}
DASHES = {"stretched_adamw_metric": (1.0, 1.0)}
STRETCHED_DASHES = (4.0, 1.5)
PREFIX = "stretched_"


def plot_stretched(curves: pd.DataFrame) -> Figure:
    """Training loss over steps, and over the processor's seconds; a row a comparison.

    Lines are geometric means over seeds, at equal steps; in the second panel against the seeds'
    mean seconds. The bands are their 95 % intervals, Student's t on logs. Losses below
    :data:`~sharpflat.benchmarks.stretched_setting.LOSS_FLOOR` are drawn at it.

    Args:
        curves: ``stretched_curves.csv`` of the benchmark.
    """
    apply_style()
    curves = curves.assign(train_loss=curves["train_loss"].clip(lower=LOSS_FLOOR))
    groups = [rows for _, rows in curves.groupby(["task", "loss", "batch_size"], sort=False)]
    height = SMALL_PANEL_HEIGHT * len(groups) + 2 * LEGEND_HEIGHT
    figure, axes = plt.subplots(len(groups), 2, figsize=(PAGE_WIDTH, height), squeeze=False)
    for (over_steps, over_seconds), rows in zip(axes, groups, strict=True):
        _draw(over_steps, rows, "step")
        _draw(over_seconds, rows, "seconds")
        over_steps.set_title(_title(rows), loc="left")
        over_steps.set_ylabel("training loss")
        over_seconds.set_ylabel("")
        over_seconds.set_xscale("log")
        label_log_axis(over_seconds, "x")
        for panel in (over_steps, over_seconds):
            label_log_axis(panel, "y")
    axes[-1, 0].set_xlabel("steps")
    axes[-1, 1].set_xlabel("CPU seconds")
    names = [name for name in LABELS if name in set(curves["optimizer"])]
    legend_below(figure, [Line2D([], [], label=LABELS[name], **_line(name)) for name in names], 4)
    return figure


def _title(rows: pd.DataFrame) -> str:
    return f"{panel_title(rows)}, batches of {rows['batch_size'].iloc[0]}"


def _draw(axes: Axes, rows: pd.DataFrame, x: str) -> None:
    rows = _of_all_seeds(rows.reset_index(drop=True))
    for name in (name for name in LABELS if name in set(rows["optimizer"])):
        sns.lineplot(
            rows[rows["optimizer"] == name],
            x=x,
            y="train_loss",
            estimator=geometric_mean,
            errorbar=geometric_mean_interval,
            err_kws={"alpha": 0.12, "linewidth": 0},
            ax=axes,
            **_line(name),
        )
    axes.set(yscale="log", xlabel="", ylabel="")


def _of_all_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Records that all seeds of an optimizer came to, with their mean seconds; none at the start.

    A mean over the seeds that are left would flatter one that diverges.
    """
    at = rows.groupby(["optimizer", "step"])["seconds"]
    rows = rows.assign(seconds=at.transform("mean").replace(0, np.nan))
    seeds = rows.groupby("optimizer")["seed"].transform("nunique")
    return rows[at.transform("size") == seeds]


def _line(name: str) -> dict[str, Any]:
    stretched = name.startswith(PREFIX)
    base = name.removeprefix(PREFIX).removesuffix("_metric")
    dashes = DASHES.get(name, STRETCHED_DASHES) if stretched else ()
    return {"color": COLOURS[base], "linestyle": dashed(dashes), "linewidth": 1.2}


def main(folder: Path, figures: Path) -> None:
    """Draw the figure from the benchmark's table."""
    figure = plot_stretched(pd.read_csv(folder / "stretched_curves.csv"))
    save(figure, figures / "stretched.pdf", figures / "stretched.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the tables")
    parser.add_argument("figures", type=Path, help="where the figure goes")
    options = parser.parse_args()
    main(options.folder, options.figures)
