"""The claims as a Markdown table, and its place between two markers of a page."""

from __future__ import annotations

import math

import pandas as pd

from sharpflat.analysis.claims import BEYOND, CLAIMS, SUMMARY
from sharpflat.analysis.claims.verdicts import NOT_REPRODUCED, REPRODUCED, verdict_words

NOT_MEASURED = "not measured"
#: What stands between the study's claims and those beyond it.
APART = "Beyond the study, asked by this repository:"

HEADER = (
    "claim",
    "verdict",
    "rows for, against, of",
    "main statistic [95 % interval], seeds",
    "figure",
)


def readme_table(claims: pd.DataFrame) -> str:
    """A Markdown table with a row a claim, and a second one of the claims beyond the study.

    Args:
        claims: As :func:`sharpflat.analysis.claims.claims_table` returns it, or as read from its
            CSV.

    Returns:
        The claim in words, its verdict, or that nothing was measured, how many of the rows that
        decide it are for it, against it, and there, the estimate, interval and number of seeds of
        its main statistic, and the figure behind that.
    """
    is_summary = claims["statistic"].str.startswith(SUMMARY)
    summaries = claims[is_summary]
    ours = summaries["claim"].isin(BEYOND)
    tables = [_table(claims, summaries[~ours])]
    if ours.any():
        tables += [APART, _table(claims, summaries[ours])]
    return "\n\n".join(tables)


def _table(claims: pd.DataFrame, summaries: pd.DataFrame) -> str:
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    for _, summary in summaries.iterrows():
        rows = claims[claims["decides"].astype(bool) & (claims["claim"] == summary["claim"])]
        favour, against = ((rows["verdict"] == v).sum() for v in (REPRODUCED, NOT_REPRODUCED))
        main = f"{summary['statistic'].removeprefix(SUMMARY)}: {_interval(summary)}"
        claim = f"{summary['claim']} {CLAIMS[summary['claim']]}"
        count = f"{favour}, {against}, {len(rows)}"
        verdict = verdict_words(summary["verdict"], beyond=summary["claim"] in BEYOND)
        if not rows["n"].any():
            verdict = NOT_MEASURED
        lines.append(_line([claim, verdict, count, main, f"`{summary['figure']}`"]))
    return "\n".join(lines)


def replace_between_markers(text: str, name: str, content: str) -> str:
    """Replace what stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    The markers stay, and the content stands on lines of its own between them.

    Raises:
        ValueError: A marker is not there exactly once, or the end comes before the beginning.

    Example:
        >>> print(replace_between_markers("<!-- begin a -->old<!-- end a -->", "a", "new"))
        <!-- begin a -->
        new
        <!-- end a -->
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    for marker in (begin, end):
        if (count := text.count(marker)) != 1:
            raise ValueError(
                f"the text holds {marker} {count} times; put it there once, {begin} before the "
                f"place of the content and {end} after it"
            )
    before, rest = text.split(begin)
    if end not in rest:
        raise ValueError(f"{end} stands before {begin}; swap them")
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval(row: pd.Series) -> str:
    estimate, low, high = (_number(row[name]) for name in ("estimate", "ci_low", "ci_high"))
    if not row["n"]:
        return NOT_MEASURED
    seeds = "1 seed" if row["n"] == 1 else f"{row['n']} seeds"
    if math.isnan(row["ci_low"]):
        return f"{estimate}, {seeds}, too few for an interval"
    return f"{estimate} [{low}, {high}], {seeds}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}"
