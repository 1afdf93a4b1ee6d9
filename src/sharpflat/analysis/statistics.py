"""One row a run: how it ended, how fast it was, and whether it stayed stable."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sharpflat.analysis.tables import BEFORE_SWITCH
from sharpflat.stability import EXCURSION_FACTOR, Stability, classify

#: Columns that tell the runs of a figure's table apart, but for the method and the seed.
CELL = ["task", "loss", "varied", "value"]
#: Share of a run, at its end, over which the alignment is averaged.
LAST_SHARE = 0.1

Array = NDArray[np.float64]


def run_statistics(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise every run after its switch.

    Losses and quantities of the eigenspace may be recorded at rhythms of their own: NaN in a column
    is a record without it.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, or read from its CSV.

    Returns:
        One row a (cell, method, seed), with the table's identity columns and

        - ``stability``: class of the run by :func:`sharpflat.stability.classify`; ``diverged`` and
          ``stable``: whether it is that class.
        - ``start_train_loss``, ``final_train_loss``, ``final_test_loss``, ``final_test_accuracy``;
          a diverged run's final losses are infinite.
        - ``log_loss_slope``: least-squares slope of ``log(train_loss)`` a 1,000 steps; infinite
          where the run diverged.
        - ``spikes``: stretches of records whose training loss exceeds 1.2 times its least so far;
          infinite where the run diverged.
        - ``steps``: of the run, and ``steps_to_sgd``: until its training loss was first at or below
          the final one of SGD in the same cell and seed, between records by
          :func:`steps_to_loss`; infinite if it never was, NaN without an SGD that finished.
        - ``alignment``: mean χ_k of the full gradient over the last tenth of the steps.
        - ``eigenvalue_1_growth``: λ_1 at the last record over λ_1 at the switch, infinite where the
          run diverged; ``eigenvalue_1_max``: the largest recorded.
    """
    after = table[table["method"] != BEFORE_SWITCH]
    # A figure that varies nothing has no value to tell cells apart by, and NaN equals nothing.
    after = after.astype({"varied": object, "value": object}).fillna({"varied": "", "value": ""})
    groups = after.groupby([*CELL, "method", "seed"], sort=False)
    runs = [rows.sort_values("step") for _, rows in groups]
    statistics = pd.DataFrame([_summarise(rows) for rows in runs])
    return statistics.assign(steps_to_sgd=_steps_to_sgd(statistics, runs))


def paired(statistics: pd.DataFrame, column: str, method: str, reference: str) -> pd.DataFrame:
    """A statistic of two methods side by side, a row a (cell, seed).

    Returns:
        Columns of the cell, ``seed``, ``method`` and ``reference``; the last two hold the values.
    """
    keys = [*CELL, "seed"]
    chosen = statistics[[*keys, column]][statistics["method"] == method]
    other = statistics[[*keys, column]][statistics["method"] == reference]
    sides = chosen.merge(other, on=keys, suffixes=("_method", "_reference"))
    return sides.rename(columns={f"{column}_method": "method", f"{column}_reference": "reference"})


def steps_to_loss(steps: Array, losses: Array, target: float) -> float:
    """Steps until the loss is first at or below a target; infinite if it never is.

    Between the records around that moment log loss is taken to be linear in the steps, so that the
    rhythm of the records does not round the answer.

    Args:
        steps: ``(records,)``, ascending.
        losses: ``(records,)``, positive; NaN is a record without a loss.
        target: Positive.

    Example:
        >>> steps_to_loss(np.array([0.0, 100.0, 200.0]), np.array([1.0, 0.25, 0.2]), 0.5)
        50.0
    """
    known = ~np.isnan(losses)
    steps, losses = steps[known], losses[known]
    reached = np.flatnonzero(losses <= target)
    if not reached.size:
        return math.inf
    i = reached[0]
    if i == 0:
        return float(steps[0])
    before, after = np.log(losses[i - 1 : i + 1])
    share = (before - math.log(target)) / (before - after)
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def _summarise(rows: pd.DataFrame) -> dict[str, object]:
    first = rows.iloc[0]
    identity = {
        name: first[name]
        for name in (*CELL, "method", "dom_weight", "bulk_weight", "learning_rate", "batch_size")
    }
    identity |= {name: first[name] for name in ("k", "refresh", "hessian_samples", "seed")}
    stability = classify(rows["train_loss"], diverged=first["status"] == "diverged")
    return identity | _of_losses(rows, stability) | _of_eigenspace(rows, stability)


def _of_losses(rows: pd.DataFrame, stability: Stability) -> dict[str, object]:
    diverged = stability == "diverged"
    measured = rows[rows["train_loss"].notna()]
    if measured.empty:
        measured = rows.assign(train_loss=math.inf)
    last, losses = measured.iloc[-1], measured["train_loss"].to_numpy()
    steps = measured["steps_after_switch"].to_numpy()
    return {
        "steps": int(rows["steps_after_switch"].iloc[-1]),
        "stability": stability,
        "diverged": diverged,
        "stable": stability == "stable",
        "start_train_loss": losses[0],
        "final_train_loss": math.inf if diverged else float(last["train_loss"]),
        "final_test_loss": math.inf if diverged else last["test_loss"],
        "final_test_accuracy": last["test_accuracy"],
        "log_loss_slope": math.inf if diverged else _slope(steps, losses),
        "spikes": math.inf if diverged else _spikes(losses),
    }


def _of_eigenspace(rows: pd.DataFrame, stability: Stability) -> dict[str, object]:
    steps, alignment = (rows[name].to_numpy() for name in ("steps_after_switch", "alignment"))
    measured = np.flatnonzero(~np.isnan(alignment))
    last_steps = steps[measured] >= steps[-1] - LAST_SHARE * (steps[-1] - steps[0])
    tail = alignment[measured[last_steps] if last_steps.any() else measured[-1:]]
    dominant = rows["eigenvalue_1"].to_numpy()
    recorded = ~np.isnan(dominant)
    if not recorded.any():  # a run that diverged before it was measured
        recorded[:1] = True
    dominant = dominant[recorded]
    return {
        "alignment": tail.mean() if tail.size else math.nan,
        "eigenvalue_1_growth": math.inf if stability == "diverged" else dominant[-1] / dominant[0],
        "eigenvalue_1_max": dominant.max(),
    }


def _slope(steps: Array, losses: Array) -> float:
    if len(steps) < 2:
        return math.nan
    return float(np.polyfit(steps / 1000, np.log(losses), 1)[0])


def _spikes(losses: Array) -> int:
    above = losses > EXCURSION_FACTOR * np.minimum.accumulate(losses)
    return int(np.sum(above[1:] & ~above[:-1]))


def _steps_to_sgd(statistics: pd.DataFrame, runs: list[pd.DataFrame]) -> list[float]:
    """Steps that each run needs to the final loss of SGD in its cell and seed."""
    keys = [*CELL, "seed"]
    finished = (statistics["method"] == "sgd") & ~statistics["diverged"]
    targets = statistics[finished].set_index(keys)["final_train_loss"].to_dict()
    needed = []
    for key, rows in zip(statistics[keys].itertuples(index=False, name=None), runs, strict=True):
        steps, losses = (
            rows[name].to_numpy(float) for name in ("steps_after_switch", "train_loss")
        )
        target = targets.get(key)
        needed.append(math.nan if target is None else steps_to_loss(steps, losses, target))
    return needed
