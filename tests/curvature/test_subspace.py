"""Tracking the Dominant subspace of operators that move in a known way, and of a model."""

import copy
import math
from pathlib import Path

import pytest
import torch
from curvature.rotating import OUTLIERS, K, RotatingMatrix, walk
from torch import nn

from sharpflat.curvature import (
    DominantSubspace,
    HessianOperator,
    NonFiniteProductError,
)
from sharpflat.tasks.losses import mse


@pytest.mark.parametrize("distance", [0.001, 0.005, 0.01, 0.02])
def test_adaptive_keeps_the_tolerance_with_few_products(sine, distance):
    """Oracle: the eigenvectors U(θ) themselves, and the products of refresh='every_step'."""
    adaptive = DominantSubspace(RotatingMatrix(), K)
    rows = walk(adaptive, sine, 200, distance)
    assert max(truth for truth, *_ in rows) <= 1.5 * adaptive.tol
    assert adaptive.num_matvecs == adaptive.operator.products
    every_step = DominantSubspace(RotatingMatrix(), K, refresh="every_step")
    walk(every_step, sine, 200, distance)
    assert adaptive.num_matvecs < 0.5 * every_step.num_matvecs


@pytest.mark.parametrize("tol", [0.01, 0.05, 0.2])
def test_error_estimate(sine, tol):
    """Oracle: the true angle, within a factor of 3 on (geometric) average."""
    rows = walk(DominantSubspace(RotatingMatrix(), K, tol=tol), sine, 100, 0.005)[20:]
    ratios = torch.tensor([estimate / truth for truth, estimate, _ in rows])
    assert 1 / 3 <= float(ratios.log().mean().exp()) <= 3
    assert float(torch.corrcoef(torch.tensor(rows).T[:2])[0, 1]) > 0.3


def test_basis_projection_and_alignment(sine):
    """Oracle: an orthogonal projector is symmetric and idempotent, with the span as its range."""
    subspace = DominantSubspace(RotatingMatrix(), K, tol=1e-6)
    subspace.operator.move(0.1)
    U = subspace.operator.vectors()
    assert sine(U[:, :K], subspace.basis) <= 1e-6
    assert torch.allclose(subspace.basis.T @ subspace.basis, torch.eye(K, dtype=torch.float64))
    assert torch.allclose(subspace.eigenvalues, OUTLIERS[:K])
    assert subspace.next_eigenvalue == pytest.approx(1, abs=0.05)
    v, w = torch.randn(2, 60, dtype=torch.float64)
    projected = subspace.project(v)
    assert torch.allclose(subspace.project(projected), projected)
    assert float(w @ projected) == pytest.approx(float(subspace.project(w) @ v))
    assert subspace.alignment(projected) == pytest.approx(1)
    assert subspace.alignment(U[:, 0] + U[:, 4]) == pytest.approx(1)
    assert subspace.alignment(v - projected) == pytest.approx(0, abs=1e-12)
    assert subspace.alignment(U[:, 0] + U[:, 9]) == pytest.approx(0.5**0.5, rel=1e-5)
    assert subspace.alignment(torch.zeros(60, dtype=torch.float64)) == 0


@pytest.mark.parametrize("refresh", ["adaptive", "every_step", 3])
def test_first_use_computes_the_basis(sine, refresh):
    """Oracle: the eigenvectors; no update was asked for."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=refresh)
    assert subspace.num_matvecs == subspace.operator.products == 0
    assert sine(subspace.operator.vectors()[:, :K], subspace.basis) <= subspace.tol


@pytest.mark.parametrize("refresh", ["adaptive", "every_step", 2])
def test_parameters_that_did_not_move_cost_nothing(sine, refresh):
    """Oracle: the operator's own count of products."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=refresh)
    for _ in range(3):
        subspace.operator.move(0.01)
        subspace.update()
        products, basis = subspace.operator.products, subspace.basis.clone()
        for _ in range(30):
            subspace.update()
        assert subspace.operator.products == products
        assert torch.equal(subspace.basis, basis)


