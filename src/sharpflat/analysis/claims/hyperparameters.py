"""C5: critical hyperparameters govern how fast and how stable Bulk-SGD is."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from sharpflat.analysis.claims.ablations import ABLATIONS, ALL_ABLATIONS
from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    bounded_losses,
    by_seed,
    group_rows,
    observations,
    share_of_seeds,
    summary_row,
)
from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.inference import NOT_MEASURED, Estimate, inverse, least_of_largest
from sharpflat.analysis.statistics import paired

LEARNING_RATE = "ablation_lr"
EFFECT = "largest factor between two values in final loss, Bulk-SGD's over SGD's"
STABILITY = Measure(
    figure=ALL_ABLATIONS,
    text="share of seeds in which a hyperparameter other than the learning rate decides whether "
    "Bulk-SGD is stable",
    threshold="stability_governed",
    infer=share_of_seeds,
)


def hyperparameters(runs: Runs) -> Evidence:
    """What the ablated hyperparameters do to Bulk-SGD.

    - A row an ablation: the largest factor between two of its values in Bulk-SGD's final training
      loss over that of SGD at the same value, so that what the value does to SGD, or to the loss at
      the switch, does not count. Every pair of values is compared, with intervals and p-values that
      allow for their number; the estimate, the largest of all, leans upwards.
    - The share of the seeds in which any hyperparameter but the learning rate, of which that is no
      question, makes Bulk-SGD stable at some of its values and not at others.
    """
    effects = {figure: _observe(runs, figure, _relative_losses) for figure in ABLATIONS}
    rows = [row for name, found in effects.items() for row in group_rows(found, _effect_on(name))]
    rows += group_rows(_any_changes_stability(runs), STABILITY)
    main = summary_row(effects[LEARNING_RATE], _effect_on(LEARNING_RATE))
    return Evidence(main, tuple(rows))


def _effect_on(figure: str) -> Measure:
    return Measure(
        figure=figure, text=EFFECT, threshold="hyperparameter_effect", infer=_largest_factor
    )


def _largest_factor(observed: pd.DataFrame, threshold: float) -> Estimate:
    wide = by_seed(observed, "value")
    pairs = [
        [(wide[one] / wide[other]).to_numpy()]
        for one in wide.columns
        for other in wide.columns
        if one != other and one[:-1] == other[:-1]  # of one task and loss
    ]
    return inverse(least_of_largest(pairs, 1 / threshold)) if pairs else NOT_MEASURED


Observe = Callable[[pd.DataFrame], pd.DataFrame]


def _observe(runs: Runs, figure: str, observe: Observe) -> pd.DataFrame:
    return observe(runs[figure]) if figure in runs else NO_OBSERVATIONS


def _relative_losses(runs: pd.DataFrame) -> pd.DataFrame:
    """Bulk-SGD's final loss over SGD's; 1 where both diverged."""
    pairs = paired(runs.assign(bounded=bounded_losses(runs)), "bounded", "bulk_sgd", "sgd")
    return observations(pairs, (pairs["method"] / pairs["reference"]).fillna(1.0))


def _any_changes_stability(runs: Runs) -> pd.DataFrame:
    """Mean over the ablations, by seed, of whether Bulk-SGD is stable at some values only."""
    parts = [
        _observe(runs, name, _changes_stability) for name in ABLATIONS if name != LEARNING_RATE
    ]
    together = pd.concat(parts, ignore_index=True)
    means = together.groupby([*SETTING, "seed"], sort=False)["value"].mean()
    return means.reset_index().assign(cell="all ablations")


def _changes_stability(runs: pd.DataFrame) -> pd.DataFrame:
    """1 in a seed whose runs of Bulk-SGD are not all stable and not all unstable, else 0."""
    bulk = runs[runs["method"] == "bulk_sgd"]
    kinds = bulk.groupby([*SETTING, "seed"], sort=False)["stable"].nunique()
    return (kinds > 1).astype(float).rename("value").reset_index().assign(cell="all values")
