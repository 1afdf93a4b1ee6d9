"""Rows of evidence: one number a (task, loss, cell, seed), and its estimate over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharpflat.analysis.columns import SETTING
from sharpflat.analysis.inference import NOT_MEASURED, Array, Estimate, Scale, location, share

#: Run statistics by figure, as :func:`sharpflat.analysis.statistics.run_statistics` returns them.
Runs = Mapping[str, pd.DataFrame]
#: Training loss that a diverged run counts as, over that at its switch. An assumption: as many
#: times as the tiers' ``divergence_factor`` lets a mini-batch's loss grow.
DIVERGED = 100.0
#: Of a figure that is not there.
NO_OBSERVATIONS = pd.DataFrame(columns=[*SETTING, "cell", "seed", "value"]).astype(
    {"seed": int, "value": float}
)
#: From observations and a threshold to an estimate.
Infer = Callable[[pd.DataFrame, float], Estimate]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a row measures.

    Attributes:
        figure: Whose table it comes from.
        text: What the number is.
        threshold: Name of its threshold.
        infer: From what was observed, and the threshold's value, to the row's estimate.
    """

    figure: str
    text: str
    threshold: str
    infer: Infer


@dataclass(frozen=True)
class Row:
    """A row of evidence, before its threshold has a value."""

    figure: str
    statistic: str
    threshold: str
    estimate: Callable[[float], Estimate]


@dataclass(frozen=True)
class Evidence:
    """All rows of a claim, and the one that sums it up."""

    summary: Row
    rows: tuple[Row, ...]


def observations(runs: pd.DataFrame, values: pd.Series | Array, **more: pd.Series) -> pd.DataFrame:
    """A number for each row of runs or of pairs of runs.

    Returns:
        Columns ``task, loss, cell, seed, value`` and those of ``more``; the cell is the varied
        setting with its value.
    """
    cells = runs["varied"].astype(str) + " = " + runs["value"].astype(str)
    numbers = np.asarray(values, dtype=np.float64)
    return runs[[*SETTING, "seed"]].assign(cell=cells, value=numbers, **more)


def bounded_losses(runs: pd.DataFrame) -> pd.Series:
    """Final training loss of each run, of a diverged one 100 times that at its switch.

    A run is ended as diverged when its mini-batch loss exceeds about so many times the training
    loss at initialisation, so its loss is no less; a finite one lets it be compared at few seeds.
    """
    return runs["final_train_loss"].where(~runs["diverged"], DIVERGED * runs["start_train_loss"])


def over_seeds(scale: Scale) -> Infer:
    """The middle of the seeds' values; of several cells a seed has the mean on the scale."""

    def infer(observed: pd.DataFrame, threshold: float) -> Estimate:
        lower = _means(observed, "value", scale)
        upper = _means(observed, "upper", scale) if "upper" in observed else None
        return location(lower, threshold, scale, upper=upper)

    return infer


def share_of_seeds(observed: pd.DataFrame, threshold: float) -> Estimate:
    """Share of the seeds in which the value, of several cells their mean, is positive."""
    values = observed.groupby("seed")["value"].mean()
    return share(int((values > 0).sum()), len(values), threshold)


def by_seed(observed: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column as a row a seed and a column a (task, loss, cell); seeds that lack one left out.

    A diverged run has a value, so only a run that was never made is lacking.
    """
    wide = observed.pivot(index="seed", columns=[*SETTING, "cell"], values=column)
    return wide.dropna().astype(float)


def group_rows(observed: pd.DataFrame, measure: Measure) -> list[Row]:
    """A row a task and loss; one row that says so where nothing was measured."""
    if observed.empty:
        return [_row(measure.text, observed, measure)]
    return [
        _row(f"{task}, {loss}: {measure.text}", rows, measure)
        for (task, loss), rows in observed.groupby(SETTING, sort=False)
    ]


def summary_row(observed: pd.DataFrame, measure: Measure) -> Row:
    """The row of a claim's main statistic over all tasks and losses."""
    return _row(f"all: {measure.text}", observed, measure)


def _row(text: str, observed: pd.DataFrame, measure: Measure) -> Row:
    def estimate(threshold: float) -> Estimate:
        return NOT_MEASURED if observed.empty else measure.infer(observed, threshold)

    return Row(measure.figure, text, measure.threshold, estimate)


def _means(observed: pd.DataFrame, column: str, scale: Scale) -> Array:
    """The mean over the cells of each seed, on the scale and back."""
    if not observed["seed"].duplicated().any():
        return observed[column].dropna().to_numpy(dtype=float)
    wide = by_seed(observed, column).to_numpy()
    with np.errstate(invalid="ignore"):
        means = scale.forward(wide).mean(axis=1)
    # Infinities of either sign within a seed have no mean; the median of its cells ranks them.
    finite = np.isfinite(means)
    ranked = np.where(np.isnan(means), np.median(wide, axis=1), means)
    return np.where(finite, scale.back(np.where(finite, means, 0.0)), ranked)
