"""The table of claims as a whole. Oracle: verdicts that follow from the rule, by hand."""

import io
import math
from collections.abc import Sequence

import pandas as pd
import pytest
from planted import CONFIGURED, identity

from sharpflat.analysis.bootstrap import Interval
from sharpflat.analysis.claims import (
    CLAIMS,
    COLUMNS,
    SUMMARY,
    THRESHOLDS,
    VERDICTS,
    claims_table,
)
from sharpflat.analysis.claims.verdicts import row_verdict, summary_verdict


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [
        (0.6, 0.9, "reproduced", "not reproduced"),
        (0.1, 0.4, "not reproduced", "reproduced"),
        (0.4, 0.6, "inconclusive", "inconclusive"),
        (0.5, 0.6, "inconclusive", "inconclusive"),
        (0.4, 0.5, "inconclusive", "inconclusive"),
        (-math.inf, 0.4, "not reproduced", "reproduced"),
        (math.inf, math.inf, "reproduced", "not reproduced"),
        (math.nan, math.nan, "inconclusive", "inconclusive"),
    ],
)
def test_a_row_is_decided_by_the_side_its_interval_lies_on(
    low: float, high: float, above: str, below: str
) -> None:
    interval = Interval(0.5, low, high, 3)
    assert row_verdict(interval, 0.5, "above") == above
    assert row_verdict(interval, 0.5, "below") == below


@pytest.mark.parametrize(
    ("verdicts", "summary"),
    [
        (["reproduced"] * 3, "reproduced"),
        (["not reproduced"] * 3, "not reproduced"),
        (["inconclusive"] * 3, "inconclusive"),
        (["reproduced", "not reproduced"], "partly"),
        (["reproduced", "inconclusive"], "partly"),
        (["reproduced", "inconclusive", "not reproduced"], "partly"),
        (["inconclusive", "not reproduced"], "not reproduced"),
    ],
)
def test_a_summary_combines_its_rows(verdicts: Sequence[str], summary: str) -> None:
    assert summary_verdict(verdicts) == summary


def test_without_any_figure_every_claim_is_inconclusive() -> None:
    claims = claims_table({}, CONFIGURED)
    assert tuple(claims.columns) == COLUMNS
    assert set(claims["verdict"]) == {"inconclusive"}
    assert (claims["n"] == 0).all()
    assert claims[["estimate", "ci_low", "ci_high"]].isna().all(axis=None)
    summaries = claims[claims["statistic"].str.startswith(SUMMARY)]
    assert summaries["claim"].tolist() == list(CLAIMS)
    assert set(claims.loc[claims["claim"] == "C4", "figure"]) == {
        "ablation_*",
        "ablation_lr",
        "ablation_batch_size",
        "ablation_k",
        "ablation_refresh",
        "ablation_hessian_samples",
        "ablation_switch",
        "ablation_width",
    }


def test_every_threshold_decides_a_row_and_no_row_lacks_its_direction() -> None:
    claims = claims_table({}, CONFIGURED | {"alignment": 0.77})
    rows = claims[~claims["statistic"].str.startswith(SUMMARY)]
    pairs = set(zip(rows["claim"], rows["threshold"], strict=True))
    assert pairs == {
        (threshold.claim, 0.77 if threshold.name == "alignment" else CONFIGURED[threshold.name])
        for threshold in THRESHOLDS
    }
    assert claims["statistic"].str.contains(r"\(claimed [<>] [\d.e-]+\)$").all()
    assert "(claimed > 0.77)" in claims["statistic"].iloc[0]


def test_missing_and_unknown_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"claims\.alignment is missing"):
        claims_table({}, {name: value for name, value in CONFIGURED.items() if name != "alignment"})
    with pytest.raises(ValueError, match=r"claims\.allignment is unknown; allowed are alignment"):
        claims_table({}, CONFIGURED | {"allignment": 0.9})


def test_a_figure_without_the_methods_of_a_claim_is_as_good_as_absent() -> None:
    only_sgd = pd.DataFrame([_row(seed, step) for seed in range(3) for step in range(5)])
    claims = claims_table(
        {"dom_bulk": only_sgd, "ablation_lr": only_sgd, "interpolation": only_sgd}, CONFIGURED
    )
    assert set(claims["verdict"]) == {"inconclusive"}
    assert (claims["n"] == 0).all()


def test_a_single_seed_decides_nothing() -> None:
    table = pd.DataFrame([_row(0, step) for step in range(5)])
    row = claims_table({"alignment": table}, CONFIGURED).query("claim == 'C1'").iloc[1]
    assert (row["n"], row["estimate"], row["verdict"]) == (1, 1.0, "inconclusive")


def test_a_table_read_from_its_csv_gives_the_same_claims() -> None:
    table = pd.DataFrame([_row(seed, step) for seed in range(3) for step in range(5)])
    read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    first, second = (claims_table({"alignment": rows}, CONFIGURED) for rows in (table, read))
    pd.testing.assert_frame_equal(first, second)
    assert first["verdict"].iloc[0] == "reproduced"
    assert set(first["verdict"]) <= set(VERDICTS)


def _row(seed: int, step: int) -> dict[str, object]:
    return identity("sgd", seed) | {
        "step": step,
        "steps_after_switch": step,
        "train_loss": math.exp(-step),
        "test_loss": 1.0,
        "test_accuracy": 0.5,
        "alignment": 1.0,
        "eigenvalue_1": 10.0,
    }
