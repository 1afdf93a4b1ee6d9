"""Captions. Oracle: two or three seeds whose numbers can be read off."""

import math
from typing import Any

import pandas as pd
import pytest

from sharpflat.figures import FIGURES
from sharpflat.methods import parse_method
from sharpflat.report.captions import TITLES, caption
from sharpflat.schema import kind_of

#: Losses of two seeds at each of three records; SGD's seed 2 diverges.
LOSSES = {
    "sgd": ([1.0, 0.8, 0.5], [2.0, 1.5, 1.0], [1.0, 90.0, math.nan]),
    "bulk_sgd": ([1.0, 0.8, 0.4], [2.0, 1.5, 1.2], [1.0, 0.8, 0.5]),
    "sgd_to_bulk(0.9)": ([1.0, 0.7, 0.3], [2.0, 1.0, 0.6], [1.0, 0.8, 0.5]),
}


def _table(**changes: Any) -> pd.DataFrame:
    runs = []
    for method, seeds in LOSSES.items():
        parsed = parse_method(method)
        for seed, losses in enumerate(seeds):
            status = "diverged" if math.isnan(losses[-1]) else "finished"
            row: dict[str, Any] = {
                "task": "sst2_transformer",
                "loss": "mse",
                "dataset": "sst2_1k",
                "method": method,
                "dom_weight": parsed.dom_weight,
                "bulk_weight": parsed.bulk_weight,
                "varied": math.nan,
                "value": math.nan,
                "learning_rate": 0.01,
                "batch_size": 50,
                "k": 2,
                "refresh": "adaptive",
                "hessian_samples": 100,
                "seed": seed,
                "status": status,
                "step": [40, 50, 60],
                "steps_after_switch": [0, 10, 20],
                "train_loss": losses,
                "test_loss": losses,
                "test_accuracy": 0.5 + 0.01 * seed,
                "alignment": 0.8 + 0.05 * seed,
                "eigenvalue_1": 4.0,
                "eigenvalue_2": 3.0,
                "eigenvalue_3": 1.0,
                "num_parameters": 200,
            }
            runs.append(pd.DataFrame(row | changes))
    return pd.concat(runs, ignore_index=True)


def test_every_figure_has_a_title() -> None:
    assert {kind_of(name, FIGURES) for name in TITLES} == set(FIGURES)


@pytest.mark.parametrize("figure", ["dom_bulk", "interpolation"])
def test_final_losses_are_compared_with_sgd_seed_by_seed(figure: str) -> None:
    line = caption(figure, _table())[1]
    assert line == (
        "Transformer, SST2-1k, MSE: Bulk-SGD 1.000 (0.800 to 1.200), SGD to Bulk, α = 0.9 "
        "0.600 (0.600 to 0.600); SGD ends at 0.500 (0.500 to diverged) of its loss at the switch; "
        "1 of 9 runs diverged"
    )


def test_an_ablation_has_a_line_a_method_and_one_of_classes() -> None:
    _, bulk, path, classes = caption("ablation", _table(varied="k", value=5.0))
    assert bulk == "Transformer, SST2-1k, MSE, Bulk-SGD: 5: 1.000 (0.800 to 1.200)"
    assert path.endswith("SGD to Bulk, α = 0.9: 5: 0.600 (0.600 to 0.600)")
    sgd = "SGD 0 unstable and 1 diverged of 3 (1 of 3 seeds at 5)"
    assert f"{sgd}; Bulk-SGD 0 unstable and 0 diverged" in classes


def test_accuracies_have_their_binomial_error_and_are_called_near_chance() -> None:
    line = caption("generalization", _table())[1]
    assert "SGD 0.505, Bulk-SGD 0.510" in line
    assert "each ± 0.017, the binomial error on 872 samples" in line
    assert "8 of 8 runs end within 2 s.e. of chance, 0.5" in line


def test_alignments_stand_beside_that_of_a_random_direction() -> None:
    table = _table()
    line = caption("alignment", table[table["method"] == "bulk_sgd"])[1]
    assert line.endswith("0.85 (0.8 to 0.9); a random direction has 0.1")


@pytest.mark.parametrize("figure", ["stability_edge", "transfer"])
def test_edges_are_compared_with_what_was_predicted(figure: str) -> None:
    trials = pd.DataFrame(
        {
            "task": "mnist_mlp",
            "loss": "mse",
            "method": "sgd",
            "dom_weight": 1.0,
            "bulk_weight": 1.0,
            "seed": [0, 0, 1, 1, 2, 2],
            "learning_rate": [0.01, 0.04] * 3,
            "stability": ["stable", "unstable"] * 2 + ["stable", "stable"],
            "eigenvalue_dominant": [50.0, 50.0, 100.0, 100.0, 50.0, 50.0],
            "eigenvalue_bulk": 10.0,
        }
    )
    line = caption(figure, trials)[1]
    assert line == (
        "MLP, MNIST-5k, MSE: SGD 0.750 (0.500 to 1.000) (1 of 3 seeds beyond the trials)"
    )


def test_a_map_counts_the_classes_of_its_runs() -> None:
    (line,) = caption("stability_map", _table())
    assert line.startswith("Of 9 runs 1 diverged and 0 more were unstable.")


def test_a_plane_says_which_pair_ends_lowest() -> None:
    table = _table()
    _, line = caption("stability_plane", table[table["seed"] < 2])
    # λ_3 = 1 and λ_1 = 4 at η = 0.01: all are foreseen to be stable, and are.
    assert line == (
        "Transformer, SST2-1k, MSE, η = 0.01: 3 of 3 pairs as predicted; "
        "the lowest loss, 0.600 of SGD's, at a = 0.1, b = 1"
    )
