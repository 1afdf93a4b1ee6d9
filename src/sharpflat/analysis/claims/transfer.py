"""C9: the predicted Bulk edge carries over to other architectures and data."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    group_rows,
    over_seeds,
    summary_row,
)
from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.edges import factors_missed, stability_edges
from sharpflat.analysis.inference import LOG

FIGURE, METHOD = "transfer", "bulk_sgd"
#: The task on which the study's figures compare predicted and observed edges: no *other* one.
HOME = "mnist_mlp"
#: Cells from which on their edges have a spread that a prediction can explain.
FEWEST_CELLS = 3
FACTOR = Measure(
    figure=FIGURE,
    text="factor by which 2/λ_(k+1) at the switch misses Bulk-SGD's edge of stability",
    threshold="transfer_factor",
    infer=over_seeds(LOG),
)
ERROR = Measure(
    figure=FIGURE,
    text="error of 2/λ_(k+1) as Bulk-SGD's edge over that of the best single edge for all, root "
    "mean squares of logs",
    threshold="transfer_error",
    infer=over_seeds(LOG),
)


def transfer(tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Whether Bulk-SGD loses stability where λ_{k+1} at the switch says, on other tasks than one.

    - A row a task and loss: the factor, 1 or more, by which the prediction misses the observed
      edge, whether it lies above or below, by seed. A search that ended without an edge leaves
      bounds.
    - One row of all: the root mean square over tasks and losses of log(observed / predicted), over
      the standard deviation of log(observed), by seed. The latter is the error of the single edge
      that fits all best, chosen afterwards, so below 1 the eigenvalues tell more than no prediction
      at all: edges that are alike everywhere are no evidence that one carries over. A seed with an
      edge that was not found, or not predicted, counts as infinitely wrong.
    """
    factors = _factors(tables)
    rows = [*group_rows(factors, FACTOR), *group_rows(_errors(factors), ERROR)]
    return Evidence(summary_row(factors, FACTOR), tuple(rows))


def _factors(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Bounds of the factor that the prediction misses by, a row a (task, loss, seed)."""
    if FIGURE not in tables:
        return NO_OBSERVATIONS
    trials = tables[FIGURE]
    chosen = trials[(trials["method"] == METHOD) & (trials["task"] != HOME)]
    if chosen.empty:
        return NO_OBSERVATIONS
    missed = factors_missed(stability_edges(chosen))
    return missed.rename(columns={"lower": "value"}).assign(cell=METHOD)


def _errors(factors: pd.DataFrame) -> pd.DataFrame:
    """Error of the prediction over that of the best single edge, a row a seed."""
    rows = [
        {"seed": seed, "value": _relative_error(cells["edge"], cells["predicted"])}
        for seed, cells in factors.groupby("seed", sort=False)
        if len(cells) >= FEWEST_CELLS
    ]
    if not rows:
        return NO_OBSERVATIONS
    everything = dict(zip(SETTING, ("every task", "every loss"), strict=True))
    return pd.DataFrame(rows).assign(cell=METHOD, **everything)


def _relative_error(edges: pd.Series, predicted: pd.Series) -> float:
    observed, expected = np.log(edges.to_numpy()), np.log(predicted.to_numpy())
    error = math.sqrt(np.square(observed - expected).mean())
    spread = float(observed.std())
    return error / spread if math.isfinite(error) and spread > 0 else math.inf
