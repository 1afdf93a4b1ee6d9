"""Statistics of runs. Oracle: runs made by hand, whose answers can be read off."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import trajectory

from sharpflat.analysis.statistics import paired, run_statistics, steps_to_loss


def _run(method: str, losses: list[float], seed: int = 0, **changes: Any) -> pd.DataFrame:
    rows = {
        "alignment": [0.1 * i for i in range(len(losses))],
        "eigenvalue_1": [10.0 + i for i in range(len(losses))],
    }
    return trajectory(method, seed, losses, **rows | changes)


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
    # Of the way from 0.6 to 0.45 in log loss, that to 0.5.
    assert steps["bulk_sgd", 0] == pytest.approx(100 + 100 * math.log(1.2) / math.log(4 / 3))
    assert steps["bulk_sgd", 1] == pytest.approx(100)
    assert steps["dom_sgd", 0] == math.inf
    alone = _run("bulk_sgd", [1.0, 0.5])
    diverged = pd.concat([alone, _run("sgd", [1.0, 0.5], status="diverged")])
    for without in (alone, diverged):
        assert run_statistics(without)["steps_to_sgd"].isna().all()


def test_steps_to_a_loss_are_the_same_at_any_rhythm_of_the_records() -> None:
    """Oracle: a loss of exp(-t / 100), which passes 0.3 after 100 ln(1 / 0.3) steps."""
    for rhythm in (1, 10, 50):
        steps = np.arange(0.0, 301.0, rhythm)
        losses = np.exp(-steps / 100)
        assert steps_to_loss(steps, losses, 0.3) == pytest.approx(100 * math.log(1 / 0.3))
        gaps = np.where(np.arange(steps.size) % 3 == 1, np.nan, losses)
        assert steps_to_loss(steps, gaps, 0.3) == pytest.approx(100 * math.log(1 / 0.3))
        assert steps_to_loss(steps, losses, 1.5) == 0.0
        assert steps_to_loss(steps, losses, 1e-9) == math.inf


def test_the_eigenspace_may_be_recorded_more_seldom_than_the_loss() -> None:
    """Oracle: the run that has only the records with both."""
    losses = [math.exp(-0.05 * i) for i in range(41)]
    rows = _run("sgd", losses, eigenvalue_11=1.0)
    seldom = rows.assign(
        **{
            name: rows[name].where(rows["step"] % 800 == 0)
            for name in ("alignment", "eigenvalue_1", "eigenvalue_11")
        }
    )
    row, only = _one(seldom, "sgd"), _one(rows[rows["step"] % 800 == 0], "sgd")
    names = ["alignment", "eigenvalue_1_growth", "eigenvalue_1_max"]
    assert row[names].tolist() == only[names].tolist()
    assert row["final_train_loss"] == losses[-1]
    late = rows.assign(alignment=rows["alignment"].where(rows["step"] <= 1000))
    assert _one(late, "sgd")["alignment"] == pytest.approx(1.0)  # the last there is


def test_values_of_a_varied_setting_are_cells_of_their_own() -> None:
    table = pd.concat(
        _run("sgd", [1.0, final], varied="learning_rate", value=value)
        for value, final in ((0.01, 0.5), (0.02, 0.25))
    )
    assert run_statistics(table)["final_train_loss"].tolist() == [0.5, 0.25]


def test_a_run_that_recovers_is_unstable_and_one_that_hovers_is_not() -> None:
    recovered = _one(_run("bulk_sgd", [1.0, 0.9, 7.0, 0.6, 0.5]), "bulk_sgd")
    assert (recovered["stability"], recovered["stable"]) == ("unstable", False)
    assert not recovered["diverged"]
    hovers = _one(_run("dom_sgd", [1.0, 1.01, 1.02, 1.01]), "dom_sgd")
    assert (hovers["stability"], hovers["stable"]) == ("stable", True)


def test_a_diverged_run_counts_as_such_in_every_statistic() -> None:
    table = _run("bulk_sgd", [1.0, 0.5, math.nan], status="diverged")
    row = _one(table, "bulk_sgd")
    assert (row["stability"], row["diverged"], row["stable"]) == ("diverged", True, False)
    for name in ("final_train_loss", "log_loss_slope", "spikes", "eigenvalue_1_growth"):
        assert row[name] == math.inf


def test_a_run_that_diverged_before_any_measurement_is_kept() -> None:
    nothing = {"alignment": math.nan, "eigenvalue_1": math.nan, "eigenvalue_11": math.nan}
    table = _run("bulk_sgd", [math.nan], status="diverged", **nothing)
    row = _one(table, "bulk_sgd")
    assert row["diverged"]
    assert row["final_train_loss"] == row["spikes"] == row["eigenvalue_1_growth"] == math.inf
    assert math.isnan(row["alignment"])


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
