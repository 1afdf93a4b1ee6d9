"""Methods beside SGD: within a seed they share the checkpoint and the mini-batches."""

from __future__ import annotations

import pandas as pd

from sharpflat.analysis.statistics import CELL, run_statistics

#: What two methods share that are compared: the cell and the seed.
PAIR = [*CELL, "seed"]
#: Weights (a, b) of SGD, under whichever name a path gives them.
SGD = (1.0, 1.0)


def sgd_name(rows: pd.DataFrame) -> str | None:
    """Under which name SGD is among the methods of some rows after the switch, if it is.

    A point of a path, as ``convex(0.5)``, may be SGD; ``sgd`` comes first.
    """
    weights = rows.drop_duplicates("method")
    found = weights[(weights["dom_weight"] == SGD[0]) & (weights["bulk_weight"] == SGD[1])]
    names = list(found["method"])
    return "sgd" if "sgd" in names else next(iter(names), None)


def curve_ratios(rows: pd.DataFrame, *, sgd: str | None) -> pd.DataFrame:
    """The rows of all methods but one, with a column ``ratio`` of training losses, step by step.

    Args:
        rows: After the switch, from a figure's table.
        sgd: The name of that one; no row is left where it is ``None``.

    Returns:
        The steps at which both have a record, with ``ratio``: the training loss over that of SGD in
        the same cell, seed and step. Seeds whose SGD diverged are left out: there is nothing to
        compare with.
    """
    own = rows["method"] == sgd
    keys = [*PAIR, "steps_after_switch"]
    reference = rows.loc[own & (rows["status"] != "diverged"), [*keys, "train_loss"]]
    reference = reference.rename(columns={"train_loss": "sgd_train_loss"})
    pairs = rows[~own].merge(reference, on=keys)
    return pairs.assign(ratio=pairs["train_loss"] / pairs["sgd_train_loss"])


def run_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Statistics of all runs, with those of SGD in the same cell and seed beside them.

    Args:
        rows: After the switch, from a figure's table.

    Returns:
        The columns of :func:`sharpflat.analysis.statistics.run_statistics`, and

        - ``stability``: ``"stable"``, ``"unstable"`` or ``"diverged"``.
        - ``final_ratio``: final training loss over SGD's; infinite for a run that diverged, NaN
          where SGD did or is missing.
        - ``steps_ratio``: steps to the final loss of SGD over the steps that SGD itself took;
          infinite if the run never reached it, NaN where SGD diverged, is missing, or took none
          because its loss rose.
    """
    runs = run_statistics(rows)
    sgd = runs.loc[runs["method"] == sgd_name(rows), [*PAIR, "stability"]]
    columns = {"final_train_loss": "final_ratio", "steps_to_sgd": "steps_ratio"}
    for column in columns:
        sgd[column] = runs.loc[sgd.index, column].where(sgd["stability"] != "diverged")
    pairs = runs.merge(sgd, on=PAIR, how="left", suffixes=("", "_sgd"))
    for column, ratio in columns.items():
        reference = pairs[f"{column}_sgd"]
        pairs[ratio] = pairs[column] / reference.where(reference > 0)
    return pairs.drop(columns=[f"{column}_sgd" for column in (*columns, "stability")])
