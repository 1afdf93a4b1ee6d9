"""C5: critical hyperparameters govern how fast and how stable Bulk-SGD is."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sharpflat.analysis.bootstrap import Array, Interval, seed_interval
from sharpflat.analysis.claims.evidence import (
    GROUP,
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    group_rows,
    observations,
    pooled,
    summary_row,
)
from sharpflat.analysis.claims.instability import ABLATIONS, ALL_ABLATIONS

#: What is explained, and how it is called in a row.
OUTCOMES = {
    "loss_explained": "the rank of Bulk-SGD's final loss",
    "stability_explained": "whether Bulk-SGD is stable",
}


def hyperparameters(runs: Runs) -> Evidence:
    """Share of the variance in Bulk-SGD's outcome that the ablated hyperparameter explains.

    η² of a one-way analysis of variance, ``SS_between / SS_total`` over the values of the
    hyperparameter with the seeds as replicates, of two outcomes:

    - the rank of the final training loss among the runs of the ablation, so that diverged runs,
      whose loss is infinite, share the highest rank and need no made-up loss;
    - whether the run is stable, as 0 or 1.

    An outcome that is the same in every run varies with nothing, and its η² is 0. The estimate
    leans upwards: with five values and three seeds, η² of pure noise is 0.29 on average.
    """
    rows = [
        row
        for figure in ABLATIONS
        for outcome in OUTCOMES
        for row in group_rows(_observe(runs, figure, outcome), _measure(figure, outcome))
    ]
    main = "loss_explained"
    cells = pooled({figure: _observe(runs, figure, main) for figure in ABLATIONS})
    return Evidence(summary_row(cells, _measure(ALL_ABLATIONS, main)), tuple(rows))


def explained_share(samples: Array) -> Array:
    """η² of each ``(seeds, values)`` of ``(resamples, seeds, values)``; 0 where nothing varies."""
    grand = samples.mean(axis=(1, 2), keepdims=True)
    between = samples.shape[1] * ((samples.mean(axis=1, keepdims=True) - grand) ** 2).sum((1, 2))
    total = ((samples - grand) ** 2).sum((1, 2))
    return np.asarray(np.divide(between, total, out=np.zeros_like(total), where=total > 0))


def _measure(figure: str, outcome: str) -> Measure:
    return Measure(
        figure=figure,
        text=f"η², variance in {OUTCOMES[outcome]} that the hyperparameter explains",
        threshold=outcome,
        interval=_explained_interval,
    )


def _observe(runs: Runs, figure: str, outcome: str) -> pd.DataFrame:
    if figure not in runs:
        return NO_OBSERVATIONS
    bulk = runs[figure][runs[figure]["method"] == "bulk_sgd"]
    if outcome == "stability_explained":
        return observations(bulk, bulk["stable"])
    return observations(bulk, bulk.groupby(GROUP)["final_train_loss"].rank())


def _explained_interval(wide: pd.DataFrame) -> Interval:
    """Interval of η², averaged over tasks, losses and hyperparameters where there are several.

    Repeated seeds agree with themselves, which pushes η² of a resample up (to 1 if one seed is
    drawn throughout), so the interval is reflected, and cut to the range that η² has.
    """
    labels = wide.columns.to_frame(index=False)
    labels["ablation"] = labels["cell"].str.partition(" = ")[0]
    ablations = list(labels.groupby([*GROUP, "ablation"]).indices.values())

    def average(samples: Array) -> Array:
        shares = [explained_share(samples[:, :, cells]) for cells in ablations]
        return np.asarray(np.mean(shares, axis=0))

    interval = seed_interval(wide.to_numpy(), average, reflected=True)
    low, high = np.clip([interval.low, interval.high], 0.0, 1.0)
    return Interval(interval.estimate, float(low), float(high), interval.n)
