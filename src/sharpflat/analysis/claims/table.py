"""The table of claims: every statistic that decides one, its threshold and its verdict."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sharpflat.analysis.claims.acceleration import acceleration
from sharpflat.analysis.claims.alignment import alignment
from sharpflat.analysis.claims.dom_progress import dom_progress
from sharpflat.analysis.claims.energy import energy
from sharpflat.analysis.claims.evidence import Evidence, Row, Runs
from sharpflat.analysis.claims.hyperparameters import hyperparameters
from sharpflat.analysis.claims.instability import ABLATIONS, instability
from sharpflat.analysis.claims.interpolation import interpolation
from sharpflat.analysis.claims.thresholds import THRESHOLDS, check_thresholds
from sharpflat.analysis.claims.verdicts import row_verdict, summary_verdict
from sharpflat.analysis.statistics import run_statistics

CLAIMS: Mapping[str, str] = {
    "C1": "gradients align with the top eigenspace",
    "C2": "Dom-SGD stops making progress",
    "C3": "Bulk-SGD can accelerate convergence",
    "C4": "Bulk-SGD may compromise stability",
    "C5": "critical hyperparameters govern that",
    "C6": "interpolated methods unify the three and balance speed and stability",
    "C7": "curvature energy concentrates in the Dominant subspace, carried by the GGN",
}
COLUMNS = (
    "claim",
    "figure",
    "statistic",
    "estimate",
    "ci_low",
    "ci_high",
    "n",
    "threshold",
    "verdict",
)
#: How the statistic of a claim's summary row begins.
SUMMARY = "all: "
#: Figures of training runs that a claim rests on; C7 rests on the curvature energy.
TRAINING_FIGURES = ("alignment", "dom_bulk", *ABLATIONS, "interpolation")


def claims_table(
    tables: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float]
) -> pd.DataFrame:
    """Decide every claim.

    A row has one statistic, mostly of one task and loss, with its 95 % bootstrap interval over
    seeds. Its verdict is *reproduced* if the interval lies wholly on the claimed side of the
    threshold, *not reproduced* if wholly on the other, and *inconclusive* if it straddles or
    touches it, if there is a single seed, or if the figure is not there (n = 0, estimate NaN).

    Each claim begins with a summary row, its main statistic over all tasks and losses. That row's
    verdict combines those of the claim's other rows, whatever its own interval: *reproduced* if all
    are, *inconclusive* if all are, *not reproduced* if no row is reproduced and at least one
    decided against the claim, else *partly*. With many rows and few seeds some pass by chance: read
    *partly* together with how many.

    Args:
        tables: By figure, as :func:`sharpflat.analysis.tables.figure_table` returns them; other
            figures than those of the claims are ignored.
        thresholds: A value for each name in :data:`sharpflat.analysis.claims.THRESHOLDS`.

    Returns:
        Columns ``claim, figure, statistic, estimate, ci_low, ci_high, n, threshold, verdict``. The
        statistic ends with the side of the threshold that the claim puts it on; ``n`` counts seeds.

    Raises:
        ValueError: A threshold is missing or unknown.
    """
    check_thresholds(thresholds)
    runs = {name: run_statistics(tables[name]) for name in TRAINING_FIGURES if name in tables}
    evidence = _evidence(runs, tables)
    return pd.DataFrame(
        [row for claim in CLAIMS for row in _claim_rows(claim, evidence[claim], thresholds)],
        columns=list(COLUMNS),
    )


def _evidence(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Mapping[str, Evidence]:
    return {
        "C1": alignment(runs),
        "C2": dom_progress(runs),
        "C3": acceleration(runs, tables),
        "C4": instability(runs),
        "C5": hyperparameters(runs),
        "C6": interpolation(runs),
        "C7": energy(tables),
    }


def _claim_rows(
    claim: str, evidence: Evidence, thresholds: Mapping[str, float]
) -> list[dict[str, object]]:
    rows = [_judged(claim, row, thresholds) for row in evidence.rows]
    summary = _judged(claim, evidence.summary, thresholds)
    return [summary | {"verdict": summary_verdict([str(row["verdict"]) for row in rows])}, *rows]


def _judged(claim: str, row: Row, thresholds: Mapping[str, float]) -> dict[str, object]:
    (threshold,) = (known for known in THRESHOLDS if known.name == row.threshold)
    value = thresholds[row.threshold]
    return {
        "claim": claim,
        "figure": row.figure,
        "statistic": f"{row.statistic} (claimed {threshold.sign} {value:g})",
        "estimate": row.interval.estimate,
        "ci_low": row.interval.low,
        "ci_high": row.interval.high,
        "n": row.interval.n,
        "threshold": value,
        "verdict": row_verdict(row.interval, value, threshold.side),
    }
