"""The edge of stability of each method: observed by bisection, predicted from eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sharpflat.analysis.intervals import geometric_mean

#: What tells the searches of a table apart, but for the seed.
SEARCH = ["task", "loss", "method", "dom_weight", "bulk_weight"]
PAIR = ["task", "loss", "seed"]
#: What the seeds of a search have in common.
CELL = ["task", "loss", "method"]


def stability_edges(trials: pd.DataFrame) -> pd.DataFrame:
    """The edge η* of every method and seed.

    η* is the geometric mean of the smallest learning rate that was not stable and of the largest
    stable one below it: a stable trial above an unstable one is an island and does not move the
    edge. On a quadratic the Dominant part of the update, of weight a, is stable iff η a λ_1 < 2 and
    the Bulk part, of weight b, iff η b λ_{k+1} < 2.

    Args:
        trials: One row a trial, with ``task, loss, method, dom_weight, bulk_weight, seed,
            learning_rate, stability, eigenvalue_dominant, eigenvalue_bulk``; the eigenvalues are
            λ_1 and λ_{k+1} at the switch.

    Returns:
        One row a (task, loss, method, seed) with

        - ``largest_stable``, 0 where no trial was, and ``smallest_not_stable``, infinite where all
          were: the edge lies between them.
        - ``edge``: η*; NaN where the search was censored, and ``censored`` then says whether the
          edge lies ``above`` or ``below`` all trials; empty otherwise.
        - ``predicted_dominant`` = 2 / (a λ_1), ``predicted_bulk`` = 2 / (b λ_{k+1}), infinite for a
          weight of 0; ``predicted``, the lesser of them; ``observed_over_predicted``.

    Example:
        >>> trials = pd.DataFrame({"task": "t", "loss": "mse", "method": "sgd", "dom_weight": 1.0,
        ...     "bulk_weight": 1.0, "seed": 0, "learning_rate": [0.01, 0.04, 0.16],
        ...     "stability": ["stable", "unstable", "diverged"], "eigenvalue_dominant": 50.0,
        ...     "eigenvalue_bulk": 10.0})
        >>> edges = stability_edges(trials)
        >>> edges[["edge", "predicted", "observed_over_predicted"]].values.tolist()
        [[0.02, 0.04, 0.5]]
    """
    rows = [_edge(search) for _, search in trials.groupby([*SEARCH, "seed"], sort=False)]
    return pd.DataFrame(rows)


def edge_ratios(edges: pd.DataFrame, method: str, references: Sequence[str]) -> pd.DataFrame:
    """η* of a method over the largest η* of the references, paired by seed.

    Args:
        edges: As :func:`stability_edges` returns them.
        method: Whose edge is compared.
        references: With which; a seed that lacks one is left out.

    Returns:
        Columns ``task, loss, seed, ratio, lower, upper``. Where both edges are known the three are
        equal; a censored edge leaves ``ratio`` NaN and bounds, 0 and infinity where nothing bounds
        it.
    """
    known = {name: edges[edges["method"] == name].set_index(PAIR) for name in (method, *references)}
    common = known[method].index
    for name in references:
        common = common.intersection(known[name].index)
    own = known[method].loc[common]
    others = [known[name].loc[common] for name in references]
    largest_low, largest_high = (
        np.max([_bound(other, end) for other in others], axis=0) for end in ("low", "high")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        lower = np.nan_to_num(_bound(own, "low") / largest_high, nan=0.0, posinf=math.inf)
        upper = np.nan_to_num(_bound(own, "high") / largest_low, nan=math.inf, posinf=math.inf)
    ratio = np.where(lower == upper, lower, math.nan)
    return common.to_frame(index=False).assign(ratio=ratio, lower=lower, upper=upper)


def edge_means(edges: pd.DataFrame) -> pd.DataFrame:
    """Geometric means over seeds of the predicted and the observed edge, a row a cell.

    Args:
        edges: As :func:`stability_edges` returns them.

    Returns:
        Columns ``task, loss, method, predicted, edge``. A cell with a censored seed has no mean
        edge, NaN: what is known only between bounds is not left out of it.
    """
    cells = edges.groupby(CELL, sort=False)[["predicted", "edge"]]
    return cells.agg(geometric_mean).reset_index()


def factors_missed(edges: pd.DataFrame) -> pd.DataFrame:
    """The factor by which the predicted edge misses the observed one, to either side.

    Args:
        edges: As :func:`stability_edges` returns them.

    Returns:
        The edges with ``lower`` and ``upper``, 1 or more. Where the edge is known the two are
        equal; a censored edge leaves bounds. Infinite where an edge was found and a quadratic
        predicts none.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.log(_bound(edges, "low") / edges["predicted"].to_numpy())
        high = _bound(edges, "high") / edges["predicted"].to_numpy()
        high = np.log(np.nan_to_num(high, nan=math.inf, posinf=math.inf))
    between = np.maximum(np.maximum(low, -high), 0.0)
    return edges.assign(lower=np.exp(between), upper=np.exp(np.maximum(np.abs(low), np.abs(high))))


def _edge(search: pd.DataFrame) -> dict[str, object]:
    first = search.iloc[0]
    stable = search["stability"] == "stable"
    smallest = search.loc[~stable, "learning_rate"].min()
    smallest = math.inf if math.isnan(smallest) else float(smallest)
    below = search.loc[stable & (search["learning_rate"] < smallest), "learning_rate"].max()
    largest = 0.0 if math.isnan(below) else float(below)
    censored = "above" if math.isinf(smallest) else "below" if largest == 0 else ""
    edge = math.nan if censored else math.sqrt(largest * smallest)
    dominant = _predicted(first["dom_weight"] * first["eigenvalue_dominant"])
    bulk = _predicted(first["bulk_weight"] * first["eigenvalue_bulk"])
    return {name: first[name] for name in (*SEARCH, "seed")} | {
        "largest_stable": largest,
        "smallest_not_stable": smallest,
        "edge": edge,
        "censored": censored,
        "predicted_dominant": dominant,
        "predicted_bulk": bulk,
        "predicted": min(dominant, bulk),
        "observed_over_predicted": edge / min(dominant, bulk),
    }


def _predicted(curvature: float) -> float:
    """The edge along a direction; one that is not followed, or curves down, has none."""
    return 2 / curvature if curvature > 0 else math.inf


def _bound(edges: pd.DataFrame, end: str) -> np.ndarray:
    outer = edges["largest_stable" if end == "low" else "smallest_not_stable"]
    return np.asarray(edges["edge"].fillna(outer), dtype=np.float64)
