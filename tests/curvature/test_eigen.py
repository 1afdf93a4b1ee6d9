"""The leading eigenpairs of prescribed spectra, of random matrices and of models."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from sharpflat.curvature import (
    EigenResult,
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    NonFiniteProductError,
    UnsupportedModelError,
    combination,
    curvature_energy,
    diagonal,
    spectral_density,
    top_eigenpairs,
    trace,
)
from sharpflat.curvature.krylov import rounding_of


def spectrum(*parts: Tensor | float) -> Tensor:
    return torch.cat([torch.as_tensor(part, dtype=torch.float64).reshape(-1) for part in parts])


BULK = torch.linspace(-0.5, 1, 50, dtype=torch.float64)
OUTLIERS = spectrum(torch.tensor([20.0, 14.0, 11.0, 7.0, 5.0]), BULK)


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Eigenvalues in descending order, and how many of them are asked for."""

    values: Tensor
    k: int

    @property
    def norm(self) -> float:
        return float(self.values.abs().max())


def case(k: int, *parts: Tensor | float) -> Spectrum:
    return Spectrum(values=spectrum(*parts).sort(descending=True).values, k=k)


SPECTRA = {
    "outliers and bulk": case(5, OUTLIERS),
    "k within the outliers": case(3, OUTLIERS),
    "k within the bulk": case(9, OUTLIERS),
    "double": case(3, torch.tensor([9.0, 9.0, 5.0]), BULK),
    "multiplicity 8": case(10, 12.0, torch.full((8,), 5.0), 3.0, BULK),
    "multiplicity 8, straddling k": case(6, 12.0, torch.full((8,), 5.0), BULK),
    "double, straddling k": case(2, torch.tensor([9.0, 5.0, 5.0]), BULK),
    "doubles all along": case(6, torch.arange(20).repeat_interleave(2)),
    "nearly double": case(3, torch.tensor([9.0, 5.0, 5.0 - 1e-9]), BULK),
    "nearly double, straddling k": case(2, torch.tensor([9.0, 5.0, 5.0 - 1e-9]), BULK),
    "largest magnitude negative": case(3, torch.tensor([-1000.0, -999.0, 5.0, 4.0, 3.0]), BULK),
    "all negative": case(4, -OUTLIERS - 1),
    "indefinite": case(5, OUTLIERS, -OUTLIERS),
    "no gap": case(6, torch.linspace(0, 1, 40)),
    "fast decay": case(6, torch.logspace(0, -12, 40, dtype=torch.float64)),
    "low rank": case(3, torch.tensor([5.0, 4.0, 3.0]), torch.zeros(40)),
    "k beyond the rank": case(6, torch.tensor([5.0, 4.0, 3.0]), torch.zeros(40)),
    "zero": case(3, torch.zeros(20)),
    "identity": case(3, torch.ones(20)),
    "minus identity": case(3, -torch.ones(20)),
    "k = P": case(12, torch.arange(12)),
    "k = P, multiples": case(12, torch.tensor([1.0, 2.0]).repeat(6)),
    "k = P - 1": case(11, torch.arange(12)),
    "P below k and oversampling": case(4, torch.arange(8)),
    "P = 1": case(1, torch.tensor([-2.0])),
    "tiny": case(5, 1e-12 * OUTLIERS),
    "huge": case(5, 1e12 * OUTLIERS),
}
every_spectrum = pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA.keys())


def assert_pairs(found: EigenResult, matrix: Tensor, expected: Spectrum) -> None:
    """The right eigenvalues with multiplicity, orthonormal vectors, true residuals."""
    values, vectors = found.eigenvalues, found.eigenvectors.double()
    k, scale = expected.k, max(expected.norm, 1e-300)
    assert torch.allclose(values, expected.values[:k], rtol=0, atol=1e-6 * scale)
    assert torch.allclose(vectors.T @ vectors, torch.eye(k, dtype=torch.float64), atol=1e-10)
    residuals = torch.linalg.vector_norm(matrix @ vectors - vectors * values, dim=0)
    assert torch.allclose(found.residuals, residuals, rtol=1e-3, atol=1e-12 * scale)
    assert (values[:-1] >= values[1:]).all()


