"""One row a run: how it ended, how fast it was, and whether it stayed stable."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from sharpflat.analysis.tables import BEFORE_SWITCH

#: Columns that tell the runs of a figure's table apart, but for the method and the seed.
CELL = ["task", "loss", "varied", "value"]
#: Training loss over its least value so far from which on a recorded step belongs to a spike
#: [assumption].
SPIKE_FACTOR = 1.2
#: Share of a run, at its end, over which the alignment is averaged.
LAST_SHARE = 0.1


def run_statistics(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise every run after its switch.

    Args:
        table: As :func:`sharpflat.analysis.tables.figure_table` returns it, or read from its CSV.

    Returns:
        One row a (cell, method, seed), with the table's identity columns and

        - ``diverged``: whether the run ended early; ``stable``: whether it did not and its training
          loss fell.
        - ``start_train_loss``, ``final_train_loss``, ``final_test_loss``, ``final_test_accuracy``;
          a diverged run's final losses are infinite.
        - ``log_loss_slope``: least-squares slope of ``log(train_loss)`` a 1,000 steps; infinite
          where the run diverged.
        - ``spikes``: stretches of records whose training loss exceeds 1.2 times its least so far.
        - ``steps``: of the run, and ``steps_to_sgd``: until its training loss was first at or below
          the final one of SGD in the same cell and seed; infinite if it never was, NaN without an
          SGD that finished.
        - ``alignment``: mean χ_k of the full gradient over the last tenth of the records.
        - ``eigenvalue_1_growth``: λ_1 at the last record over λ_1 at the switch, and
          ``eigenvalue_1_max`` its largest recorded value.
    """
    after = table[table["method"] != BEFORE_SWITCH]
    # A figure that varies nothing has no value to tell cells apart by, and NaN equals nothing.
    after = after.astype({"varied": object, "value": object}).fillna({"varied": "", "value": ""})
    runs = [
        _summarise(rows.sort_values("step"))
        for _, rows in after.groupby([*CELL, "method", "seed"], sort=False)
    ]
    return _with_steps_to_sgd(pd.DataFrame(runs), after)


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


def _summarise(rows: pd.DataFrame) -> dict[str, object]:
    measured = rows[rows["train_loss"].notna()]
    first = rows.iloc[0]
    identity = {
        name: first[name]
        for name in (*CELL, "method", "dom_weight", "bulk_weight", "learning_rate", "batch_size")
    }
    identity |= {name: first[name] for name in ("k", "refresh", "hessian_samples", "seed")}
    diverged = first["status"] == "diverged"
    if measured.empty:
        measured = rows.assign(train_loss=math.inf)
    last, losses = measured.iloc[-1], measured["train_loss"].to_numpy()
    steps = measured["steps_after_switch"].to_numpy()
    tail = measured[steps >= steps[-1] - LAST_SHARE * (steps[-1] - steps[0])]
    final = math.inf if diverged else float(last["train_loss"])
    eigenvalues = measured["eigenvalue_1"].to_numpy()
    return identity | {
        "steps": int(rows["steps_after_switch"].iloc[-1]),
        "diverged": diverged,
        "stable": not diverged and final < losses[0],
        "start_train_loss": losses[0],
        "final_train_loss": final,
        "final_test_loss": math.inf if diverged else last["test_loss"],
        "final_test_accuracy": last["test_accuracy"],
        "log_loss_slope": math.inf if diverged else _slope(steps, losses),
        "spikes": _spikes(losses),
        "alignment": tail["alignment"].mean(),
        "eigenvalue_1_growth": eigenvalues[-1] / eigenvalues[0],
        "eigenvalue_1_max": eigenvalues.max(),
    }


def _slope(steps: np.ndarray, losses: np.ndarray) -> float:
    if len(steps) < 2:
        return math.nan
    return float(np.polyfit(steps / 1000, np.log(losses), 1)[0])


def _spikes(losses: np.ndarray) -> int:
    above = losses > SPIKE_FACTOR * np.minimum.accumulate(losses)
    return int(np.sum(above[1:] & ~above[:-1]))


def _with_steps_to_sgd(statistics: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Adds the steps that each run needs to the final loss of SGD in its cell and seed."""
    keys = [*CELL, "seed"]
    finished = (statistics["method"] == "sgd") & ~statistics["diverged"]
    sgd = statistics.loc[finished, [*keys, "final_train_loss"]]
    targets = after.merge(sgd.rename(columns={"final_train_loss": "target"}), on=keys, how="left")
    runs = [*keys, "method"]
    reached = targets[targets["train_loss"] <= targets["target"]]
    first = reached.groupby(runs)["steps_after_switch"].min().astype(float)
    known = targets.groupby(runs)["target"].first().notna()
    steps = first.reindex(known.index, fill_value=math.inf).where(known)
    return statistics.merge(steps.rename("steps_to_sgd").reset_index(), on=runs, how="left")
