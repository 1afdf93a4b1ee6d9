"""C6: interpolated methods unify the three, and balance speed and stability."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from sharpflat.analysis.bootstrap import Array, median
from sharpflat.analysis.claims.evidence import (
    GROUP,
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    group_rows,
    over_seeds,
    summary_row,
)
from sharpflat.methods import PATHS, POINTS, parse_method

FIGURE = "interpolation"
ANY_PATH = "any path"
REFERENCES = {"sgd": "SGD", "bulk_sgd": "Bulk-SGD"}


def interpolation(runs: Runs) -> Evidence:
    """Whether the paths' points that equal a method end where it does, and what lies between.

    - The largest difference in log final training loss, over points and seeds, between a path's
      point and the method that has the same weights. The workflow trains equal points once, so a
      difference is one of bookkeeping; whether the step itself is right is for its tests to say.
      Infinite losses of both differ by 0.
    - The final training loss at the best point strictly inside each path, and inside any path, over
      that of SGD and of Bulk-SGD in the same seed; the median over seeds. Each seed takes the point
      whose median loss in the *other* seeds is least, so that it gains nothing from the choice. A
      diverged interior run counts as infinite; a diverged reference is beaten by any that is not.
    """
    best = {
        (path, reference): _observe(runs, _best_over(path, reference))
        for path in (*PATHS, ANY_PATH)
        for reference in REFERENCES
    }
    rows = group_rows(_observe(runs, _endpoint_differences), _endpoint_measure())
    for (path, reference), observed in best.items():
        rows += group_rows(observed, _best_measure(path, reference))
    summary = summary_row(best[ANY_PATH, "sgd"], _best_measure(ANY_PATH, "sgd"))
    return Evidence(summary, tuple(rows))


def best_elsewhere(losses: Array) -> Array:
    """Each seed's loss at the point that is best in the other seeds.

    Args:
        losses: ``(seeds, points)``.

    Returns:
        ``(seeds,)``; a single seed has no others and takes its own best.
    """
    if len(losses) == 1:
        return np.asarray(losses.min(axis=1))
    seeds = np.arange(len(losses))
    chosen = [np.median(np.delete(losses, seed, axis=0), axis=0).argmin() for seed in seeds]
    return np.asarray(losses[seeds, chosen])


def _endpoint_measure() -> Measure:
    return Measure(
        figure=FIGURE,
        text="largest difference in log final loss between equal points",
        threshold="endpoint_difference",
        interval=over_seeds(lambda samples: np.asarray(samples.max(axis=(1, 2)))),
    )


def _best_measure(path: str, reference: str) -> Measure:
    return Measure(
        figure=FIGURE,
        text=f"median final loss at the best point inside {path} over {REFERENCES[reference]}'s",
        threshold="interpolated_loss",
        interval=over_seeds(median),
    )


#: From final losses by seed and method to values by seed and cell.
Values = Callable[[pd.DataFrame], pd.DataFrame]


def _observe(runs: Runs, values: Values) -> pd.DataFrame:
    parts = [NO_OBSERVATIONS]
    if FIGURE in runs:
        for _, rows in runs[FIGURE].groupby(GROUP, sort=False):
            losses = rows.pivot(index="seed", columns="method", values="final_train_loss")
            wide = values(losses.dropna())
            if not wide.empty:
                long = wide.melt(ignore_index=False, var_name="cell").reset_index()
                parts.append(long.assign(task=rows["task"].iloc[0], loss=rows["loss"].iloc[0]))
    return pd.concat(parts, ignore_index=True)


def _endpoint_differences(losses: pd.DataFrame) -> pd.DataFrame:
    """Absolute differences of the logs, a column a point that a named method equals."""
    differences = {}
    for name in losses.columns.difference(list(POINTS)):
        method = _named(name)
        if method in losses:
            apart = (np.log(losses[name]) - np.log(losses[method])).abs()
            differences[name] = apart.mask(losses[name] == losses[method], 0.0)
    return pd.DataFrame(differences, index=losses.index)


def _best_over(path: str, reference: str) -> Values:
    def ratio(losses: pd.DataFrame) -> pd.DataFrame:
        inside = [name for name in losses.columns if _is_inside(name, path)]
        if not inside or reference not in losses:
            return pd.DataFrame(index=losses.index)
        best = best_elsewhere(losses[inside].to_numpy())
        over = np.where(np.isfinite(best), best / losses[reference], math.inf)
        return pd.DataFrame({path: over}, index=losses.index)

    return ratio


def _named(name: str) -> str | None:
    """The named method with the weights of a path's point."""
    method = parse_method(name)
    weights = (method.dom_weight, method.bulk_weight)
    return next((point for point, named in POINTS.items() if named == weights), None)


def _is_inside(name: str, path: str) -> bool:
    """Whether a method lies strictly inside a path and is not a named method itself."""
    if name in POINTS or _named(name) is not None:
        return False
    own, alpha = name.removesuffix(")").split("(")
    return path in (own, ANY_PATH) and 0.0 < float(alpha) < 1.0