@every_spectrum
@pytest.mark.parametrize("seed", [0, 1])
def test_prescribed_spectrum(matrix_with, spectrum, seed):
    """Oracle: the eigenvalues that the matrix was made of, counted with multiplicity."""
    operator, _ = matrix_with(spectrum.values, seed)
    found = top_eigenpairs(operator, spectrum.k, tol=1e-4, seed=seed, max_matvecs=500)
    assert found.converged
    assert found.num_matvecs == operator.products
    assert_pairs(found, operator.matrix, spectrum)


@every_spectrum
def test_tight_tolerance_is_reached_or_rounding_is(matrix_with, spectrum):
    """Oracle: as above; no tolerance may break the arithmetic of gaps that vanish."""
    operator, _ = matrix_with(spectrum.values, seed=2)
    found = top_eigenpairs(operator, spectrum.k, tol=1e-12, max_matvecs=500)
    assert found.converged
    assert_pairs(found, operator.matrix, spectrum)


OPEN_GAP = ["outliers and bulk", "multiplicity 8", "largest magnitude negative", "indefinite"]


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8])
@pytest.mark.parametrize("name", OPEN_GAP)
def test_subspace(matrix_with, sine, name, tol):
    """Oracle: the eigenvectors of torch.linalg.eigh; the span, since multiples have no vectors."""
    wanted = SPECTRA[name]
    operator, _ = matrix_with(wanted.values)
    expected = torch.linalg.eigh(operator.matrix)[1][:, -wanted.k :]
    found = top_eigenpairs(operator, wanted.k, tol=tol)
    assert found.converged
    assert sine(found.eigenvectors, expected) <= 1.5 * tol


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("start", ["cold", "warm"])
def test_error_estimate(matrix_with, sine, tol, seed, start):
    """Oracle: the true angle to the eigenvectors that the matrix was made of."""
    operator, Q = matrix_with(OUTLIERS, seed)
    turned = torch.linalg.qr(Q[:, :5] + 0.02 * torch.randn(55, 5, dtype=torch.float64))[0]
    initial = turned if start == "warm" else None
    found = top_eigenpairs(operator, 5, tol=tol, seed=seed, initial=initial)
    assert found.converged
    truth = sine(found.eigenvectors, Q[:, :5])
    assert truth / 2 <= found.error_estimate <= min(2 * truth, tol)


@pytest.mark.parametrize("limit", [6, 9, 11])
def test_too_few_products(matrix_with, limit):
    """Oracle: the residuals, which show that the pairs are not there yet."""
    operator, _ = matrix_with(OUTLIERS)
    found = top_eigenpairs(operator, 5, tol=1e-6, max_matvecs=limit)
    assert not found.converged
    assert found.num_matvecs == operator.products <= limit
    assert found.error_estimate > 1e-6
    assert found.eigenvectors.shape == (55, 5)


def test_limit_holds_for_a_wide_start_too(matrix_with):
    """Oracle: the products counted by the operator."""
    operator, _ = matrix_with(OUTLIERS)
    initial = torch.randn(55, 20, dtype=torch.float64)
    found = top_eigenpairs(operator, 5, initial=initial, max_matvecs=8)
    assert not found.converged
    assert found.num_matvecs == operator.products <= 8


