"""Edges of stability. Oracles: searches made by hand, and gradient descent on a quadratic."""

import math

import numpy as np
import pandas as pd
import pytest
from planted import trials

from sharpflat.analysis.edges import (
    edge_means,
    edge_ratios,
    factors_missed,
    stability_edges,
)
from sharpflat.stability import classify


def _search(outcomes: dict[float, str], method: str = "sgd", seed: int = 0) -> pd.DataFrame:
    changes = {"learning_rate": list(outcomes), "stability": list(outcomes.values())}
    losses = {"final_train_loss": 1.0, "highest_train_loss": 1.0}
    return trials(method, seed, 1.0, **changes, **losses)


def _edge(outcomes: dict[float, str]) -> pd.Series:
    return stability_edges(_search(outcomes)).iloc[0]


def test_the_edge_is_the_geometric_mean_of_its_neighbours() -> None:
    edge = _edge({0.32: "diverged", 0.01: "stable", 0.08: "unstable", 0.02: "stable"})
    assert (edge["largest_stable"], edge["smallest_not_stable"]) == (0.02, 0.08)
    assert edge["edge"] == pytest.approx(0.04)
    assert edge["censored"] == ""


def test_a_stable_island_above_the_edge_does_not_move_it() -> None:
    assert _edge({0.01: "stable", 0.04: "unstable", 0.08: "stable", 0.16: "diverged"})[
        "edge"
    ] == pytest.approx(0.02)


def test_a_search_that_did_not_find_both_sides_is_censored() -> None:
    above = _edge({0.01: "stable", 0.02: "stable"})
    assert (above["censored"], above["largest_stable"]) == ("above", 0.02)
    assert math.isinf(above["smallest_not_stable"])
    below = _edge({0.01: "unstable", 0.02: "stable"})
    assert (below["censored"], below["largest_stable"]) == ("below", 0.0)
    for edge in (above, below):
        assert math.isnan(edge["edge"])
        assert math.isnan(edge["observed_over_predicted"])


@pytest.mark.parametrize(
    ("method", "dominant", "bulk"),
    [
        ("sgd", 2 / 50, 2 / 10),
        ("bulk_sgd", math.inf, 2 / 10),
        ("dom_sgd", 2 / 50, math.inf),
        ("sgd_to_bulk(0.9)", 2 / 5, 2 / 10),
    ],
)
def test_the_predicted_edge_is_the_lesser_of_the_parts(
    method: str, dominant: float, bulk: float
) -> None:
    (edge,) = stability_edges(trials(method, 0, 0.05)).to_dict("records")
    assert edge["predicted_dominant"] == pytest.approx(dominant)
    assert edge["predicted_bulk"] == pytest.approx(bulk)
    assert edge["predicted"] == pytest.approx(min(dominant, bulk))
    assert edge["observed_over_predicted"] == pytest.approx(0.05 / min(dominant, bulk))


def test_a_quadratic_has_the_edge_that_is_predicted() -> None:
    """Oracle: gradient descent with eigenvalues 50 and 10, classified by its losses."""
    curvature = np.array([50.0, 10.0])
    for method, weights in (("sgd", (1.0, 1.0)), ("bulk_sgd", (0.0, 1.0))):
        outcomes = {}
        for rate in np.geomspace(0.01, 1.0, 30):
            factors = 1 - rate * curvature * weights
            losses = [(curvature * factors ** (2 * step)).sum() for step in range(60)]
            outcomes[float(rate)] = str(classify(losses, diverged=False))
        edge = stability_edges(_search(outcomes, method)).iloc[0]
        assert edge["observed_over_predicted"] == pytest.approx(1.0, abs=0.1)


def test_ratios_are_paired_by_seed() -> None:
    table = pd.concat(
        [trials("sgd", seed, 0.04 * (1 + seed)) for seed in range(3)]
        + [trials("bulk_sgd", seed, 0.06 * (1 + seed)) for seed in range(2)]
    )
    ratios = edge_ratios(stability_edges(table), "bulk_sgd", ["sgd"])
    assert ratios["seed"].tolist() == [0, 1]
    assert ratios["ratio"].tolist() == pytest.approx([1.5, 1.5])
    assert (ratios["lower"] == ratios["upper"]).all()


def test_the_reference_is_the_largest_of_several_edges() -> None:
    edges = {"sgd": 0.04, "bulk_sgd": 0.08, "sgd_to_bulk(0.9)": 0.2}
    table = pd.concat(trials(method, 0, edge) for method, edge in edges.items())
    ratios = edge_ratios(stability_edges(table), "sgd_to_bulk(0.9)", ["sgd", "bulk_sgd"])
    assert ratios["ratio"].tolist() == pytest.approx([2.5])


def test_a_censored_edge_leaves_bounds() -> None:
    open_above = {0.04: "stable", 0.08: "stable"}
    table = pd.concat([_search(open_above, "bulk_sgd"), trials("sgd", 0, 0.04)])
    edges = stability_edges(table)
    (over,) = edge_ratios(edges, "bulk_sgd", ["sgd"]).to_dict("records")
    assert math.isnan(over["ratio"])
    assert (over["lower"], over["upper"]) == (pytest.approx(2.0), math.inf)
    (under,) = edge_ratios(edges, "sgd", ["bulk_sgd"]).to_dict("records")
    assert (under["lower"], under["upper"]) == (0.0, pytest.approx(0.5))
    both = pd.concat([_search(open_above), _search(open_above, "bulk_sgd")])
    (unknown,) = edge_ratios(stability_edges(both), "bulk_sgd", ["sgd"]).to_dict("records")
    assert (unknown["lower"], unknown["upper"]) == (0.0, math.inf)


def test_the_mean_of_a_cell_is_geometric_and_needs_the_edge_of_every_seed() -> None:
    known = [trials("sgd", seed, edge) for seed, edge in enumerate((0.01, 0.04))]
    censored = _search({0.01: "stable"}, method="bulk_sgd")
    both = [trials("bulk_sgd", 1, 0.1), censored]
    means = edge_means(stability_edges(pd.concat([*known, *both]))).set_index("method")
    assert means.loc["sgd", "edge"] == pytest.approx(0.02)
    assert means.loc["sgd", "predicted"] == pytest.approx(0.04)
    assert math.isnan(means.loc["bulk_sgd", "edge"])


@pytest.mark.parametrize(
    ("outcomes", "bounds"),
    [
        # λ_1 = 50 predicts 0.04.
        ({0.02: "stable", 0.08: "unstable"}, (1, 1)),
        ({0.08: "stable", 0.32: "unstable"}, (4, 4)),
        ({0.005: "stable", 0.02: "unstable"}, (4, 4)),
        ({0.08: "stable"}, (2, math.inf)),
        ({0.01: "stable"}, (1, math.inf)),
        ({0.02: "unstable"}, (2, math.inf)),
        ({0.08: "unstable"}, (1, math.inf)),
    ],
)
def test_a_prediction_misses_by_a_factor_to_either_side(
    outcomes: dict[float, str], bounds: tuple[float, float]
) -> None:
    missed = factors_missed(stability_edges(_search(outcomes))).iloc[0]
    assert (missed["lower"], missed["upper"]) == pytest.approx(bounds)


def test_where_a_quadratic_predicts_no_edge_finding_one_is_an_infinite_miss() -> None:
    found = trials("bulk_sgd", 0, 0.1, eigenvalue_bulk=-1.0)
    none = found.assign(stability="stable", seed=1)
    missed = factors_missed(stability_edges(pd.concat([found, none])))
    assert missed[["lower", "upper"]].to_numpy().tolist() == [[math.inf] * 2, [1, math.inf]]
