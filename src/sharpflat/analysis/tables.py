"""The table of a figure: one row a (task, loss, method, seed, step)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from sharpflat.config import Config
from sharpflat.plan import FigureRun, figure_runs
from sharpflat.settings import AFTER_SWITCH

#: Method name of the SGD steps that all methods share.
BEFORE_SWITCH = "before_switch"
TRAJECTORY, ENERGY = "trajectory.csv", "energy.csv"


def figure_table(config: Config, figure: str, results: Path) -> pd.DataFrame:
    """Collect the trajectories of a figure's runs and of their prefixes.

    Args:
        config: The tier's configuration.
        figure: Name of the figure.
        results: Folder of the tier's results.

    Returns:
        Columns ``task, loss, method, dom_weight, bulk_weight, varied, value, learning_rate,
        batch_size, k, refresh, hessian_samples, seed, status, step, steps_after_switch`` and those
        of the trajectories. The steps before the switch stand once a prefix, under the method
        ``before_switch``; a setting that varies after the switch has no value there.

    Raises:
        KeyError: The configuration has no such figure.
    """
    runs = figure_runs(config, config.figures[figure])
    prefixes = {run.record.prefix.id: run for run in runs}
    file = ENERGY if config.figures[figure].snapshots else TRAJECTORY
    parts = [
        _rows(results / "prefixes" / name / file, run, before_switch=True)
        for name, run in prefixes.items()
    ]
    parts += [_rows(results / "runs" / run.record.id / file, run) for run in runs]
    return pd.concat(parts, ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV with the digits that were recorded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")


def _rows(path: Path, run: FigureRun, *, before_switch: bool = False) -> pd.DataFrame:
    summary = json.loads((path.parent / "summary.json").read_text())
    rows = pd.read_csv(path)
    if "steps_after_switch" not in rows:
        rows.insert(1, "steps_after_switch", rows["step"] - summary["switch_step"])
    settings = run.record.prefix if before_switch else run.record.after_switch
    here = not before_switch or run.varied not in AFTER_SWITCH
    identity: dict[str, Any] = {
        "task": settings.task,
        "loss": settings.loss,
        "method": BEFORE_SWITCH if before_switch else run.method.name,
        "dom_weight": 1.0 if before_switch else run.record.dom_weight,
        "bulk_weight": 1.0 if before_switch else run.record.bulk_weight,
        "varied": run.varied if run.varied is not None else math.nan,
        "value": run.value if here and run.value is not None else math.nan,
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "k": settings.k,
        "refresh": math.nan if before_switch else run.record.refresh,
        "hessian_samples": settings.hessian_samples,
        "seed": settings.seed,
        "status": summary["status"],
    }
    return pd.concat([pd.DataFrame(identity, index=rows.index), rows], axis="columns")