def test_restarts_when_the_basis_is_full(matrix_with):
    """Oracle: the prescribed eigenvalues, close together and more products than the basis holds."""
    wanted = case(2, torch.linspace(0, 1, 300))
    operator, _ = matrix_with(wanted.values)
    found = top_eigenpairs(operator, 2, tol=1e-5, max_matvecs=2000)
    assert found.converged
    assert found.num_matvecs > 100
    assert_pairs(found, operator.matrix, wanted)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_warm_start_from_the_answer_is_cheap(matrix_with, k):
    """Oracle: the products of a cold solve."""
    operator, Q = matrix_with(OUTLIERS)
    cold = top_eigenpairs(operator, k)
    warm = top_eigenpairs(operator, k, initial=Q[:, :k])
    assert warm.converged
    assert warm.num_matvecs < cold.num_matvecs
    assert torch.allclose(warm.eigenvalues, OUTLIERS[:k])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_warm_start_from_other_eigenvectors_is_seen_through(matrix_with, k, seed):
    """Oracle: the prescribed eigenvalues; the start spans v_2 … v_{k+1}, exactly invariant."""
    operator, Q = matrix_with(OUTLIERS, seed)
    found = top_eigenpairs(operator, k, initial=Q[:, 1 : k + 1], seed=seed)
    assert found.converged
    assert torch.allclose(found.eigenvalues, OUTLIERS[:k], rtol=1e-5)


@pytest.mark.parametrize("width", [1, 3, 20, 60])
def test_start_of_any_width(matrix_with, width):
    """Oracle: the prescribed eigenvalues; 60 columns are more than P = 55."""
    operator, _ = matrix_with(OUTLIERS)
    found = top_eigenpairs(operator, 5, initial=torch.randn(55, width, dtype=torch.float64))
    assert found.converged
    assert torch.allclose(found.eigenvalues, OUTLIERS[:5], rtol=1e-5)


def test_start_in_float32_of_dependent_columns(matrix_with):
    """Oracle: the prescribed eigenvalues."""
    operator, _ = matrix_with(OUTLIERS)
    found = top_eigenpairs(operator, 5, initial=torch.randn(55, 2).repeat(1, 3))
    assert found.eigenvectors.dtype == torch.float64
    assert torch.allclose(found.eigenvalues, OUTLIERS[:5], rtol=1e-5)


def test_start_with_equal_ritz_values_and_large_residuals():
    """Oracle: torch.linalg.eigvalsh; the start's gap is exactly 0, a quotient by it overflows."""
    corner = 10 * torch.randn(3, 10, dtype=torch.float64)
    matrix = torch.zeros(13, 13, dtype=torch.float64)
    matrix[:3, :3] = 5 * torch.eye(3)
    matrix[:3, 3:], matrix[3:, :3] = corner, corner.T
    found = top_eigenpairs(MatrixOperator(matrix), 2, initial=torch.eye(13, 3))
    assert found.converged
    assert torch.allclose(found.eigenvalues, torch.linalg.eigvalsh(matrix).flip(0)[:2], rtol=1e-5)


def test_same_seed_same_bits(matrix_with):
    """Oracle: a second run; another seed takes another way to the same values."""
    first, second, other = (
        top_eigenpairs(matrix_with(OUTLIERS)[0], 5, seed=seed) for seed in (3, 3, 4)
    )
    assert torch.equal(first.eigenvectors, second.eigenvectors)
    assert torch.equal(first.eigenvalues, second.eigenvalues)
    assert first.num_matvecs == second.num_matvecs
    assert not torch.equal(first.eigenvectors, other.eigenvectors)


