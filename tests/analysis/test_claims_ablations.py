"""Claims about the ablations: C4, C5. Oracles: runs planted with a known answer, and SciPy's
Kruskal-Wallis test and one-way analysis of variance."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import CONFIGURED, identity
from scipy import stats

from sharpflat.analysis.claims import claims_table
from sharpflat.analysis.claims.hyperparameters import explained_share, hyperparameters
from sharpflat.analysis.claims.instability import ABLATIONS
from sharpflat.analysis.claims.verdicts import row_verdict

VALUES = (0.01, 0.02, 0.05, 0.1)
METHODS = ("sgd", "bulk_sgd")
#: From (method, value, seed) to what differs from a run that goes well.
Changes = Callable[[str, float, int], dict[str, Any]]


def _ablation(changes: Changes, *, varied: str = "learning_rate", seeds: int = 3) -> pd.DataFrame:
    return pd.concat(
        _run(method, value, seed, varied, changes(method, value, seed))
        for method in METHODS
        for value in VALUES
        for seed in range(seeds)
    )


def _run(
    method: str, value: float, seed: int, varied: str, changes: dict[str, Any]
) -> pd.DataFrame:
    rows = {
        "step": [0, 100, 200, 300],
        "steps_after_switch": [0, 100, 200, 300],
        "train_loss": [1.0, 0.9, 0.8, 0.7],
        "eigenvalue_1": [10.0, 10.0, 10.0, 10.0],
        "alignment": 0.5,
        "test_loss": 1.0,
        "test_accuracy": 0.5,
    }
    run = identity(method, seed, varied=varied, value=value)
    return pd.DataFrame(run | rows | changes)


def _fine(method: str, value: float, seed: int) -> dict[str, Any]:
    return {}


def _claim(claim: str, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    claims = claims_table(tables, CONFIGURED)
    return claims[claims["claim"] == claim].reset_index(drop=True)


def _row(rows: pd.DataFrame, figure: str, text: str) -> pd.Series:
    chosen = rows[rows["figure"] == figure]
    (found,) = [row for _, row in chosen.iterrows() if text in row["statistic"]]
    return found


# C4

SHARE, SPIKES, GROWTH = "share of cells", "mean loss spikes", "geometric mean growth of λ_1"


def _worse(method: str, value: float, seed: int) -> dict[str, Any]:
    """Bulk-SGD diverges at the largest value, and spikes and sharpens at the others."""
    if method == "sgd":
        return {}
    if value == VALUES[-1]:
        return {"status": "diverged", "train_loss": [1.0, 0.9, math.nan, math.nan]}
    return {"train_loss": [1.0, 0.5, 0.9, 0.4], "eigenvalue_1": [10.0, 11.0, 12.0, 13.0 + seed]}


def test_instability_holds() -> None:
    rows = _claim("C4", dict.fromkeys(ABLATIONS, _ablation(_worse)))
    assert set(rows["verdict"]) == {"reproduced"}
    assert len(rows) == 1 + 3 * len(ABLATIONS)
    share = _row(rows, "ablation_k", f"mnist_mlp, mse: {SHARE}")
    assert (share["estimate"], share["ci_low"], share["ci_high"]) == (0.25, 0.25, 0.25)
    assert (
        _row(rows, "ablation_k", SPIKES)["estimate"] == 1.0
    )  # a divergence between records is one
    growth = (1.3 * 1.4 * 1.5) ** (3 / 4 / 3)  # three of four cells, the diverged ones at 1
    assert _row(rows, "ablation_k", GROWTH)["estimate"] == pytest.approx(growth)


def test_instability_fails() -> None:
    rows = _claim("C4", dict.fromkeys(ABLATIONS, _ablation(_fine)))
    assert set(rows["verdict"]) == {"not reproduced"}
    assert rows["n"].tolist() == [3] * len(rows)
    assert _row(rows, "ablation_lr", GROWTH)["estimate"] == 1.0


def test_instability_where_sgd_is_unstable_too_is_none_of_bulk_sgd() -> None:
    def both(method: str, value: float, seed: int) -> dict[str, Any]:
        return {"status": "diverged", "train_loss": [1.0, 2.0, math.nan, math.nan]}

    rows = _claim("C4", {"ablation_lr": _ablation(both)})
    share = _row(rows, "ablation_lr", SHARE)
    assert (share["estimate"], share["n"], share["verdict"]) == (0.0, 3, "not reproduced")
    assert _row(rows, "ablation_lr", SPIKES)["estimate"] == 0.0


def test_instability_in_one_seed_of_three_is_inconclusive() -> None:
    def once(method: str, value: float, seed: int) -> dict[str, Any]:
        return _worse(method, value, seed) if seed == 0 else {}

    rows = _claim("C4", {"ablation_lr": _ablation(once)})
    share = _row(rows, "ablation_lr", SHARE)
    assert share["estimate"] == pytest.approx(1 / 12)
    assert share["verdict"] == "inconclusive"


def test_instability_of_one_hyperparameter_only_is_partly_reproduced() -> None:
    tables = {"ablation_lr": _ablation(_worse), "ablation_k": _ablation(_fine, varied="k")}
    rows = _claim("C4", tables)
    assert rows["verdict"][0] == "partly"
    assert rows["estimate"][0] == pytest.approx(1 / 8)  # over the cells of both figures
    assert _row(rows, "ablation_width", SHARE)["n"] == 0


def test_a_pair_that_diverged_before_any_record_counts() -> None:
    def never(method: str, value: float, seed: int) -> dict[str, Any]:
        if value != VALUES[-1]:
            return {}
        nothing = [math.nan] * 4
        return {"status": "diverged", "train_loss": nothing, "eigenvalue_1": nothing}

    rows = _claim("C4", {"ablation_lr": _ablation(never)})
    growth = _row(rows, "ablation_lr", GROWTH)
    assert (growth["estimate"], growth["n"]) == (1.0, 3)


# C5

LOSS, STABILITY = "variance in the rank of Bulk-SGD's final loss", "variance in whether Bulk-SGD"


def _governed(method: str, value: float, seed: int) -> dict[str, Any]:
    """The value decides the loss, and divergence from 0.05 on."""
    if value >= 0.05:
        return {"status": "diverged", "train_loss": [1.0, 2.0, math.nan, math.nan]}
    return {"train_loss": [1.0, 0.9, 0.8, 0.7 - 10 * value + 0.001 * seed]}


def _by_chance(method: str, value: float, seed: int) -> dict[str, Any]:
    """The seed alone decides the loss, and divergence in one of six."""
    if seed == 0:
        return {"status": "diverged", "train_loss": [1.0, 2.0, math.nan, math.nan]}
    return {"train_loss": [1.0, 0.9, 0.8, 0.7 - 0.1 * seed]}


def test_hyperparameters_govern() -> None:
    rows = _claim("C5", dict.fromkeys(ABLATIONS, _ablation(_governed)))
    assert set(rows["verdict"]) == {"reproduced"}
    assert len(rows) == 1 + 2 * len(ABLATIONS)
    assert rows["estimate"].between(0.9, 1.0).all()
    assert _row(rows, "ablation_lr", STABILITY)["estimate"] == 1.0


def test_chance_governs() -> None:
    tables = dict.fromkeys(ABLATIONS, _ablation(_by_chance, seeds=6))
    rows = _claim("C5", tables)
    assert set(rows["verdict"]) == {"not reproduced"}
    assert rows["estimate"].max() == pytest.approx(0.0, abs=1e-12)
    assert rows["n"].tolist() == [6] * len(rows)


def test_a_hyperparameter_that_explains_half_is_inconclusive() -> None:
    def half(method: str, value: float, seed: int) -> dict[str, Any]:
        noise = np.random.default_rng([seed, VALUES.index(value)]).normal()
        return {"train_loss": [1.0, 0.9, 0.8, 0.5 + 0.01 * (VALUES.index(value) + noise)]}

    row = _row(_claim("C5", {"ablation_lr": _ablation(half, seeds=5)}), "ablation_lr", LOSS)
    assert row["ci_low"] < 0.5 < row["ci_high"]
    assert row["verdict"] == "inconclusive"


def test_the_share_is_that_of_kruskal_and_wallis_with_diverged_runs_tied_at_the_top() -> None:
    """Oracle: SciPy's H over N - 1, which is η² of ranks; infinity ranks above any loss."""
    row = _row(_claim("C5", {"ablation_lr": _ablation(_governed)}), "ablation_lr", LOSS)
    groups = [
        [math.inf if value >= 0.05 else 0.7 - 10 * value + 0.001 * seed for seed in range(3)]
        for value in VALUES
    ]
    ranks = stats.rankdata(np.concatenate(groups)).reshape(len(VALUES), 3)
    statistic = stats.kruskal(*ranks).statistic
    assert row["estimate"] == pytest.approx(statistic / (ranks.size - 1))
    assert row["n"] == 3


