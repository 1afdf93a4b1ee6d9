"""From an interval to a verdict, and from verdicts to the verdict of a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sharpflat.analysis.bootstrap import Interval

REPRODUCED, PARTLY = "reproduced", "partly"
NOT_REPRODUCED, INCONCLUSIVE = "not reproduced", "inconclusive"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, INCONCLUSIVE)


def row_verdict(interval: Interval, threshold: float, side: Literal["above", "below"]) -> str:
    """Reproduced or not where the interval lies on one side; inconclusive where it straddles.

    An interval that touches the threshold straddles it, and so does one without ends: a single
    seed, or nothing measured, decides nothing.
    """
    if interval.low > threshold:
        return REPRODUCED if side == "above" else NOT_REPRODUCED
    if interval.high < threshold:
        return REPRODUCED if side == "below" else NOT_REPRODUCED
    return INCONCLUSIVE


def summary_verdict(verdicts: Sequence[str]) -> str:
    """Combine the verdicts of a claim's rows.

    Reproduced if all rows are; inconclusive if all are; not reproduced if no row is reproduced and
    at least one decided against the claim; partly otherwise.
    """
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return PARTLY if REPRODUCED in verdicts else NOT_REPRODUCED