def test_global_random_state_is_neither_read_nor_moved(matrix_with):
    """Oracle: torch's own state, before and after."""
    before = torch.get_rng_state()
    first = top_eigenpairs(matrix_with(OUTLIERS)[0], 5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(top_eigenpairs(matrix_with(OUTLIERS)[0], 5).eigenvectors, first.eigenvectors)


@pytest.mark.parametrize("tol", [1e-2, 1e-3, 1e-12])
@pytest.mark.parametrize("name", OPEN_GAP)
def test_float32(matrix_with, sine, name, tol):
    """Oracle: the same matrix in float64; ‖H‖ / gap · ε bounds what float32 products can give."""
    wanted = SPECTRA[name]
    operator, Q = matrix_with(wanted.values)
    found = top_eigenpairs(MatrixOperator(operator.matrix.float()), wanted.k, tol=tol)
    assert found.converged
    assert found.eigenvectors.dtype == torch.float32
    scale = wanted.norm * torch.finfo(torch.float32).eps
    error = found.eigenvalues - wanted.values[: wanted.k]
    assert float(error.abs().max()) <= 20 * scale + tol**2 * wanted.norm
    gap = float(wanted.values[wanted.k - 1] - wanted.values[wanted.k])
    noise = 20 * math.sqrt(wanted.k) * scale / gap
    assert sine(found.eigenvectors.double(), Q[:, : wanted.k]) <= 1.5 * tol + noise


@given(
    values=st.lists(st.integers(-2, 2) | st.floats(-10, 10, width=32), min_size=1, max_size=40),
    data=st.data(),
    seed=st.integers(0, 2**32),
)
def test_random_matrices(matrix_with, values, data, seed):
    """Oracle: torch.linalg.eigvalsh; values are drawn from few, so that many are multiples."""
    operator, _ = matrix_with(torch.tensor(values, dtype=torch.float64), seed)
    k = data.draw(st.integers(1, len(values)))
    found = top_eigenpairs(operator, k, seed=seed, max_matvecs=2000)
    expected = torch.linalg.eigvalsh(operator.matrix).flip(0)
    assert found.converged
    assert_pairs(found, operator.matrix, Spectrum(values=expected, k=k))


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator])
def test_model(case, sine, kind):
    """Oracle: torch.linalg.eigh of the case's own dense matrix."""
    values, vectors = torch.linalg.eigh(
        case.hessian() if kind is HessianOperator else case.ggn(), UPLO="U"
    )
    found = top_eigenpairs(kind(*case.arguments), 3, tol=1e-4)
    assert found.converged
    assert torch.allclose(found.eigenvalues, values.flip(0)[:3], rtol=1e-6)
    assert sine(found.eigenvectors, vectors[:, -3:]) <= 2e-4


def test_model_against_scipy(case):
    """Oracle: SciPy's eigsh, largest algebraic, on the same products."""
    operator = HessianOperator(*case.arguments)
    linear = LinearOperator(
        operator.shape, lambda v: (operator @ torch.from_numpy(v.ravel())).numpy(), dtype=np.float64
    )
    expected = eigsh(linear, k=4, which="LA", tol=1e-12, return_eigenvectors=False, v0=case.theta)
    found = top_eigenpairs(operator, 4, tol=1e-5)
    assert found.converged
    assert np.allclose(found.eigenvalues, np.sort(expected)[::-1], rtol=1e-8)


@every_spectrum
@pytest.mark.parametrize("which", ["smallest", "magnitude"])
def test_other_ends(matrix_with, spectrum, which):
    """Oracle: the eigenvalues that the matrix was made of, and residuals with the matrix."""
    operator, _ = matrix_with(spectrum.values, seed=3)
    found = top_eigenpairs(operator, spectrum.k, which=which, tol=1e-4, max_matvecs=500)
    assert found.converged
    assert found.num_matvecs == operator.products
    rank = -spectrum.values if which == "smallest" else spectrum.values.abs()
    heights = -found.eigenvalues if which == "smallest" else found.eigenvalues.abs()
    k, scale = spectrum.k, max(spectrum.norm, 1e-300)
    expected = rank.sort(descending=True).values
    assert torch.allclose(heights, expected[:k], rtol=0, atol=1e-6 * scale)
    left_out = -found.next_eigenvalue if which == "smallest" else abs(found.next_eigenvalue)
    assert not k < len(expected) or left_out <= expected[k] + 1e-6 * scale
    vectors = found.eigenvectors
    assert torch.allclose(vectors.T @ vectors, torch.eye(k, dtype=torch.float64), atol=1e-10)
    residuals = operator.matrix @ vectors - vectors * found.eigenvalues
    norms = torch.linalg.vector_norm(residuals, dim=0)
    assert torch.allclose(found.residuals, norms, rtol=1e-3, atol=1e-12 * scale)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [2, 5])
