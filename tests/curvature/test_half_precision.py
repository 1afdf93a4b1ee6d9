"""Operators in half precision. Oracle: torch.linalg.eigh of the same matrix in float64."""

import pytest
import torch
from torch import nn

from sharpflat.curvature import HessianOperator, MatrixOperator, top_eigenpairs

SPECTRA = {
    "outliers": torch.cat([torch.tensor([20.0, 14.0]), torch.linspace(-1, 2, 60)]),
    "close": torch.cat([torch.tensor([20.0, 14.0, 13.9]), torch.linspace(-1, 2, 60)]),
    "no gap": torch.linspace(-1, 1, 60),
}


@pytest.mark.parametrize("tol", [0.5, 0.05, 1e-3])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pairs_without_a_claim(matrix_with, dtype, name, tol):
    matrix = matrix_with(SPECTRA[name].double())[0].matrix.to(dtype)
    expected = torch.linalg.eigvalsh(matrix.double()).flip(0)[:2]
    found = top_eigenpairs(MatrixOperator(matrix), 2, tol=tol)
    assert not found.converged
    assert found.eigenvectors.dtype == torch.float32
    gram = found.eigenvectors.T @ found.eigenvectors
    assert torch.allclose(gram, torch.eye(2), rtol=0, atol=1e-6)
    level = max(16 * torch.finfo(dtype).eps, tol**2) * float(matrix.double().norm(p=2))
    assert torch.allclose(found.eigenvalues, expected, rtol=0, atol=level)
    assert found.num_matvecs <= 120  # it does not go on below the rounding of the products


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model(dtype):
    """Oracle: the same parameters in float64; the pairs are there, and do not claim too much."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    inputs, targets = torch.randn(40, 6).to(dtype), torch.randn(40, 2).to(dtype)

    def loss(outputs, targets):
        return (outputs.double() - targets.double()).square().sum(1).mean()

    found = top_eigenpairs(HessianOperator(model, loss, inputs, targets), 2, tol=1e-3)
    exact = HessianOperator(model.double(), loss, inputs.double(), targets.double())
    expected = top_eigenpairs(exact, 2)
    level = 16 * torch.finfo(dtype).eps * float(expected.eigenvalues[0])
    assert torch.allclose(found.eigenvalues, expected.eigenvalues, rtol=0, atol=level)
    assert not found.converged
