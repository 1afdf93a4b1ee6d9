"""The table of a figure: one row a (task, loss, method, seed, step)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from sharpflat import seals
from sharpflat.analysis.finished import of_finished_seeds
from sharpflat.config import Config
from sharpflat.energy_record import TABLE, check_energy
from sharpflat.files import write_whole
from sharpflat.plan import FigureRun, figure_runs
from sharpflat.settings import AFTER_SWITCH

#: Method name of the SGD steps that all methods share.
BEFORE_SWITCH = "before_switch"
TRAJECTORY = "trajectory.csv"


def figure_table(
    config: Config, figure: str, results: Path, *, finished: bool = False
) -> pd.DataFrame:
    """Collect the trajectories of a figure's runs and of their prefixes.

    Args:
        config: The tier's configuration.
        figure: Name of the figure.
        results: Folder of the tier's results.
        finished: Leave out the seeds of a task and loss of which a run is not there, and the paths
            of which no seed is whole. Default: a missing run is an error.

    Returns:
        Columns ``task, dataset, model, loss, method, dom_weight, bulk_weight, varied, value,
        learning_rate, batch_size, k, refresh, hessian_samples, num_parameters, seed, status,
        switch_reason, step, steps_after_switch`` and those of the trajectories; ``switch_reason``
        is ``"alignment"``, or ``"max_steps"`` where the switch came by its step. The steps before
        the switch stand once a prefix, under the method ``before_switch``; a setting that varies
        after the switch has no value there.

    Raises:
        KeyError: The configuration has no such figure.
        DamagedResultError: A result is missing, or is not what was written.
        ValueError: Nothing is finished.
    """
    runs = figure_runs(config, config.figures[figure])
    energy = bool(config.figures[figure].snapshots)
    if finished:
        runs = of_finished_seeds(runs, results, energy=energy)
    prefixes = {run.record.prefix.id: run for run in runs}
    file = TABLE if energy else TRAJECTORY
    parts, reasons = [], {}
    for name, run in prefixes.items():
        path = results / "prefixes" / name / file
        reasons[name] = _summary(path)["switch_reason"]
        parts.append(_rows(path, run, reasons[name], before_switch=True))
    for run in runs:
        path = results / "runs" / run.record.id / file
        parts.append(_rows(path, run, reasons[run.record.prefix.id]))
    return pd.concat(parts, ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV with the digits that were recorded, replacing the file at once."""
    text = table.to_csv(index=False, float_format="%.8g", lineterminator="\n")
    write_whole(path, text.encode())


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that :func:`write_table` wrote.

    Raises:
        ValueError: It is no CSV, or has no rows.
    """
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # what pandas and the decoder raise is all of this kind
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no table ({reason}): delete it and make it again") from None
    if table.empty:
        raise ValueError(f"{path} has no rows: delete it and make it again")
    return table


def _summary(path: Path) -> dict[str, Any]:
    """The summary beside a table, after a look whether both are what was written."""
    seals.check_seal(path.parent, seals.TRAINED)
    if path.name == TABLE:
        check_energy(path.parent)
    summary: dict[str, Any] = json.loads((path.parent / "summary.json").read_text())
    return summary


def _rows(
    path: Path, run: FigureRun, switch_reason: str, *, before_switch: bool = False
) -> pd.DataFrame:
    summary = _summary(path)
    rows = pd.read_csv(path)
    if "steps_after_switch" not in rows:
        rows.insert(1, "steps_after_switch", rows["step"] - summary["switch_step"])
    settings = run.record.prefix if before_switch else run.record.after_switch
    here = not before_switch or run.varied not in AFTER_SWITCH
    identity: dict[str, Any] = {
        "task": settings.task,
        "dataset": settings.dataset,
        "model": settings.model,
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
        "num_parameters": summary["num_parameters"],
        "seed": settings.seed,
        "status": summary["status"],
        "switch_reason": switch_reason,
    }
    return pd.concat([pd.DataFrame(identity, index=rows.index), rows], axis="columns")
