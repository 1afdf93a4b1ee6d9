"""What tests plant: the columns that name a run in a figure's table, and thresholds in use."""

import math
from pathlib import Path
from typing import Any

from sharpflat.config import read_tier
from sharpflat.methods import parse_method
from sharpflat.records import PrefixRecord, RunRecord

#: Thresholds of the claims, as the configuration sets them.
CONFIGURED = read_tier("smoke", Path(__file__).parents[1]).claims


def identity(method: str, seed: int, **changes: Any) -> dict[str, Any]:
    """The columns of :func:`sharpflat.analysis.tables.figure_table` that say which run it is."""
    weights = parse_method(method)
    columns: dict[str, Any] = {
        "task": "mnist_mlp",
        "loss": "mse",
        "method": method,
        "dom_weight": weights.dom_weight,
        "bulk_weight": weights.bulk_weight,
        "varied": math.nan,
        "value": math.nan,
        "learning_rate": 0.01,
        "batch_size": 50,
        "k": 10,
        "refresh": "adaptive",
        "hessian_samples": 100,
        "seed": seed,
        "status": "finished",
    }
    return columns | changes


def run_record(prefix: PrefixRecord, **changes: Any) -> RunRecord:
    """SGD for 20 steps from the switch of a prefix, with changes."""
    settings = {"dom_weight": 1.0, "bulk_weight": 1.0, "steps": 20, "refresh": "adaptive"}
    shared = ("learning_rate", "batch_size", "k", "hessian_samples", "record_every", "eigen_every")
    settings |= {name: getattr(prefix, name) for name in shared}
    return RunRecord(prefix=prefix, **{**settings, **changes})
