"""The README's table of claims. Oracle: the table that a reader of the claims would write."""

import io
import math
from typing import Any

import pandas as pd
import pytest
from planted import CONFIGURED

from sharpflat.analysis.claims import BEYOND, COLUMNS, STUDY, claims_table
from sharpflat.analysis.readme_table import APART, readme_table, replace_between_markers


def _row(claim: str, statistic: str, estimate: float, verdict: str, **changes: Any) -> dict:
    row = {
        "claim": claim,
        "figure": "alignment",
        "statistic": statistic,
        "estimate": estimate,
        "ci_low": estimate - 0.01,
        "ci_high": estimate + 0.01,
        "n": 3,
        "threshold": 0.9,
        "verdict": verdict,
        "decides": not statistic.startswith("all: "),
    }
    return row | changes


CLAIMED = pd.DataFrame(
    [
        _row("C1", "all: mean χ (claimed > 0.9)", 0.91234, "partly"),
        _row("C1", "mnist_mlp, mse: mean χ (claimed > 0.9)", 0.95, "reproduced"),
        _row("C1", "mnist_mlp, cross_entropy: mean χ (claimed > 0.9)", 0.8, "not reproduced"),
        _row("C1", "mnist_mlp, mse: beside", 0.8, "not reproduced", decides=False),
        _row("C2", "all: slope", 0.1, "inconclusive", ci_low=math.nan, n=1),
        _row("C3", "all: ratio", math.inf, "not reproduced", ci_low=0.5, figure="ablation_lr"),
        _row("C3", "mnist_mlp, mse: ratio", math.inf, "not reproduced", ci_low=0.5),
        _row("C7", "all: share", math.nan, "inconclusive", figure="curvature_energy", n=0),
        _row("C7", "share", math.nan, "inconclusive", n=0),
    ],
    columns=list(COLUMNS),
)


def test_a_row_a_claim_with_its_words_verdict_and_interval() -> None:
    header, rule, first, second, third, seventh = readme_table(CLAIMED).splitlines()
    assert header.count("|") == rule.count("|") == first.count("|") == 6
    assert first == (
        "| C1 gradients align with the top eigenspace | partly | 1, 1, 2 | "
        "mean χ (claimed > 0.9): 0.912 [0.902, 0.922], 3 seeds | `alignment` |"
    )
    assert "slope: 0.1, 1 seed, too few for an interval" in second
    assert "| not reproduced | 0, 1, 1 | ratio: ∞ [0.5, ∞], 3 seeds | `ablation_lr` |" in third
    assert "| not measured | 0, 0, 1 | share: not measured | `curvature_energy` |" in seventh


def test_it_renders_every_claim_of_a_table_from_its_csv() -> None:
    claims = claims_table({}, CONFIGURED)
    read = pd.read_csv(io.StringIO(claims.to_csv(index=False)))
    study, words, ours = readme_table(read).split("\n\n")
    assert [line.split()[1] for line in study.splitlines()[2:]] == list(STUDY)
    assert words == APART
    assert [line.split()[1] for line in ours.splitlines()[2:]] == list(BEYOND)
    assert readme_table(read) == readme_table(claims)


def test_verdicts_of_another_tier_stand_beside() -> None:
    """Its own rows, and those of a claim that is unfinished there."""
    smaller = CLAIMED[CLAIMED["claim"] != "C2"].replace({"verdict": {"partly": "unfinished"}})
    slopes = [_row("C2", "all: slope", 0.1, "partly"), _row("C2", "slope", 0.1, "reproduced")]
    paper = pd.concat([smaller, pd.DataFrame(slopes)])
    alone, beside = (
        [line.split(" | ") for line in readme_table(CLAIMED, others).splitlines()]
        for others in ({}, {"paper": paper})
    )
    assert beside[0][3] == "at `paper`: rows for, against, of"
    assert [row[3] for row in beside[2:]] == [
        "unfinished: 1, 1, 2",
        "partly: 1, 0, 1",
        "not reproduced: 0, 1, 1",
        "not measured",
    ]
    assert [row[:3] + row[4:] for row in beside] == alone
    assert readme_table(CLAIMED, {"paper": CLAIMED[CLAIMED["n"] == 0]}) == readme_table(CLAIMED)


def test_a_claim_beyond_the_study_holds_or_does_not() -> None:
    rows = [
        _row(claim, statistic, 0.9, verdict)
        for claim, verdict in (("C1", "reproduced"), ("C8", "not reproduced"))
        for statistic in ("all: ratio", "mnist_mlp, mse: ratio")
    ]
    study, _, ours = readme_table(pd.DataFrame(rows)).split("\n\n")
    assert "| reproduced | 1, 0, 1 |" in study
    assert "| does not hold | 0, 1, 1 |" in ours


def test_what_stands_between_the_markers_is_replaced_and_nothing_else() -> None:
    text = "before\n<!-- begin claims -->\nold\n| x |\n<!-- end claims -->\nafter\n"
    once = replace_between_markers(text, "claims", "| new |")
    assert once == "before\n<!-- begin claims -->\n| new |\n<!-- end claims -->\nafter\n"
    assert replace_between_markers(once, "claims", "| new |") == once
    assert replace_between_markers(once, "claims", r"\1 back") == once.replace(
        "| new |", r"\1 back"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no markers", "holds <!-- begin claims --> 0 times; put it there once"),
        ("<!-- begin claims -->", "holds <!-- end claims --> 0 times"),
        ("<!-- begin claims --><!-- begin claims --><!-- end claims -->", "begin claims --> 2"),
        ("<!-- end claims --><!-- begin claims -->", "stands before .* swap them"),
        ("<!-- begin other --><!-- end other -->", "holds <!-- begin claims --> 0 times"),
    ],
)
def test_markers_that_are_not_there_once_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_between_markers(text, "claims", "new")
