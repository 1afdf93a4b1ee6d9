"""From an estimate to a verdict, and from the verdicts of rows to that of a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sharpflat.analysis.inference import LEVEL, Estimate

REPRODUCED, PARTLY = "reproduced", "partly"
NOT_REPRODUCED, INCONCLUSIVE = "not reproduced", "inconclusive"
#: Of a claim, while runs are missing that its figures plan: those that are there decide no claim.
UNFINISHED = "unfinished"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, INCONCLUSIVE, UNFINISHED)
#: How verdicts are called where there is no study to reproduce.
_BEYOND_WORDS = {REPRODUCED: "holds", NOT_REPRODUCED: "does not hold"}


@dataclass(frozen=True, kw_only=True)
class Combination:
    """How many of a claim's rows it takes, as shares of the rows that decide it.

    Of several rows it takes at least two for any verdict, so that no single row carries one.

    Attributes:
        by: Names of the thresholds whose rows decide; rows of others are shown beside them.
        reproduced: Share of the rows that are reproduced from which on the claim is.
        partly: Likewise, from which on it is partly.
        against: Share of the rows that are not reproduced from which on the claim is not, unless
            enough others are for it to be so partly.
    """

    by: tuple[str, ...]
    reproduced: float
    partly: float
    against: float


def row_verdict(estimate: Estimate, corrected: float, side: Literal["above", "below"]) -> str:
    """Reproduced or not where the corrected p-value decides, else inconclusive.

    Args:
        estimate: With its p-values of either side.
        corrected: Its two-sided p-value, corrected for the number of the claim's rows.
        side: Of the threshold, where the claim puts the statistic.
    """
    if corrected >= LEVEL:
        return INCONCLUSIVE
    found = "above" if estimate.above < estimate.below else "below"
    return REPRODUCED if found == side else NOT_REPRODUCED


def claim_verdict(verdicts: Sequence[str], combination: Combination) -> str:
    """Combine the verdicts of the rows that decide a claim.

    Example:
        >>> few = Combination(by=(), reproduced=1.0, partly=0.5, against=0.5)
        >>> claim_verdict(["reproduced", "reproduced", "inconclusive", "not reproduced"], few)
        'partly'
        >>> claim_verdict(["reproduced", "not reproduced", "not reproduced"], few)
        'not reproduced'
    """
    in_favour, against = verdicts.count(REPRODUCED), verdicts.count(NOT_REPRODUCED)
    if in_favour >= _needed(combination.reproduced, verdicts):
        return REPRODUCED
    if in_favour >= _needed(combination.partly, verdicts):
        return PARTLY
    return NOT_REPRODUCED if against >= _needed(combination.against, verdicts) else INCONCLUSIVE


def verdict_words(verdict: str, *, beyond: bool) -> str:
    """A verdict as pages show it: a claim beyond the study holds or does not."""
    return _BEYOND_WORDS.get(verdict, verdict) if beyond else verdict


def _needed(share: float, verdicts: Sequence[str]) -> int:
    # A share times a number of rows may miss a whole number by rounding.
    return max(math.ceil(share * len(verdicts) - 1e-9), min(2, len(verdicts)), 1)