def test_eigenspace_of_largest_magnitude(matrix_with, sine, k, seed):
    """Oracle: the eigenvectors that the matrix was made of, from both ends."""
    generator = torch.Generator().manual_seed(seed)
    outliers = 20 * torch.randn(6, generator=generator, dtype=torch.float64)
    eigenvalues = spectrum(outliers, BULK)
    operator, Q = matrix_with(eigenvalues, seed)
    found = top_eigenpairs(operator, k, which="magnitude", tol=1e-5, seed=seed)
    leading = eigenvalues.abs().argsort(descending=True)[: k + 1]
    assert found.converged
    assert torch.allclose(found.eigenvalues, eigenvalues[leading[:k]], atol=1e-7)
    assert sine(Q[:, leading[:k]], found.eigenvectors) <= 1.5e-5
    assert found.next_eigenvalue == pytest.approx(float(eigenvalues[leading[k]]), abs=1.0)


@pytest.mark.parametrize("which", ["smallest", "magnitude"])
@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator, FunctionalHessianOperator])
def test_other_ends_of_a_model(mlp, kind, which):
    """Oracle: dense matrices from torch.autograd.functional and their eigenvalues by LAPACK."""
    H, G = mlp.hessian(), mlp.ggn()
    dense = {HessianOperator: H, GGNOperator: G, FunctionalHessianOperator: H - G}[kind]
    found = top_eigenpairs(kind(*mlp.arguments), 3, which=which, tol=1e-6)
    values = torch.linalg.eigvalsh(dense)
    leading = (values if which == "smallest" else -values.abs()).argsort()[:3]
    assert torch.allclose(found.eigenvalues, values[leading], atol=1e-10)


