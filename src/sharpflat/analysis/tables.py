"""The table of a figure: one row a (task, loss, method, seed, step)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from sharpflat.config import Config
from sharpflat.plan import FigureRun, figure_runs

#: Method name of the SGD steps that all methods share.
BEFORE_SWITCH = "before_switch"


def figure_table(config: Config, figure: str, results: Path) -> pd.DataFrame:
    """Collect the trajectories of a figure's runs and of their prefixes.

    Args:
        config: The tier's configuration.
        figure: Name of the figure.
        results: Folder of the tier's results.

    Returns:
        Columns ``task, loss, method, dom_weight, bulk_weight, learning_rate, batch_size, k, seed,
        status, step, steps_after_switch`` and those of the trajectories. The steps before the
        switch stand once a seed, under the method ``before_switch``.

    Raises:
        KeyError: The configuration has no such figure.
    """
    runs = figure_runs(config, config.figures[figure])
    prefixes = {run.record.prefix.id: run for run in runs}
    parts = [
        _trajectory(results / "prefixes" / name, run, BEFORE_SWITCH)
        for name, run in prefixes.items()
    ]
    parts += [_trajectory(results / "runs" / run.record.id, run, run.method.name) for run in runs]
    return pd.concat(parts, ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV with the digits that were recorded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")


def _trajectory(folder: Path, run: FigureRun, method: str) -> pd.DataFrame:
    summary = json.loads((folder / "summary.json").read_text())
    trajectory = pd.read_csv(folder / "trajectory.csv")
    trajectory.insert(1, "steps_after_switch", trajectory["step"] - summary["switch_step"])
    before = method == BEFORE_SWITCH
    prefix = run.record.prefix
    identity: dict[str, Any] = {
        "task": prefix.task,
        "loss": prefix.loss,
        "method": method,
        "dom_weight": 1.0 if before else run.record.dom_weight,
        "bulk_weight": 1.0 if before else run.record.bulk_weight,
        "learning_rate": prefix.learning_rate,
        "batch_size": prefix.batch_size,
        "k": prefix.k,
        "seed": prefix.seed,
        "status": summary["status"],
    }
    return pd.concat([pd.DataFrame(identity, index=trajectory.index), trajectory], axis="columns")
