"""The relation H Q = [Q F] M after every operation, judged by what the basis hands out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sharpflat.curvature import MatrixOperator, NonFiniteProductError
from sharpflat.curvature.krylov import KrylovBasis

OPERATIONS = ["expand one", "expand all", "random", "block", "rotate", "restart"]


def columns(basis: KrylovBasis) -> Tensor:
    """``[Q F]``."""
    return torch.cat(
        [
            basis.vectors(torch.eye(basis.num_expanded, dtype=torch.float64)),
            basis.pending_vectors(torch.eye(basis.num_pending, dtype=torch.float64)),
        ],
        dim=1,
    )


def assert_holds(basis: KrylovBasis, matrix: Tensor, tolerance: float) -> None:
    Q = columns(basis)
    eye = torch.eye(Q.shape[1], dtype=Q.dtype)
    assert torch.allclose(Q.T @ Q, eye, rtol=0, atol=tolerance)
    values, coordinates, residuals = basis.ritz()
    vectors = basis.vectors(coordinates)
    left = vectors * values.to(Q) + basis.pending_vectors(residuals)
    scale = float(torch.linalg.matrix_norm(matrix, 2))
    assert torch.allclose(matrix @ vectors, left, rtol=0, atol=tolerance * max(scale, 1e-300))
    assert torch.allclose(basis.images(coordinates), left, rtol=0, atol=tolerance * scale)


def operate(basis: KrylovBasis, operation: str, generator: torch.Generator) -> None:
    size, pending = basis.operator.shape[0], basis.num_pending
    if operation == "random" and basis.num_expanded + pending < size:
        basis.add_random()
    elif operation == "block":
        block = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        block[:, 1] = 2 * block[:, 0]  # of rank 2
        basis.add_pending(block)
    elif operation == "restart" and basis.num_expanded > 2:
        basis.restart(2)
    elif operation == "rotate" and pending:
        noise = torch.randn(pending, pending, generator=generator, dtype=torch.float64)
        basis.rotate_pending(torch.linalg.qr(noise)[0])
    elif operation.startswith("expand") and pending:
        basis.expand(pending if operation == "expand all" else 1)


@given(
    eigenvalues=st.lists(st.integers(-3, 3) | st.floats(-9, 9, width=32), min_size=1, max_size=14),
    operations=st.lists(st.sampled_from(OPERATIONS), max_size=12),
    seed=st.integers(0, 99),
)
def test_relation_survives_every_operation(matrix_with, eigenvalues, operations, seed):
    """Oracle: the matrix itself; spectra with zeros and multiples make products dependent."""
    operator, _ = matrix_with(torch.tensor(eigenvalues, dtype=torch.float64), seed)
    generator = torch.Generator().manual_seed(seed)
    basis = KrylovBasis(operator, generator)
    basis.add_random()
    expanded = 0
    for operation in ["expand one", *operations]:
        before = basis.num_expanded
        operate(basis, operation, generator)
        expanded += max(basis.num_expanded - before, 0)
        assert_holds(basis, operator.matrix, 1e-10)
    assert basis.num_matvecs == operator.products == expanded
    assert basis.num_expanded + basis.num_pending <= len(eigenvalues)


def test_expand_takes_the_first_pending_column(matrix_with):
    """Oracle: H times the column itself; the rest of the pending columns stay pending."""
    operator, _ = matrix_with(torch.arange(9, dtype=torch.float64))
    basis = KrylovBasis(operator, torch.Generator().manual_seed(0))
    basis.add_pending(torch.eye(9, 3, dtype=torch.float64))
    basis.expand(1)
    chosen = basis.vectors(torch.eye(1, dtype=torch.float64))[:, 0]
    assert torch.equal(chosen, torch.eye(9, dtype=torch.float64)[0])
    assert basis.num_pending == 3


def test_a_random_column_may_lie_in_the_others(matrix_with):
    """Oracle: the dot product; what a search looks for may be a residual that is still pending."""
    operator, _ = matrix_with(torch.arange(9, dtype=torch.float64))
    basis = KrylovBasis(operator, torch.Generator().manual_seed(0))
    basis.add_pending(torch.eye(9, 3, dtype=torch.float64))
    basis.add_random()
    first = basis.pending_vectors(torch.eye(4, 1, dtype=torch.float64))[:, 0]
    assert float(torch.linalg.vector_norm(first[:3])) > 0.1
    assert basis.num_pending == 4
    assert_holds(basis, operator.matrix, 1e-10)


def test_ritz_values_descend_and_restart_keeps_the_first(matrix_with):
    """Oracle: torch.linalg.eigvalsh of the compressed matrix."""
    operator, _ = matrix_with(torch.linspace(-4, 3, 20, dtype=torch.float64))
    basis = KrylovBasis(operator, torch.Generator().manual_seed(0))
    basis.add_random()
    for _ in range(6):
        basis.expand(1)
    Q = basis.vectors(torch.eye(6, dtype=torch.float64))
    expected = torch.linalg.eigvalsh(Q.T @ operator.matrix @ Q).flip(0)
    assert torch.allclose(basis.ritz()[0], expected)
    basis.restart(4)
    assert torch.allclose(basis.ritz()[0], expected[:4])
    assert basis.num_expanded == 4


@pytest.mark.parametrize("noise", [1e-10, 1e-13, 1e-15])
def test_nearly_dependent_products_leave_the_basis_orthonormal(noise):
    """Oracle: Q and F by definition; H is of rank 1 but for the noise, products almost parallel."""
    u, rest = torch.randn(40, 1, dtype=torch.float64), torch.randn(40, 40, dtype=torch.float64)
    matrix = u @ u.T / 40 + noise * (rest + rest.T)
    basis = KrylovBasis(MatrixOperator(matrix), torch.Generator().manual_seed(0))
    basis.add_pending(torch.randn(40, 4, dtype=torch.float64))
    basis.expand(4)
    assert_holds(basis, matrix, 1e-10)


@pytest.mark.parametrize("noise", [1e-4, 1e-5, 3e-6])
def test_nearly_dependent_start_leaves_the_basis_orthonormal_in_float32(noise):
    """Oracle: as above."""
    basis = KrylovBasis(MatrixOperator(torch.eye(40)), torch.Generator().manual_seed(0))
    basis.add_pending(torch.randn(40, 4))
    basis.expand(basis.num_pending)
    block = torch.randn(40, 3)
    basis.add_pending(torch.cat([block, block[:, :1] + noise * torch.randn(40, 1)], dim=1))
    assert_holds(basis, torch.eye(40), 1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_product_that_is_not_finite(bad):
    """Oracle: the documented error, which is an ArithmeticError to those who catch divergence."""
    matrix = torch.eye(5)
    matrix[2, 3] = bad
    basis = KrylovBasis(MatrixOperator(matrix), torch.Generator().manual_seed(0))
    basis.add_random()
    with pytest.raises(NonFiniteProductError, match="the parameters have diverged"):
        basis.expand(1)
    assert issubclass(NonFiniteProductError, FloatingPointError)
