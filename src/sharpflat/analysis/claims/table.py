"""The table of claims: every statistic that decides one, its threshold and its verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from sharpflat.analysis.claims.ablations import ABLATIONS
from sharpflat.analysis.claims.acceleration import acceleration
from sharpflat.analysis.claims.alignment import alignment
from sharpflat.analysis.claims.dom_progress import dom_progress
from sharpflat.analysis.claims.energy import energy
from sharpflat.analysis.claims.evidence import Evidence, Row, Runs
from sharpflat.analysis.claims.hyperparameters import hyperparameters
from sharpflat.analysis.claims.instability import instability
from sharpflat.analysis.claims.interpolation import interpolation
from sharpflat.analysis.claims.other_optimizers import other_optimizers
from sharpflat.analysis.claims.stretching import stretching
from sharpflat.analysis.claims.thresholds import (
    THRESHOLDS,
    Threshold,
    check_thresholds,
    combinations,
)
from sharpflat.analysis.claims.transfer import transfer
from sharpflat.analysis.claims.verdicts import (
    UNFINISHED,
    Combination,
    claim_verdict,
    row_verdict,
)
from sharpflat.analysis.inference import Estimate, holm
from sharpflat.analysis.statistics import run_statistics

#: What the study claims.
STUDY: Mapping[str, str] = {
    "C1": "gradients align with the top eigenspace",
    "C2": "Dom-SGD stops making progress",
    "C3": "Bulk-SGD can accelerate convergence",
    "C4": "Bulk-SGD may compromise stability",
    "C5": "critical hyperparameters govern that",
    "C6": "interpolated methods unify the three and balance speed and stability",
    "C7": "curvature energy concentrates in the Dominant subspace, carried by the GGN",
}
#: What is asked here beyond it. A claim in this list is shown apart from the study's everywhere.
BEYOND: Mapping[str, str] = {
    "C8": "Bulk keeps pace without the Dominant part under optimizers other than plain SGD",
    "C9": "the predicted Bulk edge carries over to other architectures and data",
    "C10": "damping the Dominant and stretching the Bulk part, a < 1 < b, reaches SGD's best final "
    "loss in fewer steps than SGD at its own best learning rate",
}
CLAIMS: Mapping[str, str] = {**STUDY, **BEYOND}
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
    "interval",
    "p_value",
    "p_corrected",
    "decides",
)
#: How the statistic of a claim's summary row begins.
SUMMARY = "all: "
#: Figures of training runs that a claim rests on; C7 rests on the curvature energy.
TRAINING_FIGURES = ("alignment", "dom_bulk", *ABLATIONS, "interpolation", "optimizers")
#: Figures whose rows decide a claim.
DECIDING_FIGURES: Mapping[str, tuple[str, ...]] = {
    "C1": ("alignment",),
    "C2": ("dom_bulk",),
    "C3": ("dom_bulk", "ablation_lr"),
    "C4": ("stability_edge", "transfer", *ABLATIONS),
    "C5": ABLATIONS,
    "C6": ("interpolation", "stability_edge"),
    "C7": ("curvature_energy",),
    "C8": ("optimizers",),
    "C9": ("transfer",),
    "C10": ("stability_plane", "ablation_lr"),
}


def claims_table(
    tables: Mapping[str, pd.DataFrame],
    settings: Mapping[str, Any],
    *,
    unfinished: Collection[str] = (),
) -> pd.DataFrame:
    """Decide every claim.

    A row has one statistic, mostly of one task and loss, with its 95 % interval over seeds and the
    two-sided p-value against its threshold. The p-values of the rows that decide a claim, and those
    of the rows shown beside them, are corrected for their number by Holm's method. A row is
    *reproduced* if its corrected p-value is below 0.05 and its estimate on the claimed side, *not
    reproduced* if on the other, and *inconclusive* otherwise, so also with too few seeds, or where
    the figure is not there (n = 0, estimate NaN).

    Each claim begins with a summary row, its main statistic over all tasks and losses of one
    figure. That row's verdict combines those of the claim's other rows, whatever its own interval,
    as ``verdicts`` in the configuration says: see
    :class:`sharpflat.analysis.claims.Combination`. While a figure that decides the claim is
    unfinished, so is the claim, whatever the rows that are there say.

    Args:
        tables: By figure, as :func:`sharpflat.analysis.tables.figure_table` returns them; other
            figures than those of the claims are ignored.
        settings: The configuration's ``claims``: a value for each name in
            :data:`sharpflat.analysis.claims.THRESHOLDS`, and ``verdicts``.
        unfinished: Figures that plan more than their table holds, or that have none yet.

    Returns:
        Columns ``claim, figure, statistic, estimate, ci_low, ci_high, n, threshold, verdict,
        interval, p_value, p_corrected, decides``. The statistic ends with the side of the threshold
        that the claim puts it on; ``n`` counts seeds; ``interval`` says where the interval comes
        from, ``decides`` whether the row is one of those that the claim's verdict combines.

    Raises:
        ValueError: A threshold is missing or unknown.
    """
    check_thresholds(settings)
    rules = combinations(settings)
    runs = {name: run_statistics(tables[name]) for name in TRAINING_FIGURES if name in tables}
    evidence = _evidence(runs, tables)
    rows = []
    for claim in CLAIMS:
        summary, *others = decide(claim, evidence[claim], settings, rules[claim])
        if not set(unfinished).isdisjoint(DECIDING_FIGURES[claim]):
            summary |= {"verdict": UNFINISHED}
        rows += [summary, *others]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _evidence(runs: Runs, tables: Mapping[str, pd.DataFrame]) -> Mapping[str, Evidence]:
    return {
        "C1": alignment(runs),
        "C2": dom_progress(runs),
        "C3": acceleration(runs, tables),
        "C4": instability(runs, tables),
        "C5": hyperparameters(runs),
        "C6": interpolation(runs, tables),
        "C7": energy(tables),
        "C8": other_optimizers(runs, tables),
        "C9": transfer(tables),
        "C10": stretching(tables),
    }


def decide(
    claim: str, evidence: Evidence, settings: Mapping[str, Any], rule: Combination
) -> list[dict[str, object]]:
    """Rows of a claim with their verdicts, the summary first, and its own combining the others'.

    Args:
        claim: Identifier of the claim.
        evidence: What was measured.
        settings: A value for each threshold that the evidence names.
        rule: How the rows combine.
    """
    deciding = [row for row in evidence.rows if row.threshold in rule.by]
    beside = [row for row in evidence.rows if row.threshold not in rule.by]
    decided = _judged(claim, deciding, settings, decides=True)
    others = _judged(claim, beside, settings, decides=False)
    verdict = claim_verdict([str(row["verdict"]) for row in decided], rule)
    main = evidence.summary.estimate(settings[evidence.summary.threshold])
    summary = _entry(claim, evidence.summary, main, settings)
    return [summary | {"decides": False, "verdict": verdict}, *decided, *others]


def _judged(
    claim: str, rows: Sequence[Row], settings: Mapping[str, Any], *, decides: bool
) -> list[dict[str, object]]:
    estimates = [row.estimate(settings[row.threshold]) for row in rows]
    corrected = holm([estimate.p_value for estimate in estimates])
    return [
        _entry(claim, row, estimate, settings)
        | {
            "decides": decides,
            "p_corrected": p,
            "verdict": row_verdict(estimate, p, _threshold(row).side),
        }
        for row, estimate, p in zip(rows, estimates, corrected, strict=True)
    ]


def _entry(
    claim: str, row: Row, estimate: Estimate, settings: Mapping[str, Any]
) -> dict[str, object]:
    threshold = _threshold(row)
    value = settings[row.threshold]
    return {
        "claim": claim,
        "figure": row.figure,
        "statistic": f"{row.statistic} (claimed {threshold.sign} {value:g})",
        "estimate": estimate.estimate,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "n": estimate.n,
        "threshold": value,
        "interval": estimate.kind,
        "p_value": estimate.p_value,
    }


def _threshold(row: Row) -> Threshold:
    (found,) = (known for known in THRESHOLDS if known.name == row.threshold)
    return found