@pytest.mark.parametrize(("refresh", "interval"), [("every_step", 1), (1, 1), (4, 4)])
def test_interval(sine, refresh, interval):
    """Oracle: products, used on updates 0, n, 2n, … and on no other; there the error is small."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=refresh)
    rows = walk(subspace, sine, 13, 0.02)
    assert [i for i, row in enumerate(rows) if row[2] > 0] == list(range(0, 13, interval))
    assert all(truth <= subspace.tol for truth, *_ in rows[::interval])


def test_error_estimate_grows_between_refreshes_of_an_interval(sine):
    """Oracle: the true angle, which grows with each step away from the last refresh."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=10, tol=0.01)
    rows = walk(subspace, sine, 40, 0.02)[30:]
    assert rows[-1][0] > 5 * rows[0][0]
    assert rows[-1][0] / 3 <= rows[-1][1] <= 3 * rows[-1][0]


@pytest.mark.parametrize("refresh", ["adaptive", "every_step"])
def test_jump_is_noticed(sine, refresh):
    """Oracle: the eigenvectors at parameters far from all that were seen before."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=refresh)
    walk(subspace, sine, 30, 0.005)
    subspace.operator.jump()
    assert sine(subspace.operator.vectors()[:, :K], subspace.basis) > 1
    subspace.update()
    assert sine(subspace.operator.vectors()[:, :K], subspace.basis) <= 1.5 * subspace.tol
    assert max(truth for truth, *_ in walk(subspace, sine, 30, 0.005)) <= 1.5 * subspace.tol


def test_refresh_converges_whatever_the_policy(sine):
    """Oracle: the eigenvectors; the next update at the same parameters is free."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=100)
    subspace.update()
    subspace.operator.move(0.2)
    found = subspace.refresh()
    assert found.converged
    assert found.num_matvecs > 0
    assert sine(subspace.operator.vectors()[:, :K], subspace.basis) <= subspace.tol
    products = subspace.operator.products
    subspace.update()
    assert subspace.operator.products == products


CLOSED_GAP = OUTLIERS.clone()
CLOSED_GAP[4] = CLOSED_GAP[5] = 5.0


@pytest.mark.filterwarnings("ignore:the Dominant subspace is known")
def test_closed_gap_is_neither_costly_nor_hidden(sine):
    """Oracle: λ_k = λ_{k+1} leaves the subspace undetermined, which no number of products cures."""
    subspace = DominantSubspace(RotatingMatrix(CLOSED_GAP), K)
    rows = walk(subspace, sine, 100, 0.005)
    every_step = DominantSubspace(RotatingMatrix(), K, refresh="every_step")
    walk(every_step, sine, 100, 0.005)
    assert sum(row[2] for row in rows) <= every_step.num_matvecs
    assert min(row[1] for row in rows) > subspace.tol
    # The vectors above the gap are determined all the same.
    sines = [sine(subspace.operator.vectors()[:, :4], subspace.basis)]
    assert max(sines) <= 1.5 * subspace.tol


SPECTRA = {
    "k = P": (3, torch.tensor([3.0, 2.0, 1.0])),
    "P = 1": (1, torch.tensor([2.0])),
    "k = P - 1": (2, torch.tensor([3.0, 2.0, 1.0])),
    "low rank": (2, torch.cat([torch.tensor([3.0, 2.0]), torch.zeros(10)])),
    "largest magnitude negative": (2, torch.cat([torch.tensor([3.0, 2.0, -50.0]), torch.zeros(9)])),
    "zero": (2, torch.zeros(6)),
}


@pytest.mark.parametrize("refresh", ["adaptive", "every_step", 3])
@pytest.mark.parametrize("name", SPECTRA)
def test_small_and_odd_spectra(sine, name, refresh):
    """Oracle: the eigenvectors U(θ), or for H = 0 only that the basis is orthonormal."""
    k, eigenvalues = SPECTRA[name]
    subspace = DominantSubspace(RotatingMatrix(eigenvalues.double()), k, refresh=refresh)
    rows = walk(subspace, sine, 60, 0.01)
    assert torch.allclose(subspace.basis.T @ subspace.basis, torch.eye(k, dtype=torch.float64))
    assert all(math.isfinite(estimate) for _, estimate, _ in rows)
    if k == len(eigenvalues) and refresh == "adaptive":
        assert sum(products for *_, products in rows[2:]) <= 5 * k  # the whole space does not turn
    if eigenvalues.any():
        assert max(truth for truth, *_ in rows) <= 1.5 * subspace.tol + 0.01 * (refresh == 3)


