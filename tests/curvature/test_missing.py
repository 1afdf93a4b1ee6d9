"""No eigenvalue is missing where the solver says `converged`, over spectra made to hide some."""

from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sharpflat.curvature import EigenResult, MatrixOperator, top_eigenpairs

K, TOL = 2, 0.05


class DiagonalOperator:
    """A diagonal matrix; random starts make its eigenvectors as good as any."""

    def __init__(self, eigenvalues: Tensor) -> None:
        self.eigenvalues = eigenvalues
        self.shape = (len(eigenvalues), len(eigenvalues))
        self.dtype, self.device = eigenvalues.dtype, eigenvalues.device

    def matmat(self, V: Tensor) -> Tensor:
        return self.eigenvalues[:, None] * V


def double_above_bulk(gap: float, seed: int) -> DiagonalOperator:
    """``λ_1 = λ_2 = 1 + gap`` above 998 eigenvalues that are uniform in [-1, 1]."""
    generator = torch.Generator().manual_seed(1000 + seed)
    eigenvalues = 2 * torch.rand(1000, generator=generator, dtype=torch.float64) - 1
    eigenvalues[:2] = 1 + gap
    return DiagonalOperator(eigenvalues)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gap", [0.05, 0.02])
def test_double_eigenvalue_close_above_a_bulk(gap, seed):
    """Oracle: the first two axes, which span the eigenspace."""
    found = top_eigenpairs(double_above_bulk(gap, seed), K, tol=TOL, seed=seed)
    assert found.converged
    assert float(torch.linalg.matrix_norm(found.eigenvectors[2:])) <= 1.5 * TOL


@pytest.mark.parametrize("seed", range(3))
def test_search_cut_off_by_the_limit_is_no_convergence(seed):
    """Oracle: the same solve without a limit, whose last products are the search's."""
    operator = double_above_bulk(0.1, seed)
    needed = top_eigenpairs(operator, K, tol=TOL, seed=seed).num_matvecs
    cut = top_eigenpairs(operator, K, tol=TOL, seed=seed, max_matvecs=needed - 1)
    assert not cut.converged
    assert cut.num_matvecs == needed - 1


@pytest.mark.parametrize("seed", range(6))
def test_block_that_is_invariant_but_not_the_highest(seed):
    """Oracle: the first two axes; the start holds λ_1 and λ_3 … λ_6 and cannot see the second."""
    eigenvalues = torch.cat([torch.tensor([9.0, 8.0, 7.0, 6.0, 5.0, 4.0]), torch.rand(300)])
    start = torch.eye(306, dtype=torch.float64)[:, [0, 2, 3, 4, 5]]
    found = top_eigenpairs(DiagonalOperator(eigenvalues.double()), K, initial=start, seed=seed)
    assert found.converged
    assert found.eigenvalues.tolist() == pytest.approx([9.0, 8.0])
    assert found.num_matvecs <= 16  # 5 of the block, the search, and what it found


PARTS = st.one_of(
    st.floats(-3, 3, width=32).map(lambda value: [value]),
    # Multiples, and clusters down to where float32 cannot tell them from multiples.
    st.builds(
        lambda value, width, count: [value + width * i / count for i in range(count)],
        st.floats(-3, 3, width=32),
        st.sampled_from([0.0, 1e-9, 1e-6, 1e-3, 0.1]),
        st.integers(2, 6),
    ),
    st.builds(  # a bulk
        lambda value, count: [value * (i / count - 0.5) for i in range(count)],
        st.floats(0.01, 3),
        st.integers(5, 40),
    ),
)


def assert_right(found: EigenResult, matrix: Tensor, k: int, tol: float) -> None:
    """The sine to the eigenspace, where eigenvalues that cannot be told apart may stand in.

    Rounding of the products moves eigenvalues by its level ε ‖H‖, with ε of the matrix's dtype, and
    where residuals have reached that level the eigenspace is as sharp as `error_estimate` says.
    A Rayleigh quotient is off by the square of the sine, times the width of the spectrum.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    values, vectors = values.flip(0), vectors.flip(1)
    width = float(values[0] - values[-1])
    rounding = 32 * torch.finfo(matrix.dtype).eps * float(values.abs().max())
    error = (values[:k] - found.eigenvalues).abs().max()
    assert float(error) <= 1.5 * tol**2 * width + rounding
    shares = vectors.T @ found.eigenvectors.double()
    outside = shares[values < values[k - 1] - rounding]
    required = values > values[k - 1] + rounding
    missing = float(required.sum()) - float(shares[required].square().sum())
    sine = max(float(torch.linalg.matrix_norm(outside)), max(missing, 0.0) ** 0.5)
    assert sine <= 1.5 * max(tol, found.error_estimate) + rounding


@settings(max_examples=60)
@given(
    parts=st.lists(PARTS, min_size=1, max_size=6),
    from_the_top=st.integers(1, 12),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    tol=st.sampled_from([0.05, 1e-3]),
    seed=st.integers(0, 2**31),
)
def test_random_spectra(matrix_with, parts, from_the_top, dtype, tol, seed):
    """Oracle: torch.linalg.eigh in float64 of the very matrix that was multiplied."""
    eigenvalues = torch.tensor(list(chain(*parts)), dtype=torch.float64)
    k = min(from_the_top, len(eigenvalues))
    matrix = matrix_with(eigenvalues, seed)[0].matrix.to(dtype)
    found = top_eigenpairs(MatrixOperator(matrix), k, tol=tol, seed=seed)
    if found.converged:
        assert_right(found, matrix, k, tol)
    # No other reason to give up.
    assert found.converged or found.num_matvecs == 20 * (k + 20)
