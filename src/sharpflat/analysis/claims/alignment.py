"""C1: gradients align with the top eigenspace."""

from __future__ import annotations

from sharpflat.analysis.bootstrap import mean
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

FIGURE = "alignment"


def alignment(runs: Runs) -> Evidence:
    """Mean χ_k of the full gradient over the last tenth of SGD.

    A diverged run has no last tenth and counts as 0.
    """
    measure = Measure(
        figure=FIGURE,
        text="mean χ_k of the full gradient, last tenth of SGD",
        threshold="alignment",
        interval=over_seeds(mean),
    )
    observed = NO_OBSERVATIONS
    if FIGURE in runs:
        sgd = runs[FIGURE][runs[FIGURE]["method"] == "sgd"]
        observed = observations(sgd, sgd["alignment"].where(~sgd["diverged"]).fillna(0.0))
    return Evidence(summary_row(observed, measure), tuple(group_rows(observed, measure)))
