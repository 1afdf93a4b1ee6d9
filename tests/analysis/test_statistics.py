"""Statistics of runs. Oracle: runs made by hand, whose answers can be read off."""

import math
from typing import Any

import pandas as pd
import pytest
from planted import identity

from sharpflat.analysis.statistics import paired, run_statistics


def _run(method: str, losses: list[float], seed: int = 0, **changes: Any) -> pd.DataFrame:
    steps = range(0, 100 * len(losses), 100)
    rows = {
        "step": [500 + step for step in steps],
        "steps_after_switch": list(steps),
        "train_loss": losses,
        "test_loss": [2 * loss for loss in losses],
        "test_accuracy": [0.5] * len(losses),
        "alignment": [0.1 * i for i in range(len(losses))],
        "eigenvalue_1": [10.0 + i for i in range(len(losses))],
    }
    return pd.DataFrame(identity(method, seed) | rows | changes)


def _one(table: pd.DataFrame, method: str) -> pd.Series:
    statistics = run_statistics(table)
    (row,) = [row for _, row in statistics.iterrows() if row["method"] == method]
    return row


def test_endings_are_those_of_the_last_record() -> None:
    losses = [math.exp(-0.5 * i) for i in range(11)]
    row = _one(_run("sgd", losses), "sgd")
    assert row["start_train_loss"] == 1.0
    assert row["final_train_loss"] == pytest.approx(math.exp(-5))
    assert row["final_test_loss"] == pytest.approx(2 * math.exp(-5))
    assert row["log_loss_slope"] == pytest.approx(-5.0)  # -0.5 a 100 steps
    assert row["alignment"] == pytest.approx((0.9 + 1.0) / 2)
    assert row["eigenvalue_1_growth"] == pytest.approx(2.0)
    assert (row["stable"], row["diverged"], row["spikes"]) == (True, False, 0)


def test_spikes_are_counted_once_each() -> None:
    losses = [1.0, 1.15, 1.3, 1.4, 0.9, 1.2, 0.8, 0.7]
    assert _one(_run("sgd", losses), "sgd")["spikes"] == 2


def test_steps_to_sgd_are_counted_within_the_cell_and_the_seed() -> None:
    table = pd.concat(
        [
            _run("sgd", [1.0, 0.8, 0.6, 0.5]),
            _run("bulk_sgd", [1.0, 0.6, 0.45, 0.4]),
            _run("dom_sgd", [1.0, 0.9, 0.9, 0.9]),
            _run("sgd", [1.0, 0.9, 0.9, 0.9], seed=1),
            _run("bulk_sgd", [1.0, 0.9, 0.8, 0.7], seed=1),
        ]
    )
    statistics = run_statistics(table)
    steps = statistics.set_index(["method", "seed"])["steps_to_sgd"]
    assert steps["sgd", 0] == 300
    assert steps["bulk_sgd", 0] == 200
    assert steps["bulk_sgd", 1] == 100
    assert steps["dom_sgd", 0] == math.inf
    alone = _run("bulk_sgd", [1.0, 0.5])
    diverged = pd.concat([alone, _run("sgd", [1.0, 0.5], status="diverged")])
    for without in (alone, diverged):
        assert run_statistics(without)["steps_to_sgd"].isna().all()


def test_values_of_a_varied_setting_are_cells_of_their_own() -> None:
    table = pd.concat(
        _run("sgd", [1.0, final], varied="learning_rate", value=value)
        for value, final in ((0.01, 0.5), (0.02, 0.25))
    )
    assert run_statistics(table)["final_train_loss"].tolist() == [0.5, 0.25]


def test_a_diverged_run_ends_at_infinity_and_is_not_stable() -> None:
    table = _run("bulk_sgd", [1.0, 0.5, math.nan], status="diverged")
    row = _one(table, "bulk_sgd")
    assert (row["diverged"], row["stable"]) == (True, False)
    assert row["final_train_loss"] == row["log_loss_slope"] == math.inf


def test_a_run_that_diverged_before_any_measurement_is_kept() -> None:
    table = _run("bulk_sgd", [math.nan], status="diverged")
    row = _one(table, "bulk_sgd")
    assert row["diverged"]
    assert row["final_train_loss"] == math.inf


def test_pairs_share_their_cell_and_seed() -> None:
    table = pd.concat(
        [
            _run(m, [1.0, f], seed=s)
            for s in (0, 1)
            for m, f in (("sgd", 0.5), ("bulk_sgd", 0.4 - s / 10))
        ]
    )
    table = pd.concat([table, _run("sgd", [1.0, 0.1], seed=2)])
    pairs = paired(run_statistics(table), "final_train_loss", "bulk_sgd", "sgd")
    assert pairs["seed"].tolist() == [0, 1]
    assert pairs["method"].tolist() == pytest.approx([0.4, 0.3])
    assert pairs["reference"].tolist() == [0.5, 0.5]
