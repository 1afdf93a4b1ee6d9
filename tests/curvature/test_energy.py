"""Energy in a subspace. Oracle: norms and traces of dense matrices in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sharpflat.curvature import (
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    NonFiniteProductError,
    curvature_energy,
    subspace_overlap,
)

SPECTRUM = torch.cat(
    [torch.tensor([9.0, 7.0, 5.0]), torch.linspace(1.0, -1.0, 60), torch.tensor([-4.0])]
).double()


@pytest.fixture
def matrix(matrix_with: Callable[..., tuple[MatrixOperator, Tensor]]) -> Tensor:
    operator, _ = matrix_with(SPECTRUM)
    return operator.matrix


def _basis(rows: int, k: int, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(rows, k, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise)[0]


def _dense_shares(matrix: Tensor, basis: Tensor) -> tuple[float, float]:
    frobenius = (matrix @ basis).square().sum() / matrix.square().sum()
    trace = torch.trace(basis.T @ matrix @ basis) / torch.trace(matrix)
    return float(frobenius), float(trace)


def test_estimates_agree_with_the_dense_matrix_within_their_standard_errors(
    matrix: Tensor,
) -> None:
    """Over 200 seeds about 95 % of the estimates lie within two standard errors."""
    basis = _basis(len(matrix), 3)
    frobenius, trace = _dense_shares(matrix, basis)
    expected = (frobenius, trace, float(matrix.norm()), float(torch.trace(matrix)))
    within = []
    for seed in range(200):
        energy = curvature_energy(MatrixOperator(matrix), basis, num_probes=40, seed=seed)
        found = (
            energy.frobenius_share,
            energy.trace_share,
            energy.frobenius_norm,
            energy.trace,
        )
        within.append(
            [abs(f.value - e) < 2 * f.standard_error for f, e in zip(found, expected, strict=True)]
        )
    covered = torch.tensor(within).double().mean(0)
    assert bool((covered > 0.88).all()), covered
    assert bool((covered < 1).all()), covered  # a standard error that covers always is too wide


def test_what_lies_inside_is_exact(
    matrix_with: Callable[..., tuple[MatrixOperator, Tensor]],
) -> None:
    operator, vectors = matrix_with(torch.tensor([4.0, -3.0, 0.0, 0.0, 0.0]).double())
    energy = curvature_energy(operator, vectors[:, :2])
    assert energy.rayleigh_quotients.tolist() == pytest.approx([4.0, -3.0])
    assert energy.frobenius_share.value == pytest.approx(1.0)
    assert energy.frobenius_norm.value == pytest.approx(5.0)
    assert energy.trace.value == pytest.approx(1.0)
    assert energy.frobenius_share.standard_error == pytest.approx(0.0, abs=1e-12)


def test_a_random_direction_holds_one_share_of_p(matrix: Tensor) -> None:
    """The mean over all axes of an orthonormal basis is 1/P."""
    operator, eye = MatrixOperator(matrix), torch.eye(len(matrix), dtype=torch.float64)
    shares = [
        curvature_energy(operator, eye[:, i : i + 1], num_probes=200).frobenius_share.value
        for i in range(len(matrix))
    ]
    assert sum(shares) == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("kind", ["hessian", "ggn", "functional"])
def test_shares_of_a_models_curvature(case_without_attention, kind):
    case = case_without_attention
    dense = {"hessian": case.hessian(), "ggn": case.ggn()}
    dense["functional"] = dense["hessian"] - dense["ggn"]
    operators = {
        "hessian": HessianOperator,
        "ggn": GGNOperator,
        "functional": FunctionalHessianOperator,
    }
    basis = torch.linalg.eigh(dense["hessian"])[1][:, -3:].flip(1)
    energy = curvature_energy(operators[kind](*case.arguments), basis, num_probes=400)
    quotients = torch.diagonal(basis.T @ dense[kind] @ basis)
    assert torch.allclose(energy.rayleigh_quotients, quotients, rtol=1e-9, atol=1e-12)
    frobenius, _ = _dense_shares(dense[kind], basis)
    share = energy.frobenius_share
    assert abs(share.value - frobenius) < 5 * share.standard_error
    assert share.standard_error < 0.05


def test_the_zero_matrix_has_no_share() -> None:
    zero = MatrixOperator(torch.zeros(4, 4, dtype=torch.float64))
    energy = curvature_energy(zero, _basis(4, 2))
    assert math.isnan(energy.frobenius_share.value)
    assert energy.frobenius_norm.value == energy.trace.value == 0


def test_the_same_seed_gives_the_same_numbers_and_products_are_counted(matrix: Tensor) -> None:
    basis = _basis(len(matrix), 3)
    first = curvature_energy(MatrixOperator(matrix), basis, num_probes=9, seed=4)
    again = curvature_energy(MatrixOperator(matrix), basis, num_probes=9, seed=4)
    assert first.frobenius_share == again.frobenius_share
    assert first.num_matvecs == 12


def test_overlap_of_subspaces() -> None:
    eye = torch.eye(4, dtype=torch.float64)
    rotation = _basis(2, 2)
    assert subspace_overlap(eye[:, :2], eye[:, :2] @ rotation) == pytest.approx(1.0)
    assert subspace_overlap(eye[:, :2], eye[:, 2:]) == 0.0
    assert subspace_overlap(eye[:, :2], eye[:, 1:3]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="differ in shape"):
        subspace_overlap(eye[:, :2], eye[:, :3])
    with pytest.raises(ValueError, match=r"not orthonormal.*torch\.linalg\.qr"):
        subspace_overlap(eye[:, :2], torch.ones(4, 2))


@pytest.mark.parametrize(
    ("basis", "num_probes", "message"),
    [
        (torch.eye(3).double()[:, :2], 4, r"must be \(64, k\)"),
        (2 * _basis(64, 2), 4, "not orthonormal"),
        (_basis(64, 2) * math.nan, 4, "not orthonormal"),
        (_basis(64, 2), 1, "num_probes is 1"),
    ],
)
def test_refusals(matrix: Tensor, basis: Tensor, num_probes: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curvature_energy(MatrixOperator(matrix), basis, num_probes=num_probes)


def test_products_that_are_not_finite_are_refused() -> None:
    operator = MatrixOperator(torch.full((4, 4), math.inf, dtype=torch.float64))
    with pytest.raises(NonFiniteProductError):
        curvature_energy(operator, _basis(4, 1))
