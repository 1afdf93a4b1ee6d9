"""Optimizers against each other. Oracle: curves made by hand, whose answers can be read off."""

import math

import numpy as np
import pandas as pd
import pytest

from sharpflat.analysis.inference import LOG, location
from sharpflat.analysis.stretched import compare, with_targets

CELL = {"task": "mnist_mlp", "loss": "mse", "batch_size": 50}
#: Factor by which the loss falls in ten steps, and seconds that a step takes.
SPEEDS = {
    "sgd": (0.5, 1.0),
    "adamw": (0.25, 2.0),
    "muon": (0.25, 4.0),
    "stretched_sgd": (0.25, 10.0),
}
SEEDS = (0, 1, 2)
#: Below every loss of the curves.
FLOOR = 1e-3


def _curve(optimizer: str, seed: int, factor: float, seconds: float) -> pd.DataFrame:
    steps = np.arange(0, 50, 10)
    losses = (1 + seed) * factor ** (steps / 10)
    columns = {"step": steps, "train_loss": losses, "seconds": seconds * steps}
    return pd.DataFrame(columns).assign(**CELL, optimizer=optimizer, seed=seed)


@pytest.fixture
def curves() -> pd.DataFrame:
    """The stretched optimizer falls as fast as AdamW times a factor of the seed."""
    made = []
    for name, (factor, seconds) in SPEEDS.items():
        for seed in SEEDS:
            own = factor * 1.1 ** (seed - 1) if name == "stretched_sgd" else factor
            made.append(_curve(name, seed, own, seconds))
    return pd.concat(made)


def _runs(curves: pd.DataFrame) -> pd.DataFrame:
    last = curves.groupby([*CELL, "optimizer", "seed"], sort=False).last().reset_index()
    base = np.where(last["optimizer"] == "stretched_sgd", "sgd", "")
    runs = last.rename(columns={"train_loss": "final_loss"}).assign(role="judged", base=base)
    return runs.drop(columns=["step", "seconds"])


def test_steps_and_seconds_to_what_the_tuned_base_came_to(curves: pd.DataFrame) -> None:
    runs = _runs(curves)
    tuning = runs[runs["seed"] == 0].assign(role="tuning", seed=100)
    found = with_targets(pd.concat([tuning, runs]), curves, floor=FLOOR)
    row = found[(found["optimizer"] == "stretched_sgd") & (found["seed"] == 1)].iloc[0]
    assert row["steps_to_sgd"] == row["steps_to_base"] == pytest.approx(20)  # 0.25² = 0.5⁴
    assert row["seconds_to_base"] == pytest.approx(200)
    plain = found[(found["optimizer"] == "sgd") & (found["seed"] == 1)].iloc[0]
    assert plain["steps_to_sgd"] == 40
    assert math.isnan(plain["steps_to_base"])
    assert found[found["role"] == "tuning"]["steps_to_sgd"].isna().all()


def test_what_is_not_reached_is_infinite(curves: pd.DataFrame) -> None:
    slow = curves["optimizer"] == "stretched_sgd"
    curves = curves.assign(train_loss=curves["train_loss"].where(~slow, 0.9))
    found = with_targets(_runs(curves), curves, floor=FLOOR)
    own = found[found["optimizer"] == "stretched_sgd"]
    assert (own[["steps_to_base", "seconds_to_sgd"]] == math.inf).all(axis=None)


def test_ratios_to_base_and_others(curves: pd.DataFrame) -> None:
    """Oracle: the estimates of the same ratios by the function that is trusted with them."""
    table = compare(_runs(curves), curves, floor=FLOOR).set_index(["reference", "measure"])
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ["sgd", "adamw", "muon"]
    rates = np.array([-math.log(0.25 * 1.1 ** (seed - 1)) for seed in SEEDS])
    for reference, measure, ratios in [
        ("sgd", "final_loss", np.exp(-4 * rates) / 0.5**4),
        ("sgd", "steps", math.log(2) / rates),
        ("sgd", "seconds", 10 * math.log(2) / rates),
        # Whoever is slower reaches its own least loss at the end.
        ("muon", "steps", math.log(4) / rates),
    ]:
        expected, row = location(ratios, 1.0, LOG), table.loc[(reference, measure)]
        numbers = [row["estimate"], row["ci_low"], row["ci_high"], row["p_value"]]
        oracle = [expected.estimate, expected.low, expected.high, expected.p_value]
        assert numbers == pytest.approx(oracle, rel=1e-6)
        assert row["n"] == len(SEEDS)


def test_verdicts_are_corrected_within_a_measure_and_sort_of_reference(
    curves: pd.DataFrame,
) -> None:
    """Oracle: Holm by hand, one row against the base and two against the others a measure."""
    table = compare(_runs(curves), curves, floor=FLOOR).set_index(["reference", "measure"])
    own = table.loc[("sgd", "seconds")]
    assert own["p_corrected"] == own["p_value"] < 0.05
    assert (own["verdict"], table.loc[("sgd", "final_loss"), "verdict"]) == ("behind", "ahead")
    others = table.loc[[("adamw", "seconds"), ("muon", "seconds")]]
    assert others["p_corrected"].min() == pytest.approx(2 * others["p_value"].min())
    assert table.loc[("adamw", "final_loss"), "verdict"] == "open"  # 1 is its estimate


def test_a_run_that_diverged_is_behind_and_no_number(curves: pd.DataFrame) -> None:
    """Oracle: the sign test's median; six seeds or more would decide."""
    lost = (curves["optimizer"] == "stretched_sgd") & (curves["step"] > 0)
    kept, runs = curves[~lost], _runs(curves)
    runs.loc[runs["optimizer"] == "stretched_sgd", "final_loss"] = math.inf
    table = compare(runs, kept, floor=FLOOR).set_index(["reference", "measure"])
    assert table.loc[("sgd", "final_loss"), "estimate"] == math.inf
    # Both have the first loss at the start, and nothing below it.
    assert table.loc[("sgd", "steps"), "estimate"] == 1
    assert set(table["verdict"]) == {"open"}


def test_losses_below_the_floor_count_as_it(curves: pd.DataFrame) -> None:
    """Oracle: by hand. A loss of 0 at the end is none to compare: the floor is the target."""
    curves.loc[curves["step"] == 40, "train_loss"] = 0.0
    runs = _runs(curves)
    table = compare(runs, curves, floor=0.6).set_index(["reference", "measure"])
    assert (table.xs("final_loss", level="measure")["estimate"] == 1).all()
    rates = np.array([-math.log(0.25 * 1.1 ** (seed - 1)) for seed in SEEDS])
    expected = location(math.log(2) / rates, 1.0, LOG).estimate
    assert table.loc[("sgd", "steps"), "estimate"] == pytest.approx(expected)
    found = with_targets(runs, curves, floor=0.6).set_index(["optimizer", "seed"])
    assert found.loc[("sgd", 0), "steps_to_sgd"] == pytest.approx(10 * math.log2(1 / 0.6))
    # Between the last record with a log and a loss of 0 the floor is reached somewhere.
    between = with_targets(runs, curves, floor=FLOOR).set_index(["optimizer", "seed"])
    assert 30 < between.loc[("sgd", 0), "steps_to_sgd"] < 40