BAD_ARGUMENTS = {
    "which unknown": ({"which": "LM"}, "which is 'LM'; allowed are largest, smallest, magnitude"),
    "k of 0": ({"k": 0}, "k is 0; a 55-dimensional matrix allows the integers 1"),
    "half a k": ({"k": 2.5}, "k is 2.5; a 55-dimensional matrix allows the integers 1"),
    "k as half a tensor": ({"k": torch.tensor(2.5)}, r"k is tensor\(2.5"),
    "k as text": ({"k": "5"}, "k is '5'; a 55-dimensional matrix allows the integers 1"),
    "k above P": ({"k": 56}, "k is 56; a 55-dimensional matrix"),
    "tol of 0": ({"tol": 0.0}, "tol is 0.0, the sine of an angle"),
    "tol of 1": ({"tol": 1.0}, "tol is 1.0"),
    "tol not a number": ({"tol": math.nan}, "tol is nan"),
    "start of another length": ({"initial": torch.ones(9, 2)}, r"\(9, 2\); it must be \(55, m\)"),
    "start of one dimension": ({"initial": torch.ones(55)}, r"\(55,\); it must be \(55, m\)"),
    "empty start": ({"initial": torch.ones(55, 0)}, "initial"),
    "start of zeros": ({"initial": torch.zeros(55, 2)}, "initial"),
    "start that is not finite": ({"initial": torch.full((55, 2), math.nan)}, "initial"),
    "products below k + 1": ({"max_matvecs": 5}, "max_matvecs is 5; k = 5 needs at least k"),
    "products not a number": ({"max_matvecs": math.nan}, "max_matvecs is nan"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_refuses_bad_arguments(matrix_with, name):
    """Oracle: the documented ValueError, and that it came before any product."""
    changed, message = BAD_ARGUMENTS[name]
    operator, _ = matrix_with(OUTLIERS)
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(operator, **({"k": 5} | changed))
    assert operator.products == 0


def test_operator_that_is_not_finite():
    """Oracle: the documented error."""
    with pytest.raises(NonFiniteProductError):
        top_eigenpairs(MatrixOperator(torch.full((6, 6), math.nan)), 2)


def asymmetric(dtype: torch.dtype, share: float = 0.1) -> Tensor:
    noise = torch.randn(2, 30, 30, dtype=torch.float64)
    return (noise[0] + noise[0].T + share * noise[1]).to(dtype)


class Products:
    """A matrix that is known by its products alone."""

    def __init__(self, matrix: Tensor, *, writes: bool = False) -> None:
        self.matrix, self.writes = matrix, writes
        self.shape, self.dtype, self.device = tuple(matrix.shape), matrix.dtype, matrix.device

    def matmat(self, V: Tensor) -> Tensor:
        return self.matrix @ (V.mul_(2) if self.writes else V)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "ask",
    [
        lambda operator: top_eigenpairs(operator, 2),
        lambda operator: top_eigenpairs(operator, 2, which="magnitude"),
        trace,
        diagonal,
        spectral_density,
        lambda operator: curvature_energy(operator, torch.eye(30, 4, dtype=operator.dtype)),
    ],
)
def test_refuses_an_operator_that_is_not_symmetric(dtype, ask):
    """Oracle: its transpose."""
    with pytest.raises(ValueError, match=r"is not symmetric.*second derivative is wrong"):
        ask(Products(asymmetric(dtype)))


def test_rounding_is_no_asymmetry(monkeypatch):
    """Oracle: H is symmetric; a softmax this near to 0 and 1 holds little but rounding of it."""
    asked = []

    def counted(*arguments):
        asked.append(rounding_of(*arguments))
        return asked[-1]

    monkeypatch.setattr("sharpflat.curvature.krylov.rounding_of", counted)
    labels = torch.arange(200) % 10
    x = torch.eye(10)[labels] + 0.05 * torch.randn(200, 10)
    model = torch.nn.Linear(10, 10)
    model.load_state_dict({"weight": 22 * torch.eye(10), "bias": torch.zeros(10)})
    hessian = HessianOperator(model, torch.nn.functional.cross_entropy, x, labels)
    top_eigenpairs(hessian, 2, max_matvecs=40)
    assert len(asked) == 1  # it looked asymmetric, and no further product was spent on that


def test_refuses_products_that_write_into_the_vectors():
    """Oracle: the solver's basis would be another one afterwards."""
    matrix = torch.diag(torch.arange(9.0))
    with pytest.raises(ValueError, match=r"matmat of Products writes into the vec.*V\.clone\(\)"):
        top_eigenpairs(Products(matrix, writes=True), 2)


def test_refuses_products_whose_squares_vanish(matrix_with):
    """Oracle: the eigenvalues, once multiplied as the message says."""
    operator, _ = matrix_with(1e-200 * torch.arange(1, 10, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"squares vanish in float64.*1e150 \* operator"):
        top_eigenpairs(operator, 1)
    scaled = top_eigenpairs(combination((1e150, operator)), 1)
    assert float(scaled.eigenvalues) == pytest.approx(9e-50)


def test_refuses_autocast(matrix_with):
    """Oracle: the basis of a solve in bfloat16 is orthonormal to 5e-3."""
    operator, _ = matrix_with(torch.arange(9, dtype=torch.float32))
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(UnsupportedModelError, match="outside of it"),
    ):
        top_eigenpairs(operator, 2)


@pytest.mark.parametrize("matrix", [asymmetric(torch.float64), torch.eye(3, dtype=torch.int64)])
def test_refuses_matrices(matrix):
    """Oracle: the documented ValueError."""
    with pytest.raises(ValueError, match=r"not symmetric|it must be floating point"):
        MatrixOperator(matrix)
