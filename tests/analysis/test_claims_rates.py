"""How often planted truths get the right verdict. Oracle: the effect that seeds scatter around.

Every claim is planted at the level of run statistics: with an effect well on the claimed side of
every threshold, well on the other side, and exactly at the threshold. Five seeds, as many as the
`laptop` tier has on its slower tasks, unless a statistic needs more.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import CONFIGURED, identity, trials
from scipy import special

from sharpflat.analysis.claims.ablations import ABLATIONS
from sharpflat.analysis.claims.acceleration import acceleration
from sharpflat.analysis.claims.alignment import alignment
from sharpflat.analysis.claims.dom_progress import dom_progress
from sharpflat.analysis.claims.energy import energy
from sharpflat.analysis.claims.evidence import Evidence
from sharpflat.analysis.claims.hyperparameters import hyperparameters
from sharpflat.analysis.claims.instability import instability
from sharpflat.analysis.claims.interpolation import interpolation
from sharpflat.analysis.claims.other_optimizers import other_optimizers
from sharpflat.analysis.claims.stretching import stretching
from sharpflat.analysis.claims.table import decide
from sharpflat.analysis.claims.thresholds import combinations
from sharpflat.analysis.claims.transfer import transfer

RULES = combinations(CONFIGURED)
GROUPS = [("mnist_mlp", "mse"), ("mnist_mlp", "cross_entropy"), ("cifar10_cnn", "mse")]
METHODS = ("sgd", "bulk_sgd")
Random = np.random.Generator


def _runs(columns: Mapping[str, Any], group: tuple[str, str] = GROUPS[0]) -> pd.DataFrame:
    task, loss = group
    nothing_varies = {"varied": "", "value": ""}
    return pd.DataFrame({"task": task, "loss": loss} | nothing_varies | dict(columns))


def _lognormal(random: Random, middle: float, n: int, spread: float = 0.1) -> np.ndarray:
    return middle * np.exp(random.normal(scale=spread, size=n))


def _alignment(random: Random, middle: float, n: int) -> Evidence:
    parts = []
    for group in GROUPS:
        aligned = special.expit(random.normal(special.logit(middle), 0.3, size=n))
        columns = {"method": "sgd", "seed": range(n), "alignment": aligned, "diverged": False}
        parts.append(_runs(columns, group))
    return alignment({"alignment": pd.concat(parts)})


def _dom_progress(random: Random, share: float, n: int) -> Evidence:
    parts = []
    for group in GROUPS:
        sgd = -_lognormal(random, 1.0, n, 0.15)
        slopes = {"sgd": sgd, "dom_sgd": share * sgd + random.normal(scale=0.03, size=n)}
        for method, slope in slopes.items():
            columns = {"method": method, "seed": range(n), "log_loss_slope": slope}
            parts.append(_runs(columns, group))
    return dom_progress({"dom_bulk": pd.concat(parts)})


def _acceleration(random: Random, ratio: float, n: int) -> Evidence:
    """Losses that fall exponentially, of Bulk-SGD at a rate of its own."""
    table = pd.concat(
        _paces(_lognormal(random, ratio, n), task=task, loss=loss, value="")
        for task, loss in GROUPS
    )
    return acceleration({"dom_bulk": _ends(table)}, {"dom_bulk": table})


def _other_optimizers(random: Random, ratio: float, n: int) -> Evidence:
    """Three of them, whose seeds scatter little, as runs on the same mini-batches do.

    SGD as it comes, which the claim is not about, has the opposite effect.
    """
    paces = {name: _lognormal(random, ratio, n, 0.02) for name in ("adam", "muon", "sam")}
    paces["sgd"] = 1.21 / _lognormal(random, ratio, n, 0.02)
    task, loss = GROUPS[0]
    table = pd.concat(
        _paces(own, task=task, loss=loss, value=value) for value, own in paces.items()
    )
    return other_optimizers({"optimizers": _ends(table)}, {"optimizers": table})


def _paces(ratios: np.ndarray, **cell: str) -> pd.DataFrame:
    """Losses that fall exponentially, the Bulk part's slower by its seed's ratio."""
    records, parts = np.arange(6), []
    for seed, own in enumerate(ratios):
        for method, rate in (("sgd", 0.1), ("bulk_sgd", 0.1 / own)):
            columns = {**cell, "method": method, "seed": seed, "status": "finished"}
            columns |= {"step": records, "steps_after_switch": records}
            parts.append(pd.DataFrame(columns | {"train_loss": np.exp(-rate * records)}))
    return pd.concat(parts)


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    ends = {"start_train_loss": ("train_loss", "first"), "final_train_loss": ("train_loss", "last")}
    keys = ["task", "loss", "method", "value", "seed"]
    return table.groupby(keys, sort=False).agg(**ends).reset_index()


def _edges(random: Random, ratio: float, n: int, reference: str, method: str) -> pd.DataFrame:
    return pd.concat(
        trials(name, seed, edge, task=task, loss=loss)
        for task, loss in GROUPS[:1]
        for seed, own in enumerate(_lognormal(random, ratio, n))
        for name, edge in ((reference, 0.04), (method, 0.04 * own))
    )


def _instability(random: Random, effect: tuple[float, float], n: int) -> Evidence:
    ratio, chance = effect
    unstable = random.random(n) < chance
    runs = [
        _runs(
            {"method": method, "seed": range(n), "stable": stable, "learning_rate": 0.01}
            | {"batch_size": 50, "k": 10, "refresh": "adaptive", "hessian_samples": 100}
            | {"varied": "learning_rate", "value": 0.01}
        )
        for method, stable in (("sgd", True), ("bulk_sgd", ~unstable))
    ]
    tables = {"stability_edge": _edges(random, ratio, n, "sgd", "bulk_sgd")}
    return instability({"ablation_lr": pd.concat(runs)}, tables)


def _hyperparameters(random: Random, effect: tuple[float, float], n: int) -> Evidence:
    """The least of three values is worse than the others by a factor."""
    factor, chance = effect
    runs = {}
    for name in ABLATIONS:
        changes = random.random(n) < chance
        parts = [
            _runs(
                {"method": method, "seed": range(n), "varied": name, "value": value}
                | {"final_train_loss": _lognormal(random, 1.0 if value else worse, n, 0.01)}
                | {"start_train_loss": 4.0, "diverged": False}
                | {"stable": ~(changes & (value == 0)) if method == "bulk_sgd" else True}
            )
            for method, worse in (("sgd", 1.0), ("bulk_sgd", factor))
            for value in range(3)
        ]
        runs[name] = pd.concat(parts)
    return hyperparameters(runs)


def _interpolation(random: Random, effect: tuple[float, float], n: int) -> Evidence:
    ratio, edge = effect
    losses = {"sgd": 1.0, "dom_sgd": 2.0, "bulk_sgd": 1.1, "convex(0)": 3.0, "convex(1)": 1.0}
    for path in ("sgd_to_bulk", "sgd_to_dom", "convex"):
        losses |= {f"{path}(0.25)": 1.3 * ratio, f"{path}(0.75)": ratio}
    parts = [
        _runs(
            {"method": method, "seed": range(n)}
            | {"final_train_loss": _lognormal(random, middle, n, 0.02)}
            | {"start_train_loss": 4.0, "diverged": False}
        )
        for method, middle in losses.items()
    ]
    table = pd.concat(
        [
            _edges(random, edge, n, "sgd", "sgd_to_bulk(0.9)"),
            *(trials("bulk_sgd", seed, 0.02) for seed in range(n)),
        ]
    )
    return interpolation({"interpolation": pd.concat(parts)}, {"stability_edge": table})


def _energy(random: Random, shares: tuple[float, float, float], n: int) -> Evidence:
    concentrated, spread, overlap = shares
    matrices = {"hessian": concentrated, "ggn": concentrated, "functional_hessian": spread}
    parts = []
    for task, loss in GROUPS:
        for matrix, middle in matrices.items():
            noise = random.normal(scale=0.2, size=(2, n))
            columns = {"task": task, "loss": loss, "method": "sgd", "seed": range(n), "step": 9}
            columns |= {"status": "finished", "matrix": matrix}
            columns |= {"frobenius_share": special.expit(special.logit(middle) + noise[0])}
            columns |= {"overlap": special.expit(special.logit(overlap) + noise[1])}
            parts.append(pd.DataFrame(columns))
    return energy({"curvature_energy": pd.concat(parts)})


def _transfer(random: Random, factor: float, n: int) -> Evidence:
    """Predictions a factor 5.46 apart, so that a factor 2 is half of the edges' spread, log 4."""
    parts = [
        trials("bulk_sgd", seed, predicted * own, task=task, eigenvalue_bulk=2 / predicted)
        for task, predicted in (("cifar10_vgg", 0.01), ("cancer_mlp", 0.0546), ("gpt", 0.298))
        for seed, own in enumerate(_lognormal(random, factor, n))
    ]
    return transfer({"transfer": pd.concat(parts)})


