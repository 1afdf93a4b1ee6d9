"""The distinct runs of all ablations."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

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
#: Settings that every table names, so that a value of one figure is found again in another.
NAMED = ["learning_rate", "batch_size", "k", "refresh", "hessian_samples"]


def distinct_runs(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Runs of all ablations, each once, with ``cell``, the settings that tell them apart.

    Every ablation holds the defaults among its values: one run, found in several figures.
    """
    present = [runs[name] for name in ABLATIONS if name in runs]
    if not present:
        return pd.DataFrame()
    together = pd.concat(present, ignore_index=True)
    cells = together[NAMED].astype(str).agg(", ".join, axis=1)
    elsewhere = ~together["varied"].isin(NAMED)
    named = together["varied"].astype(str) + " = " + together["value"].astype(str)
    cells = cells.where(~elsewhere, cells + ", " + named)
    return together.assign(cell=cells).drop_duplicates(["task", "loss", "method", "seed", "cell"])
