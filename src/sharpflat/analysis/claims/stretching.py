"""C10: damping the Dominant and stretching the Bulk part beats SGD at its best learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sharpflat.analysis.claims.acceleration import steps_ratio
from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    by_seed,
    group_rows,
    summary_row,
)
from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.inference import Estimate, least_of_largest
from sharpflat.analysis.tables import BEFORE_SWITCH

PLANE, LEARNING_RATES = "stability_plane", "ablation_lr"
#: Ratio of a pair that ends no lower than it began, in place of infinity; its inverse where SGD
#: does so at every learning rate. A finite one lets pairs be compared at few seeds.
FURTHEST = 100.0


def stretching(tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Steps that the pairs of weights a < 1 < b need over those of SGD, paired by seed.

    SGD is tuned: it takes the fewest steps that it needs at any learning rate of ``ablation_lr`` or
    at that of the plane. The pairs all have the plane's. Every pair is compared, with intervals and
    p-values that allow for their number; the estimate, the least of all, leans downwards.

    Losses count up to the end of the shorter figure's runs. The loss to reach is SGD's lowest at
    that end where a pair reaches it, and else the lowest that the pair does, so that a pair which
    is behind has a ratio too, above 1, instead of an unknown one. A run that diverged has reached
    nothing; a pair that ends no lower than it began counts as taking 100 times as long as SGD.
    """
    measure = Measure(
        figure=PLANE,
        text="steps to the lowest loss that both reach, of the best pair a < 1 < b over SGD's at "
        "its best learning rate",
        threshold="stretched_steps",
        infer=_best_pair,
    )
    observed = _observe(tables)
    return Evidence(summary_row(observed, measure), tuple(group_rows(observed, measure)))


def _best_pair(observed: pd.DataFrame, threshold: float) -> Estimate:
    # Of several tasks and losses a seed has the geometric mean.
    logs = by_seed(observed, "value").map(np.log).T.groupby(level="cell").mean()
    return least_of_largest([[ratios] for ratios in np.exp(logs.to_numpy())], threshold)


def _observe(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Ratio of steps of every pair with a < 1 < b, a row a (task, loss, pair, seed)."""
    if not {PLANE, LEARNING_RATES} <= set(tables):
        return NO_OBSERVATIONS
    keys = [*SETTING, "seed"]
    plane, rates = (
        {key: _runs(rows) for key, rows in _after_switch(tables[name]).groupby(keys, sort=False)}
        for name in (PLANE, LEARNING_RATES)
    )
    ratios = [
        dict(zip(keys, key, strict=True)) | {"cell": pair, "value": value}
        for key in plane
        if key in rates
        for pair, value in _ratios(plane[key], rates[key])
    ]
    return pd.DataFrame(ratios) if ratios else NO_OBSERVATIONS


def _ratios(plane: list[pd.DataFrame], rates: list[pd.DataFrame]) -> Iterator[tuple[str, float]]:
    """Of one task, loss and seed, by pair."""
    tuned = [run for run in rates if _weights(run) == (1.0, 1.0)]
    if not tuned:
        return
    sgd = [*tuned, *(run for run in plane if _weights(run) == (1.0, 1.0))]
    pairs = [run for run in plane if _weights(run)[0] < 1 < _weights(run)[1]]
    ends = [run["steps_after_switch"].max() for run in (*sgd, *pairs) if _finished(run)]
    finished = [_until(run, min(ends)) for run in sgd if _finished(run)]
    for run in pairs:
        own = [_until(run, min(ends))] if _finished(run) else []
        ratio = steps_ratio(own, finished)
        yield str(run["method"].iloc[0]), float(np.clip(ratio, 1 / FURTHEST, FURTHEST))


def _after_switch(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["method"] != BEFORE_SWITCH]


def _runs(rows: pd.DataFrame) -> list[pd.DataFrame]:
    runs = rows.groupby(["method", "learning_rate"], sort=False)
    return [run.sort_values("step") for _, run in runs]


def _weights(run: pd.DataFrame) -> tuple[Any, Any]:
    first = run.iloc[0]
    return first["dom_weight"], first["bulk_weight"]


def _finished(run: pd.DataFrame) -> bool:
    return bool(run["status"].iloc[0] != "diverged")


def _until(run: pd.DataFrame, step: float) -> pd.DataFrame:
    return run[run["steps_after_switch"] <= step]
