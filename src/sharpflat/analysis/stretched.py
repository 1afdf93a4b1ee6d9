"""Optimizers against each other: losses at equal steps, steps and seconds to equal losses."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from sharpflat.analysis.inference import LEVEL, LOG, holm, location
from sharpflat.analysis.statistics import steps_to_loss

#: Columns that tell what all optimizers of a comparison train.
CELL = ["task", "loss", "batch_size"]
#: Optimizers that every stretched one is held against besides its own base.
REFERENCES = ("adamw", "muon")
#: Far below any loss that is resolved.
TINY = float(np.finfo(np.float32).tiny)

Curve = pd.DataFrame


def with_targets(runs: pd.DataFrame, curves: pd.DataFrame, *, floor: float) -> pd.DataFrame:
    """The runs, with what each needed to the final loss of a tuned base optimizer.

    Args:
        runs: A row a run: ``task, loss, batch_size, optimizer, base, seed, role``, …
        curves: A row a record of the judged runs: ``task, loss, batch_size, optimizer, seed, step,
            train_loss, seconds``.
        floor: Least loss that is resolved: lower ones are reached where it is.

    Returns:
        The rows with ``steps_to_sgd`` and ``seconds_to_sgd``, to the final loss of tuned SGD with
        the same seed, and ``steps_to_base`` and ``seconds_to_base``, to that of the optimizer that
        is stretched. Infinite if it was not reached, NaN where there is nothing to reach.
    """
    by_run = _by_run(curves)
    judged = runs[runs["role"] == "judged"]
    finals = judged.set_index([*CELL, "optimizer", "seed"])["final_loss"].clip(lower=floor)
    targets = finals.to_dict()
    found = []
    for row in runs.to_dict("records"):
        key = [row[name] for name in CELL]
        of_row: dict[str, float] = {}
        for name, target in (("sgd", "sgd"), ("base", row["base"])):
            loss = targets.get((*key, target, row["seed"]), math.nan)
            curve = by_run.get((*key, row["optimizer"], row["seed"]))
            known = curve is not None and math.isfinite(loss)
            for column, x in (("steps", "step"), ("seconds", "seconds")):
                reached = _reach(curve, x, loss) if curve is not None and known else math.nan
                of_row[f"{column}_to_{name}"] = reached
        found.append(of_row)
    return runs.reset_index(drop=True).assign(**pd.DataFrame(found))


def compare(runs: pd.DataFrame, curves: pd.DataFrame, *, floor: float) -> pd.DataFrame:
    """Every stretched optimizer over its base, over AdamW and over Muon, paired by seed.

    Args:
        runs: As for :func:`with_targets`.
        curves: Likewise.
        floor: Likewise; final losses below it count as it.

    Returns:
        A row a (cell, optimizer, reference, measure) with the ratio's ``estimate`` (geometric mean
        over seeds) and 95 % interval, ``n`` seeds, the two-sided ``p_value`` against a ratio of 1,
        ``p_corrected`` by Holm over all rows of the measure, those against own bases apart from the
        others, and ``verdict``: ``ahead``, ``behind`` or ``open``. The measures are ``final_loss``,
        at equal steps, and ``steps`` and ``seconds`` to the lowest loss that both reach: below 1
        the optimizer is ahead in each.
    """
    rows = []
    by_run = _by_run(curves)
    judged = runs[runs["role"] == "judged"]
    for cell, own in judged.groupby(CELL, sort=False):
        finals = own.set_index(["optimizer", "seed"])["final_loss"].clip(lower=floor).to_dict()
        seeds = sorted(own["seed"].unique())
        for optimizer, reference, is_base in _pairs(own):
            ratios: dict[str, list[float]] = {"final_loss": [], "steps": [], "seconds": []}
            for seed in seeds:
                sides = [by_run[*cell, name, seed] for name in (optimizer, reference)]
                ratios["final_loss"].append(
                    _ratio(finals[optimizer, seed], finals[reference, seed])
                )
                target = max(floor, *(side["train_loss"].min() for side in sides))
                for measure, x in (("steps", "step"), ("seconds", "seconds")):
                    ratios[measure].append(_ratio(*(_reach(side, x, target) for side in sides)))
            identity = dict(zip(CELL, cell, strict=True))
            identity |= {"optimizer": optimizer, "reference": reference, "is_base": is_base}
            rows += [
                identity | {"measure": measure} | _summary(values)
                for measure, values in ratios.items()
            ]
    table = pd.DataFrame(rows)
    families = table.groupby(["measure", "is_base"])["p_value"]
    table["p_corrected"] = families.transform(lambda values: holm(values.tolist()))
    decided = table["p_corrected"] < LEVEL
    side = np.where(table["estimate"] < 1, "ahead", "behind")
    return table.assign(verdict=np.where(decided, side, "open"))


def _summary(values: list[float]) -> dict[str, Any]:
    found = location(values, 1.0, LOG)
    return {
        "estimate": found.estimate,
        "ci_low": found.low,
        "ci_high": found.high,
        "n": found.n,
        "p_value": found.p_value,
    }


def _pairs(own: pd.DataFrame) -> Iterator[tuple[str, str, bool]]:
    """Stretched optimizers of a cell, each with its base and then the other references."""
    bases = own.drop_duplicates("optimizer").set_index("optimizer")["base"]
    for optimizer, base in bases[bases != ""].items():
        for reference in dict.fromkeys((base, *REFERENCES)):
            yield str(optimizer), str(reference), reference == base


def _by_run(curves: pd.DataFrame) -> dict[Hashable, Curve]:
    return dict(iter(curves.groupby([*CELL, "optimizer", "seed"], sort=False)))


def _reach(curve: Curve, x: str, target: float) -> float:
    losses = curve["train_loss"].clip(lower=TINY)  # a loss of 0 has no log to interpolate
    return steps_to_loss(curve[x].to_numpy(float), losses.to_numpy(float), target)


def _ratio(own: float, other: float) -> float:
    """A quotient, 1 where both are 0 or both infinite: neither moved, or neither came there."""
    if own == other:
        return 1.0
    return own / other if other else math.inf
