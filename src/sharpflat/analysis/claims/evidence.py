"""Rows of evidence: one number a (task, loss, cell, seed), and its interval over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from sharpflat.analysis.bootstrap import NOT_MEASURED, Interval, Statistic, seed_interval

#: Run statistics by figure, as :func:`sharpflat.analysis.statistics.run_statistics` returns them.
Runs = Mapping[str, pd.DataFrame]
GROUP = ["task", "loss"]
#: Of a figure that is not there.
NO_OBSERVATIONS = pd.DataFrame(columns=[*GROUP, "cell", "seed", "value"]).astype(
    {"seed": int, "value": float}
)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a row measures.

    Attributes:
        figure: Whose table it comes from.
        text: What the number is.
        threshold: Name of its threshold.
        interval: From numbers by seed and cell to the row's one number and its interval.
    """

    figure: str
    text: str
    threshold: str
    interval: Callable[[pd.DataFrame], Interval]


@dataclass(frozen=True)
class Row:
    """A row of evidence, before its verdict."""

    figure: str
    statistic: str
    threshold: str
    interval: Interval


@dataclass(frozen=True)
class Evidence:
    """All rows of a claim, and the one that sums it up."""

    summary: Row
    rows: tuple[Row, ...]


def observations(pairs: pd.DataFrame, values: pd.Series) -> pd.DataFrame:
    """A number for each row of runs or of pairs of runs.

    Returns:
        Columns ``task, loss, cell, seed, value``; the cell is the varied setting with its value.
    """
    cells = pairs["varied"].astype(str) + " = " + pairs["value"].astype(str)
    return pairs[[*GROUP, "seed"]].assign(cell=cells, value=values.astype(float))


def pooled(observed: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Observations of several figures as cells of one claim."""
    return pd.concat(
        [rows.assign(cell=f"{figure}: " + rows["cell"]) for figure, rows in observed.items()],
        ignore_index=True,
    )


def over_seeds(statistic: Statistic) -> Callable[[pd.DataFrame], Interval]:
    """The interval of a statistic of everything that was measured."""
    return lambda wide: seed_interval(wide.to_numpy(), statistic)


def group_rows(observed: pd.DataFrame, measure: Measure) -> list[Row]:
    """A row a task and loss; one row that says so where nothing was measured."""
    if observed.empty:
        return [_row(measure.text, observed, measure)]
    return [
        _row(f"{task}, {loss}: {measure.text}", rows, measure)
        for (task, loss), rows in observed.groupby(GROUP, sort=False)
    ]


def summary_row(observed: pd.DataFrame, measure: Measure) -> Row:
    """The row of a claim's main statistic over all tasks and losses."""
    return _row(f"all: {measure.text}", observed, measure)


def _row(text: str, observed: pd.DataFrame, measure: Measure) -> Row:
    interval = NOT_MEASURED if observed.empty else measure.interval(_by_seed(observed))
    return Row(measure.figure, text, measure.threshold, interval)


def _by_seed(observed: pd.DataFrame) -> pd.DataFrame:
    """Observations as a row a seed and a column a (task, loss, cell); seeds that lack one left out.

    A diverged run has a value, so only a run that was never made is lacking.
    """
    wide = observed.pivot(index="seed", columns=[*GROUP, "cell"], values="value")
    return wide.dropna().astype(float)
