"""C2: Dom-SGD stops making progress."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    by_seed,
    group_rows,
    observations,
    summary_row,
)
from sharpflat.analysis.inference import LOG, Estimate, location, ratio_of_means
from sharpflat.analysis.statistics import paired

FIGURE = "dom_bulk"


def dom_progress(runs: Runs) -> Evidence:
    """Slope of log loss after the switch, Dom-SGD's mean over SGD's.

    0 is no progress, 1 as much as SGD's. A ratio of means, with Fieller's interval: a single seed
    in which SGD hardly moves makes its own ratio anything. Without progress of SGD beyond doubt
    there is nothing to have a share of, and the row is inconclusive. A diverged run's slope is
    infinite; then the ratios of the seeds are compared one by one, and a seed in which SGD diverged
    or did not progress counts as one in which Dom-SGD did better.
    """
    measure = Measure(
        figure=FIGURE,
        text="slope of log loss after the switch, Dom-SGD's mean over SGD's",
        threshold="dom_progress",
        infer=_relative_progress,
    )
    observed = NO_OBSERVATIONS
    if FIGURE in runs:
        pairs = paired(runs[FIGURE], "log_loss_slope", "dom_sgd", "sgd")
        observed = observations(pairs, -pairs["method"], reference=-pairs["reference"])
    return Evidence(summary_row(observed, measure), tuple(group_rows(observed, measure)))


def _relative_progress(observed: pd.DataFrame, threshold: float) -> Estimate:
    dom, sgd = by_seed(observed, "value"), by_seed(observed, "reference")
    if np.isfinite(dom.to_numpy()).all() and np.isfinite(sgd.to_numpy()).all():
        if dom.shape[1] > 1:  # settings whose losses fall at different rates weigh alike
            dom, sgd = dom / sgd.mean(), sgd / sgd.mean()
        return ratio_of_means(dom.mean(axis=1), sgd.mean(axis=1), threshold)
    with np.errstate(invalid="ignore"):
        ratios = (dom / sgd).where(np.isfinite(sgd) & (sgd > 0), math.inf)
    return location(ratios.median(axis=1), threshold, LOG)
