"""C9, the predicted edge elsewhere. Oracle: searches planted around edges with a known factor."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import CONFIGURED, trials

from sharpflat.analysis.claims import claims_table

#: The predicted edge of each task, 2 / λ_{k+1}.
PREDICTED = {"cifar10_vgg": 0.01, "cancer_mlp": 0.1, "shakespeare_gpt": 1.0}
SEEDS = range(5)


def _search(task: str, seed: int, factor: float, **changes: Any) -> pd.DataFrame:
    """An edge at a factor of the predicted one, a little apart from seed to seed."""
    predicted = PREDICTED.get(task, 0.03)
    curved = {"eigenvalue_bulk": 2 / predicted}
    edge = predicted * factor ** (1 + 0.01 * (seed - 2))
    return trials("bulk_sgd", seed, edge, task=task, **(curved | changes))


def _claim(searches: list[pd.DataFrame]) -> pd.DataFrame:
    claims = claims_table({"transfer": pd.concat(searches)}, CONFIGURED)
    return claims[claims["claim"] == "C9"].reset_index(drop=True)


@pytest.mark.parametrize("factor", [1.5, 1 / 1.5])
def test_an_edge_above_the_predicted_one_misses_it_as_one_below(factor: float) -> None:
    rows = _claim([_search(task, seed, factor) for task in PREDICTED for seed in SEEDS])
    assert rows["estimate"][:4].tolist() == pytest.approx([1.5] * 4)
    assert rows["verdict"].tolist() == ["reproduced"] * 5
    # Root mean square of log 1.5, over the standard deviation of three edges a factor 10 apart.
    relative = math.log(1.5) / (math.log(10) * (2 / 3) ** 0.5)
    assert rows["estimate"][4] == pytest.approx(relative, rel=1e-3)  # seeds differ a little
    assert rows["decides"].tolist() == [False, True, True, True, True]


def test_the_task_on_which_the_study_compares_them_is_no_other_task() -> None:
    searches = [_search(task, seed, 1.1) for task in PREDICTED for seed in SEEDS]
    with_home = _claim([*searches, *(_search("mnist_mlp", seed, 9.0) for seed in SEEDS)])
    pd.testing.assert_frame_equal(with_home, _claim(searches))
    assert _claim([_search("mnist_mlp", seed, 1.1) for seed in SEEDS])["n"].tolist() == [0, 0, 0]


def test_sgds_edges_are_not_of_this_claim() -> None:
    searches = [_search(task, seed, 1.1) for task in PREDICTED for seed in SEEDS]
    others = [trials("sgd", seed, 0.3, task=task) for task in PREDICTED for seed in SEEDS]
    pd.testing.assert_frame_equal(_claim([*searches, *others]), _claim(searches))


def test_edges_that_are_alike_everywhere_are_no_evidence_that_one_carries_over() -> None:
    """Within a factor 2 of all predictions, as the same number for all tasks would be."""
    alike = {"eigenvalue_bulk": 2 / 0.1}
    searches = [
        trials("bulk_sgd", seed, 0.12 * noise, task=task, **alike)
        for seed, row in enumerate(np.random.default_rng(0).uniform(0.95, 1.05, (5, 3)))
        for task, noise in zip(PREDICTED, row, strict=True)
    ]
    rows = _claim(searches)
    assert rows["verdict"][1:4].tolist() == ["reproduced"] * 3
    assert rows["verdict"][4] == "not reproduced"
    assert rows["verdict"][0] == "partly"


def test_a_search_without_an_edge_leaves_bounds_and_is_not_left_out() -> None:
    searches = [_search(task, seed, 1.1) for task in PREDICTED for seed in SEEDS]
    censored = searches[0].assign(stability="stable")  # up to four times the edge
    rows = _claim([censored, *searches[1:]])
    assert rows["n"].tolist() == [5] * 5
    assert (rows["interval"][1], rows["verdict"][1]) == ("too few seeds", "inconclusive")
    assert rows["verdict"][2:4].tolist() == ["reproduced"] * 2
    # Of the seed, the error is not known to be small.
    assert rows["verdict"][4] == "inconclusive"


def test_where_no_edge_is_predicted_the_prediction_is_infinitely_wrong() -> None:
    flat = {"eigenvalue_bulk": -1.0}
    rows = _claim([_search("cifar10_vgg", seed, 1.1, **flat) for seed in range(8)])
    assert math.isinf(rows["estimate"][1])
    assert rows["verdict"][1] == "not reproduced"


def test_two_cells_have_no_spread_to_explain() -> None:
    rows = _claim([_search(task, seed, 1.1) for task in list(PREDICTED)[:2] for seed in SEEDS])
    assert rows["n"].tolist() == [5, 5, 5, 0]
