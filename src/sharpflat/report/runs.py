"""What the summaries of all runs say together: times, and where they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd

from sharpflat.methods import LABELS, POINTS

Summary = Mapping[str, Any]

#: What of a summary says with what a run was made.
MADE_WITH = (
    "versions",
    "hardware",
    "device",
    "threads",
    "tf32",
    "deterministic_algorithms",
    "code",
    "data_origin",
)


def run_times(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """One row a task, loss and method: runs, steps, products a step, seconds a step, hours.

    Args:
        summaries: Contents of ``summary.json``.
    """
    rows = pd.DataFrame([_row(summary) for summary in summaries])
    grouped = rows.groupby(["task", "loss", "method"], sort=False)
    table = grouped.agg(
        runs=("steps", "size"),
        steps=("steps", "sum"),
        products=("products", "sum"),
        seconds=("seconds", "sum"),
        diverged=("diverged", "sum"),
    ).reset_index()
    steps = table["steps"].clip(lower=1)
    table["products_a_step"] = table["products"] / steps
    table["seconds_a_step"] = table["seconds"] / steps
    table["hours"] = table["seconds"] / 3600
    return cast(list[dict[str, Any]], table.to_dict("records"))


def alarms(folders: Sequence[Path]) -> list[str]:
    """What is doubtful in the recorded eigenspaces, a line a run that has something.

    Args:
        folders: Of runs and prefixes, each with its ``trajectory.csv`` and ``summary.json``.
    """
    found = []
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text())
        record = summary["record"]
        tolerance = record.get("prefix", record)["tolerance"]
        records = pd.read_csv(folder / "trajectory.csv")
        records = records[records["train_loss"].notna()]
        unconverged = int((records["eigen_converged"] == 0).sum())
        beyond = int((records["subspace_error"] > tolerance).sum())
        if unconverged or beyond:
            found.append(
                f"{summary['id']}: of {len(records)} records {unconverged} ended at the limit of "
                f"products, {beyond} with an estimated error above {tolerance:g}"
            )
    return found


def provenance(summaries: Sequence[Summary]) -> list[tuple[str, list[str]]]:
    """Every distinct value of what the runs were made with, by name."""
    found: dict[str, dict[str, None]] = {name: {} for name in MADE_WITH}
    for summary in summaries:
        for name in MADE_WITH:
            found[name][_text(summary[name])] = None
    return [(name, list(values)) for name, values in found.items()]


def _row(summary: Summary) -> dict[str, Any]:
    record = summary["record"]
    prefix = record.get("prefix", record)
    weights = (record.get("dom_weight"), record.get("bulk_weight"))
    named = {POINTS[method]: label for method, label in LABELS.items()}
    before_switch = {(None, None): "SGD before the switch"}
    start = summary["switch_step"] if "prefix" in summary else 0
    return {
        "task": prefix["task"],
        "loss": prefix["loss"],
        "method": (named | before_switch).get(weights, "interpolated"),
        "steps": summary["last_step"] - start,
        "products": summary["num_matvecs"],
        "seconds": summary["seconds"],
        "diverged": summary["status"] == "diverged",
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items() if part is not None)
    return value if isinstance(value, str) else json.dumps(value)
