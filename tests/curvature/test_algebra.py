"""Operators made of others. Oracle: dense matrices in float64."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh, svds

from sharpflat.curvature import GGNOperator, HessianOperator, MatrixOperator, top_eigenpairs
from sharpflat.curvature.algebra import PreconditionedOperator, combination

from .dense import dense

EIGENVALUES = torch.linspace(-5, 3, 30, dtype=torch.float64)


def test_combinations_of_matrices(matrix_with):
    A, B = (matrix_with(EIGENVALUES, seed)[0].matrix for seed in (0, 1))
    first, second = MatrixOperator(A), MatrixOperator(B)
    eye = torch.eye(30, dtype=torch.float64)
    combined = combination((2.0, first), (-0.5, second), shift=3.0)
    assert torch.allclose(dense(combined), 2 * A - 0.5 * B + 3 * eye)
    assert torch.allclose(dense(-combined), -dense(combined))
    assert torch.allclose(dense(combined / 4), dense(combined) / 4)
    assert torch.allclose(dense(2 * combined - combined * 3 + second), B - dense(combined))


def test_functional_part_of_a_model(case_without_attention):
    """H - G is F, whose definition the oracle of the case spells out."""
    case = case_without_attention
    H, G = HessianOperator(*case.arguments), GGNOperator(*case.arguments)
    functional = combination((1.0, H), (-1.0, G))
    assert torch.allclose(dense(functional), case.hessian() - case.ggn(), atol=1e-10)


def test_preconditioned_eigenvalues(matrix_with):
    """Oracle: those of D⁻¹ A, which is not symmetric, by torch.linalg.eigvals."""
    A = matrix_with(EIGENVALUES)[0].matrix
    diagonal = torch.linspace(0.1, 4, 30, dtype=torch.float64)
    found = top_eigenpairs(PreconditionedOperator(MatrixOperator(A), diagonal), 3, tol=1e-6)
    expected = torch.linalg.eigvals(A / diagonal[:, None]).real.sort(descending=True).values
    assert torch.allclose(found.eigenvalues, expected[:3])


def test_smallest_eigenvalues_through_the_negative(matrix_with):
    operator, _ = matrix_with(EIGENVALUES)
    found = top_eigenpairs(combination((-1.0, operator)), 3, tol=1e-6)
    assert torch.allclose(-found.eigenvalues, EIGENVALUES[:3])


def test_scipy(matrix_with):
    """Oracle: the prescribed eigenvalues, and the matrix."""
    operator, _ = matrix_with(EIGENVALUES)
    linear = operator.to_scipy()
    found = eigsh(linear, k=3, which="LA", return_eigenvectors=False, v0=np.ones(30))
    assert np.allclose(np.sort(found), EIGENVALUES[-3:].numpy())
    block = np.random.default_rng(0).normal(size=(30, 4))
    assert np.allclose(linear @ block, operator.matrix.numpy() @ block)
    assert np.allclose(linear @ block[:, 0], operator.matrix.numpy() @ block[:, 0])


@pytest.mark.parametrize("diagonal", [torch.ones(3), torch.zeros(30), -torch.ones(30)])
def test_refuses_diagonals(matrix_with, diagonal):
    with pytest.raises(ValueError, match="the diagonal"):
        PreconditionedOperator(matrix_with(EIGENVALUES)[0], diagonal)


def test_refuses_what_does_not_add_up(matrix_with):
    first = matrix_with(EIGENVALUES)[0]
    with pytest.raises(ValueError, match="do not add up"):
        combination((1.0, first), (1.0, MatrixOperator(torch.eye(30))))
    with pytest.raises(ValueError, match="at least one"):
        combination()


def test_scipys_solvers(matrix_with):
    """Oracles: the matrix, its singular values; a complex vector's imaginary part is not lost."""
    operator, _ = matrix_with(EIGENVALUES)
    matrix, operator = operator.matrix, operator.to_scipy()
    largest = svds(operator, 2, return_singular_vectors=False)
    assert np.allclose(np.sort(largest), torch.linalg.svdvals(matrix)[:2].numpy()[::-1])
    ones = np.ones(30)
    assert np.allclose(operator.H @ ones, matrix.numpy() @ ones)
    with pytest.raises(ValueError, match="complex"):
        operator @ (ones + 1j)


def test_combinations_multiply(matrix_with):
    """Oracle: the matrix."""
    matrix, v = matrix_with(EIGENVALUES)[0].matrix, torch.ones(30, dtype=torch.float64)
    operator = 2 * MatrixOperator(matrix)
    assert torch.allclose(operator @ v, 2 * matrix @ v)
    assert torch.allclose(operator @ v[:, None], 2 * matrix @ v[:, None])


@pytest.mark.parametrize(
    "ask",
    [lambda A: A + 1.0, lambda A: A - 1.0, lambda A: combination((1.0, "A"))],
    ids=["plus", "minus", "text"],
)
def test_refuses_to_add_what_is_no_operator(matrix_with, ask):
    """Oracle: the documentation; a shift is an argument of its own."""
    with pytest.raises(TypeError, match="operator is a"):
        ask(matrix_with(EIGENVALUES)[0])
