"""C2: Dom-SGD stops making progress."""

from __future__ import annotations

import math

from sharpflat.analysis.bootstrap import median
from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    group_rows,
    observations,
    over_seeds,
    summary_row,
)
from sharpflat.analysis.statistics import paired

FIGURE = "dom_bulk"


def dom_progress(runs: Runs) -> Evidence:
    """Median over seeds of the slope of log loss after the switch, Dom-SGD's over SGD's.

    0 is no progress, 1 as much as SGD's. A diverged Dom-SGD has share minus infinity: its loss
    rises. Where SGD diverged or its own loss does not fall there is no progress to have a share of,
    and the pair counts as infinite.
    """
    measure = Measure(
        figure=FIGURE,
        text="median slope of log loss after the switch, Dom-SGD's over SGD's",
        threshold="dom_progress",
        interval=over_seeds(median),
    )
    observed = NO_OBSERVATIONS
    if FIGURE in runs:
        slope = runs[FIGURE]["log_loss_slope"]
        usable = (runs[FIGURE]["method"] != "sgd") | (slope < 0)
        known = runs[FIGURE].assign(slope=slope.where(usable))
        pairs = paired(known, "slope", "dom_sgd", "sgd")
        observed = observations(pairs, (pairs["method"] / pairs["reference"]).fillna(math.inf))
    return Evidence(summary_row(observed, measure), tuple(group_rows(observed, measure)))
