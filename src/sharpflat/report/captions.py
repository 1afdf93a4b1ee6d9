"""Captions whose numbers come from the tables behind the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from sharpflat.analysis.statistics import paired, run_statistics
from sharpflat.methods import LABELS

TITLES = {
    "alignment": "Gradients and the Dominant subspace",
    "dom_bulk": "Only sharp, only flat, or both",
    "generalization": "Test accuracy against training loss",
    "interpolation": "Between SGD, Dom-SGD and Bulk-SGD",
    "stability_map": "Where training is stable, and where a quadratic says it is",
    "curvature_energy": "Curvature energy in the Dominant subspace",
    "ablation_lr": "Learning rate",
    "ablation_batch_size": "Batch size",
    "ablation_k": "Dimension of the Dominant subspace",
    "ablation_refresh": "How often the Dominant subspace is computed anew",
    "ablation_hessian_samples": "Samples in the Hessian",
    "ablation_switch": "Step of the switch",
    "ablation_width": "Width of the model",
    "eigensolver_cost": "What the eigenspace costs",
}


def caption(figure: str, table: pd.DataFrame) -> str:
    """What a figure's table says, in a sentence or two.

    Args:
        figure: Name of the figure.
        table: The table behind it.
    """
    describe = _DESCRIPTIONS.get(figure, _ablation if figure.startswith("ablation_") else None)
    return "" if describe is None else describe(table)


def _groups(statistics: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for (task, loss), rows in statistics.groupby(["task", "loss"], sort=False):
        yield f"{task}, {loss}", rows


def _alignment(table: pd.DataFrame) -> str:
    parts = [
        f"{group}: {_mean(rows['alignment'])}" for group, rows in _groups(run_statistics(table))
    ]
    return (
        "Alignment χ_k of the full gradient, mean over the last tenth of SGD after the switch and "
        "over seeds. " + "; ".join(parts) + "."
    )


def _endings(table: pd.DataFrame) -> str:
    runs = run_statistics(table)
    change = runs["final_train_loss"] / runs["start_train_loss"]
    ends = _by_method(runs.assign(change=change), "change")
    return f"Final training loss over the loss at the switch, mean over seeds. {ends}."


def _generalization(table: pd.DataFrame) -> str:
    ends = _by_method(run_statistics(table), "final_test_accuracy")
    return f"Test accuracy at the end, mean over seeds. {ends}."


def _by_method(runs: pd.DataFrame, statistic: str) -> str:
    """The mean of a statistic for each named method of each task and loss."""
    parts = []
    for group, rows in _groups(runs):
        named = rows[rows["method"].isin(LABELS)].groupby("method", sort=False)[statistic]
        means = [f"{LABELS[str(method)]} {_mean(values)}" for method, values in named]
        parts.append(f"{group}: {', '.join(means)}")
    return "; ".join(parts)


def _interpolation(table: pd.DataFrame) -> str:
    parts = []
    for group, rows in _groups(run_statistics(table)):
        losses = rows.groupby("method", sort=False)["final_train_loss"].median()
        parts.append(f"{group}: {losses.idxmin()} ends lowest, at {losses.min():.3g}")
    return "Median final training loss over seeds. " + "; ".join(parts) + "."


def _stability(table: pd.DataFrame) -> str:
    statistics = run_statistics(table)
    return (
        f"{int(statistics['diverged'].sum())} of {len(statistics)} runs diverged, "
        f"{int((~statistics['stable']).sum())} did not end below the loss that they started from."
    )


def _energy(table: pd.DataFrame) -> str:
    last = table.loc[table.groupby(["task", "loss", "method", "seed", "matrix"])["step"].idxmax()]
    parts = []
    for group, rows in _groups(last[last["method"] == "sgd"]):
        shares = rows.groupby("matrix")["frobenius_share"].mean()
        overlap = rows["overlap"].mean()
        parts.append(
            f"{group}: {shares['hessian']:.2f} of H, {shares['ggn']:.2f} of G, "
            f"{shares['functional_hessian']:.2f} of F; overlap of the eigenspaces {overlap:.2f}"
        )
    return (
        "Share of the squared Frobenius norm in the Hessian's Dominant subspace at the end of SGD. "
        + ". ".join(parts)
        + "."
    )


def _ablation(table: pd.DataFrame) -> str:
    parts = []
    for group, rows in _groups(run_statistics(table)):
        sides = paired(rows, "final_train_loss", "bulk_sgd", "sgd")
        ratios = (sides["method"] / sides["reference"]).groupby(sides["value"], sort=False)
        listed = ", ".join(f"{value}: {_mean(ratio)}" for value, ratio in ratios)
        diverged = rows.groupby("method")["diverged"].sum()
        parts.append(
            f"{group}: {listed} (diverged: SGD {diverged['sgd']}, Bulk-SGD {diverged['bulk_sgd']} "
            f"of {int((rows['method'] == 'sgd').sum())} runs each)"
        )
    return (
        "Final training loss of Bulk-SGD over that of SGD, paired by seed, by the varied value. "
        + "; ".join(parts)
        + "."
    )


def _cost(table: pd.DataFrame) -> str:
    parts = []
    cold = table[(table["mode"] == "cold") & table["reached"].astype(bool)]
    for task, rows in cold.groupby("task", sort=False):
        seconds = rows.set_index("method")["seconds"]
        others = ", ".join(f"{m} {s:.3g} s" for m, s in seconds.items() if m != "sharpflat")
        parts.append(f"{task}: sharpflat {seconds.get('sharpflat', np.nan):.3g} s; {others}")
    return "A solve from nothing at equal accuracy. " + ". ".join(parts) + "."


def _mean(values: pd.Series) -> str:
    finite = values[np.isfinite(values)]
    if finite.empty:
        return "diverged"
    lost = "" if len(finite) == len(values) else f" ({len(values) - len(finite)} diverged)"
    return f"{finite.mean():.3g}{lost}"


_DESCRIPTIONS: dict[str, Callable[[pd.DataFrame], str]] = {
    "alignment": _alignment,
    "dom_bulk": _endings,
    "generalization": _generalization,
    "interpolation": _interpolation,
    "stability_map": _stability,
    "curvature_energy": _energy,
    "eigensolver_cost": _cost,
}