def test_the_explained_share_is_that_of_the_analysis_of_variance() -> None:
    """Oracle: F of SciPy's f_oneway, by η² = F (g - 1) / (F (g - 1) + N - g)."""
    samples = np.random.default_rng(0).normal(size=(4, 5, 3)) + np.arange(3)
    for share, sample in zip(explained_share(samples), samples, strict=True):
        ratio = stats.f_oneway(*sample.T).statistic * 2 / 12
        assert share == pytest.approx(ratio / (ratio + 1))


def test_an_outcome_that_never_varies_is_not_explained() -> None:
    row = _row(_claim("C5", {"ablation_lr": _ablation(_fine)}), "ablation_lr", STABILITY)
    assert (row["estimate"], row["verdict"]) == (0.0, "not reproduced")


def test_the_interval_of_the_share_does_not_lean_upwards_as_its_resamples_do() -> None:
    """Oracle: losses of pure noise, of which the hyperparameter explains none.

    One resample in nine draws a single seed, whose share is 1, so unreflected percentiles would
    never lie below the threshold.
    """
    verdicts = []
    for trial in range(100):
        noise = np.random.default_rng(trial).normal(size=3 * len(VALUES))
        runs = pd.DataFrame(
            [
                {"task": "mnist_mlp", "loss": "mse", "varied": "k", "value": value, "seed": seed}
                for value in VALUES
                for seed in range(3)
            ]
        ).assign(method="bulk_sgd", stable=True, final_train_loss=noise)
        row = hyperparameters({"ablation_k": runs}).summary
        verdicts.append(row_verdict(row.interval, 0.5, "above"))
    assert verdicts.count("reproduced") <= 5
    assert verdicts.count("not reproduced") >= 60