def test_eigenvalues_that_fall_below_the_old_bulk(sine):
    """Oracle: torch.linalg.eigh of a matrix that shrinks, below even the bulk of the last check."""
    subspace = DominantSubspace(RotatingMatrix(torch.tensor([3.0, 2.0, 1.9]).double()), 2)
    operator = subspace.operator
    for _ in range(40):
        operator.eigenvalues = operator.eigenvalues * 0.99
        operator.move(0.005)
        subspace.update()
        assert sine(operator.vectors()[:, :2], subspace.basis) <= 1.5 * subspace.tol


def test_parameters_that_come_back(sine):
    """Oracle: the eigenvectors; the way between two points is walked to and fro."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    walk(subspace, sine, 15, 0.01)
    ends = []
    for _ in range(2):
        subspace.operator.move(0.02)
        ends.append(subspace.operator.theta())
    for i in range(60):
        subspace.operator.parameters[0].copy_(ends[i % 2])
        subspace.update()
        truth = sine(subspace.operator.vectors()[:, :K], subspace.basis)
        assert truth <= 1.5 * subspace.tol
        assert math.isfinite(subspace.error_estimate)


def test_constant_hessian_is_cheap(sine):
    """Oracle: the eigenvectors of a matrix that does not depend on θ, as of a quadratic loss."""
    operator = RotatingMatrix()
    operator.generators = torch.zeros_like(operator.generators)
    subspace = DominantSubspace(operator, K)
    rows = walk(subspace, sine, 200, 0.05)
    assert max(truth for truth, *_ in rows) <= subspace.tol
    assert sum(row[2] for row in rows[2:]) <= 100


@pytest.mark.parametrize("refresh", ["adaptive", "every_step", 3])
@pytest.mark.parametrize("through_a_file", [True, False])
def test_resumes_bitwise(sine, tmp_path: Path, refresh, through_a_file):
    """Oracle: the run that was not interrupted, and went on after the state was taken."""
    whole = DominantSubspace(RotatingMatrix(), K, refresh=refresh)
    walk(whole, sine, 33, 0.02)
    state, operator = whole.state_dict(), copy.deepcopy(whole.operator)
    random = torch.get_rng_state()
    if through_a_file:
        torch.save(state, tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
    expected = walk(whole, sine, 40, 0.02)
    for _ in range(2):  # the same state serves every method of a comparison
        resumed = DominantSubspace(copy.deepcopy(operator), K, refresh=refresh)
        resumed.load_state_dict(state)
        torch.set_rng_state(random)
        assert walk(resumed, sine, 40, 0.02) == expected
        assert torch.equal(resumed.basis, whole.basis)
        assert torch.equal(resumed.eigenvalues, whole.eigenvalues)
        assert resumed.num_matvecs == whole.num_matvecs


def test_state_of_a_subspace_that_was_never_updated():
    """Oracle: one that was never saved either."""
    first, second = (DominantSubspace(RotatingMatrix(), K) for _ in range(2))
    second.load_state_dict(copy.deepcopy(DominantSubspace(RotatingMatrix(), K).state_dict()))
    assert torch.equal(first.basis, second.basis)


def test_what_was_handed_out_stays_as_it_was(sine):
    """Oracle: copies taken at once; later updates must not write into a basis that is in use."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    walk(subspace, sine, 5, 0.02)
    for _ in range(30):
        basis, eigenvalues = subspace.basis, subspace.eigenvalues
        kept = basis.clone(), eigenvalues.clone()
        walk(subspace, sine, 1, 0.02)
        assert torch.equal(basis, kept[0])
        assert torch.equal(eigenvalues, kept[1])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("refresh", ["adaptive", "every_step"])
def test_diverged_parameters(sine, refresh, bad):
    """Oracle: the documented error, at the first update after they diverged."""
    subspace = DominantSubspace(RotatingMatrix(), K, refresh=refresh)
    walk(subspace, sine, 5, 0.005)
    subspace.operator.parameters[0].fill_(bad)
    with pytest.raises(NonFiniteProductError):
        subspace.update()