def _stretching(random: Random, ratio: float, n: int) -> Evidence:
    """Losses that fall exponentially, of the better of two pairs at a rate of its own."""
    records = np.arange(6)
    tables: dict[str, list[pd.DataFrame]] = {"ablation_lr": [], "stability_plane": []}
    for task, loss in GROUPS:
        for seed, own in enumerate(_lognormal(random, ratio, n)):
            for figure, method, learning_rate, rate in (
                ("ablation_lr", "sgd", 0.01, 0.06),
                ("ablation_lr", "sgd", 0.1, 0.1),
                ("stability_plane", "weights(1, 1)", 0.06, 0.09),
                ("stability_plane", "weights(0.5, 2)", 0.06, 0.1 / own),
                ("stability_plane", "weights(0, 2)", 0.06, 0.095 / own),
            ):
                columns = identity(method, seed, task=task, loss=loss, learning_rate=learning_rate)
                columns |= {"step": records, "steps_after_switch": records}
                columns |= {"train_loss": np.exp(-rate * records)}
                tables[figure].append(pd.DataFrame(columns))
    return stretching({figure: pd.concat(runs) for figure, runs in tables.items()})


#: Claim, how it is planted, the effects for, against and at the thresholds, and the seeds.
PLANTED = [
    ("C1", _alignment, 0.97, 0.7, 0.9, 5),
    ("C2", _dom_progress, -0.02, 0.4, 0.1, 5),
    ("C3", _acceleration, 0.6, 1.35, 0.9, 5),
    ("C4", _instability, (0.6, 1.0), (1.3, 0.0), (0.9, 0.5), 8),
    ("C5", _hyperparameters, (1.3, 1.0), (1.0, 0.0), (1.1, 0.109), 8),
    ("C6", _interpolation, (0.8, 1.6), (1.05, 0.9), (0.95, 1.1), 5),
    ("C7", _energy, (0.85, 0.1, 0.98), (0.2, 0.8, 0.6), (0.5, 0.5, 0.9), 5),
    ("C8", _other_optimizers, 1.0, 1.25, 1.1, 5),
    ("C9", _transfer, 1.2, 3.0, 2.0, 5),
    ("C10", _stretching, 0.6, 1.35, 0.9, 5),
]
Plant = Callable[[Random, Any, int], Evidence]
#: Tables with an effect, and at the threshold.
CLEAR, CHANCE = 4, 16


