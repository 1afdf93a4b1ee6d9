"""C3: Bulk-SGD can accelerate convergence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    group_rows,
    over_seeds,
    summary_row,
)
from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.inference import LOG
from sharpflat.analysis.statistics import steps_to_loss

ABLATION, DEFAULT = "ablation_lr", "dom_bulk"
METHODS = ["bulk_sgd", "sgd"]
RATIO = "steps to the lowest loss that both reach, Bulk-SGD's over SGD's"


def acceleration(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Steps that Bulk-SGD needs to a training loss over those that SGD needs, paired by seed.

    Below 1 Bulk-SGD is faster. The loss is the lowest that both reach: SGD's final one where
    Bulk-SGD is ahead, and Bulk-SGD's final one where it is behind, so that the end of a run
    hides no ratio. Between records log loss is interpolated.

    At the default learning rate each task and loss has a row. At the best learning rate either
    method takes the fewest steps that it needs at any, so that both are tuned alike on the same
    runs.

    A diverged run has reached nothing. Where one of the two ends no lower than it began, the other
    is infinitely faster; where neither progresses, the ratio is 1.
    """
    best = _measure(ABLATION, f"{RATIO}, each at its best learning rate")
    default = _measure(DEFAULT, f"{RATIO}, default learning rate")
    tuned, alike = (
        step_ratios(runs[name], tables[name], neither=1.0) if name in runs else NO_OBSERVATIONS
        for name in (ABLATION, DEFAULT)
    )
    rows = [*group_rows(alike, default), *group_rows(tuned, best)]
    return Evidence(summary_row(tuned, best), tuple(rows))


def _measure(figure: str, text: str) -> Measure:
    return Measure(figure=figure, text=text, threshold="acceleration", infer=over_seeds(LOG))


def step_ratios(runs: pd.DataFrame, table: pd.DataFrame, *, neither: float) -> pd.DataFrame:
    """Bulk-SGD's fewest steps over SGD's to the lowest training loss that both reach.

    Args:
        runs: Statistics of runs; either method takes the value of the varied setting at which it
            needs the fewest steps.
        table: The same runs, step by step.
        neither: The ratio where neither method progresses.

    Returns:
        Observations, a row a (task, loss, seed).
    """
    keys = [*SETTING, "seed"]
    compared = runs[runs["method"].isin(METHODS)]
    records = table[table["method"].isin(METHODS) & (table["status"] != "diverged")]
    trajectories = {
        key: [run.sort_values("step") for _, run in rows.groupby("value", dropna=False)]
        for key, rows in records.groupby([*keys, "method"])
    }
    ratios = []
    for key, rows in compared.groupby(keys, sort=False):
        if rows["method"].nunique() == len(METHODS):
            own = {method: trajectories.get((*key, method), []) for method in METHODS}
            value = steps_ratio(*own.values(), neither=neither)
            ratios.append(dict(zip(keys, key, strict=True)) | {"value": value})
    return pd.DataFrame(ratios).assign(cell="fewest steps") if ratios else NO_OBSERVATIONS


def steps_ratio(
    runs: Sequence[pd.DataFrame], others: Sequence[pd.DataFrame], *, neither: float = 1.0
) -> float:
    """Fewest steps of some runs, over the fewest of others, to the lowest loss that both reach.

    Args:
        runs: Rows of a figure's table of one run each, in the order of their steps, from one
            switch; those that diverged are left out.
        others: Likewise, from the same switch.
        neither: The ratio where none of them ends lower than it began.

    Returns:
        Infinite where only the others end lower than they began, 0 where only the runs do.
    """
    starts = [run["train_loss"].dropna().iloc[0] for run in (*runs, *others)]
    lowest = [min(map(_final_loss, side), default=math.inf) for side in (runs, others)]
    progress, others_progress = (loss < min(starts, default=0.0) for loss in lowest)
    if not (progress and others_progress):
        return neither if progress == others_progress else 0.0 if progress else math.inf
    fewest = [min(_steps(run, max(lowest)) for run in side) for side in (runs, others)]
    return fewest[0] / fewest[1]


def _final_loss(run: pd.DataFrame) -> float:
    """The last loss that was recorded; infinite if any was, as of a run that diverged."""
    losses = run["train_loss"].dropna()
    return math.inf if np.isinf(losses).any() else float(losses.iloc[-1])


def _steps(run: pd.DataFrame, target: float) -> float:
    steps, losses = (run[name].to_numpy(float) for name in ("steps_after_switch", "train_loss"))
    return steps_to_loss(steps, losses, target)
