"""Every column of the energy against dense matrices in float64, where H, G and F differ much.

At initialisation the top eigenspaces of H and G overlap by 0.84 (squared error) and 0.66
(cross-entropy), and F holds much of H: a matrix taken for another shows.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from training.dense import Dense, descending_eigenpairs

from sharpflat.optimizers import parse_optimizer
from sharpflat.records import PrefixRecord
from sharpflat.tasks.data import load
from sharpflat.training.energy import energy_at
from sharpflat.training.state import initial_state

K, PROBES = 3, 60
Measured = tuple[list[dict[str, Any]], dict[str, Tensor]]


@pytest.fixture(scope="module", params=["mse", "cross_entropy"])
def measured(request: pytest.FixtureRequest, digits: Path) -> Measured:
    """The rows that are written at one point, and the dense matrices there."""
    record = PrefixRecord(
        task="digits_mlp",
        dataset="digits",
        model="mlp",
        sizes=(("depth", 2), ("width", 4)),
        loss=request.param,
        seed=0,
        optimizer="sgd",
        optimizer_options=parse_optimizer("sgd")[1],
        batch_size=50,
        learning_rate=0.1,
        k=K,
        hessian_samples=100,
        tolerance=0.001,
        tracking_samples=None,
        record_every=5,
        eigen_every=5,
        switch_alignment=None,
        switch_ema_decay=0.9,
        switch_max_steps=60,
        divergence_factor=100.0,
    )
    state = initial_state(record, digits, device=torch.device("cpu"))
    rows = energy_at(state, record, probes=PROBES)
    theta = parameters_to_vector(state.model.parameters()).detach()
    samples = load("digits", digits, dtype=torch.float64).train_subset(record.hessian_samples)
    dense = Dense(state.model, record.loss, *samples, theta)
    matrices = {"hessian": dense.hessian, "ggn": dense.ggn}
    matrices["functional_hessian"] = dense.hessian - dense.ggn
    return rows, matrices


def _top(matrix: Tensor) -> Tensor:
    return descending_eigenpairs(matrix)[1][:, :K]


def _share_of_noise(matrix: Tensor, outside: Tensor) -> float:
    """Standard error of a trace from random signs: ``2 Σ_{i≠j} A_ij²`` is one probe's variance."""
    inner = outside @ matrix @ outside
    variance = 2 * (inner.square().sum() - inner.diagonal().square().sum())
    return math.sqrt(variance.item() / PROBES)


def test_shares_norms_and_traces(measured: Measured) -> None:
    """Estimates within four of their standard errors, which are small beside what they are of."""
    rows, matrices = measured
    assert [row["matrix"] for row in rows] == list(matrices)
    V = _top(matrices["hessian"])
    for row in rows:
        M = matrices[row["matrix"]]
        true = {
            "frobenius_share": (M @ V).square().sum() / M.square().sum(),
            "trace_share": torch.trace(V.T @ M @ V) / torch.trace(M),
            "frobenius_norm": M.square().sum().sqrt(),
            "trace": torch.trace(M),
        }
        for name, value in true.items():
            assert row[name] == pytest.approx(value.item(), abs=4 * row[f"{name}_se"]), name
        for name in ("frobenius_share", "frobenius_norm"):
            assert row[f"{name}_se"] < 0.1 * true[name], name
        noise = _share_of_noise(M, torch.eye(len(M)).double() - V @ V.T)
        assert row["trace_se"] == pytest.approx(noise, rel=0.3)  # 3 √(1 / 2 PROBES)


def test_rayleigh_quotients(measured: Measured) -> None:
    """``v_iᵀ M v_i``, exact but for the angle between the measured and the true v_i."""
    rows, matrices = measured
    V = _top(matrices["hessian"])
    for row in rows:
        M = matrices[row["matrix"]]
        true = (V * (M @ V)).sum(dim=0).tolist()
        found = [row[f"rayleigh_quotient_{i}"] for i in range(1, K + 1)]
        assert found == pytest.approx(true, abs=2e-4 * M.norm().item())


def test_the_overlap_is_that_of_the_eigenspaces_of_hessian_and_ggn(measured: Measured) -> None:
    """``‖V_Hᵀ V_G‖_F² / k``, well below 1 here, and neither matrix's with itself."""
    rows, matrices = measured
    cosines = _top(matrices["hessian"]).T @ _top(matrices["ggn"])
    overlap = cosines.square().sum().item() / K
    assert 0.5 < overlap < 0.9
    assert [row["overlap"] for row in rows] == pytest.approx([overlap] * 3, abs=1e-3)


def test_every_column_has_a_definition_here(measured: Measured) -> None:
    """Oracle: the rows themselves."""
    quantities = ("frobenius_share", "trace_share", "frobenius_norm", "trace")
    expected = {"matrix", "overlap", *quantities, *(f"{name}_se" for name in quantities)}
    expected |= {f"rayleigh_quotient_{i}" for i in range(1, K + 1)}
    for row in measured[0]:
        assert set(row) == expected
