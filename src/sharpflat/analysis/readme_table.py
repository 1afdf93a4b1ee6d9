"""The claims as a Markdown table, and its place between two markers of a page."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import pandas as pd

from sharpflat.analysis.claims import BEYOND, CLAIMS, STUDY, SUMMARY
from sharpflat.analysis.claims.verdicts import NOT_REPRODUCED, REPRODUCED, verdict_words

NOT_MEASURED = "not measured"
#: What stands between the study's claims and those beyond it.
APART = "Beyond the study, asked by this repository:"

CLAIM, VERDICT, ROWS = "claim", "verdict", "rows for, against, of"
MAIN, FIGURE = "main statistic [95 % interval], seeds", "figure"


def readme_table(claims: pd.DataFrame, others: Mapping[str, pd.DataFrame] | None = None) -> str:
    """A Markdown table with a row a claim, and a second one of the claims beyond the study.

    Args:
        claims: As :func:`sharpflat.analysis.claims.claims_table` returns it, or as read from its
            CSV.
        others: Those of other tiers, by the tier's name: a column of verdicts each, in a table of
            whose claims the tier has measured any.

    Returns:
        The claim in words, its verdict, or that nothing was measured, how many of the rows that
        decide it are for it, against it, and there, likewise at each other tier, the estimate,
        interval and number of seeds of its main statistic, and the figure behind that.
    """
    tables = [_table(claims, others or {}, STUDY)]
    if claims["claim"].isin(BEYOND).any():
        tables += [APART, _table(claims, others or {}, BEYOND)]
    return "\n\n".join(tables)


def _table(claims: pd.DataFrame, others: Mapping[str, pd.DataFrame], asked: Collection[str]) -> str:
    others = {
        tier: other
        for tier, other in others.items()
        if other["n"][other["claim"].isin(asked)].any()
    }
    header = [CLAIM, VERDICT, ROWS, *(f"at `{tier}`: {ROWS}" for tier in others), MAIN, FIGURE]
    lines = [_line(header), _line(["---"] * len(header))]
    summaries = claims[claims["statistic"].str.startswith(SUMMARY) & claims["claim"].isin(asked)]
    for _, summary in summaries.iterrows():
        claim = summary["claim"]
        verdict, count = _decided(claims, claim)
        elsewhere = [_in_a_cell(*_decided(other, claim)) for other in others.values()]
        main = f"{summary['statistic'].removeprefix(SUMMARY)}: {_interval(summary)}"
        words = f"{claim} {CLAIMS[claim]}"
        lines.append(_line([words, verdict, count, *elsewhere, main, f"`{summary['figure']}`"]))
    return "\n".join(lines)


def _in_a_cell(verdict: str, count: str) -> str:
    return verdict if verdict == NOT_MEASURED else f"{verdict}: {count}"


def _decided(claims: pd.DataFrame, claim: str) -> tuple[str, str]:
    """The verdict in words, and how many rows are for the claim, against it, and there."""
    own = claims[claims["claim"] == claim]
    (verdict,) = own.loc[own["statistic"].str.startswith(SUMMARY), "verdict"]
    rows = own[own["decides"].astype(bool)]
    favour, against = ((rows["verdict"] == v).sum() for v in (REPRODUCED, NOT_REPRODUCED))
    words = verdict_words(verdict, beyond=claim in BEYOND) if rows["n"].any() else NOT_MEASURED
    return words, f"{favour}, {against}, {len(rows)}"


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
    estimate, low, high = (number(row[name]) for name in ("estimate", "ci_low", "ci_high"))
    if not row["n"]:
        return NOT_MEASURED
    seeds = "1 seed" if row["n"] == 1 else f"{row['n']} seeds"
    if math.isnan(row["ci_low"]):
        return f"{estimate}, {seeds}, too few for an interval"
    return f"{estimate} [{low}, {high}], {seeds}"


def number(value: float) -> str:
    """A number of the table as text; infinity by its sign, nothing for NaN."""
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.3g}"
