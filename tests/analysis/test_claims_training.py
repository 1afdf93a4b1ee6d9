"""Claims about training: C1, C2, C3, C6, C8. Oracle: runs planted with a known answer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import CONFIGURED, decay, trajectory, trials

from sharpflat.analysis.claims import claims_table


def _claim(claim: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    claims = claims_table(tables, CONFIGURED)
    return claims[claims["claim"] == claim].reset_index(drop=True)


def _row(rows: pd.DataFrame, text: str) -> pd.Series:
    (found,) = [row for _, row in rows.iterrows() if text in row["statistic"]]
    return found


# C1


@pytest.mark.parametrize(
    ("alignments", "verdict"),
    [
        ([0.95, 0.96, 0.955], "reproduced"),
        ([0.5, 0.6, 0.55], "not reproduced"),
        ([0.85, 0.95, 0.9], "inconclusive"),
        ([0.95, 0.97, 0.93], "inconclusive"),  # all above, yet three are few
    ],
)
def test_alignment(alignments: list[float], verdict: str) -> None:
    table = pd.concat(
        trajectory("sgd", seed, decay(0.1), alignment=value)
        for seed, value in enumerate(alignments)
    )
    rows = _claim("C1", {"alignment": table})
    assert rows["verdict"].tolist() == [verdict, verdict]
    logits = np.log(alignments) - np.log1p(-np.array(alignments))
    assert rows["estimate"].tolist() == pytest.approx([1 / (1 + np.exp(-logits.mean()))] * 2)
    assert rows["statistic"][1].startswith("mnist_mlp, mse: χ_k of the full gradient")
    assert rows["n"].tolist() == [3, 3]


def test_alignment_that_holds_for_half_of_the_losses_is_partly_reproduced() -> None:
    table = pd.concat(
        trajectory("sgd", seed, decay(0.1), task=task, loss=loss, alignment=value + seed / 1000)
        for seed in range(3)
        for task in ("mnist_mlp", "cifar10_cnn")
        for loss, value in (("mse", 0.95), ("cross_entropy", 0.6))
    )
    rows = _claim("C1", {"alignment": table})
    assert rows["verdict"].tolist() == ["partly", *["reproduced", "not reproduced"] * 2]
    one_task = table[table["task"] == "mnist_mlp"]
    assert _claim("C1", {"alignment": one_task})["verdict"][0] == "inconclusive"


def test_a_diverged_sgd_counts_as_not_aligned() -> None:
    runs = [trajectory("sgd", seed, decay(0.1), alignment=0.99 - seed / 1e4) for seed in range(8)]
    row = _claim("C1", {"alignment": pd.concat(runs)}).iloc[1]
    assert row["verdict"] == "reproduced"
    runs[2] = runs[2].assign(status="diverged")
    row = _claim("C1", {"alignment": pd.concat(runs)}).iloc[1]
    assert (row["n"], row["verdict"], row["interval"]) == (8, "inconclusive", "sign test")
    assert row["ci_low"] == -math.inf


# C2


def _dom_bulk(sgd: Sequence[float], dom: Sequence[float]) -> pd.DataFrame:
    return pd.concat(
        [trajectory("sgd", seed, decay(rate)) for seed, rate in enumerate(sgd)]
        + [trajectory("dom_sgd", seed, decay(rate)) for seed, rate in enumerate(dom)]
    )


@pytest.mark.parametrize(
    ("dom", "verdict"),
    [
        ([0.001, 0.002, -0.001], "reproduced"),
        ([0.05, 0.052, 0.055], "not reproduced"),
        ([0.001, 0.02, 0.05], "inconclusive"),
    ],
)
def test_dom_progress(dom: list[float], verdict: str) -> None:
    sgd = [0.1, 0.101, 0.103]
    rows = _claim("C2", {"dom_bulk": _dom_bulk(sgd, dom)})
    assert rows["verdict"].tolist() == [verdict, verdict]
    assert rows["estimate"].tolist() == pytest.approx([sum(dom) / sum(sgd)] * 2)
    assert rows["interval"][1] == "Fieller"


def test_where_sgd_hardly_moves_nothing_is_decided() -> None:
    rows = _claim("C2", {"dom_bulk": _dom_bulk([0.01, -0.008, 0.02], [-0.1, -0.11, -0.1])})
    assert rows["verdict"].tolist() == ["inconclusive", "inconclusive"]
    assert math.isnan(rows["ci_low"][1])


def test_a_diverged_dom_sgd_makes_no_progress() -> None:
    table = _dom_bulk([0.1] * 8, [0.2] * 8)
    table.loc[table["method"] == "dom_sgd", "status"] = "diverged"
    row = _claim("C2", {"dom_bulk": table}).iloc[1]
    assert (row["estimate"], row["n"], row["verdict"]) == (-math.inf, 8, "reproduced")


def test_a_seed_in_which_sgd_diverged_speaks_against_the_claim() -> None:
    table = _dom_bulk([0.1] * 8, [0.0] * 8)
    table.loc[(table["method"] == "sgd") & (table["seed"] < 2), "status"] = "diverged"
    row = _claim("C2", {"dom_bulk": table}).iloc[1]
    assert (row["n"], row["ci_high"], row["verdict"]) == (8, math.inf, "inconclusive")


def test_settings_whose_losses_fall_at_different_rates_weigh_alike() -> None:
    fast = _dom_bulk([1.0, 1.1, 1.2], [0.0, 0.0, 0.0])
    slow = _dom_bulk([0.01, 0.011, 0.012], [0.005, 0.0055, 0.006]).assign(loss="cross_entropy")
    rows = _claim("C2", {"dom_bulk": pd.concat([fast, slow])})
    assert rows["estimate"].tolist() == pytest.approx([0.25, 0.0, 0.5])


# C3


def _bulk(rates: Sequence[float], **changes: Any) -> pd.DataFrame:
    return pd.concat(
        [trajectory("sgd", seed, decay(0.1), **changes) for seed in range(len(rates))]
        + [trajectory("bulk_sgd", seed, decay(rate), **changes) for seed, rate in enumerate(rates)]
    )


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ([0.2, 0.21, 0.19], "reproduced"),
        ([0.1, 0.101, 0.099], "not reproduced"),
        ([0.05, 0.051, 0.049], "not reproduced"),  # SGD's end is never reached; SGD reaches theirs
        ([0.2, 0.2, 0.05], "inconclusive"),
    ],
)
def test_acceleration(rates: list[float], verdict: str) -> None:
    rows = _claim("C3", {"dom_bulk": _bulk(rates)})
    row = _row(rows, "mse: steps")
    assert row["statistic"].endswith("default learning rate (claimed < 0.9)")
    assert (row["verdict"], row["n"]) == (verdict, 3)
    assert row["estimate"] == pytest.approx(np.exp(np.mean(np.log(0.1 / np.array(rates)))))


def test_steps_are_interpolated_between_records() -> None:
    """A tenth faster than SGD, which whole records of 100 steps would round to nothing."""
    table = _bulk([0.11] * 3)
    sparse = table[table["steps_after_switch"] % 500 == 0]
    for rows in (table, sparse):
        assert _row(_claim("C3", {"dom_bulk": rows}), "mse: steps")["estimate"] == pytest.approx(
            0.1 / 0.11
        )


def test_swapping_the_methods_inverts_the_ratio() -> None:
    table = _bulk([0.05, 0.07, 0.3])
    swapped = table.replace({"method": {"sgd": "bulk_sgd", "bulk_sgd": "sgd"}})
    first, second = (_claim("C3", {"dom_bulk": rows}).iloc[1] for rows in (table, swapped))
    assert first["estimate"] == pytest.approx(1 / second["estimate"])
    assert first["ci_low"] == pytest.approx(1 / second["ci_high"])


def _decided(table: pd.DataFrame) -> pd.Series:
    return _row(_claim("C3", {"dom_bulk": table}), "mse: steps")


def test_what_diverged_or_made_no_progress_has_reached_nothing() -> None:
    table = _bulk([0.2] * 8)
    bulk = table["method"] == "bulk_sgd"
    diverged = table.assign(status=table["status"].mask(bulk, "diverged"))
    row = _decided(diverged)
    assert (row["estimate"], row["n"], row["verdict"]) == (math.inf, 8, "not reproduced")
    row = _decided(table.assign(status=table["status"].mask(~bulk, "diverged")))
    assert (row["estimate"], row["n"], row["verdict"]) == (0.0, 8, "reproduced")
    row = _decided(table.assign(status="diverged"))
    assert (row["estimate"], row["n"], row["verdict"]) == (1.0, 8, "not reproduced")
    few = _decided(diverged[diverged["seed"] < 5])
    assert (few["verdict"], few["interval"]) == ("inconclusive", "too few seeds")


def _rates(losses: Mapping[tuple[str, float], Sequence[float]], **changes: Any) -> pd.DataFrame:
    return pd.concat(
        trajectory(
            *(method, seed, [values[0], *(v * (1 + seed / 1e4) for v in values[1:])]),
            **{"varied": "learning_rate", "value": rate, "learning_rate": rate} | changes,
        )
        for (method, rate), values in losses.items()
        for seed in range(3)
    )


def test_the_best_learning_rate_is_each_methods_own() -> None:
    table = _rates(
        {
            ("sgd", 0.1): [1.0, 0.9, 0.8, 0.7, 0.6],
            ("sgd", 0.2): [1.0, 0.8, 0.6, 0.4, 0.4],
            ("bulk_sgd", 0.1): [1.0, 0.6, 0.5, 0.5, 0.5],
            ("bulk_sgd", 0.2): [1.0, 1.1, 1.2, 1.3, 1.4],
        }
    )
    best = _row(_claim("C3", {"ablation_lr": table}), "mse: steps")
    assert best["statistic"].endswith("each at its best learning rate (claimed < 0.9)")
    # Bulk-SGD's best loss, 0.5, after 200 steps; SGD's at 0.2 passes it between 200 and 300.
    assert best["estimate"] == pytest.approx(200 / (200 + 100 * math.log(1.2) / math.log(1.5)))
    faster = {("bulk_sgd", 0.1): [1.0, 0.6, 0.4, 0.4, 0.4]}
    better = table[(table["method"] == "sgd") | (table["value"] == 0.2)]
    best = _row(_claim("C3", {"ablation_lr": pd.concat([better, _rates(faster)])}), "mse: steps")
    assert best["estimate"] == pytest.approx(2 / 3, rel=1e-3)
    assert best["verdict"] == "reproduced"


def test_a_learning_rate_at_which_a_run_diverged_sets_no_goal() -> None:
    losses = {
        ("sgd", 0.1): [1.0, 0.9, 0.8],
        ("sgd", 0.2): [1.0, 0.1, math.nan],
        ("bulk_sgd", 0.1): [1.0, 0.8, 0.7],
        ("bulk_sgd", 0.2): [1.0, 0.05, math.nan],
    }
    table = _rates(losses)
    table.loc[table["value"] == 0.2, "status"] = "diverged"
    best = _row(_claim("C3", {"ablation_lr": table}), "mse: steps")
    assert best["estimate"] == pytest.approx(0.5, rel=1e-3)  # 100 steps to 0.8 instead of 200


# C6


def _interpolation(finals: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    ends = {
        "dom_sgd": [0.9, 0.91, 0.92],
        "sgd_to_bulk(0)": finals["sgd"],
        "sgd_to_bulk(1)": finals["bulk_sgd"],
        "sgd_to_dom(1.0)": [0.9, 0.91, 0.92],
        "convex(0.5)": finals["sgd"],
        "convex(0)": [0.95, 0.96, 0.97],
        "convex(1)": [0.3, 0.31, 0.29],
    }
    return pd.concat(
        trajectory(method, seed, [1.0, 0.5 * (1.0 + final), final])
        for method, values in (ends | finals).items()
        for seed, final in enumerate(values)
    )


BETTER = {
    "sgd": [0.5, 0.6, 0.7],
    "bulk_sgd": [0.55, 0.5, 0.8],
    "sgd_to_bulk(0.5)": [0.2, 0.25, 0.3],
    "sgd_to_dom(0.5)": [0.8, 0.95, 1.1],
    "convex(0.75)": [0.35, 0.36, 0.34],
}


def test_interpolation_compares_a_point_with_the_better_end_of_its_path() -> None:
    rows = _claim("C6", {"interpolation": _interpolation(BETTER)})
    to_bulk = _row(rows, "mse: final loss at the best point inside sgd_to_bulk")
    ratios = np.array(BETTER["sgd_to_bulk(0.5)"]) / [BETTER["sgd"], BETTER["bulk_sgd"]]
    assert to_bulk["estimate"] == pytest.approx(np.exp(np.log(ratios).mean(axis=1).max()))
    assert to_bulk["verdict"] == "reproduced"
    to_dom = _row(rows, "mse: final loss at the best point inside sgd_to_dom")
    assert to_dom["verdict"] == "not reproduced"  # SGD itself is an end
    convex = _row(rows, "mse: final loss at the best point inside convex")
    assert convex["estimate"] == pytest.approx(np.exp(np.mean(np.log([35 / 30, 36 / 31, 34 / 29]))))
    assert (
        convex["verdict"] == "not reproduced"
    )  # below SGD, above the path's end at twice the step


def test_that_a_path_ends_in_a_named_method_is_no_evidence() -> None:
    """Equal points are one run: without any interior point nothing is measured."""
    table = _interpolation(BETTER)
    ends = table[~table["method"].isin(["sgd_to_bulk(0.5)", "sgd_to_dom(0.5)", "convex(0.75)"])]
    rows = _claim("C6", {"interpolation": ends})
    assert (rows["n"] == 0).all()
    assert set(rows["verdict"]) == {"inconclusive"}


def test_a_run_with_several_names_is_compared_once() -> None:
    table = _interpolation(BETTER)
    once = table[~table["method"].isin(["sgd", "bulk_sgd", "dom_sgd", "convex(0.5)"])]
    statistics = ["estimate", "ci_low", "ci_high", "p_value"]
    rows, fewer = (_claim("C6", {"interpolation": runs})[statistics] for runs in (table, once))
    pd.testing.assert_frame_equal(rows, fewer)


def test_interpolation_that_helps_nowhere_is_not_reproduced() -> None:
    worse = {name: [0.9, 0.92, 0.91] for name in BETTER if "(" in name}
    worse |= {"sgd": [0.5, 0.51, 0.52], "bulk_sgd": [0.55, 0.56, 0.57]}
    rows = _claim("C6", {"interpolation": _interpolation(BETTER | worse)})
    assert rows["verdict"][0] == "not reproduced"


def test_a_diverged_point_is_worse_than_any_and_a_diverged_end_beaten_by_any() -> None:
    table = _interpolation(BETTER)
    table.loc[table["method"].isin(["sgd_to_dom(0.5)"]), "status"] = "diverged"
    named = ["sgd", "sgd_to_bulk(0)", "bulk_sgd", "sgd_to_bulk(1)", "convex(0.5)"]
    table.loc[table["method"].isin(named), "status"] = "diverged"
    rows = _claim("C6", {"interpolation": table})
    bulk = _row(rows, "mse: final loss at the best point inside sgd_to_bulk")
    assert bulk["estimate"] < 0.01  # a diverged run has 100 times the loss at its switch
    assert bulk["verdict"] == "reproduced"
    dom = _row(rows, "mse: final loss at the best point inside sgd_to_dom")
    assert dom["estimate"] > 100
    assert dom["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("damped", "verdict"), [(0.2, "reproduced"), (0.06, "not reproduced"), (0.08, "inconclusive")]
)
def test_a_little_of_the_dominant_part_against_the_better_of_both_ends(
    damped: float, verdict: str
) -> None:
    edges = {"sgd": 0.04, "bulk_sgd": 0.075, "sgd_to_bulk(0.9)": damped}
    table = pd.concat(
        trials(method, seed, edge * (1 + 0.05 * (seed == 1 and method != "bulk_sgd")))
        for method, edge in edges.items()
        for seed in range(3)
    )
    row = _row(_claim("C6", {"stability_edge": table}), "mse: edge of stability")
    assert row["estimate"] == pytest.approx(damped / 0.075 * 1.05 ** (1 / 3))
    assert row["verdict"] == verdict


# C8


def _optimizers(rates: Mapping[str, tuple[float, float]], seeds: int = 3) -> pd.DataFrame:
    """Runs of a base optimizer and of its Bulk part that decay at these rates."""
    return pd.concat(
        trajectory(
            method, seed, decay(rate * (1 + seed / 1e4)), varied="optimizer", value=optimizer
        )
        for optimizer, pair in rates.items()
        for method, rate in zip(("sgd", "bulk_sgd"), pair, strict=True)
        for seed in range(seeds)
    )


def test_bulk_keeps_pace_row_by_optimizer_and_sgd_does_not_count() -> None:
    table = _optimizers({"sgd": (0.1, 0.01), "adam": (0.1, 0.1), "muon": (0.1, 0.05)})
    rows = _claim("C8", {"optimizers": table})
    assert rows["verdict"].tolist() == ["inconclusive", "reproduced", "not reproduced"]
    assert rows["estimate"].tolist() == pytest.approx([math.sqrt(2), 1, 2], rel=1e-3)
    assert rows["statistic"][1] == (
        "mnist_mlp, mse: adam, steps to the lowest loss that both reach, Bulk's over the base "
        "optimizer's (claimed < 1.1)"
    )


def test_where_neither_progresses_there_is_no_pace_to_keep() -> None:
    table = _optimizers({"adam": (-0.1, -0.1)}, seeds=8)
    row = _claim("C8", {"optimizers": table}).iloc[1]
    assert (row["estimate"], row["n"], row["verdict"]) == (math.inf, 8, "not reproduced")


def test_a_bulk_part_that_diverges_does_not_keep_pace() -> None:
    table = _optimizers({"adam": (0.1, 0.1)}, seeds=8)
    bulk = table["method"] == "bulk_sgd"
    row = _claim("C8", {"optimizers": table.assign(status=table["status"].mask(bulk, "diverged"))})
    assert (row["estimate"][1], row["verdict"][1]) == (math.inf, "not reproduced")
