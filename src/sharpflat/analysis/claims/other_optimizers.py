"""C8: Bulk keeps pace without the Dominant part under optimizers other than plain SGD."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from sharpflat.analysis.claims.acceleration import step_ratios
from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Row,
    Runs,
    group_rows,
    over_seeds,
    summary_row,
)
from sharpflat.analysis.inference import LOG

FIGURE = "optimizers"
#: As the figure's table names SGD as it comes, which the claim is not about.
SGD = "sgd"
RATIO = "steps to the lowest loss that both reach, Bulk's over the base optimizer's"


def other_optimizers(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Steps that the Bulk part of an optimizer's updates needs over those of the whole, by seed.

    1 is equal pace, and the threshold says how much slower still counts as that. The loss is the
    lowest that both reach, as for C3. A row a task, loss and optimizer; full-batch gradient descent
    is one of them. The summary is the mean over optimizers of each seed.

    A diverged run has reached nothing: the other is infinitely faster. Where neither progresses
    there is no pace to keep, and the ratio is infinite, which speaks against the claim.
    """
    rows: list[Row] = []
    parts = []
    if FIGURE in runs:
        own, table = (found[found["value"] != SGD] for found in (runs[FIGURE], tables[FIGURE]))
        for optimizer, of_optimizer in own.groupby("value", sort=False):
            records = table[table["value"] == optimizer]
            ratios = step_ratios(of_optimizer, records, neither=math.inf).assign(cell=optimizer)
            if not ratios.empty:
                rows += group_rows(ratios, _measure(f"{optimizer}, {RATIO}"))
                parts.append(ratios)
    observed = pd.concat(parts, ignore_index=True) if parts else NO_OBSERVATIONS
    return Evidence(
        summary_row(observed, _measure(RATIO)), tuple(rows or group_rows(observed, _measure(RATIO)))
    )


def _measure(text: str) -> Measure:
    return Measure(figure=FIGURE, text=text, threshold="pace", infer=over_seeds(LOG))
