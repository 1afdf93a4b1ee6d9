"""What tests plant: runs and trials with a known answer, and the configuration's thresholds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sharpflat.config import read_tier
from sharpflat.methods import parse_method
from sharpflat.records import PrefixRecord, RunRecord

#: Thresholds of the claims and how their rows combine, as the configuration sets them.
CONFIGURED: Mapping[str, Any] = read_tier("smoke", Path(__file__).parents[1]).claims


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


def trajectory(method: str, seed: int, losses: Sequence[float], **changes: Any) -> pd.DataFrame:
    """Rows of a figure's table: a run that recorded these training losses every 100 steps."""
    steps = [100 * i for i in range(len(losses))]
    rows = {
        "step": steps,
        "steps_after_switch": steps,
        "train_loss": list(losses),
        "test_loss": [2 * loss for loss in losses],
        "test_accuracy": 0.5,
        "alignment": 0.5,
        "eigenvalue_1": 10.0,
        "eigenvalue_11": 1.0,
    }
    return pd.DataFrame(identity(method, seed) | rows | changes)


def decay(rate: float, records: int = 11) -> list[float]:
    """Losses that fall by the factor ``exp(-rate)`` from one record to the next."""
    return [math.exp(-rate * i) for i in range(records)]


def trials(method: str, seed: int, edge: float, **changes: Any) -> pd.DataFrame:
    """Rows of the table ``stability_edge``: a search that closed in on an edge by 5 %."""
    weights = parse_method(method)
    columns = {
        "task": "mnist_mlp",
        "loss": "mse",
        "method": method,
        "dom_weight": weights.dom_weight,
        "bulk_weight": weights.bulk_weight,
        "seed": seed,
        "learning_rate": [edge / 4, edge / 1.05, edge * 1.05, edge * 4],
        "stability": ["stable", "stable", "unstable", "diverged"],
        "start_train_loss": 1.0,
        "final_train_loss": [0.9, 0.8, 1.5, math.nan],
        "highest_train_loss": [1.0, 1.0, 3.0, math.inf],
        "eigenvalue_dominant": 50.0,
        "eigenvalue_bulk": 10.0,
        "k": 10,
    }
    return pd.DataFrame(columns | changes)


def run_record(prefix: PrefixRecord, **changes: Any) -> RunRecord:
    """SGD for 20 steps from the switch of a prefix, with changes."""
    settings = {"dom_weight": 1.0, "bulk_weight": 1.0, "steps": 20, "refresh": "adaptive"}
    shared = ("learning_rate", "batch_size", "k", "hessian_samples", "record_every", "eigen_every")
    settings |= {name: getattr(prefix, name) for name in shared}
    return RunRecord(prefix=prefix, **{**settings, **changes})
