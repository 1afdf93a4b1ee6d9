"""Claims about the ablations: C4, C5. Oracles: runs and searches planted with a known answer."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import CONFIGURED, decay, trajectory, trials

from sharpflat.analysis.claims import claims_table
from sharpflat.analysis.claims.ablations import distinct_runs
from sharpflat.analysis.statistics import run_statistics

VALUES = (0.01, 0.02, 0.05)
DIVERGED = {"status": "diverged", "train_loss": [1.0, 0.9, math.nan, math.nan]}
#: From (method, value, seed) to what differs from a run that goes well.
Changes = Callable[[str, float, int], dict[str, Any]]


def _ablation(changes: Changes, *, varied: str = "learning_rate", seeds: int = 3) -> pd.DataFrame:
    setting = {} if varied in ("width", "switch_step") else {"name": varied}
    return pd.concat(
        trajectory(
            *(method, seed, [1.0, 0.9, 0.8, 0.7]),
            **{"varied": varied, "value": value}
            | ({setting["name"]: value} if setting else {})
            | changes(method, value, seed),
        )
        for method in ("sgd", "bulk_sgd")
        for value in VALUES
        for seed in range(seeds)
    )


def _claim(claim: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    claims = claims_table(tables, CONFIGURED)
    return claims[claims["claim"] == claim].reset_index(drop=True)


def _row(rows: pd.DataFrame, figure: str, text: str) -> pd.Series:
    chosen = rows[(rows["figure"] == figure) & ~rows["statistic"].str.startswith("all: ")]
    (found,) = [row for _, row in chosen.iterrows() if text in row["statistic"]]
    return found


# C4

SHARE, GROWTH, EDGE = "share of seeds", "growth of λ_1", "edge of stability"


def _fine(method: str, value: float, seed: int) -> dict[str, Any]:
    return {}


def _worse(method: str, value: float, seed: int) -> dict[str, Any]:
    """Bulk-SGD rises sevenfold at the largest value before it recovers."""
    if method == "sgd" or value != VALUES[-1]:
        return {}
    return {"train_loss": [1.0, 7.0, 0.8, 0.6]}


@pytest.mark.parametrize(
    ("changes", "seeds", "estimate", "verdict"),
    [
        (_worse, 8, 1.0, "reproduced"),
        (_fine, 8, 0.0, "not reproduced"),
        (_worse, 3, 1.0, "inconclusive"),  # three of three may be chance
    ],
)
def test_cells_in_which_bulk_sgd_alone_is_unstable(
    changes: Changes, seeds: int, estimate: float, verdict: str
) -> None:
    rows = _claim("C4", {"ablation_lr": _ablation(changes, seeds=seeds)})
    share = _row(rows, "ablation_*", SHARE)
    assert (share["estimate"], share["n"], share["verdict"]) == (estimate, seeds, verdict)
    assert share["interval"] == "exact binomial"


def test_cells_in_which_only_sgd_is_unstable_are_set_off() -> None:
    def each_once(method: str, value: float, seed: int) -> dict[str, Any]:
        return DIVERGED if value == VALUES[1 if method == "sgd" else 2] else {}

    rows = _claim("C4", {"ablation_lr": _ablation(each_once, seeds=8)})
    assert _row(rows, "ablation_*", SHARE)["estimate"] == 0.0

    def both(method: str, value: float, seed: int) -> dict[str, Any]:
        return DIVERGED

    rows = _claim("C4", {"ablation_lr": _ablation(both, seeds=8)})
    assert _row(rows, "ablation_*", SHARE)["estimate"] == 0.0


def test_a_run_that_several_ablations_share_counts_once() -> None:
    tables = {
        "ablation_lr": _ablation(_fine),
        "ablation_k": _ablation(_fine, varied="k"),
        "ablation_width": _ablation(_fine, varied="width"),
    }
    # The default learning rate among the values of the other: the same run in both tables.
    tables["ablation_k"].loc[tables["ablation_k"]["value"] == VALUES[0], "k"] = 10
    distinct = distinct_runs({name: run_statistics(table) for name, table in tables.items()})
    cells = distinct[(distinct["method"] == "sgd") & (distinct["seed"] == 0)]
    assert len(cells) == 3 + 2 + 3
    assert not distinct.duplicated(["method", "seed", "cell"]).any()


def _edge_table(ratio: float, seeds: int = 3) -> pd.DataFrame:
    return pd.concat(
        trials(method, seed, edge * (1 + 0.03 * (seed == 1 and method == "sgd")))
        for seed in range(seeds)
        for method, edge in (("sgd", 0.04), ("bulk_sgd", 0.04 * ratio))
    )


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.5, "reproduced"), (1.5, "not reproduced"), (0.91, "inconclusive")]
)
def test_the_edge_of_bulk_sgd_against_that_of_sgd(ratio: float, verdict: str) -> None:
    rows = _claim("C4", {"stability_edge": _edge_table(ratio)})
    edge = _row(rows, "stability_edge", EDGE)
    assert edge["estimate"] == pytest.approx(ratio / 1.03 ** (1 / 3))
    assert edge["verdict"] == verdict
    assert rows["verdict"][0] == "inconclusive"  # one row alone carries no verdict
    assert rows["estimate"][0] == edge["estimate"]


def _elsewhere(**ratios: float) -> pd.DataFrame:
    return pd.concat(
        trials(method, seed, edge * (1 + 0.03 * (seed == 1 and method == "sgd")), task=task)
        for task, ratio in ratios.items()
        for seed in range(5)
        for method, edge in (("sgd", 0.04), ("bulk_sgd", 0.04 * ratio))
    )


def test_bulk_sgd_that_is_less_stable_on_other_tasks_alone_makes_it_partly_so() -> None:
    home = {"stability_edge": _edge_table(1.5, seeds=8), "ablation_lr": _ablation(_fine, seeds=8)}
    for ratios, verdict in (
        ({"cifar10_vgg": 0.3, "shakespeare_gpt": 0.5, "cancer_mlp": 1.5}, "partly"),
        ({"cifar10_vgg": 0.3, "shakespeare_gpt": 1.5, "cancer_mlp": 1.5}, "not reproduced"),
        ({"cifar10_vgg": 0.3, "shakespeare_gpt": 0.5}, "reproduced"),
    ):
        rows = _claim("C4", home | {"transfer": _elsewhere(**ratios)})
        assert rows["verdict"][0] == verdict
        edges = rows[rows["figure"] == "transfer"]
        assert edges["estimate"].tolist() == pytest.approx(
            [ratio / 1.03 ** (1 / 5) for ratio in ratios.values()]
        )
        assert edges["decides"].all()
        # The main statistic stays that of the study's own task.
        assert rows["estimate"][0] == pytest.approx(1.5 / 1.03 ** (1 / 8))


def test_the_studys_own_task_counts_once_and_a_tier_without_others_has_no_row_of_them() -> None:
    home = {"stability_edge": _edge_table(1.5, seeds=8)}
    alone = _claim("C4", home)
    twice = _claim("C4", home | {"transfer": _elsewhere(mnist_mlp=0.5)})
    pd.testing.assert_frame_equal(twice, alone)
    assert "transfer" not in set(alone["figure"])


def test_a_censored_edge_still_speaks_through_its_bound() -> None:
    table = _edge_table(2.0, seeds=8)
    bulk = table["method"] == "bulk_sgd"
    table.loc[bulk & (table["seed"] == 0), "stability"] = "stable"
    edge = _row(_claim("C4", {"stability_edge": table}), "stability_edge", EDGE)
    assert (edge["interval"], edge["verdict"]) == ("sign test", "not reproduced")
    assert edge["ci_high"] == math.inf


def test_instability_holds_and_fails_by_edge_and_cells() -> None:
    for ratio, changes, verdict in (
        (0.5, _worse, "reproduced"),
        (1.5, _fine, "not reproduced"),
        (1.5, _worse, "inconclusive"),
    ):
        tables = {"stability_edge": _edge_table(ratio, seeds=8)}
        tables["ablation_lr"] = _ablation(changes, seeds=8)
        rows = _claim("C4", tables)
        assert rows["verdict"][0] == verdict


def _growths(bulk: dict[str, Any]) -> pd.Series:
    growing = {"eigenvalue_1": [10.0, 11.0, 12.0, 13.0]}
    table = pd.concat(
        trajectory(method, seed, decay(0.1, 4), **changes)
        for seed in range(8)
        for method, changes in (("sgd", {}), ("bulk_sgd", growing | bulk))
    )
    return _row(_claim("C4", {"dom_bulk": table}), "dom_bulk", GROWTH)


def test_growth_of_the_largest_eigenvalue_is_shown_and_decides_nothing() -> None:
    growth = _growths({})
    assert growth["estimate"] == pytest.approx(1.3)
    assert (growth["verdict"], growth["decides"]) == ("reproduced", False)


def test_the_growth_of_a_diverged_run_is_infinite_not_one() -> None:
    growth = _growths({"status": "diverged"})
    assert (growth["estimate"], growth["n"], growth["verdict"]) == (math.inf, 8, "reproduced")


def test_the_largest_eigenvalue_may_be_recorded_more_seldom_than_the_loss() -> None:
    growth = _growths({"eigenvalue_1": [10.0, math.nan, 13.0, math.nan]})
    assert growth["estimate"] == pytest.approx(1.3)


# C5

EFFECT, STABILITY = "final loss, Bulk-SGD's over SGD's", "other than the learning rate"


def _ends_at(final: Callable[[str, float, int], float]) -> Changes:
    return lambda method, value, seed: {"train_loss": [1.0, 0.9, 0.8, final(method, value, seed)]}


def _noise(method: str, value: float, seed: int) -> float:
    return float(np.random.default_rng([seed, VALUES.index(value), len(method)]).normal())


def test_the_effect_is_the_factor_between_worst_and_best_value() -> None:
    factors = dict(zip(VALUES, (1.0, 0.8, 1.2), strict=True))

    def final(method: str, value: float, seed: int) -> float:
        own = factors[value] if method == "bulk_sgd" else 1.0
        return 0.5 * own * (1 + 0.01 * seed) * (1 + 0.001 * _noise(method, value, seed))

    row = _row(_claim("C5", {"ablation_k": _ablation(_ends_at(final))}), "ablation_k", EFFECT)
    assert row["estimate"] == pytest.approx(1.5, rel=0.01)
    assert row["verdict"] == "reproduced"


def test_what_a_value_does_to_sgd_as_well_is_no_effect_on_bulk_sgd() -> None:
    """A later switch starts from a lower loss, before Bulk-SGD takes a step."""

    def final(method: str, value: float, seed: int) -> float:
        return 0.5 * (1 - 10 * value) * (1 + 0.002 * _noise(method, value, seed))

    table = _ablation(_ends_at(final), varied="switch_step")
    row = _row(_claim("C5", {"ablation_switch": table}), "ablation_switch", EFFECT)
    assert row["estimate"] == pytest.approx(1.0, abs=0.01)
    assert row["verdict"] == "not reproduced"


def test_of_noise_alone_there_is_no_effect_however_large_the_estimate() -> None:
    def final(method: str, value: float, seed: int) -> float:
        return 0.5 * math.exp(0.1 * _noise(method, value, seed))

    table = _ablation(_ends_at(final), seeds=8)
    row = _row(_claim("C5", {"ablation_k": table}), "ablation_k", EFFECT)
    assert row["ci_low"] < 1.0 < row["estimate"] < row["ci_high"]
    assert row["verdict"] != "reproduced"


def test_a_value_at_which_bulk_sgd_alone_diverges_is_a_hundred_times_worse() -> None:
    def diverges(method: str, value: float, seed: int) -> dict[str, Any]:
        if (method, value) == ("bulk_sgd", VALUES[-1]):
            return DIVERGED
        return {"train_loss": [1.0, 0.9, 0.8, 0.7 + 0.01 * _noise(method, value, seed)]}

    table = _ablation(diverges, varied="k")
    row = _row(_claim("C5", {"ablation_k": table}), "ablation_k", EFFECT)
    assert row["estimate"] == pytest.approx(100 / 0.7, rel=0.05)
    assert row["verdict"] == "reproduced"

    def both(method: str, value: float, seed: int) -> dict[str, Any]:
        return DIVERGED if value == VALUES[-1] else {}

    table = _ablation(both, varied="k")
    assert _row(_claim("C5", {"ablation_k": table}), "ablation_k", EFFECT)["estimate"] == 1.0


def test_stability_that_no_value_changes_is_measured_and_not_governed() -> None:
    tables = {"ablation_k": _ablation(_fine, varied="k", seeds=8)}
    row = _row(_claim("C5", tables), "ablation_*", STABILITY)
    assert (row["estimate"], row["n"]) == (0.0, 8)
    assert row["ci_high"] == pytest.approx(1 - 0.025 ** (1 / 8))

    def governed(method: str, value: float, seed: int) -> dict[str, Any]:
        return DIVERGED if method == "bulk_sgd" and value == VALUES[0] else {}

    tables["ablation_refresh"] = _ablation(governed, varied="refresh", seeds=8)
    assert _row(_claim("C5", tables), "ablation_*", STABILITY)["estimate"] == 1.0
    # That the learning rate decides over stability is no question.
    tables = {"ablation_lr": _ablation(governed, seeds=8)}
    assert _row(_claim("C5", tables), "ablation_*", STABILITY)["n"] == 0
