"""The study's claims, and those beyond it, each decided by numbers over seeds.

A claim is a module that turns figures' tables into rows of evidence; a row has a statistic, its
interval over seeds, and a threshold that the configuration sets, as it does how the rows of a
claim combine.

Diverged runs count in every number. Where the claim is not about divergence itself, a run without a
usable value counts as one that speaks against the claim; each module says what that is.
"""

from sharpflat.analysis.claims.table import BEYOND, CLAIMS, COLUMNS, STUDY, SUMMARY, claims_table
from sharpflat.analysis.claims.thresholds import THRESHOLDS, Threshold
from sharpflat.analysis.claims.verdicts import VERDICTS, Combination

__all__ = [
    "BEYOND",
    "CLAIMS",
    "COLUMNS",
    "STUDY",
    "SUMMARY",
    "THRESHOLDS",
    "VERDICTS",
    "Combination",
    "Threshold",
    "claims_table",
]
