"""Methods beside SGD. Oracle: losses whose ratios can be read off."""

import math
from collections.abc import Callable

import pandas as pd
import pytest

from sharpflat.figures.pairs import curve_ratios, run_pairs, sgd_name

Make = Callable[..., pd.DataFrame]


@pytest.fixture
def table(trajectory: Make, as_read: Make) -> pd.DataFrame:
    """Bulk-SGD is twice as fast with seed 0 and never as low with seed 1; SGD diverges with 2."""
    return as_read(
        [
            trajectory("sgd", [1.0, 0.8, 0.6, 0.5, 0.4], seed=0),
            trajectory("bulk_sgd", [1.0, 0.6, 0.4, 0.3, 0.2], seed=0),
            trajectory("sgd", [2.0, 1.5, 1.0, 0.9, 0.8], seed=1),
            trajectory("bulk_sgd", [2.0, 1.8, 1.6, 1.4, 1.2], seed=1),
            trajectory("sgd", [1.0, 90.0, math.nan], seed=2, status="diverged"),
            trajectory("bulk_sgd", [1.0, 0.9, 0.8, 0.7, 0.6], seed=2),
            trajectory("sgd", [1.0, 0.9, 0.8, 0.7, 0.6], seed=3),
            trajectory("bulk_sgd", [1.0, 95.0, math.nan], seed=3, status="diverged"),
        ]
    )


def test_losses_are_divided_by_those_of_sgd_with_the_same_seed_at_the_same_step(
    table: pd.DataFrame,
) -> None:
    ratios = curve_ratios(table, sgd="sgd")
    by_seed = {seed: list(rows["ratio"]) for seed, rows in ratios.groupby("seed")}
    assert by_seed[0] == pytest.approx([1, 0.75, 2 / 3, 0.6, 0.5])
    assert by_seed[1] == pytest.approx([1, 1.2, 1.6, 1.4 / 0.9, 1.5])
    assert 2 not in by_seed  # SGD diverged: its losses are no reference
    assert by_seed[3][:2] == pytest.approx([1, 95 / 0.9])


def test_a_run_is_compared_with_sgd_at_its_own_value_of_the_setting(
    trajectory: Make, as_read: Make
) -> None:
    ends = {("sgd", 1): 0.5, ("bulk_sgd", 1): 0.4, ("sgd", 2): 0.2, ("bulk_sgd", 2): 0.3}
    table = as_read(
        [
            trajectory(method, [1.0, end], varied="k", value=value)
            for (method, value), end in ends.items()
        ]
    )
    pairs = run_pairs(table)
    bulk = pairs[pairs["method"] == "bulk_sgd"].set_index("value")
    assert bulk["final_ratio"].to_dict() == pytest.approx({1: 0.8, 2: 1.5})


def test_final_ratios_know_what_diverged(table: pd.DataFrame) -> None:
    pairs = run_pairs(table)
    bulk = pairs[pairs["method"] == "bulk_sgd"].set_index("seed")
    assert bulk["final_ratio"][:2].tolist() == pytest.approx([0.5, 1.5])
    assert math.isnan(bulk["final_ratio"][2])  # no SGD to compare with
    assert math.isinf(bulk["final_ratio"][3])
    sgd = pairs[pairs["method"] == "sgd"].set_index("seed")
    assert sgd["stability"].tolist() == ["stable", "stable", "diverged", "stable"]
    assert sgd["final_ratio"][[0, 1, 3]].tolist() == [1, 1, 1]


def test_steps_are_those_to_the_loss_of_sgd_over_its_own(table: pd.DataFrame) -> None:
    pairs = run_pairs(table)
    bulk = pairs[pairs["method"] == "bulk_sgd"].set_index("seed")["steps_ratio"]
    assert bulk[0] == pytest.approx(20 / 40)
    assert math.isinf(bulk[1])
    assert math.isnan(bulk[2])
    assert math.isinf(bulk[3])


def test_sgd_is_known_by_its_weights(trajectory: Make) -> None:
    named = trajectory("sgd", [1.0, 0.5])
    bulk = trajectory("bulk_sgd", [1.0, 0.5])
    assert sgd_name(pd.concat([bulk, trajectory("convex(0.5)", [1.0, 0.5]), named])) == "sgd"
    assert sgd_name(pd.concat([bulk, trajectory("convex(0.5)", [1.0, 0.5])])) == "convex(0.5)"
    assert sgd_name(bulk) is None


def test_without_sgd_there_are_statistics_and_no_ratios(trajectory: Make) -> None:
    bulk = trajectory("bulk_sgd", [1.0, 0.5])
    assert curve_ratios(bulk, sgd=None).empty
    assert run_pairs(bulk)["final_ratio"].isna().all()
