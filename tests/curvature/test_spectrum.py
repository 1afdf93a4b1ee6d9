"""Spectral densities. Oracles: dense eigenvalues in float64, and the theory of Gauss quadrature."""

import math

import pytest
import torch
from torch import Tensor

from sharpflat.curvature import (
    FunctionalHessianOperator,
    GGNOperator,
    HessianOperator,
    MatrixOperator,
    NonFiniteProductError,
    combination,
    spectral_density,
)

BULK = torch.linspace(-0.5, 1, 95, dtype=torch.float64)
OUTLIERS = torch.cat([torch.tensor([20.0, 14.0, 11.0, 7.0, 5.0], dtype=torch.float64), BULK])


def exact_density(eigenvalues: Tensor, points: Tensor, width: float) -> Tensor:
    """The mean over the eigenvalues of ``torch.distributions``' Gaussian density."""
    gaussians = torch.distributions.Normal(eigenvalues, width)
    return gaussians.log_prob(points[:, None]).exp().mean(1)


@pytest.mark.parametrize("kind", [HessianOperator, GGNOperator, FunctionalHessianOperator])
def test_curvature(mlp, kind):
    """Oracle: the same probes with the dense matrix of ``torch.autograd.functional``."""
    H, G = mlp.hessian(), mlp.ggn()
    dense = {HessianOperator: H, GGNOperator: G, FunctionalHessianOperator: H - G}[kind]
    options = {"probes": 3, "steps": 10, "width": 0.05}
    found = spectral_density(kind(*mlp.arguments), **options)
    expected = spectral_density(MatrixOperator(dense), **options)
    assert torch.allclose(found.values, expected.values, atol=1e-8)
    assert torch.allclose(found.standard_errors, expected.standard_errors, atol=1e-8)
    assert float(torch.trapezoid(found.values, found.points)) == pytest.approx(1, abs=1e-3)
    eigenvalues, tolerance = torch.linalg.eigvalsh(dense), 1e-10 * float(dense.norm())
    for nodes in found.nodes:
        assert eigenvalues[0] - tolerance <= nodes[-1] <= nodes[0] <= eigenvalues[-1] + tolerance


def test_standard_errors(matrix_with):
    """Oracle: the prescribed eigenvalues. 95 % of intervals of Student's t hold the density of the
    bulk; everywhere squared errors are what squared standard errors are, on average.
    """
    operator, _ = matrix_with(OUTLIERS)
    points = torch.linspace(-0.5, 21, 40, dtype=torch.float64)
    raw = [spectral_density(operator, probes=10, steps=25, seed=seed) for seed in range(12)]
    assert operator.products == 12 * 10 * 25
    for width, at, inside in ((0.2, BULK[::5], True), (0.8, points, False)):
        found = [density.smoothed(width=width, points=at) for density in raw]
        expected = exact_density(OUTLIERS, at, width)
        errors = torch.stack([density.values for density in found]) - expected
        standard_errors = torch.stack([density.standard_errors for density in found])
        ratio = float(errors.square().mean() / standard_errors.square().mean())
        assert ratio == pytest.approx(1, abs=0.4)
        held = float((errors.abs() < 2.262 * standard_errors).double().mean())
        assert not inside or 0.9 < held < 0.99


def test_quadrature_is_gaussian(matrix_with):
    """Oracle: the run of P steps, whose nodes are the eigenvalues; m steps keep 2m moments."""
    eigenvalues = torch.linspace(-1, 1, 40, dtype=torch.float64)
    operator, _ = matrix_with(eigenvalues)
    whole, few = (spectral_density(operator, probes=3, steps=steps) for steps in (40, 6))
    for nodes in whole.nodes:
        assert torch.allclose(nodes.flip(0), eigenvalues, atol=1e-10)
    for power in range(13):
        exact, found = (
            torch.stack([w @ n**power for n, w in zip(run.nodes, run.weights, strict=True)])
            for run in (whole, few)
        )
        assert torch.allclose(found, exact, rtol=0, atol=1e-12) == (power < 12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_eigenvalue_comes_twice(matrix_with, dtype):
    """Oracle: the prescribed outliers, each one node; plain Lanczos finds copies of them."""
    operator = MatrixOperator(matrix_with(OUTLIERS)[0].matrix.to(dtype))
    found = spectral_density(operator, probes=2, steps=80)
    for nodes in found.nodes:
        assert len(nodes) == 80
        for outlier in OUTLIERS[:5]:
            assert int(((nodes - outlier).abs() < 0.1).sum()) == 1


def test_shift_and_scale(matrix_with):
    """Oracle: algebra; the density of ``2 A + 3 I`` is that of A, shifted and stretched."""
    operator, _ = matrix_with(OUTLIERS)
    plain = spectral_density(operator, probes=2, steps=10, width=0.5)
    moved = spectral_density(combination((2.0, operator), shift=3.0), probes=2, steps=10, width=1.0)
    assert torch.allclose(moved.points, 2 * plain.points + 3)
    assert torch.allclose(2 * moved.values, plain.values, atol=1e-10)
    assert torch.allclose(2 * moved.standard_errors, plain.standard_errors, atol=1e-10)


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_one_eigenvalue(value):
    """Oracle: analytic; one step reaches everything, and every probe agrees."""
    operator = MatrixOperator(value * torch.eye(6, dtype=torch.float64))
    found = spectral_density(operator, probes=3, steps=9)
    assert found.num_matvecs == 3
    assert torch.allclose(torch.cat(found.nodes), torch.full((3,), value).double(), atol=1e-12)
    assert torch.allclose(
        found.values.max(), torch.tensor(1 / (found.width * math.sqrt(2 * math.pi))).double(), 1e-3
    )
    assert float(found.standard_errors.max()) < 1e-8


REFUSED = {
    "one probe": ({"probes": 1}, "probes is 1"),
    "no step": ({"steps": 0}, "steps is 0"),
    "no width": ({"width": 0.0}, "width is 0.0; it must be positive and finite"),
    "a width that is not a number": ({"width": math.nan}, "width is nan"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(matrix_with, name):
    """Oracle: the documented errors, before any product."""
    changed, message = REFUSED[name]
    operator, _ = matrix_with(OUTLIERS)
    with pytest.raises(ValueError, match=message):
        spectral_density(operator, **changed)
    assert operator.products == 0


def test_operator_that_is_not_finite():
    """Oracle: the documented error."""
    with pytest.raises(NonFiniteProductError):
        spectral_density(MatrixOperator(torch.full((6, 6), math.nan)))
