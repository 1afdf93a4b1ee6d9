"""Test accuracies: their binomial error, and what guessing would reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from sharpflat.figures.style import dashed
from sharpflat.tasks.entries import DatasetEntry
from sharpflat.tasks.registry import DATASETS, look_up

#: Standard errors from chance within which an accuracy is called near it.
NEAR = 2.0
ERROR_BAR: dict[str, Any] = {"elinewidth": 0.7, "capsize": 1.8, "capthick": 0.7}
CHANCE: dict[str, Any] = {
    "label": "chance",
    "color": "0.45",
    "linewidth": 0.8,
    "linestyle": dashed((1, 1.5)),
}


def dataset_of(rows: pd.DataFrame) -> DatasetEntry | None:
    """The data set of a task's rows; ``None`` for a table made before tables named it."""
    if "dataset" not in rows:
        return None
    return look_up(DATASETS, str(rows["dataset"].iloc[0]), what="data set")


def standard_error(accuracy: ArrayLike, num_test: int) -> NDArray[np.float64]:
    """Binomial standard error √(p (1 - p) / n) of an accuracy p on n test samples.

    It says how far one model's accuracy may be from that on the whole distribution. All models are
    tested on the same samples, so a mean over seeds is no more exact than one of them.

    Example:
        >>> round(float(standard_error(0.5, 872)), 4)
        0.0169
    """
    p = np.asarray(accuracy, dtype=np.float64)
    return np.sqrt(p * (1 - p) / num_test)


def near_chance(accuracies: pd.Series, dataset: DatasetEntry) -> int:
    """How many accuracies lie within two standard errors of guessing, 1 / number of classes."""
    chance = 1 / dataset.num_classes
    error = standard_error(chance, dataset.num_test)
    return int(((accuracies - chance).abs() <= NEAR * error).sum())


def chance_words(accuracies: pd.Series, dataset: DatasetEntry | None) -> str:
    """A sentence's end for runs of which half or more are near chance; empty for others."""
    if dataset is None or 2 * (count := near_chance(accuracies, dataset)) < len(accuracies):
        return ""
    return (
        f"{count} of {len(accuracies)} runs end within {NEAR:g} s.e. of chance, "
        f"{1 / dataset.num_classes:g}"
    )


def draw_chance(axes: Axes, dataset: DatasetEntry | None) -> None:
    """A line at the accuracy of guessing, where it lies within the panel's limits."""
    if dataset is None:
        return
    chance, (low, high) = 1 / dataset.num_classes, axes.get_ylim()
    if low <= chance <= high:
        axes.axhline(chance, zorder=1, **CHANCE)


def accuracy_handles(table: pd.DataFrame, figure: Figure) -> list[Line2D]:
    """Entries of a legend for the error bars, and for the line of chance where a panel has it.

    None for a table that names no data set.
    """
    if "dataset" not in table:
        return []
    bar = Line2D([], [], color="0.35", marker="|", markersize=7, linestyle="none")
    bar.set_label("± binomial standard error")
    lines = [line for axes in figure.axes for line in axes.lines]
    drawn = any(line.get_label() == CHANCE["label"] for line in lines)
    return [bar, *([Line2D([], [], **CHANCE)] if drawn else [])]
