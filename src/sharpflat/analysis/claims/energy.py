"""C7: curvature energy concentrates in the Dominant subspace, carried by the GGN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

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
from sharpflat.analysis.inference import LOGIT

FIGURE = "curvature_energy"
SHARE = "Frobenius share of {} in the Dominant subspace, end of SGD"


@dataclass(frozen=True)
class _Statistic:
    threshold: str
    matrix: str
    column: str
    text: str
    worst: float  # what a run without a value counts as


MAIN = _Statistic("hessian_energy", "hessian", "frobenius_share", SHARE.format("H"), -math.inf)
STATISTICS = (
    MAIN,
    _Statistic("ggn_energy", "ggn", "frobenius_share", SHARE.format("G"), -math.inf),
    _Statistic(
        "functional_energy", "functional_hessian", "frobenius_share", SHARE.format("F"), math.inf
    ),
    _Statistic(
        "eigenspace_overlap",
        "hessian",
        "overlap",
        "overlap of the top-k eigenspaces of H and G, end of SGD",
        -math.inf,
    ),
)


def energy(tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Shares of the Hessian H, the Generalized Gauss-Newton G and the functional Hessian F.

    Each is taken over seeds at the last measured step of SGD. The energy is concentrated if H's
    share is large, and carried by G if G's share is large too, F's is not, and the top-k
    eigenspaces of H and G overlap. A diverged run, and a share that is not defined, count against
    the claim: below any share, and above any for F. The shares' errors over probes within a run are
    part of how the seeds scatter.
    """
    rows = [
        row
        for statistic in STATISTICS
        for row in group_rows(_observe(tables, statistic), _measure(statistic))
    ]
    return Evidence(summary_row(_observe(tables, MAIN), _measure(MAIN)), tuple(rows))


def _measure(statistic: _Statistic) -> Measure:
    return Measure(
        figure=FIGURE,
        text=statistic.text,
        threshold=statistic.threshold,
        infer=over_seeds(LOGIT),
    )


def _observe(tables: Mapping[str, pd.DataFrame], statistic: _Statistic) -> pd.DataFrame:
    """The last measured value of each run of SGD, or the worst."""
    if FIGURE not in tables:
        return NO_OBSERVATIONS
    sgd = tables[FIGURE][tables[FIGURE]["method"] == "sgd"].sort_values("step")
    keys = [*SETTING, "seed"]
    status = sgd.groupby(keys)["status"].last()
    last = sgd[sgd["matrix"] == statistic.matrix].groupby(keys)[statistic.column].last()
    values = last.reindex(status.index).where(status == "finished").fillna(statistic.worst)
    return values.rename("value").reset_index().assign(cell=statistic.matrix)