def test_a_failed_update_fails_again(sine):
    """Oracle: the documented error, as often as an update is asked for at the same parameters."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    walk(subspace, sine, 5, 0.005)
    subspace.operator.eigenvalues = OUTLIERS * math.inf
    subspace.operator.move(1.0)
    for _ in range(2):
        with pytest.raises(NonFiniteProductError):
            subspace.update()


@pytest.mark.parametrize("updates_before", range(1, 25))
def test_products_that_overflow(sine, updates_before):
    """Oracle: the documented error; the parameters are finite, the curvature is not."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    walk(subspace, sine, updates_before, 0.01)
    subspace.operator.eigenvalues = OUTLIERS * math.inf
    with pytest.raises(NonFiniteProductError):
        walk(subspace, sine, 10, 0.01)


BAD_ARGUMENTS = {
    "k of 0": ({"k": 0}, "k is 0; the operator of size 60 allows integers, 1"),
    "half a k": ({"k": 2.5}, "k is 2.5; the operator of size 60 allows integers, 1"),
    "k above P": ({"k": 61}, "k is 61"),
    "tol of 0": ({"tol": 0.0}, "tol is 0.0, the sine of an angle"),
    "tol of 1": ({"tol": 1}, "tol is 1"),
    "an unknown policy": ({"refresh": "sometimes"}, "refresh is 'sometimes'; allowed are 'adapt"),
    "an interval of 0": ({"refresh": 0}, "refresh is 0"),
    "half an interval": ({"refresh": 0.5}, "refresh is 0.5"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_refuses_bad_arguments(name):
    """Oracle: the documented ValueError."""
    changed, message = BAD_ARGUMENTS[name]
    with pytest.raises(ValueError, match=message):
        DominantSubspace(RotatingMatrix(), **({"k": K} | changed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_along_sgd_on_a_model(sine, dtype):
    """Oracle: torch.linalg.eigh of the dense Hessian in float64, at each of 100 steps of SGD.

    A step moves the eigenspace of so small a model by several times the tolerance, and the error
    is a prediction: it is held in the mean, not in every step.
    """
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    labels = torch.arange(60) % 3
    x = torch.randn(60, 6, dtype=dtype) + 2 * torch.randn(3, 6, dtype=dtype)[labels]
    subspace = DominantSubspace(HessianOperator(model, mse, x, labels), 3)
    double = copy.deepcopy(model).double()
    H = HessianOperator(double, mse, x.double(), labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    errors = []
    for batch in torch.randint(60, (100, 20)):
        subspace.update()
        double.load_state_dict(model.state_dict())
        vectors = torch.linalg.eigh(H @ torch.eye(H.shape[0], dtype=torch.float64))[1]
        errors.append(sine(vectors[:, -3:], subspace.basis.double()))
        optimizer.zero_grad()
        mse(model(x[batch]), labels[batch]).backward()
        optimizer.step()
    assert sum(errors) / 100 <= subspace.tol
    assert sum(error > subspace.tol for error in errors) <= 33
    assert max(errors) <= 3 * subspace.tol
    assert subspace.num_matvecs <= 7 * 100


OTHERS = {
    "k": (lambda: DominantSubspace(RotatingMatrix(), K - 1), "k = 5, this subspace 4"),
    "parameters": (lambda: DominantSubspace(RotatingMatrix(OUTLIERS[:50]), K), "parameters = 60"),
    "refresh": (lambda: DominantSubspace(RotatingMatrix(), K, refresh=3), "refresh = 'adaptive'"),
    "tol": (lambda: DominantSubspace(RotatingMatrix(), K, tol=0.1), "tol = 0.05"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_refuses_the_state_of_another_subspace(sine, name):
    """Oracle: the documented ValueError; the subspace stays as it was."""
    whole = DominantSubspace(RotatingMatrix(), K)
    walk(whole, sine, 3, 0.01)
    make, message = OTHERS[name]
    other = make()
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(whole.state_dict())
    assert other.num_matvecs == 0


@pytest.mark.parametrize("state", [{}, {"state": {}, "param_groups": []}])
def test_refuses_what_is_no_state_of_a_subspace(state):
    """Oracle: the documented ValueError, as for a plain optimizer's state."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    with pytest.raises(ValueError, match=r"the state lacks .*made_with.* not that of a Dominant"):
        subspace.load_state_dict(state)
