"""The rows of the claims' table as the page shows them: in words, and beside their figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from sharpflat.analysis.claims import BEYOND, CLAIMS, SUMMARY
from sharpflat.analysis.claims.verdicts import verdict_words
from sharpflat.analysis.readme_table import NOT_MEASURED, number


@dataclass(frozen=True)
class ClaimRow:
    """A row of the claims' table, its numbers as text.

    Attributes:
        id: Of the row on the page.
        claim: ``"C1"`` and so on.
        text: The claim in words for the row that sums it up, the statistic for others.
        statistic: Of the row, without what marks a summary.
        figure: As the table names it; may be a pattern, ``ablation_*``.
        anchor: The figure of the page that it belongs to, if there is one.
        panel: Task and loss in that figure, as ``"mnist_mlp, mse"``; ``"all"`` for all together.
        estimate: Or ``"not measured"``.
        interval: Of 95 %, empty where there is none.
        n: Seeds.
        threshold: What the estimate is compared with.
        verdict: In words, or ``"not measured"``: of a row without an estimate, and of a claim none
            of whose deciding rows has one.
        beyond: Whether the claim goes beyond the study.
        is_summary: Whether the row sums a claim up.
        measured: Whether there is an estimate.
    """

    id: str
    claim: str
    text: str
    statistic: str
    figure: str
    anchor: str | None
    panel: str
    estimate: str
    interval: str
    n: int
    threshold: str
    verdict: str
    beyond: bool
    is_summary: bool
    measured: bool


def claim_rows(claims: pd.DataFrame, figures: Sequence[str]) -> list[ClaimRow]:
    """The table's rows.

    Args:
        claims: As :func:`sharpflat.analysis.claims.claims_table` returns it, or read from its CSV.
        figures: Names of the figures of the page, in their order.
    """
    decided = set(claims.loc[claims["decides"].astype(bool) & (claims["n"] > 0), "claim"])
    return [
        _row(row, figures, f"claim-{place}", decided=row["claim"] in decided)
        for place, row in enumerate(claims.to_dict("records"), start=1)
    ]


def _row(row: dict[Any, Any], figures: Sequence[str], name: str, *, decided: bool) -> ClaimRow:
    claim, statistic = str(row["claim"]), str(row["statistic"])
    is_summary = statistic.startswith(SUMMARY)
    statistic = statistic.removeprefix(SUMMARY)
    measured = bool(row["n"]) and not math.isnan(row["estimate"])
    interval = "" if math.isnan(row["ci_low"]) else _interval(row["ci_low"], row["ci_high"])
    verdict = verdict_words(str(row["verdict"]), beyond=claim in BEYOND)
    anchors = [name for name in figures if fnmatchcase(name, str(row["figure"]))]
    return ClaimRow(
        id=name,
        claim=claim,
        text=CLAIMS.get(claim, statistic) if is_summary else statistic,
        statistic=statistic,
        figure=str(row["figure"]),
        anchor=next(iter(anchors), None),
        panel=str(row["statistic"]).partition(":")[0],
        estimate=number(row["estimate"]) if measured else NOT_MEASURED,
        interval=interval if measured else "",
        n=int(row["n"]),
        threshold=number(row["threshold"]),
        verdict=verdict if (decided if is_summary else measured) else NOT_MEASURED,
        beyond=claim in BEYOND,
        is_summary=is_summary,
        measured=measured,
    )


def _interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"
