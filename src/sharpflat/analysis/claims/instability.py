"""C4: Bulk-SGD may compromise stability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from sharpflat.analysis.claims.ablations import ALL_ABLATIONS, distinct_runs
from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    group_rows,
    observations,
    over_seeds,
    share_of_seeds,
    summary_row,
)
from sharpflat.analysis.claims.transfer import FIGURE as ELSEWHERE
from sharpflat.analysis.claims.transfer import HOME
from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.edges import edge_ratios, stability_edges
from sharpflat.analysis.inference import LOG
from sharpflat.analysis.statistics import paired

EDGES, GROWTH = "stability_edge", "dom_bulk"
METHODS = ("bulk_sgd", "sgd")


def instability(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """How much less stable Bulk-SGD is than SGD, by seed.

    - The edge of stability: the largest learning rate that Bulk-SGD bears, over SGD's, with bounds
      where a search ended without finding it. Likewise on other architectures and data, which were
      added after they had been seen: what may happen need not on one network.
    - The share of the seeds in which, over the distinct cells of all ablations, those with SGD
      stable and Bulk-SGD not outnumber those with Bulk-SGD stable and SGD not.
    - The growth of λ_1 from the switch to the last record, Bulk-SGD's over SGD's. Infinite where
      Bulk-SGD alone diverged, 0 where SGD alone did, 1 where both did. It is no instability itself.
    """
    edge = Measure(
        figure=EDGES,
        text="edge of stability η*, Bulk-SGD's over SGD's",
        threshold="edge_ratio",
        infer=over_seeds(LOG),
    )
    unstable = Measure(
        figure=ALL_ABLATIONS,
        text="share of seeds in which Bulk-SGD is unstable in more cells than SGD",
        threshold="instability",
        infer=share_of_seeds,
    )
    growth = Measure(
        figure=GROWTH,
        text="growth of λ_1, Bulk-SGD's over SGD's",
        threshold="sharpness_growth",
        infer=over_seeds(LOG),
    )
    edges = observe_edges(tables.get(EDGES), "bulk_sgd", ["sgd"])
    others = observe_edges(tables.get(ELSEWHERE), "bulk_sgd", ["sgd"])
    others = others[others["task"] != HOME]
    rows = [
        *group_rows(edges, edge),
        # No row that nothing decides where a tier asks of no other task.
        *(() if others.empty else group_rows(others, replace(edge, figure=ELSEWHERE))),
        *group_rows(_excess(runs), unstable),
        *group_rows(_growth(runs), growth),
    ]
    return Evidence(summary_row(edges, edge), tuple(rows))


def observe_edges(trials: pd.DataFrame | None, method: str, references: list[str]) -> pd.DataFrame:
    """Bounds of a method's edge over the largest of the references', a row a (task, loss, seed)."""
    if trials is None or not {method, *references} <= set(trials["method"]):
        return NO_OBSERVATIONS
    ratios = edge_ratios(stability_edges(trials), method, references)
    columns = {"lower": "value"}
    return ratios[[*SETTING, "seed", "lower", "upper"]].rename(columns=columns).assign(cell=method)


def _excess(runs: Runs) -> pd.DataFrame:
    """Cells in which only Bulk-SGD is unstable less those in which only SGD is, by seed."""
    distinct = distinct_runs(runs)
    if distinct.empty or not set(METHODS) <= set(distinct["method"]):
        return NO_OBSERVATIONS
    wide = distinct.pivot(index=[*SETTING, "seed", "cell"], columns="method", values="stable")
    wide = wide[list(METHODS)].dropna().astype(int)
    excess = (wide["sgd"] - wide["bulk_sgd"]).groupby([*SETTING, "seed"], sort=False).sum()
    return excess.rename("value").reset_index().assign(cell="all cells")


def _growth(runs: Runs) -> pd.DataFrame:
    if GROWTH not in runs:
        return NO_OBSERVATIONS
    pairs = paired(runs[GROWTH], "eigenvalue_1_growth", *METHODS)
    both = np.isinf(pairs["method"]) & np.isinf(pairs["reference"])
    return observations(pairs, (pairs["method"] / pairs["reference"]).mask(both, 1.0))
