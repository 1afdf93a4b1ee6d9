"""Predicted and observed stability. Oracle: gradient descent on a quadratic, and hand-made runs."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sharpflat.analysis.stability import agreement, predicted_stable, stability_cells

#: λ_1 and λ_{k+1} of the hand-made runs at the switch; mean over seeds 40 and 10.
DOMINANT, BULK = (30.0, 50.0), (8.0, 12.0)


def _run(losses: list[float], *, rate: float, weight: float, seed: int, **changes: Any) -> Any:
    count = len(losses)
    rows: dict[str, Any] = {
        "task": "mnist_mlp",
        "loss": "mse",
        "method": f"sgd_to_bulk({1 - weight:g})",
        "dom_weight": weight,
        "bulk_weight": 1.0,
        "varied": "learning_rate",
        "value": rate,
        "learning_rate": rate,
        "batch_size": 50,
        "k": 2,
        "refresh": "adaptive",
        "hessian_samples": 100,
        "seed": seed,
        "status": "diverged" if math.isnan(losses[-1]) else "finished",
        "step": [500 + 10 * i for i in range(count)],
        "steps_after_switch": [10 * i for i in range(count)],
        "train_loss": losses,
        "test_loss": losses,
        "test_accuracy": 0.5,
        "alignment": 0.9,
        "eigenvalue_1": [DOMINANT[seed], *[1000.0] * (count - 1)],
        "eigenvalue_2": 20.0,
        "eigenvalue_3": [BULK[seed], *[1000.0] * (count - 1)],
    }
    return pd.DataFrame(rows | changes)


def _cell(table: pd.DataFrame, rate: float, weight: float) -> pd.Series:
    cells = stability_cells(table)
    chosen = cells[(cells["learning_rate"] == rate) & (cells["dom_weight"] == weight)]
    (row,) = [row for _, row in chosen.iterrows()]
    return row


@pytest.mark.parametrize("rate", [0.01, 0.04, 0.06, 0.15, 0.25])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 1.5])
def test_the_prediction_is_what_a_quadratic_does(rate: float, weight: float) -> None:
    eigenvalues, weights = np.array([40.0, 10.0]), np.array([weight, 1.0])
    theta = np.array([0.01, 0.01])
    for _ in range(100):
        theta = theta - rate * weights * eigenvalues * theta
    bounded = bool(np.abs(theta).max() <= 0.01)
    series = [pd.Series([number]) for number in (rate, weight, 1.0, 40.0, 10.0)]
    assert predicted_stable(*series).tolist() == [bounded]


def test_edges_are_those_of_the_mean_eigenvalues_at_the_switch() -> None:
    table = pd.concat(_run([1.0, 0.5], rate=0.04, weight=0.5, seed=seed) for seed in (0, 1))
    cell = _cell(table, 0.04, 0.5)
    assert (cell["eigenvalue_dominant"], cell["eigenvalue_bulk"]) == (40, 10)
    assert cell["edge_dominant"] == pytest.approx(0.04 * 0.5 * 40 / 2)
    assert cell["edge_bulk"] == pytest.approx(0.04 * 10 / 2)
    assert cell["predicted"]


def test_the_bulk_eigenvalue_is_the_one_after_k() -> None:
    two = _run([1.0, 0.5], rate=0.1, weight=1.0, seed=0)
    other = _run([1.0, 0.5], rate=0.1, weight=1.0, seed=0, k=1, task="sst2_transformer")
    cells = stability_cells(pd.concat([two, other])).set_index("task")
    assert cells["eigenvalue_bulk"].to_dict() == {"mnist_mlp": 8, "sst2_transformer": 20}


def test_a_cell_is_stable_if_every_seed_was() -> None:
    outcomes = {0.1: [[1.0, 0.5], [1.0, 0.9]], 0.2: [[1.0, 0.5], [1.0, 1.1]]}
    outcomes[0.3] = [[1.0, 0.5], [1.0, 9.0, math.nan]]
    outcomes[0.4] = [[1.0, 0.5, 0.4], [1.0, 7.0, 0.4]]  # rises sevenfold, and recovers
    table = pd.concat(
        _run(losses, rate=rate, weight=1.0, seed=seed)
        for rate, seeds in outcomes.items()
        for seed, losses in enumerate(seeds)
    )
    cells = stability_cells(table)
    assert cells["observed"].tolist() == [True, False, False, False]
    assert cells["unstable_share"].tolist() == [0, 0.5, 0, 0.5]
    assert cells["diverged_share"].tolist() == [0, 0, 0.5, 0]
    assert cells["seeds"].tolist() == [2, 2, 2, 2]


def test_the_log_ratio_is_the_mean_of_the_seeds_that_finished() -> None:
    table = pd.concat(
        [
            _run([2.0, 1.0], rate=0.1, weight=1.0, seed=0),
            _run([1.0, 0.25], rate=0.1, weight=1.0, seed=1),
            _run([2.0, 1.0], rate=0.2, weight=1.0, seed=0),
            _run([1.0, 9.0, math.nan], rate=0.2, weight=1.0, seed=1),
            _run([1.0, 9.0, math.nan], rate=0.3, weight=1.0, seed=0),
        ]
    )
    ratios = stability_cells(table)["log_ratio"]
    assert ratios.tolist()[:2] == pytest.approx([1.5 * math.log(0.5), math.log(0.5)])
    assert math.isnan(ratios.iloc[2])


def test_a_method_under_two_names_counts_once() -> None:
    twice = [_run([1.0, 0.5], rate=0.1, weight=1.0, seed=0)]
    twice.append(twice[0].assign(method="sgd"))
    cells = stability_cells(pd.concat(twice))
    assert cells["seeds"].tolist() == [1]


def test_the_prefix_is_no_cell_and_its_eigenvalues_count() -> None:
    prefix = _run([2.0, 1.0], rate=0.01, weight=1.0, seed=0, steps_after_switch=[-10, 0])
    prefix = prefix.assign(method="before_switch", value=math.nan, eigenvalue_1=50.0)
    table = pd.concat([prefix, _run([1.0, 0.5], rate=0.1, weight=1.0, seed=0)])
    cells = stability_cells(table)
    assert cells["learning_rate"].tolist() == [0.1]
    assert cells["eigenvalue_dominant"].tolist() == [40]  # of 50 and 30, recorded at the switch


def test_agreement_is_the_share_of_cells_that_were_foreseen() -> None:
    cells = pd.DataFrame({"predicted": [True, True, False], "observed": [True, False, False]})
    assert agreement(cells) == pytest.approx(2 / 3)
