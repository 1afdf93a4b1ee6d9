"""Sums over many parameters. Oracle: NumPy in float64, and matrices whose products are exact."""

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpflat.curvature import top_eigenpairs
from sharpflat.curvature.inner import combine, inner, norms

P = 1_000_000


class DecayingLowRank:
    """``D + U diag(λ) Uᵀ``, multiplied in float64 with entries rounded once to float32.

    The entries of U fall from the first parameter to the last, as they do from a network's few
    normalisation weights to its many others: sums that start large lose what comes after.
    """

    shape, dtype, device = (P, P), torch.float32, torch.device("cpu")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        factors = torch.randn(P, 3, generator=generator).abs() * torch.logspace(0, -5, P)[:, None]
        self.factors = (factors / torch.linalg.vector_norm(factors, dim=0)).double()
        self.diagonal = (torch.rand(P, 1, generator=generator) - 0.5).double()

    def exactly(self, V: Tensor) -> Tensor:
        weights = torch.tensor([[20.0], [14.0], [9.0]], dtype=torch.float64)
        return self.diagonal * V + self.factors @ (weights * (self.factors.T @ V))

    def matmat(self, V: Tensor) -> Tensor:
        return self.exactly(V.double()).float()


@pytest.mark.parametrize("rows", [0, 1, 40_000, 2**15])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_products_with_tall_matrices(rows, dtype):
    """Oracle: NumPy, of as many rows as a block has, fewer and more."""
    a, b = torch.randn(rows, 4).to(dtype), torch.randn(3, rows).to(dtype).T
    wide_a, wide_b = a.double().numpy(), b.double().numpy()
    assert np.allclose(inner(a, b).numpy(), wide_a.T @ wide_b, rtol=1e-12, atol=1e-10)
    assert np.allclose(norms(a).numpy(), np.linalg.norm(wide_a, axis=0), rtol=1e-12)
    coordinates = torch.randn(4, 2, dtype=torch.float64)
    combined, expected = combine(a, coordinates), wide_a @ coordinates.numpy()
    assert combined.dtype == dtype
    tolerance = 8 * torch.finfo(dtype).eps
    assert np.allclose(combined.double().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_a_million_parameters_in_float32():
    """Oracle: float64 products with the same matrix."""
    operator = DecayingLowRank()
    found = top_eigenpairs(operator, 3, tol=1e-3)
    V = found.eigenvectors.double()
    assert found.converged
    assert float((V.T @ V - torch.eye(3, dtype=torch.float64)).abs().max()) < 1e-6
    truth = torch.linalg.vector_norm(operator.exactly(V) - V * found.eigenvalues, dim=0)
    assert bool((truth / 2 <= found.residuals).all() & (found.residuals <= 2 * truth).all())
