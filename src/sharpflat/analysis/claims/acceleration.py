"""C3: Bulk-SGD can accelerate convergence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from sharpflat.analysis.bootstrap import median
from sharpflat.analysis.claims.evidence import (
    GROUP,
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Row,
    Runs,
    group_rows,
    observations,
    over_seeds,
    summary_row,
)
from sharpflat.analysis.statistics import paired

ABLATION, DEFAULT = "ablation_lr", "dom_bulk"
METHODS = ["bulk_sgd", "sgd"]
RATIO = "median steps to SGD's final loss, Bulk-SGD's over SGD's"


def acceleration(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Steps that Bulk-SGD needs to SGD's final training loss over those that SGD needs, by seed.

    Below 1 Bulk-SGD is faster. Each learning rate has a row; the best learning rate compares the
    fewest steps of either method at any learning rate to the lowest final loss that SGD has at any,
    so that both are tuned alike on the same runs.

    A loss never reached takes infinitely many steps, and so does one that a run passed before it
    diverged; a median over seeds is infinite where most are. Where SGD diverged or ends no lower
    than it started there is nothing to reach, and the pair counts as infinite.
    """
    best = Measure(
        figure=ABLATION,
        text="median of the fewest steps at any learning rate to SGD's lowest final loss, "
        "Bulk-SGD's over SGD's",
        threshold="acceleration",
        interval=over_seeds(median),
    )
    tuned = _tuned(runs[ABLATION], tables[ABLATION]) if ABLATION in runs else NO_OBSERVATIONS
    rows = [*_default_rows(runs, best), *_rate_rows(runs, best), *group_rows(tuned, best)]
    return Evidence(summary_row(tuned, best), tuple(rows))


def _default_rows(runs: Runs, measure: Measure) -> list[Row]:
    observed = _ratios(runs[DEFAULT]) if DEFAULT in runs else NO_OBSERVATIONS
    text = f"{RATIO}, default learning rate"
    return group_rows(observed, replace(measure, figure=DEFAULT, text=text))


def _rate_rows(runs: Runs, measure: Measure) -> list[Row]:
    measure = replace(measure, figure=ABLATION, text=f"{RATIO}, at one learning rate")
    observed = _ratios(runs[ABLATION]) if ABLATION in runs else NO_OBSERVATIONS
    if observed.empty:
        return group_rows(observed, measure)
    return [
        row
        for cell, rows in observed.groupby("cell", sort=False)
        for row in group_rows(rows, replace(measure, text=f"{RATIO}, {cell}"))
    ]


def _ratios(runs: pd.DataFrame) -> pd.DataFrame:
    usable = (runs["method"] != "sgd") | runs["stable"]
    needed = runs["steps_to_sgd"].mask(runs["diverged"], math.inf).where(usable)
    pairs = paired(runs.assign(needed=needed), "needed", *METHODS)
    return observations(pairs, (pairs["method"] / pairs["reference"]).fillna(math.inf))


def _tuned(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Ratio of the fewest steps at any learning rate, a row a (task, loss, seed)."""
    keys = [*GROUP, "seed"]
    converged = runs[(runs["method"] == "sgd") & runs["stable"]]
    targets = converged.groupby(keys)["final_train_loss"].min().rename("target").reset_index()
    records = table[table["method"].isin(METHODS)].merge(targets, on=keys, how="left")
    compared = records.groupby(keys)["method"].nunique() == len(METHODS)
    finished = records[records["status"] == "finished"]
    reached = finished[finished["train_loss"] <= finished["target"]]
    fewest = reached.groupby([*keys, "method"])["steps_after_switch"].min().unstack("method")
    fewest = fewest.reindex(index=compared.index[compared], columns=METHODS)
    ratio = (fewest["bulk_sgd"] / fewest["sgd"]).fillna(math.inf)
    return ratio.rename("value").reset_index().assign(cell="tuned")
