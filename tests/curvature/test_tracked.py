"""How the tracked vectors follow movement inside the Dominant subspace without a product."""

import math

import pytest
import torch
from curvature.rotating import OUTLIERS, K, RotatingMatrix, Sine

from sharpflat.curvature import DominantSubspace

TWINS = OUTLIERS.clone()
TWINS[1] = TWINS[2]


def walk_inside(subspace: DominantSubspace, sine: Sine, steps: int) -> list[list[float]]:
    """As :func:`walk`, inside the Dominant subspace around one point, as Dom-SGD with its noise."""
    operator, home = subspace.operator, subspace.operator.theta()
    rows = []
    for _ in range(steps):
        V = operator.vectors()[:, : subspace.k]
        back = home - operator.theta()
        operator.parameters[0].add_(
            V @ (0.02 * torch.randn(subspace.k, dtype=V.dtype)) + 0.5 * back
        )
        before = subspace.num_matvecs
        subspace.update()
        truth = sine(operator.vectors()[:, : subspace.k], subspace.basis)
        rows.append([truth, subspace.error_estimate, subspace.num_matvecs - before])
    return rows


@pytest.mark.parametrize("eigenvalues", [OUTLIERS, TWINS], ids=["distinct", "twins"])
def test_dominant_movement_is_learned(sine, monkeypatch, eigenvalues):
    """Oracles: the eigenvectors U(θ), and the same walk of a tracker that learns no slopes."""
    learning = DominantSubspace(RotatingMatrix(eigenvalues), K)
    random = torch.get_rng_state()
    rows = walk_inside(learning, sine, 200)
    torch.set_rng_state(random)
    monkeypatch.setattr("sharpflat.curvature.tracked.NEGLIGIBLE_MOVE", math.inf)
    without = DominantSubspace(RotatingMatrix(eigenvalues), K)
    rows_without = walk_inside(without, sine, 200)
    for late in (rows[100:], rows_without[100:]):
        assert max(truth for truth, *_ in late) <= 1.5 * learning.tol
    assert 5 * sum(row[2] for row in rows[100:]) < sum(row[2] for row in rows_without[100:])
    estimated, true = (sum(row[i] for row in rows[100:]) for i in (1, 0))
    assert 1 / 3 <= estimated / true <= 3


def test_slopes_are_derivatives(sine):
    """Oracle: at θ = 0, ``∂U/∂θ_j = A_j U``; of it the part outside the Dominant subspace."""
    subspace = DominantSubspace(RotatingMatrix(), K, tol=2e-5)
    operator = subspace.operator
    for _ in range(60):
        step = torch.zeros(60, dtype=torch.float64)
        step[:K] = 1e-3 * torch.randn(K)  # U(0) is the identity
        operator.parameters[0].copy_(step)
        subspace.update()
    operator.parameters[0].zero_()
    subspace.refresh()
    slopes = subspace.state_dict()["tracked"]["slopes"]
    signs = subspace.basis.diagonal().sign()
    slopes = signs[:, None, None] * signs[:, None] * slopes
    expected = operator.generators[:K, :, :K].mT  # [j, i, p] = (A_j)_pi
    outside = slopes[:, :, K:] - expected[:, :, K:]
    assert torch.linalg.vector_norm(outside) < 0.05 * torch.linalg.vector_norm(expected[:, :, K:])


def test_bulk_movement_needs_no_slopes(sine):
    """Oracle: the state itself; slopes would take k² vectors."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    for _ in range(50):
        step = torch.randn(60, dtype=torch.float64)
        V = subspace.operator.vectors()[:, :K]
        step = step - V @ (V.T @ step)
        subspace.operator.parameters[0].add_(0.01 * step / torch.linalg.vector_norm(step))
        subspace.update()
    assert subspace.state_dict()["tracked"]["slopes"] is None


def test_a_jump_along_learned_slopes_is_noticed(sine):
    """Oracle: the eigenvectors far along a Dominant direction, where no slope tells them."""
    subspace = DominantSubspace(RotatingMatrix(), K)
    walk_inside(subspace, sine, 60)
    subspace.operator.parameters[0].add_(5 * subspace.basis[:, 0])
    assert sine(subspace.operator.vectors()[:, :K], subspace.basis) > 1
    subspace.update()
    assert sine(subspace.operator.vectors()[:, :K], subspace.basis) <= 1.5 * subspace.tol
    rows = walk_inside(subspace, sine, 60)
    assert max(truth for truth, *_ in rows) <= 1.5 * subspace.tol
