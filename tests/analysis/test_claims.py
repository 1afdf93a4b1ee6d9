"""The table of claims as a whole. Oracle: verdicts that follow from the rules, by hand."""

import copy
import io
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml
from planted import CONFIGURED, decay, trajectory, trials

from sharpflat.analysis.claims import (
    CLAIMS,
    COLUMNS,
    SUMMARY,
    THRESHOLDS,
    VERDICTS,
    Combination,
    claims_table,
)
from sharpflat.analysis.claims.table import DECIDING_FIGURES
from sharpflat.analysis.claims.verdicts import claim_verdict, row_verdict
from sharpflat.analysis.inference import NOT_MEASURED, Estimate
from sharpflat.config import SCHEMA_PATH

ROOT = Path(__file__).parents[2]
EVERY = Combination(by=(), reproduced=1.0, partly=0.5, against=0.5)
SOME = Combination(by=(), reproduced=0.5, partly=0.25, against=0.5)


@pytest.mark.parametrize(
    ("above", "below", "corrected", "verdicts"),
    [
        (0.001, 0.999, 0.04, ("reproduced", "not reproduced")),
        (0.999, 0.001, 0.04, ("not reproduced", "reproduced")),
        (0.001, 0.999, 0.05, ("inconclusive", "inconclusive")),  # one of many rows
        (0.5, 0.5, 1.0, ("inconclusive", "inconclusive")),
    ],
)
def test_a_row_is_decided_by_its_corrected_p_value(
    above: float, below: float, corrected: float, verdicts: tuple[str, str]
) -> None:
    estimate = Estimate(0.5, 0.4, 0.6, 8, above, below, "by hand")
    assert (
        row_verdict(estimate, corrected, "above"),
        row_verdict(estimate, corrected, "below"),
    ) == verdicts
    assert row_verdict(NOT_MEASURED, 1.0, "above") == "inconclusive"


FOR, AGAINST, OPEN = "reproduced", "not reproduced", "inconclusive"


@pytest.mark.parametrize(
    ("verdicts", "every", "some"),
    [
        ([FOR] * 4, "reproduced", "reproduced"),
        ([AGAINST] * 4, "not reproduced", "not reproduced"),
        ([OPEN] * 4, "inconclusive", "inconclusive"),
        ([FOR], "reproduced", "reproduced"),
        ([FOR, FOR, OPEN, OPEN], "partly", "reproduced"),
        ([FOR, FOR, AGAINST, AGAINST], "partly", "reproduced"),
        ([FOR, FOR, *[OPEN] * 6], "inconclusive", "partly"),
        ([FOR, FOR, *[AGAINST] * 6], "not reproduced", "partly"),
        # One row out of several carries no verdict, for or against.
        ([FOR, OPEN, OPEN], "inconclusive", "inconclusive"),
        ([AGAINST, OPEN, OPEN], "inconclusive", "inconclusive"),
        ([FOR, AGAINST, AGAINST], "not reproduced", "not reproduced"),
        ([FOR, OPEN], "inconclusive", "inconclusive"),
    ],
)
def test_a_claim_combines_its_rows(verdicts: Sequence[str], every: str, some: str) -> None:
    assert claim_verdict(verdicts, EVERY) == every
    assert claim_verdict(verdicts, SOME) == some


def test_without_any_figure_every_claim_is_inconclusive() -> None:
    claims = claims_table({}, CONFIGURED)
    assert tuple(claims.columns) == COLUMNS
    assert set(claims["verdict"]) == {"inconclusive"}
    assert (claims["n"] == 0).all()
    assert claims[["estimate", "ci_low", "ci_high"]].isna().all(axis=None)
    summaries = claims[claims["statistic"].str.startswith(SUMMARY)]
    assert summaries["claim"].tolist() == list(CLAIMS)
    assert set(claims.loc[claims["claim"] == "C5", "figure"]) == {
        "ablation_*",
        "ablation_lr",
        "ablation_batch_size",
        "ablation_k",
        "ablation_refresh",
        "ablation_hessian_samples",
        "ablation_switch",
        "ablation_width",
    }


