"""What the summaries of all runs say together: times, and where they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd

from sharpflat.methods import LABELS, POINTS

Summary = Mapping[str, Any]

#: The numerical alarms that a summary may hold, in words.
ALARMS = {
    "not_converged": "the eigensolver reached its limit of products",
    "subspace_error": "the estimated error of the subspace was above its tolerance",
    "orthogonality": "the basis was not orthonormal",
    "chunked_loss": "the loss of the whole differed from that of its parts",
}

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


def alarms(summaries: Sequence[Summary]) -> list[str]:
    """What is doubtful in a run's numbers, a line an alarm of a run.

    Args:
        summaries: Contents of ``summary.json``.
    """
    return [
        f"{summary['id']}: {ALARMS[name]} {found['steps']:.0f} times, first at step "
        f"{found['first']:.0f}, at worst {found['worst']:.3g}"
        for summary in summaries
        for name, found in summary["alarms"].items()
    ]


def provenance(summaries: Sequence[Summary]) -> list[tuple[str, list[str]]]:
    """Every distinct value of what the runs were made with, by name."""
    found: dict[str, dict[str, None]] = {name: {} for name in MADE_WITH}
    for summary in summaries:
        for name in MADE_WITH:
            found[name][text(summary.get(name, "not recorded"))] = None
    return [(name, list(values)) for name, values in found.items()]


def method_name(summary: Summary) -> str:
    """How the page calls the method of a run; all points between the named ones have one name."""
    record = summary["record"]
    weights = (record.get("dom_weight"), record.get("bulk_weight"))
    named = {POINTS[method]: label for method, label in LABELS.items()}
    before_switch = {(None, None): "SGD before the switch"}
    return (named | before_switch).get(weights, "interpolated")


def text(value: Any) -> str:
    """A value of a summary in one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list) and value and all(isinstance(pair, list) for pair in value):
        return text(dict(value))  # a record's options: pairs of a name and a value
    return value if isinstance(value, str) else json.dumps(value)


def _row(summary: Summary) -> dict[str, Any]:
    record = summary["record"]
    prefix = record.get("prefix", record)
    start = summary["switch_step"] if "prefix" in summary else 0
    return {
        "task": prefix["task"],
        "loss": prefix["loss"],
        "method": method_name(summary),
        "steps": summary["last_step"] - start,
        "products": summary["num_matvecs"],
        "seconds": summary["seconds"],
        "diverged": summary["status"] == "diverged",
    }
