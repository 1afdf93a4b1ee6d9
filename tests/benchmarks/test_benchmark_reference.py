import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sharpflat.benchmarks.reference import (
    NoReferenceError,
    Reference,
    largest_sine,
    sines,
    solve_reference,
)
from sharpflat.benchmarks.task import BenchmarkTask


def test_sines_of_a_span_that_was_turned() -> None:
    """Oracle: one vector turned by 0.3 out of the span, lengths and basis changed as well."""
    truth = torch.eye(5, dtype=torch.float64)[:, :2]
    turned = torch.zeros(5, 2, dtype=torch.float64)
    turned[0, 0] = 1.0
    turned[1, 1], turned[4, 1] = math.cos(0.3), math.sin(0.3)
    mixed = turned @ torch.tensor([[2.0, 1.0], [0.5, -1.0]], dtype=torch.float64)
    expected = torch.tensor([math.sin(0.3), 0.0], dtype=torch.float64)
    torch.testing.assert_close(sines(mixed, truth), expected, atol=1e-12, rtol=0)


def test_vectors_that_are_not_finite_are_as_wrong_as_can_be() -> None:
    """Oracle: the sine of a right angle."""
    truth = torch.eye(3, dtype=torch.float64)[:, :1]
    assert largest_sine(torch.full((3, 1), math.nan), truth) == 1.0
    assert largest_sine(torch.tensor([[0.0], [1.0], [0.0]]), truth) == 1.0


def test_reference_is_the_dense_solvers(
    task: BenchmarkTask,
    reference: Reference,
    dense_hessian: Callable[[BenchmarkTask], Tensor],
    top_vectors: Callable[[BenchmarkTask], Tensor],
) -> None:
    """Oracle: torch's Hessian and dense eigensolver, in float64."""
    values = torch.linalg.eigvalsh(dense_hessian(task)).flip(0)
    assert largest_sine(reference.eigenvectors, top_vectors(task)) < 1e-6
    row = reference.row
    assert row.largest_eigenvalue == pytest.approx(float(values[0]), rel=1e-10)
    assert row.kth_eigenvalue == pytest.approx(float(values[task.k - 1]), rel=1e-10)
    assert row.next_eigenvalue == pytest.approx(float(values[task.k]), rel=0.1)
    assert row.sine_against_eigsh < 1e-5


def test_eigenvalues_that_cannot_be_told_apart_are_refused(task: BenchmarkTask) -> None:
    """Oracle: without data that varies, a linear model's leading eigenvalue is c-fold."""
    flat = replace(
        task,
        model=torch.nn.Linear(2, 3, bias=False),
        inputs=torch.ones(4, 2),
        targets=torch.zeros(4, dtype=torch.int64),
        k=2,
    )
    with pytest.raises(NoReferenceError, match="choose a k with a gap"):
        solve_reference(flat, seed=0)