def test_a_claim_is_unfinished_while_a_figure_that_decides_it_is() -> None:
    """Whatever is there says: rows keep their own verdicts, and other claims theirs."""
    table = pd.concat(
        trajectory("sgd", seed, decay(0.1), alignment=0.97 + 0.001 * seed) for seed in range(3)
    )
    whole, lacking, other = (
        claims_table({"alignment": table}, CONFIGURED, unfinished=names).set_index("statistic")
        for names in ([], ["alignment"], ["stability_plane"])
    )
    changed = whole["verdict"] != lacking["verdict"]
    assert (whole["claim"][changed].tolist(), sum(changed)) == (["C1"], 1)
    assert whole["verdict"][changed].tolist() == ["reproduced"]
    assert lacking["verdict"][changed].tolist() == ["unfinished"]
    assert whole["claim"][whole["verdict"] != other["verdict"]].tolist() == ["C10"]


def test_the_figures_that_decide_a_claim_are_those_of_its_rows() -> None:
    """C10 takes its SGD from another figure besides. Oracle: what the rows say they come from."""
    elsewhere = pd.concat(trials(name, 0, 0.1, task="gpt") for name in ("sgd", "bulk_sgd"))
    rows = claims_table({"transfer": elsewhere}, CONFIGURED).query("decides")
    expected = rows.groupby("claim")["figure"].agg(set).to_dict()
    ablations = expected["C5"] - {"ablation_*"}
    for figures in expected.values():
        if "ablation_*" in figures:
            figures.remove("ablation_*")
            figures |= ablations
    expected["C10"].add("ablation_lr")
    assert {claim: set(figures) for claim, figures in DECIDING_FIGURES.items()} == expected


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
    growth = rows["statistic"].str.contains("growth of λ_1")
    assert (rows["decides"] == ~growth).all()


def test_missing_and_unknown_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"claims\.alignment is missing"):
        claims_table({}, {name: value for name, value in CONFIGURED.items() if name != "alignment"})
    with pytest.raises(ValueError, match=r"claims\.allignment is unknown; allowed are alignment"):
        claims_table({}, CONFIGURED | {"allignment": 0.9})


def test_a_claim_that_another_claims_statistic_decides_is_refused() -> None:
    settings = copy.deepcopy(dict(CONFIGURED))
    settings["verdicts"]["C4"]["by"] = ["alignment"]
    with pytest.raises(ValueError, match=r"C4\.by = \['alignment'\]; allowed are .* edge_ratio"):
        claims_table({}, settings)


def test_the_schema_asks_for_every_threshold_the_verdicts_and_no_other() -> None:
    schema = yaml.safe_load((ROOT / SCHEMA_PATH).read_text())["properties"]["claims"]
    names = [*(threshold.name for threshold in THRESHOLDS), "verdicts"]
    assert schema["required"] == list(schema["properties"]) == names
    rules = schema["properties"]["verdicts"]
    assert rules["required"] == list(rules["properties"]) == list(CLAIMS)


def test_a_figure_without_the_methods_of_a_claim_is_as_good_as_absent() -> None:
    only_sgd = pd.concat(trajectory("sgd", seed, decay(0.1)) for seed in range(3))
    figures = ("dom_bulk", "ablation_lr", "interpolation")
    claims = claims_table(dict.fromkeys(figures, only_sgd), CONFIGURED)
    assert set(claims["verdict"]) == {"inconclusive"}
    assert (claims["n"] == 0).all()


def test_a_single_seed_decides_nothing() -> None:
    table = trajectory("sgd", 0, decay(0.1), alignment=0.97)
    row = claims_table({"alignment": table}, CONFIGURED).query("claim == 'C1'").iloc[1]
    assert (row["n"], row["verdict"], row["interval"]) == (1, "inconclusive", "too few seeds")
    assert row["estimate"] == pytest.approx(0.97)


def test_a_table_read_from_its_csv_gives_the_same_claims() -> None:
    table = pd.concat(
        trajectory("sgd", seed, decay(0.1), alignment=0.97 + 0.001 * seed) for seed in range(3)
    )
    read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    first, second = (claims_table({"alignment": rows}, CONFIGURED) for rows in (table, read))
    pd.testing.assert_frame_equal(first, second)
    assert first["verdict"].iloc[0] == "reproduced"
    assert set(first["verdict"]) <= set(VERDICTS)
    assert math.isnan(first["p_corrected"].iloc[0])