def _tables(
    claim: str, plant: Plant, effect: Any, seeds: int, trials: int
) -> list[list[dict[str, Any]]]:
    return [
        decide(claim, plant(np.random.default_rng(i), effect, seeds), CONFIGURED, RULES[claim])
        for i in range(trials)
    ]


@pytest.mark.parametrize(
    ("claim", "plant", "held", "failed", "at_threshold", "seeds"),
    PLANTED,
    ids=[planted[0] for planted in PLANTED],
)
def test_a_truth_gets_its_verdict(
    claim: str, plant: Plant, held: Any, failed: Any, at_threshold: Any, seeds: int
) -> None:
    """A clear effect gets its verdict in every table, either way.

    At the threshold at most one table in 20 has a row that is decided (with 3 standard errors of 16
    tables), and a claim never is, since no single row decides it.
    """
    for effect, expected in ((held, "reproduced"), (failed, "not reproduced")):
        tables = _tables(claim, plant, effect, seeds, CLEAR)
        assert [rows[0]["verdict"] for rows in tables] == [expected] * CLEAR
    chance = _tables(claim, plant, at_threshold, seeds, CHANCE)
    decided = [any(row["verdict"] != "inconclusive" for row in rows[1:]) for rows in chance]
    assert np.mean(decided) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / CHANCE)
    assert {str(rows[0]["verdict"]) for rows in chance} == {"inconclusive"}


@pytest.mark.parametrize("claim", ["C1", "C7"])
def test_three_seeds_never_decide_a_clear_effect_wrongly(claim: str) -> None:
    (planted,) = [planted for planted in PLANTED if planted[0] == claim]
    for effect, wrong in ((planted[2], "not reproduced"), (planted[3], "reproduced")):
        tables = _tables(claim, planted[1], effect, 3, CLEAR)
        assert wrong not in {row["verdict"] for rows in tables for row in rows}
