"""Estimates of trace and diagonal. Oracles: dense matrices in float64, and analytic variances."""

import math

import pytest
import torch

from sharpflat.curvature import (
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    NonFiniteProductError,
    diagonal,
    trace,
)

BULK = torch.linspace(-0.5, 1, 60, dtype=torch.float64)
OUTLIERS = torch.cat([torch.tensor([20.0, -14.0, 11.0, 7.0, 5.0], dtype=torch.float64), BULK])
SPECTRA = {"outliers": OUTLIERS, "a double outlier": torch.cat([OUTLIERS[:1], OUTLIERS])}
NUM_MATVECS, SEEDS = 30, range(150)


@pytest.mark.parametrize("eigenvalues", SPECTRA.values(), ids=SPECTRA.keys())
def test_standard_errors(matrix_with, eigenvalues):
    """Oracle: the matrix. Squared standard errors are what squared errors are, on average."""
    operator, _ = matrix_with(eigenvalues)
    exact = operator.matrix.diagonal()
    traces = [trace(operator, num_matvecs=NUM_MATVECS, seed=seed) for seed in SEEDS]
    assert operator.products == NUM_MATVECS * len(SEEDS)
    errors = torch.tensor([found.value for found in traces]) - float(exact.sum())
    standard_errors = torch.tensor([found.standard_error for found in traces])
    assert float(errors.square().mean() / standard_errors.square().mean()) == pytest.approx(1, 0.4)
    assert abs(float(errors.mean() / errors.std())) < 3 / math.sqrt(len(SEEDS))
    diagonals = [diagonal(operator, num_matvecs=NUM_MATVECS, seed=seed) for seed in SEEDS]
    errors = torch.stack([found.values for found in diagonals]) - exact
    standard_errors = torch.stack([found.standard_errors for found in diagonals])
    assert float(errors.square().mean() / standard_errors.square().mean()) == pytest.approx(1, 0.1)
    assert operator.products == 2 * NUM_MATVECS * len(SEEDS)


def test_outliers_do_not_matter(matrix_with):
    """Oracle: Hutchinson's analytic variance, ``2 (‖A‖_F² - Σ a_ii²)`` a probe."""
    operator, _ = matrix_with(OUTLIERS)
    A = operator.matrix
    variance = 2 * float(A.square().sum() - A.diagonal().square().sum()) / NUM_MATVECS
    errors = [
        trace(operator, num_matvecs=NUM_MATVECS, seed=seed).value - float(A.trace())
        for seed in SEEDS[:50]
    ]
    assert float(torch.tensor(errors).square().mean()) < variance / 9


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator, FunctionalHessianOperator])
def test_curvature(mlp, kind):
    """Oracle: ``torch.autograd.functional``; exact once the Krylov space is all of the space."""
    H, G = mlp.hessian(), mlp.ggn()
    dense = {HessianOperator: H, GGNOperator: G, FunctionalHessianOperator: H - G}[kind]
    operator, scale = kind(*mlp.arguments), float(dense.abs().max())
    few, all_of_it = (trace(operator, num_matvecs=count) for count in (20, 2 * len(dense) + 4))
    assert abs(few.value - float(dense.trace())) < 4 * few.standard_error
    assert few.standard_error > 1e-4 * scale
    assert all_of_it.value == pytest.approx(float(dense.trace()), abs=1e-10 * scale)
    assert all_of_it.standard_error < 1e-10 * scale
    found = diagonal(operator, num_matvecs=2 * len(dense) + 4)
    assert torch.allclose(found.values, dense.diagonal(), atol=1e-10 * scale)
    assert float(found.standard_errors.max()) < 1e-10 * scale


@pytest.mark.parametrize("num_matvecs", [4, 5, 21])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_diagonal_adds_up_to_the_trace(matrix_with, num_matvecs, dtype):
    """Oracle: algebra; with one seed both take the same vectors."""
    operator = MatrixOperator(matrix_with(OUTLIERS)[0].matrix.to(dtype))
    whole = trace(operator, num_matvecs=num_matvecs, seed=7).value
    parts = diagonal(operator, num_matvecs=num_matvecs, seed=7)
    assert parts.values.dtype == parts.standard_errors.dtype == torch.float64
    assert float(parts.values.sum()) == pytest.approx(whole, rel=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("estimate", [trace, diagonal])
def test_refusals(estimate):
    """Oracle: the documented errors."""
    with pytest.raises(ValueError, match="num_matvecs is 3; a standard error needs at least 4"):
        estimate(MatrixOperator(torch.eye(5)), num_matvecs=3)
    with pytest.raises(NonFiniteProductError):
        estimate(MatrixOperator(torch.full((6, 6), math.inf)))


@pytest.mark.parametrize("matrix", [torch.zeros(5, 5), -3 * torch.eye(5), torch.full((1, 1), 2.0)])
def test_matrices_that_a_krylov_space_exhausts(matrix):
    """Oracle: the matrix; Krylov spaces of one vector each, until they are all of the space."""
    found = diagonal(MatrixOperator(matrix.double()), num_matvecs=10)
    assert torch.allclose(found.values, matrix.double().diagonal(), atol=1e-12)
    assert trace(MatrixOperator(matrix.double()), num_matvecs=10).value == pytest.approx(
        float(matrix.trace()), abs=1e-12
    )
