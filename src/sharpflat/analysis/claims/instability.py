"""C4: Bulk-SGD may compromise stability."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from sharpflat.analysis.bootstrap import geometric_mean, mean
from sharpflat.analysis.claims.evidence import (
    NO_OBSERVATIONS,
    Evidence,
    Measure,
    Runs,
    group_rows,
    observations,
    over_seeds,
    pooled,
    summary_row,
)
from sharpflat.analysis.statistics import paired

#: Figures that vary one hyperparameter of Bulk-SGD and SGD.
ABLATIONS = (
    "ablation_lr",
    "ablation_batch_size",
    "ablation_k",
    "ablation_refresh",
    "ablation_hessian_samples",
    "ablation_switch",
    "ablation_width",
)
ALL_ABLATIONS = "ablation_*"
METHODS = ("bulk_sgd", "sgd")


def instability(runs: Runs) -> Evidence:
    """How much less stable Bulk-SGD is than SGD over the cells of every ablation, by seed.

    Three statistics an ablation, each over its cells:

    - the share in which SGD is stable, finite at the end and below its starting loss, and Bulk-SGD
      is not;
    - the mean number of loss spikes of Bulk-SGD beyond SGD's; a diverged run has at least one;
    - the geometric mean of the growth of λ_1, Bulk-SGD's over SGD's; of a diverged run up to its
      last record, and a pair without records counts as 1.
    """
    rows = [
        row
        for figure in ABLATIONS
        for observe, measure in _measures(figure)
        for row in group_rows(_observe(runs, figure, observe), measure)
    ]
    unstable, main = _measures(ALL_ABLATIONS)[0]
    cells = pooled({figure: _observe(runs, figure, unstable) for figure in ABLATIONS})
    return Evidence(summary_row(cells, main), tuple(rows))


Observe = Callable[[pd.DataFrame], pd.DataFrame]


def _observe(runs: Runs, figure: str, observe: Observe) -> pd.DataFrame:
    return observe(runs[figure]) if figure in runs else NO_OBSERVATIONS


def _measures(figure: str) -> tuple[tuple[Observe, Measure], ...]:
    return (
        (
            _only_bulk_unstable,
            Measure(
                figure=figure,
                text="share of cells where SGD is stable and Bulk-SGD is not",
                threshold="instability",
                interval=over_seeds(mean),
            ),
        ),
        (
            _excess_spikes,
            Measure(
                figure=figure,
                text="mean loss spikes of Bulk-SGD beyond SGD's",
                threshold="excess_spikes",
                interval=over_seeds(mean),
            ),
        ),
        (
            _relative_growth,
            Measure(
                figure=figure,
                text="geometric mean growth of λ_1, Bulk-SGD's over SGD's",
                threshold="sharpness_growth",
                interval=over_seeds(geometric_mean),
            ),
        ),
    )


def _only_bulk_unstable(runs: pd.DataFrame) -> pd.DataFrame:
    pairs = paired(runs, "stable", *METHODS)
    return observations(pairs, pairs["reference"].astype(bool) & ~pairs["method"].astype(bool))


def _excess_spikes(runs: pd.DataFrame) -> pd.DataFrame:
    spikes = runs["spikes"].clip(lower=runs["diverged"].astype(int))
    pairs = paired(runs.assign(spikes=spikes), "spikes", *METHODS)
    return observations(pairs, pairs["method"] - pairs["reference"])


def _relative_growth(runs: pd.DataFrame) -> pd.DataFrame:
    pairs = paired(runs, "eigenvalue_1_growth", *METHODS)
    ratio = pairs["method"] / pairs["reference"]
    return observations(pairs, ratio.where(ratio > 0, 1.0))
