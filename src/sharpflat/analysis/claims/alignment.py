"""C1: gradients align with the top eigenspace."""

from __future__ import annotations

import math

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
from sharpflat.analysis.inference import LOGIT

FIGURE = "alignment"


def alignment(runs: Runs) -> Evidence:
    """χ_k of the full gradient over the last tenth of SGD.

    A diverged run has no last tenth and counts as minus infinity, below any alignment.
    """
    measure = Measure(
        figure=FIGURE,
        text="χ_k of the full gradient, last tenth of SGD",
        threshold="alignment",
        infer=over_seeds(LOGIT),
    )
    observed = NO_OBSERVATIONS
    if FIGURE in runs:
        sgd = runs[FIGURE][runs[FIGURE]["method"] == "sgd"]
        observed = observations(sgd, sgd["alignment"].where(~sgd["diverged"]).fillna(-math.inf))
    return Evidence(summary_row(observed, measure), tuple(group_rows(observed, measure)))
