"""C6: interpolated methods unify the three, and balance speed and stability."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    bounded_losses,
    by_seed,
    group_rows,
    over_seeds,
    summary_row,
)
from sharpflat.analysis.claims.instability import EDGES, observe_edges
from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.inference import LOG, Estimate, least_of_largest
from sharpflat.methods import PATHS, POINTS, parse_method

FIGURE = "interpolation"
ANY_PATH = "any path"
#: Bulk-SGD with a tenth of the Dominant part.
DAMPED = "sgd_to_bulk(0.9)"


def interpolation(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Evidence:
    """Whether a point between the methods does better than the ends of its path.

    - Speed: the final training loss at the best point strictly inside a path, over that at the
      better of the path's own two ends, by seed; over all paths, that at the best end of any. The
      ends of ``convex`` take twice the step of Dom-SGD and Bulk-SGD, so a larger step alone gains
      nothing. Every point is compared with every end, with intervals and p-values that allow for
      their number.
    - Stability: the edge of Bulk-SGD with a tenth of the Dominant part over the larger of SGD's and
      Bulk-SGD's own.

    That the ends of the paths are SGD, Dom-SGD and Bulk-SGD is so by construction: they are the
    same runs, and no evidence.
    """
    damped = Measure(
        figure=EDGES,
        text="edge of stability η* with a tenth of the Dominant part, over the larger of SGD's and "
        "Bulk-SGD's",
        threshold="interpolated_edge",
        infer=over_seeds(LOG),
    )
    rows = [row for path in PATHS for row in group_rows(_observe(runs, path), _best_measure(path))]
    rows += group_rows(observe_edges(tables.get(EDGES), DAMPED, ["sgd", "bulk_sgd"]), damped)
    return Evidence(summary_row(_observe(runs, ANY_PATH), _best_measure(ANY_PATH)), tuple(rows))


def _best_measure(path: str) -> Measure:
    ends = "the best end of them all" if path == ANY_PATH else "that at its better end"
    return Measure(
        figure=FIGURE,
        text=f"final loss at the best point inside {path}, over {ends}",
        threshold="interpolated_loss",
        infer=_best_over_better_end,
    )


def _observe(runs: Runs, path: str) -> pd.DataFrame:
    """Final losses at the points inside a path and at its ends; the cell is the pair of weights.

    A figure names one run several times, as ``sgd``, ``sgd_to_bulk(0)`` and ``sgd_to_dom(0)``:
    counted as often, intervals would allow for comparisons that are not made.
    """
    if FIGURE not in runs:
        return NO_OBSERVATIONS
    own = runs[FIGURE].assign(value=bounded_losses(runs[FIGURE]))
    methods = own["method"]
    own = own.assign(
        cell=[str(_weights(name)) for name in methods],
        place=[_place(name, path) for name in methods],
    )
    own = own[own["place"] != "elsewhere"]
    if own["place"].nunique() < 2:
        return NO_OBSERVATIONS
    return own[[*SETTING, "cell", "seed", "value", "place"]].drop_duplicates(
        [*SETTING, "cell", "seed"]
    )


def _best_over_better_end(observed: pd.DataFrame, threshold: float) -> Estimate:
    # Of several tasks and losses a seed has the geometric mean.
    logs = by_seed(observed, "value").map(np.log).T.groupby(level="cell").mean()
    places = observed.groupby("cell")["place"].first()
    inside, ends = (logs[places[logs.index] == place].to_numpy() for place in ("inside", "end"))
    ratios = [[np.exp(point - end) for end in ends] for point in inside]
    return least_of_largest(ratios, threshold)


def _place(name: str, path: str) -> str:
    """Whether a method is at an end of a path, inside it, or elsewhere.

    A named method is no interior point, though it may lie on a path.
    """
    weights = _weights(name)
    paths = [PATHS[path]] if path in PATHS else list(PATHS.values())
    if any(weights == along(end) for along in paths for end in (0.0, 1.0)):
        return "end"
    on_path = name not in POINTS and path in (name.partition("(")[0], ANY_PATH)
    return "inside" if on_path and weights not in POINTS.values() else "elsewhere"


def _weights(name: str) -> tuple[float, float]:
    method = parse_method(name)
    return method.dom_weight, method.bulk_weight
