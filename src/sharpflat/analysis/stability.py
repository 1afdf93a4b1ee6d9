"""Which learning rates and weights train stably, and whether a quadratic model foresees it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.statistics import run_statistics

#: What makes a cell of the stability map; its seeds are summarised.
CELL = [*SETTING, "learning_rate", "dom_weight", "bulk_weight"]


def stability_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Observed and predicted stability of every learning rate and pair of weights.

    On a quadratic, gradient descent along an eigenvector with eigenvalue λ is stable iff the
    factor 1 - η a λ of a step lies within ±1. So the Dominant part of the update, of weight a, is
    stable iff η a λ_1 < 2, and the Bulk part, of weight b, iff η b λ_{k+1} < 2.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, or as read from its
            CSV, for cells that branch from the same switch: learning rates that change at it.

    Returns:
        One row a (task, loss, learning_rate, dom_weight, bulk_weight) with

        - ``eigenvalue_dominant``, ``eigenvalue_bulk``: λ_1 and λ_{k+1} at the switch, means over
          the seeds of the task and loss.
        - ``edge_dominant`` = η a λ_1 / 2 and ``edge_bulk`` = η b λ_{k+1} / 2; the prediction puts
          the edge of stability at 1.
        - ``predicted``: whether both are below 1; ``observed``: whether every seed was stable by
          :func:`sharpflat.stability.classify`.
        - ``unstable_share`` and ``diverged_share``: of the seeds, those that trained to the end all
          the same and those that did not; ``seeds`` their number.
        - ``log_ratio``: mean over the seeds that finished of
          log(final training loss / training loss at the switch); NaN if every seed diverged.
    """
    runs = run_statistics(table).drop_duplicates([*CELL, "seed"])  # two names of one method
    finished = runs["final_train_loss"].where(~runs["diverged"])
    runs = runs.assign(log_ratio=np.log(finished / runs["start_train_loss"]))
    cells = runs.groupby(CELL, sort=False).agg(
        observed=("stable", "all"),
        unstable_share=("stability", lambda classes: (classes == "unstable").mean()),
        diverged_share=("diverged", "mean"),
        seeds=("seed", "size"),
        log_ratio=("log_ratio", "mean"),
    )
    cells = cells.reset_index().merge(_eigenvalues_at_switch(table), on=SETTING)
    rate, dominant, bulk = cells["learning_rate"], cells["dom_weight"], cells["bulk_weight"]
    return cells.assign(
        edge_dominant=rate * dominant * cells["eigenvalue_dominant"] / 2,
        edge_bulk=rate * bulk * cells["eigenvalue_bulk"] / 2,
        predicted=predicted_stable(
            rate, dominant, bulk, cells["eigenvalue_dominant"], cells["eigenvalue_bulk"]
        ),
    )


def predicted_stable(
    learning_rate: pd.Series,
    dom_weight: pd.Series,
    bulk_weight: pd.Series,
    eigenvalue_dominant: pd.Series,
    eigenvalue_bulk: pd.Series,
) -> pd.Series:
    """Whether η a λ_1 < 2 and η b λ_{k+1} < 2, element by element.

    Example:
        >>> import pandas as pd
        >>> rate, dom_weight = pd.Series([0.01, 0.05, 0.05]), pd.Series([1.0, 1.0, 0.5])
        >>> one = pd.Series([1.0, 1.0, 1.0])
        >>> predicted_stable(rate, dom_weight, one, 50 * one, 10 * one).tolist()
        [True, False, True]
    """
    dominant = learning_rate * dom_weight * eigenvalue_dominant < 2
    return dominant & (learning_rate * bulk_weight * eigenvalue_bulk < 2)


def agreement(cells: pd.DataFrame) -> float:
    """Share of the cells of :func:`stability_cells` whose observed stability was predicted."""
    return float((cells["predicted"] == cells["observed"]).mean())


def _eigenvalues_at_switch(table: pd.DataFrame) -> pd.DataFrame:
    """λ_1 and λ_{k+1} of every task and loss, means over seeds.

    λ_{k+1} is an estimate from below, so that its edge may lie too far out.
    """
    switch = table[table["steps_after_switch"] == 0]
    following = [row[f"eigenvalue_{int(row['k']) + 1}"] for _, row in switch.iterrows()]
    switch = switch.assign(eigenvalue_bulk=following, eigenvalue_dominant=switch["eigenvalue_1"])
    names = ["eigenvalue_dominant", "eigenvalue_bulk"]
    by_seed = switch.groupby(["task", "loss", "seed"])[names].mean()
    return by_seed.groupby(SETTING).mean().reset_index()
